"""Closed hours of events as Parquet files beside the database, one a table and hour.

``parquet/trades/date=2021-04-17/hour=16/trades.parquet``: all that the database has of the hour,
sorted by venue, symbol, ``event_ts`` and id. A file appears whole or not at all, and is made
again when late rows came; the store notes which hours that is true of, see
:class:`forebay.ports.HourFiles`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from forebay.domain.digest import HOUR_NS
from forebay.journal import OS_DISK, new_id
from forebay.journal.disk import translated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from forebay.clock import Clock
    from forebay.journal import Disk
    from forebay.ports import HourFiles, HourNote

GRACE_NS = 300_000_000_000
"""How long after its end an hour is closed, and how long a note of it waits for more rows."""
GATHER_NS = 900_000_000_000
"""How long late rows gather until a file that this process made is made again."""
_MAKING = ".making"

Hour = tuple[str, int]


def due(
    notes: Sequence[HourNote], wall_ns: int, waited_ns: Mapping[Hour, int], made: Iterable[Hour]
) -> HourNote | None:
    """Return the oldest hour whose file is to be made, None if there is none yet.

    An hour is closed :data:`GRACE_NS` after its end by the wall clock, or when its table has
    rows of so long after it. ``waited_ns`` is how long each note has been known.
    """
    again = set(made)
    newest: dict[str, int] = {}
    for note in notes:
        newest[note.table] = max(note.start_ns, newest.get(note.table, note.start_ns))
    for note in notes:
        hour = note[:2]
        closed_ns = note.start_ns + HOUR_NS + GRACE_NS
        patience_ns = GATHER_NS if hour in again else GRACE_NS
        if max(wall_ns, newest[note.table]) >= closed_ns and waited_ns[hour] >= patience_ns:
            return note
    return None


def hour_path(root: Path, note: HourNote) -> Path:
    """Return where the file of an hour is."""
    start = datetime.fromtimestamp(note.start_ns // 1_000_000_000, UTC)
    return (
        root / note.table / f"date={start:%Y-%m-%d}" / f"hour={start:%H}" / f"{note.table}.parquet"
    )


class HourlyParquet:
    """Makes the files of one database. Blocking; commits may go on in another thread."""

    name = "Parquet files of closed hours"

    def __init__(
        self,
        root: Path,
        store: HourFiles,
        *,
        clock: Clock,
        disk: Disk = OS_DISK,
        random_id: Callable[[], str] = new_id,
    ) -> None:
        """``root`` is the folder of all files; it is made when the first one is."""
        self._root = root
        self._store = store
        self._clock = clock
        self._disk = disk
        self._random_id = random_id
        self._since: dict[Hour, int] = {}
        self._made: set[Hour] = set()

    def step(self) -> HourNote | None:
        """Make the file that is most due, and return of which hour; None if none is due.

        Raises :class:`~forebay.errors.ForebayError` if it cannot be made; call again later.
        """
        now_ns = self._clock.monotonic_ns()
        notes = self._store.hours_to_write()
        self._since = {note[:2]: self._since.get(note[:2], now_ns) for note in notes}
        waited_ns = {hour: now_ns - since for hour, since in self._since.items()}
        note = due(notes, self._clock.wall_ns(), waited_ns, self._made)
        if note is not None:
            self.make(note)
        return note

    def make(self, note: HourNote) -> None:
        """Make the file of one hour, in the place of the one there is; raises as :meth:`step`."""
        with translated(f"write Parquet files to {self._root}"):
            making = self._root / _MAKING
            self._clean(making)
            path, partial = hour_path(self._root, note), making / self._random_id()
            self._store.export_hour(note, partial)
            self._sync(partial)
            self._disk.make_folder(path.parent)
            self._disk.rename(partial, path)
            self._disk.fsync_dir(path.parent)
        self._store.hour_written(note)
        self._since.pop(note[:2], None)
        self._made.add(note[:2])

    def _clean(self, making: Path) -> None:
        """Remove what a killed predecessor, or a try that failed, left behind."""
        self._disk.make_folder(making)
        for name in self._disk.listdir(making):
            self._disk.unlink(making / name)

    def _sync(self, path: Path) -> None:
        fd = self._disk.open(path, write=True)
        try:
            self._disk.fdatasync(fd)
        finally:
            self._disk.close(fd)

    def close(self) -> None:
        """Nothing is held between two steps."""
