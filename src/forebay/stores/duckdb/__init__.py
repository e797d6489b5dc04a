"""DuckDB, the embedded default: one file, no server."""

from forebay.stores.duckdb.audit import DuckDBAudited
from forebay.stores.duckdb.query import DuckDBReader
from forebay.stores.duckdb.store import DuckDBStore
from forebay.stores.kind import StoreKind

STORE = StoreKind(
    name="duckdb",
    open=lambda config, path: DuckDBStore(path, memory_limit_mb=config.memory_limit_mb),
    read=lambda _, path, most_mb: DuckDBReader.of_file(path, memory_limit_mb=most_mb),
    audited=DuckDBAudited,
    beside=("wal",),
)

__all__ = ["STORE", "DuckDBAudited", "DuckDBReader", "DuckDBStore"]
