"""Bit flips in a journal that was closed, its first segment sealed, and in one of a killed writer.

Of the killed one only the watermark proves the last commit.
"""

from __future__ import annotations

import pytest

from tests.support.torture import BITS, bear_flips, template
from tests.tiers import seeds

JOURNALS = {"closed": template(closed=True), "killed": template(closed=False)}


@pytest.mark.parametrize("run", seeds("runs of 5000 flipped bits"), ids=lambda run: f"run {run}")
@pytest.mark.parametrize("ended", JOURNALS)
def test_flipped_bits_corrupt_nothing_hide_nothing_and_stop_nobody(ended: str, run: int) -> None:
    bear_flips(JOURNALS[ended], run)


def test_a_run_flips_what_its_table_says() -> None:
    assert BITS == 5000
