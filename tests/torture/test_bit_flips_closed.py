"""Bit flips in a journal that was closed and whose first segment is sealed.

Half of the 10⁵ flips of every CI run, and of the 10⁶ of the drills, are in this file; the other
half is next door, so that two workers share them.
"""

from __future__ import annotations

import pytest

from tests.support.torture import flip_bits, template

JOURNAL = template(closed=True)
BITS = 5_000
JOURNALS = 1_000_000
"""Seeds that a run may use; it ends when it has flipped its bits."""


def torture(run: int) -> None:
    flips = flip_bits(JOURNAL, range(run * JOURNALS, (run + 1) * JOURNALS), BITS)
    print(f"run {run}: {flips}")
    assert flips.bits >= BITS
    assert flips.lost > flips.journals // 10, "the flips hit nothing that mattered"


@pytest.mark.parametrize("run", range(10), ids=lambda run: f"{BITS} bits, run {run}")
def test_50_000_flips_corrupt_nothing_hide_nothing_and_stop_nobody(run: int) -> None:
    torture(run)


@pytest.mark.drill
@pytest.mark.parametrize("run", range(10, 110), ids=lambda run: f"{BITS} bits, run {run}")
def test_500_000_flips_corrupt_nothing_hide_nothing_and_stop_nobody(run: int) -> None:
    torture(run)
