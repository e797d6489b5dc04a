"""Maintenance beside delivery: when its turn is, that of the journal, and the Parquet files.

Closed hours of events are files beside the database, one a table and hour, such as
``parquet/trades/date=2021-04-17/hour=16/trades.parquet``: all that the database has of the hour,
sorted by venue, symbol, ``event_ts`` and id. A file appears whole or not at all, and is made
again when late rows came; the store notes which hours that is true of, see
:class:`forebay.ports.HourFiles`.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from forebay.app.wiring import venues
from forebay.domain.digest import HOUR_NS
from forebay.errors import ForebayError
from forebay.journal import OS_DISK, CursorFile, new_id
from forebay.journal.disk import translated
from forebay.journal.housekeeping import Housekeeper
from forebay.journal.retention import Rules
from forebay.services.deliver import BACKLOG_FRAMES
from forebay.services.ledger import open_ledger
from forebay.telemetry import HousekeepingRefused, WorkResumed, WorkShed
from forebay.times import span_ns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from forebay.app.wiring.config import JournalConfig
    from forebay.app.wiring.data_folder import DataFolder
    from forebay.clock import Clock
    from forebay.journal import Disk, Position
    from forebay.journal.overview import JournalOverview
    from forebay.journal.retention import HousekeepingStep
    from forebay.ports import HourFiles, HourNote
    from forebay.services.ledger_builder import FirstTold, LiveSums
    from forebay.telemetry import Observer

IDLE_S = 5.0
"""Between two looks when there was nothing to do, or delivery was behind."""
BREATH_S = 0.5
"""Between two segments: recording and sealing one takes seconds of a core."""
GIGABYTE = 10**9
_DAY_NS = 86_400 * 10**9
GRACE_NS = 300_000_000_000
"""How long after its end an hour is closed, and how long a note of it waits for more rows."""
GATHER_NS = 900_000_000_000
"""How long late rows gather until a file that this process made is made again."""
_MAKING = ".making"
Hour = tuple[str, int]


@dataclass(slots=True)
class DeliveryPace:
    """What delivery has before it."""

    frames: int = BACKLOG_FRAMES
    """Found by its last step; nobody knows before the first one."""
    stopping: bool = False

    @property
    def behind(self) -> bool:
        """Whether delivery needs the machine for itself."""
        return self.stopping or self.frames >= BACKLOG_FRAMES


def rules(config: JournalConfig) -> Rules:
    """Return how long segments are kept. Raises :class:`~forebay.errors.ConfigError`."""
    cap = None if config.retain_gb is None else round(config.retain_gb * GIGABYTE)
    return Rules(span_ns(config.retain), cap)


def needed(seen: JournalOverview, kept: Rules) -> int | None:
    """Return the bytes that the journal grows to under ``kept``; None if nobody can tell."""
    if seen.disk_per_day is None:
        return None
    need = seen.disk_per_day * kept.retain_ns // _DAY_NS
    return need if kept.cap_bytes is None else min(need, kept.cap_bytes)


class MaintenanceTask(Protocol):
    """Work that gives way to delivery, one step at a time."""

    name: str
    """What it is, for people."""

    def step(self) -> object | None:
        """Do one piece; None if there was none to do. Blocking."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...


@dataclass(slots=True)
class JournalMaintenance:
    """One housekeeper and its ledger.

    They are opened when their turn comes: what is wrong with them is told then, and does not
    keep delivery from starting.
    """

    folder: DataFolder
    config: JournalConfig
    position: Callable[[], Position | None]
    """How far the store durably is, which is always required."""
    first_told: FirstTold
    """What the ledger asks of what it reads itself, which is what ``live`` lacks."""
    _: KW_ONLY
    live: LiveSums | None = None
    clock: Clock
    observer: Observer
    _opened: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _housekeeper: Housekeeper | None = None
    name = "housekeeping of the journal"

    def step(self) -> HousekeepingStep | None:
        """Do one thing with one segment, see :meth:`Housekeeper.step`; blocking."""
        if self._housekeeper is None:
            self._housekeeper = self._open()
        return self._housekeeper.step()

    def configure(self, config: JournalConfig) -> None:
        """Keep segments as ``config`` says from now on."""
        self.config = config
        if self._housekeeper is not None:
            self._housekeeper.rules = rules(config)

    def close(self) -> None:
        """Leave the journal and the ledger to others."""
        self._opened.close()

    def _open(self) -> Housekeeper:
        ledger = open_ledger(
            self.folder.ledger,
            venues.parsers(),
            self.clock,
            first_told=self.first_told,
            live=self.live,
        )
        self._opened.callback(ledger.close)
        housekeeper = Housekeeper(
            self.folder.journal,
            clock=self.clock,
            cursors=self._cursors,
            ledger=ledger,
            rules=rules(self.config),
            observer=self.observer,
        )
        self._opened.callback(housekeeper.close)
        return housekeeper

    def _cursors(self) -> Sequence[Position]:
        # All are durable: the row in the store, which counts, and the files, which the writer
        # takes for its floor. As long as one of them is not known, nothing is touched.
        required = [each.name for each in self.folder.consumers() if each.required]
        told = [CursorFile(self.folder.cursor(name)).load() for name in required]
        known = [position for position in (self.position(), *told) if position is not None]
        return known if len(known) == 1 + len(told) else []


