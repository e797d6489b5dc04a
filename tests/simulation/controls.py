"""Negative controls: ways of others to carry an event to a store, under the same weather.

Each is a small part written from the idea of one of the documents that Forebay began with; see
``docs/explanation/seeds.md``. It stands where capture, journal and deliver stand, behind the same
feed. What it acknowledged is held against what is in its table at the end: an event that it
called safe and that is not there is lost, one that is there twice is doubled. What it never
acknowledged is not held against it, and neither is that nobody fills its gaps.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from forebay.domain.frames import FrameKind
from forebay.errors import ConfigError, Transient, Unreachable
from tests.simulation.network import Network, SimSource
from tests.simulation.venue import SYMBOLS
from tests.simulation.weather import CHAOS_S
from tests.simulation.world import World
from tests.support.sim_disk import Killed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from forebay.domain.frames import Context
    from forebay.domain.frames import Control as ControlRecord
    from tests.simulation.machine import Life

SPOOL = Path("spool")
_SETTLE_S = 60.0
_FLUSH_S = 0.5


class Event(NamedTuple):
    """What a control carries."""

    time: str
    symbol: str
    trade_id: int


class Table:
    """A store without event identity: what is inserted is there, as often as it is inserted."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.rows: Counter[Event] = Counter()
        self.gathered: list[Event] = []
        """A table before this one, and how far it was copied; see :class:`TimestampCursor`."""
        self.cursor = ""

    def insert(self, events: Sequence[Event], life: Life) -> None:
        """Insert all or none; raises as :class:`~tests.simulation.store.SimStore` does."""
        life.check()
        weather = self._world.weather
        if weather.lasts("store_down", self._world.loop.time()) or weather.strikes("store_refuses"):
            raise Unreachable("The store is away.")
        life.operate("commit")
        self.rows.update(events)
        life.operate("committed")
        if weather.strikes("answer_lost"):
            raise Unreachable("The store's answer was lost.")


class Control(Protocol):
    """One process's life of a part that carries events."""

    def take(self, event: Event) -> bool:
        """Take an event; True if it counts as safe from now on."""
        ...

    def flush(self) -> Sequence[Event]:
        """Carry on what was taken; answers what counts as safe from now on.

        Raises :class:`~forebay.errors.Transient`.
        """
        ...

    def idle(self) -> bool:
        """Whether nothing is left to carry."""
        ...


class JsonFiles:
    """Each message that cannot be stored at once is a JSON file, which nobody syncs.

    Files are bounded: the oldest go when there are too many. Safe: once written.
    """

    most = 40

    def __init__(self, table: Table, life: Life) -> None:
        self._table, self._life = table, life
        self._number = 0

    def take(self, event: Event) -> bool:
        try:
            self._table.insert([event], self._life)
        except Transient:
            return self._write(event)
        return True

    def _write(self, event: Event) -> bool:
        disk = self._life.disk
        names = sorted(disk.listdir(SPOOL))
        try:
            for name in names[: max(0, len(names) + 1 - self.most)]:
                disk.unlink(SPOOL / name)
            self._number += 1
            path = SPOOL / f"{disk.process_id():06d}-{self._number:06d}.json"
            fd = disk.open(path, create=True)
            disk.pwritev(fd, [json.dumps(event).encode()], 0)
            disk.close(fd)
        except OSError:
            return False
        return True

    def flush(self) -> Sequence[Event]:
        disk = self._life.disk
        for name in sorted(disk.listdir(SPOOL)):
            fd = disk.open(SPOOL / name)
            raw = disk.pread(fd, disk.size(fd), 0)
            disk.close(fd)
            try:
                event = Event(*json.loads(raw))
            except (ValueError, TypeError):
                disk.unlink(SPOOL / name)  # unreadable: it would be in the way for ever
                continue
            self._table.insert([event], self._life)
            disk.unlink(SPOOL / name)
        return ()

    def idle(self) -> bool:
        return self._life.alive and not self._life.disk.listdir(SPOOL)


class ClearOnOverflow:
    """Rows gather in memory while the store is away; too many are cleared, without an error.

    Safe: when a flush ends without one, since the caller commits its position then.
    """

    most = 30

    def __init__(self, table: Table, life: Life) -> None:
        self._table, self._life = table, life
        self._rows: list[Event] = []

    def take(self, event: Event) -> bool:
        self._rows.append(event)
        return False

    def flush(self) -> Sequence[Event]:
        rows = list(self._rows)
        try:
            self._table.insert(rows, self._life)
        except Transient:
            if len(rows) <= self.most:
                raise
        self._rows.clear()
        return rows

    def idle(self) -> bool:
        return not self._rows


class TimestampCursor:
    """A first table that is sound, and a copier that asks it for rows later than the last one.

    The cursor moves whatever the write answered. Safe: once in the first table.
    """

    def __init__(self, table: Table, life: Life) -> None:
        self._table, self._life = table, life

    def take(self, event: Event) -> bool:
        self._table.gathered.append(event)
        return True

    def flush(self) -> Sequence[Event]:
        table = self._table
        rows = [event for event in table.gathered if event.time > table.cursor]
        if rows:
            table.cursor = max(event.time for event in rows)
            table.insert(rows, self._life)
        return ()

    def idle(self) -> bool:
        return all(event.time <= self._table.cursor for event in self._table.gathered)


