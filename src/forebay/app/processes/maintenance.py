"""Maintenance beside delivery: when its turn is, and that of the journal."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from forebay.app.wiring import venues
from forebay.errors import ForebayError
from forebay.journal import CursorFile
from forebay.journal.housekeeping import Housekeeper
from forebay.journal.retention import Rules
from forebay.services.deliver import BACKLOG_FRAMES
from forebay.services.ledger import open_ledger
from forebay.telemetry import HousekeepingRefused, WorkResumed, WorkShed
from forebay.times import span_ns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from forebay.app.wiring.config import JournalConfig
    from forebay.app.wiring.data_folder import DataFolder
    from forebay.clock import Clock
    from forebay.journal import Position
    from forebay.journal.overview import JournalOverview
    from forebay.journal.retention import HousekeepingStep
    from forebay.services.ledger_builder import FirstTold, LiveSums
    from forebay.telemetry import Observer

IDLE_S = 5.0
"""Between two looks when there was nothing to do, or delivery was behind."""
BREATH_S = 0.5
"""Between two segments: recording and sealing one takes seconds of a core."""
GIGABYTE = 10**9
_DAY_NS = 86_400 * 10**9


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


class JournalMaintenance:
    """One housekeeper and its ledger.

    They are opened when their turn comes: what is wrong with them is told then, and does not
    keep delivery from starting.
    """

    name = "housekeeping of the journal"

    def __init__(
        self,
        folder: DataFolder,
        config: JournalConfig,
        position: Callable[[], Position | None],
        first_told: FirstTold,
        *,
        live: LiveSums | None = None,
        clock: Clock,
        observer: Observer,
    ) -> None:
        """``position`` is how far the store durably is, which is always required.

        The ledger takes what is in ``live``, and asks ``first_told`` of what it reads itself.
        """
        self._folder = folder
        self._rules = rules(config)
        self._position = position
        self._first_told = first_told
        self._live = live
        self._clock = clock
        self._observe = observer
        self._opened = contextlib.ExitStack()
        self._housekeeper: Housekeeper | None = None

    def step(self) -> HousekeepingStep | None:
        """Do one thing with one segment, see :meth:`Housekeeper.step`; blocking."""
        if self._housekeeper is None:
            self._housekeeper = self._open()
        return self._housekeeper.step()

    def configure(self, config: JournalConfig) -> None:
        """Keep segments as ``config`` says from now on."""
        self._rules = rules(config)
        if self._housekeeper is not None:
            self._housekeeper.rules = self._rules

    def close(self) -> None:
        """Leave the journal and the ledger to others."""
        self._opened.close()

    def _open(self) -> Housekeeper:
        ledger = open_ledger(
            self._folder.ledger,
            venues.parsers(),
            self._clock,
            first_told=self._first_told,
            live=self._live,
        )
        self._opened.callback(ledger.close)
        housekeeper = Housekeeper(
            self._folder.journal,
            clock=self._clock,
            cursors=self._cursors,
            ledger=ledger,
            rules=self._rules,
            observer=self._observe,
        )
        self._opened.callback(housekeeper.close)
        return housekeeper

    def _cursors(self) -> Sequence[Position]:
        # All are durable: the row in the store, which counts, and the files, which the writer
        # takes for its floor. As long as one of them is not known, nothing is touched.
        required = [each.name for each in self._folder.consumers() if each.required]
        told = [CursorFile(self._folder.cursor(name)).load() for name in required]
        known = [position for position in (self._position(), *told) if position is not None]
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
    except ForebayError as error:
        observer(HousekeepingRefused("look", "", str(error)))
    except Exception as crash:  # noqa: BLE001 - told; delivery must not end with it
        observer(HousekeepingRefused("look", "", f"{type(crash).__name__}: {crash}"))
    return False
