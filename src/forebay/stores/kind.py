"""How stores of one kind are opened: the descriptor that a package of a store hands out."""

from __future__ import annotations

from collections.abc import Callable, Sequence  # noqa: TC003 - the configuration is read by types
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from forebay.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

    from forebay.ports import Audited, ReadableStore, Reader

DEFAULT = "duckdb"


class StoreConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where events rest."""

    kind: str = DEFAULT
    """What it is: duckdb or clickhouse."""
    name: str = ""
    """What it is called in metrics, and by --store; left out: its kind."""
    url: str = ""
    """Where a server answers, as http://HOST:PORT; left out: the usual place on this host."""
    database: Annotated[str, Meta(min_length=1)] = "forebay"
    """The database of a server."""
    credentials_file: str = ""
    """A TOML file of secrets for a server: user = "…" and password = "…"."""
    options: dict[str, str] = {}
    """More for the driver of a server, by its own names."""
    memory_limit_mb: Annotated[int, Meta(ge=64)] = 1024
    """Memory that an embedded database may use."""
    parquet: bool = True
    """Whether closed hours are also kept as Parquet files, where the store can write them."""
    plugin: str = ""
    """A kind of your own instead: package.module:STORE."""


class MirrorConfig(StoreConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A further store that is fed from the same journal; repeat the table for more."""

    required: bool = True
    """Whether the journal keeps what it has not stored; without it, it may miss some."""
    bridged: bool = False
    """Whether bridges feed it from a transport: then it is read and audited here, and not fed."""


def nothing_amiss(config: StoreConfig) -> Sequence[str]:
    """Return no complaint: there is no server that could be set up wrongly."""
    del config
    return ()


@dataclass(frozen=True, slots=True)
class StoreKind:
    """Stores of one kind: in a database of the data folder, whose path is given, or on a server.

    A server's package brings its driver in with the first call of one of these.
    """

    name: str
    """As ``store.kind`` says it, and as a database is called: ``forebay.NAME``."""
    open: Callable[[StoreConfig, Path], ReadableStore]
    """Open or create a database.

    That of a server asks nobody: it is connected with, and its tables are made, by the first call
    of the store, which raises :class:`~forebay.errors.Transient` as long as nobody answers. Raises
    :class:`~forebay.errors.ConfigError` for what no server could ever take.
    """
    read: Callable[[StoreConfig, Path, int | None], Reader]
    """Open a database that no process holds, with at most so many megabytes of memory, or that of
    a server, which makes no table. None: no limit of memory of our own."""
    audited: Callable[[Callable[[str], pa.Table], str], Audited]
    """Make an audit's view out of what runs one reading statement, wherever that is, and the name
    of the consumer that is audited."""
    beside: tuple[str, ...] = ()
    """Endings of the files beside a database that are a part of it, like ``wal``. One that stays
    when its database is replaced would be taken for a part of the new one."""
    probe: Callable[[StoreConfig], str] | None = None
    """Reach the server and return what answered, in some words: ``ClickHouse 25.8``. None: there
    is none, the database is a file of the data folder.

    Changes nothing there. Raises :class:`~forebay.errors.Unreachable` if nobody answers, and
    :class:`~forebay.errors.Permanent` if it refuses.
    """
    complaints: Callable[[StoreConfig], Sequence[str]] = nothing_amiss
    """Return what of a server's set-up would lose or double something, each in a sentence that
    says what to do. Changes nothing there, and raises as ``probe``."""

    checkpoints: bool = True
    """Whether it has the table of checkpoints of books."""
    arrival: str = "rowid"
    """What of a row says how early it was stored, as its SQL has it."""

    @property
    def embedded(self) -> bool:
        """Whether the database is a file of the data folder, which one process holds."""
        return self.probe is None


def address(path: Path) -> str:
    """Return a path as a driver takes it for one: with no ``~`` or ``name:`` at its begin.

    Raises :class:`~forebay.errors.ConfigError` if no spelling of it can be: DuckDB follows links,
    and in what it finds a ``?`` begins parameters, and a backslash is a slash.
    """
    try:
        real = str(path.resolve())
        real.encode()
    except UnicodeEncodeError as error:
        message = f"The path {str(path)!a} is no UTF-8, or not to this locale: "
        message += "no database can be there."
        hint = "Rename the folder, or set LC_ALL=C.UTF-8."
        raise ConfigError(message, hint=hint) from error
    if "?" in real or "\\" in real:
        message = f"The path {real!r} has a ? or a backslash: no database can be there."
        raise ConfigError(message, hint="Rename the folder.")
    return str(path.absolute())
