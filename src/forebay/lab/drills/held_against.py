"""What a ClickHouse has that bridges write to, held against what the capture has stored.

The capture's store was proved by the audit. Events are told apart by their ids, counted where
they lie and where they are read, and compared by what they say of the market. ClickHouse is asked
over HTTP, by nothing that a bridge or our store is made of.
"""

from __future__ import annotations

import base64
import contextlib
import json
import urllib.request
import uuid
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from forebay.app.reader import Data
from forebay.domain.kinds import KINDS
from forebay.lab.drills.plan import BridgedHeld
from forebay.lab.kafka_admin import records_of
from forebay.transports.spelling import CONTROL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from forebay.app.wiring.data_folder import DataFolder

_FRAMES = {
    *("venue_symbol", "collector", "epoch", "log_id", "seq", "venue_seq"),
    *("exchange_ts", "received_ts", "flags"),
}
"""Columns of a frame that told an event rather than of the event."""
_ASK_S = 60.0


def compared(table: str, there: set[str]) -> list[str]:
    """Return the columns that say what an event of a table is, of those that there are."""
    (kind,) = (each for each in KINDS.values() if each.table == table)
    names = [name for name in kind.schema.names if name not in _FRAMES and name in there]
    return [name for name in names if not pa.types.is_list(kind.schema.field(name).type)]


def stored_rows(folder: DataFolder) -> dict[str, pa.Table]:
    """Return by table the events that are stored in a data folder."""
    tables = sorted({kind.table for kind in KINDS.values()})
    query = "SELECT * REPLACE (event_id::VARCHAR AS event_id) FROM"
    with Data(folder.root) as data:
        return {table: pa.table(data.sql(f"{query} {table}")) for table in tables}


def hold_against(stored: Mapping[str, pa.Table], url: str, database: str) -> BridgedHeld:
    """Count what is in ClickHouse beside what is stored."""
    counts = dict.fromkeys(("raw", "events", "final", "lost", "doubled", "mutated"), 0)
    for table, rows in stored.items():
        for name, count in _of_table(table, rows, url, database).items():
            counts[name] += count
    return BridgedHeld(store="clickhouse", **counts)


def letters_of(servers: str, topic: str, good: set[bytes]) -> tuple[int, int]:
    """Return how many dead letters a topic has, and how many of them are events of ``good``."""
    letters = dict(_read(servers, topic))
    wrong = sum(_event_of(value) in good for value in letters.values())
    return len(letters), wrong


def _read(servers: str, topic: str) -> Iterator[tuple[str, bytes]]:
    """Yield the records of a topic, but for ours that control; each with what tells it apart."""
    for place, headers, value in records_of(servers, topic):
        if CONTROL not in headers:
            yield _named(value, "letter_id") or place, _payload(value)


def _named(value: bytes, name: str) -> str:
    """Return a text that a JSON object has, nothing if it is none."""
    try:
        told = json.loads(value)
    except ValueError:
        return ""
    return str(told.get(name, "")) if isinstance(told, dict) else ""


def _payload(value: bytes) -> bytes:
    """Return what a letter is about: what it says, if it is one of ours."""
    told = _named(value, "payload")
    return base64.b64decode(told) if told else value


def _event_of(payload: bytes) -> bytes:
    with contextlib.suppress(ValueError):
        return uuid.UUID(_named(payload, "event_id")).bytes
    return b""


def _of_table(table: str, stored: pa.Table, url: str, database: str) -> dict[str, int]:
    there = {*_columns(url, database, table)}
    if not there:
        return {"lost": len(stored)}
    names = compared(table, there & {*stored.column_names})
    rows = f"{database}.{table}_rows"
    counted = ask(url, f"SELECT count() AS raw, uniqExact(event_id) AS events FROM {rows}")  # noqa: S608
    listed = ", ".join(["toString(event_id) AS event_id", *names[1:]])
    final = ask(url, f"SELECT {listed} FROM {database}.{table}")  # noqa: S608
    found = {name: int(counted[name][0].as_py()) for name in counted.column_names}
    place = pc.index_in(final["event_id"], value_set=stored["event_id"].combine_chunks())
    once = pc.count_distinct(place).as_py()
    return found | {
        "final": len(final),
        "lost": len(stored) - once,
        "doubled": len(final) - once,
        "mutated": _mutated(stored.select(names), final.select(names), place),
    }


def _mutated(stored: pa.Table, final: pa.Table, place: pa.ChunkedArray) -> int:
    """Return how many events of ``final`` say something else than those at their places."""
    known = pc.is_valid(place)
    mine, theirs = plain(stored.take(place.filter(known))), plain(final.filter(known))
    same = pa.array([True] * len(mine), pa.bool_())
    for ours, other in zip(mine.columns, theirs.columns, strict=True):
        nulls = pc.and_(pc.is_null(ours), pc.is_null(other))
        same = pc.and_(same, pc.or_(nulls, pc.fill_null(pc.equal(ours, other), False)))
    return len(mine) - (pc.sum(same).as_py() or 0)


def plain(table: pa.Table) -> pa.Table:
    """Return a table whose columns are spelled alike, whichever store they are of."""
    return pa.table({name: _plain(table[name]) for name in table.column_names})


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if pa.types.is_timestamp(kind):
        return column.cast(pa.timestamp("ns", kind.tz)).cast(pa.int64())
    textual = pa.types.is_dictionary(kind) or pa.types.is_binary(kind)
    return column.cast(pa.string()) if textual else column


def _columns(url: str, database: str, table: str) -> list[str]:
    where = f"database = '{database}' AND table = '{table}'"
    found = ask(url, f"SELECT name FROM system.columns WHERE {where}")  # noqa: S608
    return [str(name) for name in plain(found)["name"].to_pylist()]


def ask(url: str, sql: str) -> pa.Table:
    """Return ClickHouse's answer; raises OSError."""
    asked = f"{sql} FORMAT ArrowStream".encode()
    with urllib.request.urlopen(url, asked, timeout=_ASK_S) as answer:  # noqa: S310 - our own
        return pa.ipc.open_stream(answer.read()).read_all()
