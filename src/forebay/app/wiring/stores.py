"""The one place that opens stores: for delivery, offline, and for whoever reads.

A kind of store is brought in when one is needed: its driver is heavy, and most processes have none.
"""

from __future__ import annotations

import contextlib
import importlib
from typing import TYPE_CHECKING, TypeVar

from forebay.errors import ConfigError, Unreachable
from forebay.stores.kind import DEFAULT, StoreConfig, StoreKind
from forebay.text import did_you_mean

if TYPE_CHECKING:
    import pyarrow as pa

    from forebay.app.wiring.data_folder import DataFolder
    from forebay.ports import ReadableStore

KINDS = {DEFAULT: "forebay.stores.duckdb:STORE", "clickhouse": "forebay.stores.clickhouse:STORE"}
"""Where the kinds of this tree are; all but the default one need the extra of their name."""


def name_of(config: StoreConfig) -> str:
    """Return what a store is called."""
    return config.name or config.kind


def kind_of(config: StoreConfig) -> StoreKind:
    """Return the kind of store that is configured. Raises :class:`~forebay.errors.ConfigError`."""
    if config.plugin:
        return _load(config.plugin)
    try:
        return _load(KINDS[check_kind(config.kind)])
    except ConfigError as error:
        if isinstance(error.__cause__, ModuleNotFoundError):
            message = f"The store {name_of(config)} needs a driver: {error.__cause__}."
            hint = f"Install it: pip install 'forebay[{config.kind}]'."
            raise ConfigError(message, hint=hint) from error
        raise


def check_kind(name: str) -> str:
    """Return ``name``; raises :class:`~forebay.errors.ConfigError` if there is no such kind."""
    if name not in KINDS:
        hint = did_you_mean(name, KINDS, f"There is: {', '.join(KINDS)}.")
        raise ConfigError(f"There is no store of the kind {name!r}.", hint=hint)
    return name


def _load(plugin: str) -> StoreKind:
    return load_plugin(plugin, "store", StoreKind, "STORE")


def open_store(folder: DataFolder, config: StoreConfig) -> ReadableStore:
    """Open or create the store of a folder, which only one process may do at a time.

    Raises :class:`~forebay.errors.Unreachable` while another process holds it,
    :class:`~forebay.errors.Corrupt` if it is damaged, and :class:`~forebay.errors.ConfigError` if
    it was written by a Forebay of other tables.
    """
    kind = kind_of(config)
    return kind.open(config, folder.database(kind.name))


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
    kind = kind_in(folder)
    path = folder.database(kind.name)
    with contextlib.closing(kind.read(StoreConfig(), path, memory_limit_mb)) as reader:
        return reader.query(sql, timeout_s=timeout_s, limit=limit)


def kind_in(folder: DataFolder) -> StoreKind:
    """Return the kind of the database that is in a folder, the default one if there is none."""
    there = folder.databases()
    known = [name for name in there if name in KINDS]
    if there and not known:
        message = f"The database of the kind {there[0]!r} in {folder.root} is not known here."
        raise Unreachable(message, hint="Ask it while the capture that it belongs to runs.")
    return _load(KINDS[known[0] if known else DEFAULT])


Part = TypeVar("Part")


def load_plugin(plugin: str, of: str, kind: type[Part], example: str) -> Part:
    """Return what ``package.module:ATTRIBUTE`` names: a ``kind``, for the part ``of``.

    Raises :class:`~forebay.errors.ConfigError` in one sentence that says what to do; ``example``
    is the usual name of the attribute.
    """
    told = f"The plugin {plugin!r} of the {of}"
    module, _, attribute = plugin.partition(":")
    written = f"Write package.module:{example}."
    if not (module and attribute):
        raise ConfigError(f"{told} names no object.", hint=written)
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except Exception as error:
        message = f"{told} cannot be imported: {type(error).__name__}: {error}."
        hint = "Install its package beside forebay, or name its folder in PYTHONPATH."
        raise ConfigError(message, hint=hint) from error
    if not isinstance(found, kind):
        raise ConfigError(f"{told} is no {kind.__module__}.{kind.__name__}.", hint=written)
    return found
