"""DuckDB, the embedded default: one file, no server."""

from forebay.stores.duckdb.audit import DuckDBAudited
from forebay.stores.duckdb.hours import HourNote
from forebay.stores.duckdb.query import DuckDBReader
from forebay.stores.duckdb.store import DuckDBStore

__all__ = ["DuckDBAudited", "DuckDBReader", "DuckDBStore", "HourNote"]