def never() -> str:
    """Return no reason to wait."""
    return ""


@contextlib.asynccontextmanager
async def run_maintenance(
    task: MaintenanceTask,
    pace: DeliveryPace,
    clock: Clock,
    observer: Observer,
    should_wait: Callable[[], str] = never,
) -> AsyncIterator[None]:
    """Do one step after the other while the block runs, never while delivery is behind.

    Whatever fails is told and left. ``should_wait`` gives the reason why this task has to wait for
    the system to recover; nothing if it need not. A task that makes room on the disk never has to:
    a full disk may be the trouble.
    """
    running = asyncio.create_task(_run(task, pace, clock, observer, should_wait), name=task.name)
    try:
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        task.close()


async def _run(
    task: MaintenanceTask,
    pace: DeliveryPace,
    clock: Clock,
    observer: Observer,
    should_wait: Callable[[], str],
) -> None:
    pause_s, reason = IDLE_S, ""
    while True:
        await clock.sleep(pause_s)
        before, reason = reason, should_wait()
        if bool(before) is not bool(reason):
            observer(WorkShed(task.name, reason) if reason else WorkResumed(task.name))
        done = not reason and not pace.behind and await _one_step(task, observer)
        pause_s = BREATH_S if done else IDLE_S


async def _one_step(task: MaintenanceTask, observer: Observer) -> bool:
    """Return whether something was done; a step in work is waited for, also when cancelled."""
    working = asyncio.get_running_loop().run_in_executor(None, task.step)
    try:
        return await asyncio.shield(working) is not None
    except asyncio.CancelledError:
        await asyncio.gather(working, return_exceptions=True)
        raise
    except Exception as error:  # noqa: BLE001 - told; delivery must not end with it
        ours = isinstance(error, ForebayError)
        told = str(error) if ours else f"{type(error).__name__}: {error}"
        observer(HousekeepingRefused("look", "", told))
    return False


def due(
    notes: Sequence[HourNote], wall_ns: int, waited_ns: Mapping[Hour, int], made: Collection[Hour]
) -> HourNote | None:
    """Return the oldest hour whose file is to be made, None if there is none yet.

    An hour is closed :data:`GRACE_NS` after its end by the wall clock, or when its table has
    rows of so long after it. ``waited_ns`` is how long each note has been known.
    """
    newest: dict[str, int] = {}
    for note in notes:
        newest[note.table] = max(note.start_ns, newest.get(note.table, note.start_ns))
    for note in notes:
        hour = note[:2]
        closed_ns = note.start_ns + HOUR_NS + GRACE_NS
        patience_ns = GATHER_NS if hour in made else GRACE_NS
        if max(wall_ns, newest[note.table]) >= closed_ns and waited_ns[hour] >= patience_ns:
            return note
    return None


def hour_path(root: Path, note: HourNote) -> Path:
    """Return where the file of an hour is."""
    start = datetime.fromtimestamp(note.start_ns // 1_000_000_000, UTC)
    return (
        root / note.table / f"date={start:%Y-%m-%d}" / f"hour={start:%H}" / f"{note.table}.parquet"
    )


@dataclass(slots=True)
class HourlyParquet:
    """Makes the files of one database. Blocking; commits may go on in another thread."""

    root: Path
    """The folder of all files; it is made when the first one is."""
    store: HourFiles
    _: KW_ONLY
    clock: Clock
    disk: Disk = OS_DISK
    random_id: Callable[[], str] = new_id
    _since: dict[Hour, int] = field(default_factory=dict)
    _made: set[Hour] = field(default_factory=set)
    name = "Parquet files of closed hours"

    def step(self) -> HourNote | None:
        """Make the file that is most due, and return of which hour; None if none is due.

        Raises :class:`~forebay.errors.ForebayError` if it cannot be made; call again later.
        """
        now_ns = self.clock.monotonic_ns()
        notes = self.store.hours_to_write()
        self._since = {note[:2]: self._since.get(note[:2], now_ns) for note in notes}
        waited_ns = {hour: now_ns - since for hour, since in self._since.items()}
        note = due(notes, self.clock.wall_ns(), waited_ns, self._made)
        if note is not None:
            self.make(note)
        return note

    def make(self, note: HourNote) -> None:
        """Make the file of one hour, in the place of the one there is; raises as :meth:`step`."""
        with translated(f"write Parquet files to {self.root}"):
            making = self.root / _MAKING
            self._clean(making)
            path, partial = hour_path(self.root, note), making / self.random_id()
            self.store.export_hour(note, partial)
            self._sync(partial)
            self.disk.make_folder(path.parent)
            self.disk.rename(partial, path)
            self.disk.fsync_dir(path.parent)
        self.store.hour_written(note)
        self._since.pop(note[:2], None)
        self._made.add(note[:2])

    def _clean(self, making: Path) -> None:
        """Remove what a killed predecessor, or a try that failed, left behind."""
        self.disk.make_folder(making)
        for name in self.disk.listdir(making):
            self.disk.unlink(making / name)

    def _sync(self, path: Path) -> None:
        fd = self.disk.open(path, write=True)
        try:
            self.disk.fdatasync(fd)
        finally:
            self.disk.close(fd)

    def close(self) -> None:
        """Nothing is held between two steps."""
