"""Columns of raw trades: lists or arrays, in one part or several, are the same trades."""

from __future__ import annotations

import numpy as np
import pytest

from forebay.domain.columns import TradeArrays, as_arrays, cells, joined
from forebay.domain.parsed import RawTrades
from tests.support.frames import Told, raw_trades

TOLD = ("frame", "item", "venue_symbol", "symbol", "trade_id", "price", "size", "side", "time")


def some(*natives: int) -> RawTrades:
    """Trades whose frames are their ids."""
    made = raw_trades([Told(native, price=f"{native}.5") for native in natives])
    made.frame = list(natives)
    return made


def plain(raw: RawTrades) -> dict[str, list[object]]:
    arrays = as_arrays(raw)
    return {name: getattr(arrays, name).tolist() for name in TOLD}


def test_arrays_hold_what_the_lists_did() -> None:
    raw = some(3, 5)
    raw.identity, raw.market_type, raw.time_unit_ns = "session", "perpetual", 7
    arrays = as_arrays(raw)
    assert {name: getattr(raw, name) for name in TOLD} == plain(raw)
    assert (arrays.identity, arrays.market_type, arrays.time_unit_ns) == ("session", "perpetual", 7)
    assert as_arrays(arrays) is arrays
    assert [len(arrays), len(as_arrays(RawTrades()))] == [2, 0]


@pytest.mark.parametrize("natives", [[1, 2**63], [-1, 2**63 + 1], [0, 2**64 + 1], [-(10**30), 5]])
def test_numbers_of_more_than_64_bits_stay_exact(natives: list[int]) -> None:
    raw = some(1, 2)
    raw.trade_id = natives
    assert as_arrays(raw).trade_id.tolist() == natives
    assert joined([raw, some(3)]).trade_id.tolist() == [*natives, 3]  # type: ignore[union-attr]


def test_a_class_without_numbers_has_none() -> None:
    raw = some(1, 2)
    raw.identity, raw.trade_id = "content", []
    assert len(as_arrays(raw).trade_id) == 0
    other = some(3)
    other.identity, other.trade_id = "content", []
    assert len(joined([other, raw]).trade_id) == 0


def test_parts_are_joined_in_the_order_of_their_frames() -> None:
    whole = plain(some(*range(1, 9)))
    assert plain(joined([some(1, 2, 3), some(4, 5, 6, 7, 8)])) == whole
    assert plain(joined([some(1, 4, 8), some(2, 3), as_arrays(some(5, 6, 7))])) == whole
    assert plain(joined([some(2, 3), some(), some(1, 4, 5, 6, 7, 8)])) == whole
    alone = some(1)
    assert joined([alone]) is alone


def test_items_of_a_frame_stay_in_order() -> None:
    page = some(2, 2, 2)
    page.item, page.trade_id = [0, 1, 2], [30, 20, 10]
    both = joined([some(3), page, some(1)])
    assert isinstance(both, TradeArrays)
    assert (both.frame.tolist(), both.item.tolist()) == ([1, 2, 2, 2, 3], [0, 0, 1, 2, 0])
    assert both.trade_id.tolist() == [1, 30, 20, 10, 3]


def test_cells_are_pythons_own() -> None:
    arrays = as_arrays(some(4, 5, 6))
    assert cells(arrays.price, [2, 0]) == ["6.5", "4.5"]
    assert [type(cell) for cell in cells(arrays.frame, [1])] == [int]
    assert cells(np.array([10**30, 1], dtype=np.object_), [0]) == [10**30]
    assert cells(arrays.price, []) == cells(arrays.frame, []) == []
