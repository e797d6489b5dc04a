"""Columns of raw events: lists or arrays, in one part or several, are the same events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

from forebay.domain.channels import Channel
from forebay.domain.columns import as_arrays, cells, joined
from forebay.domain.parsed import Moments, RawEvents
from tests.support.frames import Told, raw_trades

if TYPE_CHECKING:
    from collections.abc import Sequence

BARS = Channel("bar", "native", "time")


def some(*natives: int) -> RawEvents:
    """Build trades whose frames are their ids."""
    made = raw_trades([Told(native, price=f"{native}.5") for native in natives])
    made.frame = list(natives)
    return made


def mixed(*frames: int, **columns: Any) -> RawEvents:  # noqa: ANN401 - any of the columns
    """Build events with columns of their own."""
    return RawEvents(
        channel=BARS,
        frame=list(frames),
        item=[0] * len(frames),
        venue_symbol=["A-B"] * len(frames),
        symbol=["A-B"] * len(frames),
        native=[f"n{frame}" for frame in frames],
        time=Moments(list(frames), 1000),
        columns=columns,
    )


def plain(raw: RawEvents) -> dict[str, list[Any]]:
    """Return every column as Python has it."""
    names = ("frame", "item", "venue_symbol", "symbol", "native", "sequence", "time")
    columns = {name: getattr(raw, name) for name in names} | dict(raw.columns)
    return {name: as_list(column) for name, column in columns.items() if column is not None}


def as_list(column: Any) -> list[Any]:  # noqa: ANN401 - any of the columns
    values: Any = column.values if isinstance(column, Moments) else column
    listed: list[Any] = values if isinstance(values, list) else values.tolist()
    return listed


def test_arrays_hold_what_the_lists_did() -> None:
    raw = some(3, 5)
    raw.market, raw.sequence = "perpetual", [30, 50]
    arrays = as_arrays(raw)
    assert plain(arrays) == plain(raw)
    assert (arrays.channel, arrays.market) == (raw.channel, "perpetual")
    assert plain(as_arrays(arrays)) == plain(raw)
    assert [len(arrays), len(as_arrays(some()))] == [2, 0]


def test_columns_of_every_shape_are_arrays() -> None:
    raw = mixed(1, 2, texts=["a", "b"], counts=[1, 2], levels=[["1", "2"], []],
                moments=Moments([5, 6], 1000))  # fmt: skip
    arrays = as_arrays(raw)
    assert plain(arrays) == plain(raw)
    assert isinstance(arrays.columns["counts"], np.ndarray)
    moments, time = arrays.columns["moments"], arrays.time
    assert isinstance(moments, Moments)
    assert isinstance(time, Moments)
    assert [moments.unit_ns, time.unit_ns] == [1000, 1000]
    assert isinstance(moments.values, np.ndarray)


@pytest.mark.parametrize(
    "column",
    [[None, "1.5"], [None, 7], [None, 2**70], [None, ["1"]], [None, None], [[], ["1"]]],
    ids=repr,
)
def test_what_is_missing_stays_missing(column: list[Any]) -> None:
    assert as_list(as_arrays(mixed(1, 2, own=column)).columns["own"]) == column
    for other in ([column[1], None], [None, None], column):
        both = joined([mixed(1, 2, own=column), mixed(3, 4, own=other)])
        assert as_list(both.columns["own"]) == [*column, *other]
        turned = joined([mixed(3, 4, own=other), mixed(1, 2, own=column)])
        assert as_list(turned.columns["own"]) == [*column, *other]


@pytest.mark.parametrize("natives", [[1, 2**63], [-1, 2**63 + 1], [0, 2**64 + 1], [-(10**30), 5]])
def test_numbers_of_more_than_64_bits_stay_exact(natives: list[int]) -> None:
    raw = some(1, 2)
    raw.native = natives
    assert plain(as_arrays(raw))["native"] == natives
    assert plain(joined([raw, some(3)]))["native"] == [*natives, 3]


def test_a_class_without_numbers_has_none() -> None:
    raw, other = some(1, 2), some(3)
    raw.native = other.native = None
    assert as_arrays(raw).native is None
    assert joined([other, raw]).native is None


def test_parts_are_joined_in_the_order_of_their_frames() -> None:
    whole = plain(some(*range(1, 9)))
    assert plain(joined([some(1, 2, 3), some(4, 5, 6, 7, 8)])) == whole
    assert plain(joined([some(1, 4, 8), some(2, 3), as_arrays(some(5, 6, 7))])) == whole
    alone = some(1)
    assert joined([alone]) is alone


def test_items_of_a_frame_stay_in_order() -> None:
    page = some(2, 2, 2)
    page.item, page.native = [0, 1, 2], [30, 20, 10]
    both = plain(joined([some(3), page, some(1)]))
    assert (both["frame"], both["item"]) == ([1, 2, 2, 2, 3], [0, 0, 1, 2, 0])
    assert both["native"] == [1, 30, 20, 10, 3]


@pytest.mark.parametrize(
    ("column", "rows", "expected"),
    [
        (pa.array(["4.5", "5.5", "6.5"]), [2, 0], ["6.5", "4.5"]),
        (np.array([4, 5, 6]), [1], [5]),
        (np.array([10**30, 1], dtype=np.object_), [0], [10**30]),
        (pa.array(["4.5"]), [], []),
        (np.array([4]), [], []),
    ],
)
def test_cells_are_pythons_own(column: Any, rows: Sequence[int], expected: list[Any]) -> None:  # noqa: ANN401
    found = cells(column, rows)
    assert found == expected
    assert [type(cell) for cell in found] == [type(cell) for cell in expected]
