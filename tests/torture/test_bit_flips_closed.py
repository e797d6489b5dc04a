"""Bit flips in a journal that was closed and whose first segment is sealed.

Half of the 10⁵ flips of every CI run, and of the 10⁶ of the drills, are in this file; the other
half is next door, so that two workers share them.
"""

from __future__ import annotations

import pytest

from tests.support.torture import BITS, bear_flips, template

JOURNAL = template(closed=True)


@pytest.mark.parametrize("run", range(10), ids=lambda run: f"{BITS} bits, run {run}")
def test_50_000_flips_corrupt_nothing_hide_nothing_and_stop_nobody(run: int) -> None:
    bear_flips(JOURNAL, run)


@pytest.mark.drill
@pytest.mark.parametrize("run", range(10, 110), ids=lambda run: f"{BITS} bits, run {run}")
def test_500_000_flips_corrupt_nothing_hide_nothing_and_stop_nobody(run: int) -> None:
    bear_flips(JOURNAL, run)
