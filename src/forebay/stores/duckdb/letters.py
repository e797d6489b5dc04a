"""What became of dead letters, in DuckDB's SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.domain import schema
from forebay.stores.duckdb.ddl import no_rows

if TYPE_CHECKING:
    import duckdb

TABLE = "letter_states"


def show_letter_states(connection: duckdb.DuckDBPyConnection) -> None:
    """Have none, where the database is older than the table and nobody may add to it."""
    found = connection.execute(
        "SELECT 1 FROM information_schema.tables WHERE table_name = ?", [TABLE]
    ).fetchone()
    if found is None:
        rows = no_rows(schema.LETTER_STATES)
        connection.execute(f"CREATE OR REPLACE TEMP VIEW {TABLE} AS {rows}")
