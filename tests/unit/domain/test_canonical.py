"""Canonical rows of every kind against the words of the contract, in plain Python."""

from __future__ import annotations

from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.domain.digest import canonical_rows, first_of_each_id, id_halves, id_texts
from forebay.domain.kinds import KINDS
from tests.support.event_tables import CONTENT, canonical, rows_of, table_of
from tests.support.frames import Told
from tests.support.frames import rows_of as trades_of

KIND = st.sampled_from(sorted(KINDS))


def test_the_content_of_every_kind_is_written_down() -> None:
    common = ("venue", "market", "symbol", "event_ts")
    assert {name: kind.content for name, kind in KINDS.items()} == {
        name: (*common, *own) for name, own in CONTENT.items()
    }


@given(st.data())
def test_a_canonical_row_is_as_the_contract_words_it(data: st.DataObject) -> None:
    name = data.draw(KIND)
    rows = data.draw(rows_of(name))
    table = table_of(name, rows)
    expected = [canonical(name, row) for row in rows]
    assert canonical_rows(table, KINDS[name]).to_pylist() == expected
    assert canonical_rows(table[1:], KINDS[name]).to_pylist() == expected[1:]


def test_a_row_is_spelled_so_for_ever() -> None:
    trade = trades_of(Told(280_232, "0.0000013", "985", "sell"))
    (row,) = canonical_rows(trade, KINDS["trade"]).to_pylist()
    assert row == "|".join(
        [
            "ebeba404-b774-867a-8000-0000000446a8",
            *("coinbase", "spot", "BTC-USD", "1618677817000000000", "280232"),
            *("0.000001300000000000", "985.000000000000000000", "sell"),
        ]
    )


@pytest.mark.parametrize("name", sorted(KINDS))
def test_nothing_has_no_canonical_rows(name: str) -> None:
    nothing = KINDS[name].schema.empty_table()
    assert len(canonical_rows(nothing, KINDS[name])) == 0
    assert len(first_of_each_id(nothing)) == 0
    assert id_halves(nothing).shape == (0, 2)


def test_ids_of_a_slice_are_those_of_its_rows() -> None:
    rows = trades_of(*[Told(native) for native in range(1, 6)])
    halves = id_halves(rows.slice(1, 2))
    expected = rows.column("event_id").to_pylist()[1:3]
    assert [UUID(int=(int(high) << 64) + int(low)) for high, low in halves] == expected
    assert id_texts(rows.slice(1, 2)).to_pylist() == [str(each) for each in expected]
    assert halves.dtype == np.uint64


@given(st.lists(st.integers(0, 6), max_size=12), st.integers(0, 12))
def test_the_first_row_of_each_id_is_named(natives: list[int], cut: int) -> None:
    rows = trades_of(*map(Told, natives))
    chunked = pa.concat_tables([rows[:cut], rows[cut:]])
    expected = [natives.index(native) for native in natives]
    assert first_of_each_id(chunked).tolist() == expected
