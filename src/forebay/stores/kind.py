"""How stores of one kind are opened: the descriptor that a package of a store hands out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from forebay.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pyarrow as pa

    from forebay.ports import Audited, ReadableStore, Reader


@dataclass(frozen=True, slots=True)
class StoreKind:
    """Stores of one kind; paths are those of a database in a data folder."""

    name: str
    """As ``store.kind`` says it, and as a database is called: ``forebay.NAME``."""
    open: Callable[[Path, int], ReadableStore]
    """Open or create a database that may take so many megabytes of memory."""
    read: Callable[[Path, int | None], Reader]
    """Open a database that no process holds; None: no limit of memory."""
    audited: Callable[[Callable[[str], pa.Table], str], Audited]
    """Make an audit's view out of what runs one reading statement, wherever that is, and the name
    of the consumer that is audited."""
    beside: tuple[str, ...] = ()
    """Endings of the files beside a database that are a part of it, like ``wal``. One that stays
    when its database is replaced would be taken for a part of the new one."""


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
