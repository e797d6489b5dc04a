"""One DuckDB connection: statements fetched to the end, Arrow tables under a name."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import duckdb

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa


class Session:
    """Runs the statements of one transaction after the other on its connection."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self.connection = connection

    def run(self, statement: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Execute and fetch to the end: a result left open would block the connection."""
        return self.connection.execute(statement, list(parameters)).fetchall()

    @contextlib.contextmanager
    def incoming(self, rows: pa.Table) -> Iterator[None]:
        """Let statements read ``rows`` as the table ``incoming``."""
        self.connection.register("incoming", rows)
        try:
            yield
        finally:
            # Refused in an aborted transaction, whose own error is the one to hear of.
            with contextlib.suppress(duckdb.Error):
                self.connection.unregister("incoming")
