"""Digests by SQL against the words of ``forebay.domain.digest``, computed without it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.domain.digest import Digest
from forebay.journal import Position
from forebay.ports import Commit
from forebay.stores.duckdb import DuckDBStore, stream_digests
from tests.support.frames import HOUR, LOG, T0, Told, rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import pyarrow as pa

Bucket = tuple[str, str, str, int]
ROWS = [
    Told(1, "99999999999999999999.999999999999999999", "0.000000000000000001"),
    Told(2, "0.00001305", "985", "sell", T0 + 89_723_000),
    Told(3, time_ns=T0 - 2 * HOUR),
    Told(4, symbol="ETH-USD"),
    Told((1 << 62) - 1, "7.1", side="sell"),
]
HOUR_OF_T0 = T0 - T0 % HOUR


@pytest.fixture(scope="module")
def connection() -> Iterator[DuckDBStore]:
    store = DuckDBStore(None)
    yield store
    store.close()


def by_hand(trades: Sequence[Told]) -> dict[Bucket, tuple[int, int, int]]:
    """Sum up one bucket after the other in plain Python."""
    distinct = {(told.symbol, told.trade_id): told for told in reversed(trades)}
    sums: dict[Bucket, tuple[int, int, int]] = {}
    for told in distinct.values():
        event_id = str(rows_of(told)["event_id"][0].as_py())
        time_ns = told.time_ns // 1000 * 1000
        price, size = (
            f"{whole}.{part:0<18}"
            for whole, _, part in (text.partition(".") for text in (told.price, told.size))
        )
        canonical = "|".join((event_id, "coinbase", told.symbol, str(time_ns), str(told.trade_id),
                              price, size, told.side))  # fmt: skip
        md5 = int.from_bytes(hashlib.md5(canonical.encode()).digest(), "little")  # noqa: S324
        key = ("coinbase", "trade", told.symbol, time_ns // HOUR * HOUR)
        count, ids, rows = sums.get(key, (0, 0, 0))
        number = int(event_id.replace("-", ""), 16)
        sums[key] = (count + 1, (ids + number) % 2**128, (rows + md5) % 2**128)
    return sums


def by_sql(
    store: DuckDBStore, rows: pa.Table, where: str = "true", *parameters: object
) -> dict[Bucket, tuple[int, int, int]]:
    with store.reader() as connection:
        connection.register("told_rows", rows)
        found = stream_digests(connection, "told_rows", where, parameters)
        connection.unregister("told_rows")
    return {(*key,): (made.count, made.ids, made.rows) for key, made in found.items()}


def test_a_digest_is_what_its_definition_says(connection: DuckDBStore) -> None:
    found = by_sql(connection, rows_of(*ROWS))
    assert found == by_hand(ROWS)
    assert {key[2:]: made[0] for key, made in found.items()} == {
        ("BTC-USD", HOUR_OF_T0): 3,
        ("BTC-USD", HOUR_OF_T0 - 2 * HOUR): 1,
        ("ETH-USD", HOUR_OF_T0): 1,
    }


def test_a_digest_of_stored_rows_is_that_of_the_rows(tmp_path: Path) -> None:
    store = DuckDBStore(tmp_path / "forebay.duckdb")
    store.commit(Commit("store", Position(LOG, 1), rows={"trades": rows_of(*ROWS, *ROWS)}))
    with store.reader() as reader:
        found = {(*key,): (made.count, made.ids, made.rows)
                 for key, made in stream_digests(reader, "trades").items()}  # fmt: skip
    store.close()
    assert found == by_hand(ROWS)


@given(st.lists(st.sampled_from(ROWS), min_size=1, max_size=12))
def test_order_and_duplicates_do_not_matter(connection: DuckDBStore, told: list[Told]) -> None:
    assert by_sql(connection, rows_of(*told)) == by_hand(told)


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
def test_one_changed_fact_changes_rows_and_not_ids(
    connection: DuckDBStore, changed: dict[str, object]
) -> None:
    key = ("coinbase", "trade", "BTC-USD", HOUR_OF_T0)
    before = by_sql(connection, rows_of(*ROWS))[key]
    after = by_sql(connection, rows_of(ROWS[0].but(**changed), *ROWS[1:]))[key]
    assert after[:2] == before[:2]
    assert after[2] != before[2]


def test_another_id_changes_ids_and_a_lost_row_the_count(connection: DuckDBStore) -> None:
    key = ("coinbase", "trade", "BTC-USD", HOUR_OF_T0)
    before = by_sql(connection, rows_of(*ROWS))[key]
    other = by_sql(connection, rows_of(*ROWS[1:], ROWS[0].but(trade_id=99)))[key]
    assert (other[0] == before[0], other[1] == before[1]) == (True, False)
    assert by_sql(connection, rows_of(*ROWS[1:]))[key][0] == before[0] - 1


def test_receipt_precision_and_flags_are_not_in_it(connection: DuckDBStore) -> None:
    one, other = (
        Told(9),
        Told(9, received_ns=T0 + 300 * HOUR, time="2021-04-17T16:43:37.000000999Z"),
    )
    assert by_sql(connection, rows_of(one)) == by_sql(connection, rows_of(other))


def test_a_part_of_a_stream_is_asked_for_by_native_id(connection: DuckDBStore) -> None:
    found = by_sql(
        connection, rows_of(*ROWS), "symbol = ? AND native BETWEEN ? AND ?", "BTC-USD", 2, 3
    )
    assert found == by_hand(ROWS[1:3])


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


def test_a_digest_as_json_is_of_fixed_width() -> None:
    assert Digest(2, 255, 1 << 127).as_json() == {
        "count": 2, "ids": "0" * 30 + "ff", "rows": "8" + "0" * 31}  # fmt: skip
