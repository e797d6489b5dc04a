"""Lists of symbols: pages go on to their end, and there is one."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

import pytest

from forebay.errors import Stuck
from forebay.sources.lists import ListedPart, instruments
from forebay.sources.venue import Listing
from tests.support.live_source import UNPACED

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.mark.parametrize(
    ("cursors", "words"), [(iter("aba"), "names a page twice"), (map(str, count()), "more than 5")]
)
async def test_a_list_that_comes_to_no_end_is_left(
    monkeypatch: pytest.MonkeyPatch, cursors: Iterator[str], words: str
) -> None:
    monkeypatch.setattr("forebay.sources.lists.MOST_PAGES", 5)
    listing = Listing(lambda _: "/list", lambda _: [], lambda _: f"/list?{next(cursors)}")

    async def ask(_: str) -> bytes:
        return b""

    with pytest.raises(Stuck, match=words):
        await instruments(replace(UNPACED, listing=listing), ListedPart("spot"), ask)
