"""The one place that opens stores: for delivery, offline, and for whoever reads.

A kind of store is brought in when one is needed: its driver is heavy, and most processes have none.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from forebay.app.wiring import plugins
from forebay.errors import ConfigError, Unreachable
from forebay.stores.kind import StoreKind
from forebay.text import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from forebay.app.wiring.config import StoreConfig
    from forebay.app.wiring.data_folder import DataFolder
    from forebay.ports import Audited, ReadableStore

DEFAULT = "duckdb"
KINDS = {DEFAULT: "forebay.stores.duckdb:STORE"}
"""Where the kinds of this tree are."""


def kind_of(config: StoreConfig) -> StoreKind:
    """Return the kind of store that is configured.

    Raises :class:`~forebay.errors.ConfigError` if there is none such.
    """
    return load(config.plugin or KINDS[check_kind(config.kind)])


def check_kind(name: str) -> str:
    """Return ``name``; raises :class:`~forebay.errors.ConfigError` if there is no such kind."""
    if name not in KINDS:
        hint = did_you_mean(name, KINDS, f"There is: {', '.join(KINDS)}.")
        raise ConfigError(f"There is no store of the kind {name!r}.", hint=hint)
    return name


def load(plugin: str) -> StoreKind:
    """Return the kind of store that ``package.module:ATTRIBUTE`` is.

    Raises :class:`~forebay.errors.ConfigError` in one sentence that says what to do.
    """
    return plugins.load(plugin, "store", StoreKind, "STORE")


def open_store(folder: DataFolder, config: StoreConfig) -> ReadableStore:
    """Open or create the store of a folder, which only one process may do at a time.

    Raises :class:`~forebay.errors.Unreachable` while another process holds it,
    :class:`~forebay.errors.Corrupt` if it is damaged, and :class:`~forebay.errors.ConfigError` if
    it was written by a Forebay of other tables.
    """
    kind = kind_of(config)
    return kind.open(folder.database(kind.name), config.memory_limit_mb)


def query_file(
    folder: DataFolder,
    sql: str,
    *,
    timeout_s: float,
    memory_limit_mb: int | None = None,
    limit: int | None = None,
) -> pa.Table:
    """Return the rows of a statement on the database of a folder that no process holds.

    Raises :class:`~forebay.errors.Unreachable` if there is none or it is held, otherwise as
    :meth:`forebay.ports.Reader.query`.
    """
    kind = _kind_in(folder)
    with contextlib.closing(kind.read(folder.database(kind.name), memory_limit_mb)) as reader:
        return reader.query(sql, timeout_s=timeout_s, limit=limit)


def audited(folder: DataFolder, query: Callable[[str], pa.Table], consumer: str) -> Audited:
    """Return a folder's store as the audit of a consumer asks it, wherever it is."""
    return _kind_in(folder).audited(query, consumer)


def _kind_in(folder: DataFolder) -> StoreKind:
    """Return the kind of the database that is in a folder, the default one if there is none."""
    there = folder.databases()
    known = [name for name in there if name in KINDS]
    if there and not known:
        message = f"The database of the kind {there[0]!r} in {folder.root} is not known here."
        raise Unreachable(message, hint="Ask it while the capture that it belongs to runs.")
    return load(KINDS[known[0] if known else DEFAULT])
