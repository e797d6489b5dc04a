"""What is counted of a ClickHouse that bridges write to: nothing that is wrong stays unseen."""

from __future__ import annotations

import uuid
from decimal import Decimal
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from forebay.lab.drills.held_against import _event_of, _named, _payload, compared, hold_against
from tests.support.clickhouse import a_clickhouse, a_database
from tests.support.naive_bridge import COLUMNS, TABLE, VIEW

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from forebay.lab.clickhouse_server import ClickHouseServer
    from forebay.lab.drills.plan import BridgedHeld

Place = tuple["ClickHouseServer", str]
IDS = [str(uuid.UUID(int=number)) for number in range(1, 5)]


def row(number: int, price: str = "1.5") -> tuple[str, ...]:
    moment = f"2026-01-31 23:59:59.{number:09}"
    return (IDS[number], "v", "spot", "A", moment, price, "2", "buy", str(number))


@pytest.fixture
def place() -> Iterator[Place]:
    server = a_clickhouse()
    with a_database(server) as database:
        server.ask(f"CREATE DATABASE {database}")
        for statement in (TABLE, VIEW):
            server.ask(statement.replace("trades", f"{database}.trades"))
        server.ask(f"SYSTEM STOP MERGES {database}.trades_rows")
        yield server, database


def put(place: Place, rows: Sequence[tuple[str, ...]]) -> None:
    server, database = place
    for each in rows:
        server.ask(f"INSERT INTO {database}.trades_rows VALUES {each}")  # noqa: S608


def held(place: Place, numbers: Sequence[int] = (0, 1, 2)) -> BridgedHeld:
    """Hold what is there against what a capture has stored: the events with these numbers."""
    begin_ns = 1_769_903_999 * 10**9
    decimals = pa.decimal128(38, 18)
    stored = pa.table(
        {
            "event_id": [IDS[number] for number in numbers],
            "venue": pa.array(["v"] * len(numbers)).dictionary_encode(),
            "market": ["spot"] * len(numbers),
            "symbol": ["A"] * len(numbers),
            "event_ts": pa.array([begin_ns + number for number in numbers], pa.timestamp("ns")),
            "price": pa.array([Decimal("1.5")] * len(numbers), decimals),
            "size": pa.array([Decimal(2)] * len(numbers), decimals),
            "side": ["buy"] * len(numbers),
            "trade_id": [str(number) for number in numbers],
            "seq": [*numbers],
        }
    )
    return hold_against({"trades": stored}, place[0].url, place[1])


def test_what_is_whole_is_whole(place: Place) -> None:
    put(place, [row(0), row(1), row(2)])
    found = held(place)
    assert (found.raw, found.events, found.final) == (3, 3, 3)
    assert (found.lost, found.doubled, found.doubled_raw, found.mutated) == (0, 0, 0, 0)


def test_what_is_missing_is_lost(place: Place) -> None:
    put(place, [row(0)])
    assert held(place).lost == 2


def test_a_row_that_lies_there_twice_is_doubled_though_it_is_read_once(place: Place) -> None:
    put(place, [row(0), row(1), row(2), row(1)])
    found = held(place)
    assert (found.doubled_raw, found.final, found.doubled) == (1, 3, 0)


def test_an_event_that_is_read_twice_or_is_of_nobody_is_doubled(place: Place) -> None:
    other_time = (IDS[1], *row(3)[1:])
    put(place, [row(0), row(1), row(2), other_time, row(3)])
    found = held(place)
    assert (found.final, found.doubled) == (5, 2)


@pytest.mark.parametrize("price", ["1.500000000000000001", "-1.5"])
def test_another_content_is_a_mutation(place: Place, price: str) -> None:
    put(place, [row(0, price), row(1), row(2)])
    assert held(place).mutated == 1


def test_without_a_table_all_is_lost() -> None:
    server = a_clickhouse()
    found = held((server, "nowhere"))
    assert (found.lost, found.raw, found.final) == (3, 0, 0)


def test_what_is_compared_is_what_the_event_says() -> None:
    names = compared("trades", {*COLUMNS, "seq", "flags", "epoch"})
    assert names == [*COLUMNS[:5], "trade_id", "price", "size", "side"]


def test_a_letter_tells_its_event() -> None:
    event = b'{"event_id": "%b"}' % IDS[2].encode()
    assert _event_of(_payload(event)) == uuid.UUID(IDS[2]).bytes
    ours = b'{"letter_id": "x", "payload": "eyJldmVudF9pZCI6ICJub3QgYW4gaWQifQ=="}'
    assert _payload(ours) == b'{"event_id": "not an id"}'
    assert _event_of(_payload(ours)) == b""
    assert _named(ours, "letter_id") == "x"
    assert _named(b"[1]", "letter_id") == _named(b"{", "letter_id") == ""
