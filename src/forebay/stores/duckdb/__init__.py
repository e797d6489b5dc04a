"""DuckDB, the embedded default: one file, no server."""

from forebay.stores.duckdb.digests import stream_digests
from forebay.stores.duckdb.query import DuckDBReader
from forebay.stores.duckdb.scratch import open_scratch
from forebay.stores.duckdb.store import DuckDBStore

__all__ = ["DuckDBReader", "DuckDBStore", "open_scratch", "stream_digests"]
