"""What is done to a stored event of each edition, in a DuckDB store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.domain.kinds import KINDS
from tests.exam.wire import STREAMS

if TYPE_CHECKING:
    import duckdb

SPOILED = 7
"""The event of a stream that something is done to, from 1 on."""
DROPPED, DOUBLED, ALTERED, INTACT = STREAMS[0], STREAMS[2], STREAMS[1], STREAMS[3]
_STATEMENTS = (
    (DROPPED, "DELETE FROM {table} WHERE {this}"),
    (DOUBLED, "INSERT INTO {table} SELECT * FROM {table} WHERE {this}"),
    (ALTERED, "UPDATE {table} SET ask_price = ask_price + 1 WHERE {this}"),
)


def spoil(connection: duckdb.DuckDBPyConnection) -> None:
    """Drop, double and alter one event of a stream each, in every edition that is stored."""
    for (venue,) in connection.sql("SELECT DISTINCT venue FROM quotes").fetchall():
        for (kind, symbol), statement in _STATEMENTS:
            table = KINDS[kind].table
            this = (
                f"event_id = (SELECT event_id FROM {table} WHERE venue = '{venue}' "  # noqa: S608
                f"AND symbol = '{symbol}' ORDER BY seq LIMIT 1 OFFSET {SPOILED - 1})"
            )
            connection.execute(statement.format(table=table, this=this)).fetchall()
