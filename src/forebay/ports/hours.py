"""The socket of stores whose closed hours become files."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class HourNote(NamedTuple):
    """An hour of a table whose rows are not all in its file."""

    table: str
    start_ns: int
    """UTC nanoseconds."""
    number: int
    """Notes count up; a later one speaks of later rows."""


@runtime_checkable
class HourFiles(Protocol):
    """A store that writes hours of its tables as Parquet, and notes which have to be written."""

    def hours_to_write(self) -> Sequence[HourNote]:
        """Return the hours of event tables that have rows which no file has, oldest first."""
        ...

    def export_hour(self, note: HourNote, path: Path) -> int:
        """Write the rows of an hour to ``path`` as Parquet, beside commits; return their number.

        They are sorted by venue, market, symbol, ``event_ts`` and id. The hour stays noted until
        :meth:`hour_written`, which is for whoever has made the file durable. Raises as
        :meth:`forebay.ports.Store.commit`.
        """
        ...

    def hour_written(self, note: HourNote) -> None:
        """Remove the note of an hour whose file is durable."""
        ...