class SuccessIfEither:
    """Publish to whoever listens, which always succeeds, or durably. Safe: if either did."""

    def __init__(self, table: Table, life: Life) -> None:
        self._table, self._life = table, life

    def take(self, event: Event) -> bool:
        with contextlib.suppress(Transient):
            self._table.insert([event], self._life)
        return True

    def flush(self) -> Sequence[Event]:
        return ()

    def idle(self) -> bool:
        return True


CONTROLS: dict[str, Callable[[Table, Life], Control]] = {
    "json-files": JsonFiles,
    "clear-on-overflow": ClearOnOverflow,
    "timestamp-cursor": TimestampCursor,
    "success-if-either": SuccessIfEither,
}


@dataclass
class Score:
    """What became of what a part called safe, over many worlds."""

    part: str
    seeds: int = 0
    events: int = 0
    """Called safe."""
    lost: int = 0
    doubled: int = 0
    caught: int = 0
    """Worlds with a loss or a double."""

    def add(self, safe: Counter[Event], rows: Counter[Event], taken: Counter[Event]) -> None:
        """Count one world. What the venue sent twice may be there twice."""
        lost, doubled = (safe - rows).total(), (rows - taken).total()
        self.seeds += 1
        self.events += safe.total()
        self.lost += lost
        self.doubled += doubled
        self.caught += bool(lost or doubled)

    def document(self) -> dict[str, int]:
        """As it is printed."""
        return {
            name: getattr(self, name) for name in ("seeds", "events", "lost", "doubled", "caught")
        }


class ControlWorld(World):
    """A world in which a control stands where capture, journal and deliver stand."""

    def __init__(self, seed: int, part: str) -> None:
        super().__init__(seed)
        self._make = CONTROLS[part]
        self.table = Table(self)
        self.taken: Counter[Event] = Counter()
        self.safe: Counter[Event] = Counter()
        self._control: Control | None = None

    def restless(self) -> str:
        """The control goes on until it has nothing left."""
        if self.loop.time() < CHAOS_S + _SETTLE_S:
            return "the control has time to settle"
        return "" if self._control is not None and self._control.idle() else "it is not idle"

    async def _capture(self, life: Life) -> None:
        dice = random.Random(self.dice["machine"].getrandbits(64))
        self.network = network = Network(life, self.venue, self.weather, dice)
        control = self._control = self._make(self.table, life)
        source = SimSource(network, SYMBOLS, clock=self.clock, rng=dice, observer=lambda _: None)
        sink = _ControlSink(self, control, life)
        try:
            async with asyncio.TaskGroup() as group:
                running = group.create_task(source.run(sink))
                flushing = group.create_task(self._flush(control))
                await self.stop_capture.wait()
                running.cancel()
                flushing.cancel()
        finally:
            self.network = None

    async def _flush(self, control: Control) -> None:
        while True:
            await self.clock.sleep(_FLUSH_S)
            try:
                self.safe.update(control.flush())
            except (Transient, OSError):
                continue

    async def _deliver(self, life: Life) -> None:
        del life
        await self.stop_capture.wait()


class _ControlSink:
    """A :class:`forebay.ports.FrameSink` that hands trades to a control."""

    def __init__(self, world: ControlWorld, control: Control, life: Life) -> None:
        self._world, self._control, self._life = world, control, life

    def open(self, context: Context) -> _ControlSink:
        """Epochs are all the same to it."""
        del context
        return self

    def on_pressure(self, callback: Callable[[bool], None]) -> Callable[[], None]:
        """It never asks anybody to pause."""
        del callback
        return lambda: None

    async def flushed(self) -> int:
        """Nobody asks."""
        return 0

    def control(self, control: ControlRecord) -> None:
        """Connections are nothing to it."""

    def renew(self, context: Context) -> None:
        """Neither is what they carry."""

    def batch(self, kind: FrameKind, payloads: Sequence[bytes]) -> None:
        """Take frames."""
        for payload in payloads:
            self.frame(kind, payload)

    def frame(self, kind: FrameKind, payload: bytes) -> None:
        """Take one frame, if it is a trade and whole."""
        try:
            message: dict[str, Any] = json.loads(payload)
        except ValueError:
            return
        if kind is not FrameKind.TEXT or message["type"] != "match" or not self._life.alive:
            return
        event = Event(message["time"], message["product_id"], message["trade_id"])
        self._world.taken[event] += 1
        try:
            if self._control.take(event):
                self._world.safe[event] += 1
        except Killed:
            return


def run_control(
    part: str, first: int, count: int, progress: Callable[[int], None] = lambda _: None
) -> Score:
    """Run a control in the worlds of ``count`` seeds from ``first`` on.

    Raises :class:`~forebay.errors.ConfigError` if there is no such control.
    """
    if part not in CONTROLS:
        message = f"There is no negative control {part!r}."
        raise ConfigError(message, hint=f"There is {', '.join(CONTROLS)}.")
    score = Score(part)
    for done, seed in enumerate(range(first, first + count), 1):
        world = ControlWorld(seed, part)
        world.run()
        score.add(world.safe, world.table.rows, world.taken)
        progress(done)
    return score
