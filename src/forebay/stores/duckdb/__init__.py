"""DuckDB, the embedded default: one file, no server."""

from forebay.stores.duckdb.hours import HourNote
from forebay.stores.duckdb.query import DuckDBReader
from forebay.stores.duckdb.scratch import open_scratch
from forebay.stores.duckdb.store import DuckDBStore

__all__ = ["DuckDBReader", "DuckDBStore", "HourNote", "open_scratch"]
