"""Digests: of columns and by SQL, both against the words of the definition."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.domain import schema
from forebay.domain.digest import Digest, canonical_rows, digests_by_hour, hours_of, id_halves
from forebay.services.audit import sql
from forebay.services.audit.accounts import snapshot_from
from forebay.stores.duckdb import DuckDBStore
from tests.support.frames import HOUR, T0, Told, rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROWS = [
    Told(1, "99999999999999999999.999999999999999999", "0.000000000000000001"),
    Told(2, "0.00001305", "985", "sell", T0 + 89_723_000),
    Told(3, time_ns=T0 - 2 * HOUR),
    Told(4, symbol="ETH-USD"),
    Told((1 << 62) - 1, "7.1", side="sell"),
]
HOUR_OF_T0 = T0 // HOUR


@pytest.fixture(scope="module")
def store() -> Iterator[DuckDBStore]:
    store = DuckDBStore(None)
    yield store
    store.close()


def by_hand(rows: pa.Table) -> dict[tuple[str, str, int], Digest]:
    """Sum up one row after the other in plain Python."""
    found: dict[tuple[str, str, int], Digest] = {}
    times = rows.column("event_ts").cast(pa.int64()).to_pylist()
    for row, ns in zip(rows.drop_columns(["event_ts", "exchange_ts", "received_ts"]).to_pylist(),
                       times, strict=True):  # fmt: skip
        price, size = (f"{row[name]:.18f}" for name in ("price", "size"))
        texts = (row["event_id"], row["venue"], row["symbol"], ns, row["trade_id"], price, size)
        canonical = "|".join(map(str, (*texts, row["side"])))
        md5 = int.from_bytes(hashlib.md5(canonical.encode()).digest(), "little")  # noqa: S324
        key = (row["venue"], row["symbol"], ns // HOUR)
        found[key] = found.get(key, Digest()) + Digest(1, row["event_id"].int, md5)
    return found


def by_sql(store: DuckDBStore, rows: pa.Table) -> dict[tuple[str, str, int], Digest]:
    store._session.connection.execute("DELETE FROM trades")
    store._session.run("INSERT INTO trades FROM incoming", incoming=rows)
    with store.reader() as connection:
        answer = connection.sql(sql.snapshot(sql.Span())).to_arrow_table()
    return {
        (key.venue, key.symbol, hour): digest
        for key, account in snapshot_from(answer).accounts.items()
        for hour, digest in account.hours().items()
    }


def test_columns_and_sql_are_as_the_definition_says(store: DuckDBStore) -> None:
    rows = rows_of(*ROWS)

    found = digests_by_hour(rows)

    assert found == by_hand(rows)
    assert by_sql(store, rows) == found
    assert {key[1:]: digest.count for key, digest in found.items()} == {
        ("BTC-USD", HOUR_OF_T0): 3,
        ("BTC-USD", HOUR_OF_T0 - 2): 1,
        ("ETH-USD", HOUR_OF_T0): 1,
    }
    assert sorted(hours_of(rows)) == sorted(found)


TEXT = st.text(st.characters(exclude_characters="\x00", codec="utf-8"), max_size=8)
EVENTS = st.lists(
    st.tuples(
        st.binary(min_size=16, max_size=16).map(lambda raw: UUID(bytes=raw)),
        TEXT,
        TEXT,
        st.integers(1_230_768_000 * 10**9, 4_000_000_000 * 10**9),
        TEXT,
        st.decimals(0, 10**20 - 1, places=18, allow_nan=False, allow_infinity=False),
        st.decimals("0", "0.00001", places=18, allow_nan=False, allow_infinity=False),
        TEXT,
    ),
    max_size=12,
    unique_by=lambda event: event[0],
)


def table_of(events: Sequence[tuple[Any, ...]]) -> pa.Table:
    names = ("event_id", "venue", "symbol", "event_ts", "trade_id", "price", "size", "side")
    columns = dict(zip(names, zip(*events, strict=True), strict=True)) if events else {}
    ids = [each.bytes for each in columns.get("event_id", ())]
    return pa.table(
        {
            field.name: pa.array(
                ids if field.name == "event_id" else columns.get(field.name, [None] * len(events)),
                field.type,
            )
            for field in schema.TRADES
        },
        schema=schema.TRADES,
    )


@given(EVENTS)
def test_any_decimal_time_and_text_is_the_same_in_columns_and_by_sql(
    store: DuckDBStore, events: list[tuple[object, ...]]
) -> None:
    rows = table_of(events)

    found: Mapping[tuple[str, str, int], Digest] = digests_by_hour(rows)

    assert found == by_hand(rows)
    assert by_sql(store, rows) == found


@given(st.lists(st.sampled_from(ROWS), min_size=1, max_size=5, unique=True), st.integers(0, 4))
def test_order_and_pieces_do_not_matter(told: list[Told], at: int) -> None:
    rows = rows_of(*told)
    whole = digests_by_hour(rows)

    assert digests_by_hour(rows.take(list(reversed(range(len(rows)))))) == whole
    sums = dict(digests_by_hour(rows[:at]))
    for key, digest in digests_by_hour(pa.concat_tables([rows[at:][:1], rows[at:][1:]])).items():
        sums[key] = sums.get(key, Digest()) + digest
    assert sums == whole


@pytest.mark.parametrize(
    "changed",
    [
        {"price": "99999999999999999999.999999999999999998"},
        {"size": "0.000000000000000002"},
        {"side": "sell"},
        {"time_ns": T0 + 1000},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_one_changed_fact_changes_rows_and_not_ids(changed: dict[str, object]) -> None:
    key = ("coinbase", "BTC-USD", HOUR_OF_T0)
    before = digests_by_hour(rows_of(*ROWS))[key]
    after = digests_by_hour(rows_of(ROWS[0].but(**changed), *ROWS[1:]))[key]
    assert (after.count, after.ids) == (before.count, before.ids)
    assert after.rows != before.rows


def test_receipt_precision_and_flags_are_not_in_it() -> None:
    one, other = (
        Told(9),
        Told(9, received_ns=T0 + 300 * HOUR, time="2021-04-17T16:43:37.000000999Z"),
    )
    assert digests_by_hour(rows_of(one)) == digests_by_hour(rows_of(other))


def test_nothing_has_no_digest() -> None:
    nothing = schema.TRADES.empty_table()
    assert digests_by_hour(nothing) == {}
    assert hours_of(nothing) == []
    assert len(canonical_rows(nothing)) == 0


def test_ids_of_a_slice_are_those_of_its_rows() -> None:
    rows = rows_of(*ROWS)
    halves = id_halves(rows.slice(1, 2))
    ids = [UUID(int=(int(high) << 64) + int(low)) for high, low in halves]
    assert ids == rows.column("event_id").to_pylist()[1:3]
    assert halves.dtype == np.uint64


HALF = st.integers(0, 2**64 - 1)


@given(st.lists(st.tuples(HALF, HALF, HALF, HALF), max_size=20), st.integers(0, 20))
def test_digests_add_up(events: list[tuple[int, int, int, int]], at: int) -> None:
    def digest(part: list[tuple[int, int, int, int]]) -> Digest:
        sums = [sum(event[half] for event in part) for half in range(4)]
        return Digest.from_halves(len(part), (sums[0], sums[1]), (sums[2], sums[3]))

    whole = digest(events)
    assert digest(events[:at]) + digest(events[at:]) == whole
    assert whole.ids == sum(event[0] * 2**64 + event[1] for event in events) % 2**128
    assert whole.rows == sum(event[2] * 2**64 + event[3] for event in events) % 2**128
