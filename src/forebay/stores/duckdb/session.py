"""One DuckDB connection: statements fetched to the end, Arrow tables as their input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import duckdb
    import numpy.typing as npt
    import pyarrow as pa


class SqlSession:
    """Runs the statements of one transaction after the other on its connection."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self.connection = connection

    def run(
        self, statement: str, parameters: Sequence[object] = (), incoming: pa.Table | None = None
    ) -> list[tuple[Any, ...]]:
        """Execute and fetch to the end: a result left open would block the connection.

        The statement reads ``incoming`` as the table of that name.
        """
        return self.execute(statement, parameters, incoming).fetchall()

    def columns(
        self, statement: str, parameters: Sequence[object] = (), incoming: pa.Table | None = None
    ) -> dict[str, npt.NDArray[Any]]:
        """Execute as :meth:`run` does and return columns by name; missing texts are masked."""
        return self.execute(statement, parameters, incoming).fetchnumpy()

    def execute(
        self,
        statement: str,
        parameters: Sequence[object],
        incoming: pa.Table | None,  # noqa: ARG002 - DuckDB looks it up among these names
    ) -> duckdb.DuckDBPyConnection:
        """Every statement of a commit comes through here; registering a table costs another two."""
        return self.connection.execute(statement, list(parameters))
