"""The tables, made from the Arrow schemas so that the two cannot differ."""

from __future__ import annotations

import pyarrow as pa

from forebay.domain import schema
from forebay.stores.duckdb.session import identifier

SCHEMA_VERSION = 2
"""2: notes of the hours whose Parquet file is to be written."""

_TYPES = {
    pa.uuid(): "UUID",
    pa.string(): "VARCHAR",
    pa.binary(): "BLOB",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    schema.TIME: "TIMESTAMP_NS",
    schema.DECIMAL: "DECIMAL(38, 18)",
}

CONFLICTS = """
CREATE TABLE IF NOT EXISTS conflicts (
    event_id UUID NOT NULL, "table" VARCHAR, received_ts TIMESTAMP_NS,
    stored VARCHAR, incoming VARCHAR
)"""
CURSORS = """
CREATE TABLE IF NOT EXISTS cursors (consumer VARCHAR NOT NULL, log_id VARCHAR, seq BIGINT)"""
EPOCHS = """
CREATE TABLE IF NOT EXISTS stream_epochs (
    venue VARCHAR, channel VARCHAR, symbol VARCHAR, epoch VARCHAR, last BIGINT
)"""
ORDINALS = """
CREATE TABLE IF NOT EXISTS stream_ordinals (
    venue VARCHAR, channel VARCHAR, symbol VARCHAR, state BLOB
)"""
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


def statements() -> list[str]:
    """Answer what makes an empty database ready; each may be repeated."""
    tables = {
        **schema.EVENT_TABLES,
        "dead_letters": schema.DEAD_LETTERS,
        "coverage": schema.COVERAGE,
        "gaps": schema.GAPS,
    }
    made = [_create(name, fields) for name, fields in tables.items()]
    return [*made, CONFLICTS, CURSORS, EPOCHS, ORDINALS, HOURS, META]
