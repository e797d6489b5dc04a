"""The tables, made from the Arrow schemas so that the two cannot differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from forebay.domain import schema
from forebay.domain.kinds import KINDS
from forebay.stores.rows import EPOCHS, ORDINALS
from forebay.stores.states import state_query
from forebay.text import identifier

if TYPE_CHECKING:
    from forebay.domain.kinds import EventKind

SCHEMA_VERSION = 3
"""3: every event row has its envelope, streams have a market, and coverage has a unit."""

_TYPES = {
    pa.uuid(): "UUID",
    pa.string(): "VARCHAR",
    schema.LABEL: "VARCHAR",
    pa.binary(): "BLOB",
    pa.bool_(): "BOOLEAN",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    schema.TIME: "TIMESTAMP_NS",
    schema.DECIMAL: "DECIMAL(38, 18)",
    schema.DECIMALS: "DECIMAL(38, 18)[]",
}

CONFLICTS = """
CREATE TABLE IF NOT EXISTS conflicts (
    event_id UUID NOT NULL, "table" VARCHAR, received_ts TIMESTAMP_NS,
    stored VARCHAR, incoming VARCHAR
)"""
CURSORS = """
CREATE TABLE IF NOT EXISTS cursors (consumer VARCHAR NOT NULL, log_id VARCHAR, seq BIGINT)"""
HOURS = """
CREATE TABLE IF NOT EXISTS hours_to_write ("table" VARCHAR, start_ns BIGINT, number BIGINT)"""
META = "CREATE TABLE IF NOT EXISTS meta (schema_version INTEGER)"


def _create(name: str, fields: pa.Schema) -> str:
    columns = ", ".join(
        f"{identifier(field.name)} {_TYPES[field.type]}"
        + (" NOT NULL" if field.name == "event_ts" else "")
        for field in fields
    )
    return f"CREATE TABLE IF NOT EXISTS {identifier(name)} ({columns})"


def no_rows(fields: pa.Schema) -> str:
    """Return a query that has the columns of a table, and no row."""
    columns = (f"NULL::{_TYPES[field.type]} AS {identifier(field.name)}" for field in fields)
    return f"(SELECT {', '.join(columns)} LIMIT 0)"


def statements() -> list[str]:
    """Return what makes an empty database ready; each may be repeated."""
    tables = {
        **{kind.table: kind.schema for kind in KINDS.values()},
        "book_checkpoints": schema.BOOK_CHECKPOINTS,
        "dead_letters": schema.DEAD_LETTERS,
        "letter_states": schema.LETTER_STATES,
        "coverage": schema.COVERAGE,
        "gaps": schema.GAPS,
        "stream_epochs": EPOCHS,
        "stream_ordinals": ORDINALS,
    }
    made = [_create(name, fields) for name, fields in tables.items()]
    return [META, *made, CONFLICTS, CURSORS, HOURS, *map(_states, _held())]


def _held() -> list[EventKind]:
    return [kind for kind in KINDS.values() if kind.holds]


def _states(kind: EventKind) -> str:
    query = state_query(
        kind, identifier(kind.table), identifier, lambda name: f"last_value({name} IGNORE NULLS)"
    )
    return f"CREATE OR REPLACE VIEW {identifier(kind.states)} AS {query}"
