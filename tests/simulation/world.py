"""One world: a venue, a network, a machine and the product's core, in virtual time.

What runs is the product: capture with its group commit, the journal's writer, reader and
recovery, the filler, and delivery with its projection. Around it things go wrong until
:data:`~tests.simulation.weather.CHAOS_S`; then everything works, and all of it must come
to rest within :data:`REST_S`.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebay.domain.coverage import IdCoverage
from forebay.errors import Corrupt, ForebayError, Transient, Unreachable
from forebay.journal import CursorFile, JournalWriter
from forebay.services.capture import Capture, CaptureSettings, SourceFeed
from forebay.services.deliver import BACKLOG_FRAMES, Deliverer
from forebay.services.group_commit import GroupLimits
from tests.simulation.accounts import Accounts
from tests.simulation.loop import Stuck, VirtualClock, VirtualLoop
from tests.simulation.machine import Life, Machine
from tests.simulation.moments import MOMENTS, strike
from tests.simulation.network import SIMULATED, Network
from tests.simulation.store import SimStore
from tests.simulation.venue import SYMBOLS, Venue, trade
from tests.simulation.weather import CHAOS_S, Weather, forecast
from tests.simulation.witness import WatchedSource, WatchedWriter, Witness
from tests.support.memory_store import MemoryStore, stored_gaps
from tests.support.sim_disk import Killed, SimDisk

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from forebay.journal import Position
    from forebay.ports import HistoryRequest, Parser, Store
    from forebay.telemetry import TelemetryEvent

FOLDER = Path("journal")
CURSOR = Path("cursors/store")
REST_S = 240.0
"""Virtual seconds within which everything must be at rest once nothing goes wrong any more."""
PARSERS: dict[str, Parser] = {SIMULATED.name: SIMULATED.parser}
DISK_BYTES = 1 << 20
_DICE = ("loop", "weather", "disk", "venue", "machine", "ids", "moments", "ledger")
_RECORDED = 0.1
"""How often housekeeping comes to the ledger between two steps of delivery."""


class Trace:
    """Everything that happened, as a running hash; the lines themselves only if asked for."""

    def __init__(self, now: Callable[[], float], *, keep: bool) -> None:
        self._now = now
        self._hash = hashlib.blake2b(digest_size=8)
        self.lines: list[str] | None = [] if keep else None
        self.seen: Counter[str] = Counter()

    def note(self, what: str, detail: str = "") -> None:
        """Count ``what`` and take it into the trace."""
        self.seen[what] += 1
        line = f"{self._now():11.6f} {what} {detail}".rstrip()
        self._hash.update(line.encode() + b"\n")
        if self.lines is not None:
            self.lines.append(line)

    def digest(self) -> str:
        """Of all lines so far."""
        return self._hash.hexdigest()


def covered_ids(store: Store, symbol: str) -> IdCoverage | None:
    """Return what the store says of a symbol's ids, None if it knows nothing of it."""
    for key, coverage in store.load().coverage.items():
        if key.symbol == symbol and isinstance(coverage, IdCoverage):
            return coverage
    return None


class World:
    """Build it with a seed, :meth:`run` it once, and look at what is left."""

    def __init__(self, seed: int, *, keep_trace: bool = False) -> None:
        self.seed = seed
        dice = random.Random(seed)
        self.dice = {name: random.Random(dice.getrandbits(64)) for name in _DICE}
        self.loop = VirtualLoop(self.dice["loop"])
        self.loop.set_exception_handler(self._unhandled)
        self.clock = VirtualClock(self.loop)
        self.trace = Trace(self.loop.time, keep=keep_trace)
        self.weather: Weather = forecast(self.dice["weather"], self.trace.note, MOMENTS)
        self.disk = SimDisk(self.dice["disk"], capacity=DISK_BYTES, fault=self.weather.disk_fault)
        self.disk.short_writes = self.dice["disk"].random() < 0.5
        self.machine = Machine(self.disk, self.trace.note)
        self.venue = Venue(self.dice["venue"], self.weather, self.loop.time)
        self.store = MemoryStore()
        self.witness = Witness()
        self.failures: list[str] = []
        self.rotted = False
        self.network: Network | None = None
        self.deliverer: Deliverer | None = None
        self.capture: Capture | None = None
        self.written: Position | None = None
        self.stop_capture = asyncio.Event()
        self.finishing = False
        chosen = self.dice["loop"]
        self._linger_s = chosen.choice([0.005, 0.05, 0.3])
        self._pace_s = chosen.choice([0.4, 0.8, 1.5])
        self._segment_bytes = chosen.choice([2000, 8000, 30000])
        self._max_pending = chosen.choice([4000, 1 << 20])

    def run(self) -> None:
        """Live through all of it; failures are in :attr:`failures` afterwards."""
        try:
            self.loop.run_until_complete(self._live())
        except Stuck as stuck:
            self.fail(f"stuck: {stuck}")
        finally:
            self.loop.close()

    def fail(self, text: str) -> None:
        """Note a failure."""
        self.trace.note("FAILED", text)
        self.failures.append(text)

    def random_id(self) -> str:
        """For the journal's files and logs."""
        return f"{self.dice['ids'].getrandbits(128):032x}"

    # ------------------------------------------------------------- the story

    async def _live(self) -> None:
        parts = [
            asyncio.create_task(part)
            for part in (
                self._keep_alive("capture", self._capture),
                self._keep_alive("deliver", self._deliver),
                self._market(),
                self._heartbeats(),
                self._moments(),
            )
        ]
        await self.clock.sleep(CHAOS_S)
        self._clear()
        at_rest = await self._come_to_rest()
        self.finishing = True
        self.stop_capture.set()
        await asyncio.wait(parts[:2], timeout=REST_S)
        for part in parts:
            if part.done() and not part.cancelled() and part.exception():
                self.fail(f"the simulation itself broke: {part.exception()!r}")
            part.cancel()
        await asyncio.gather(*parts, return_exceptions=True)
        self.trace.note("at_rest" if at_rest else "never_at_rest")

    def _clear(self) -> None:
        self.trace.note("clear")
        self.weather.clear()
        self.make_space()
        for life in self.machine.lives.values():
            life.fuse = None

    def make_space(self) -> None:
        """The disk has its whole size again."""
        self.disk.capacity = DISK_BYTES

    async def _come_to_rest(self) -> bool:
        deadline = self.loop.time() + REST_S
        while (why := self.restless()) and self.loop.time() < deadline:
            await self.clock.sleep(0.5)
        if why:
            self.fail(f"no rest within {REST_S:g} s: {why}")
        return not why

    def restless(self) -> str:
        """Why it is not all over yet; empty when it is."""
        if self.loop.time() < CHAOS_S + 2.0:
            return "the market is open"
        capture, deliverer, written = self.capture, self.deliverer, self.written
        if capture is None or deliverer is None or written is None:
            return "a process is down"
        if capture.sink.pending_bytes or capture.sink.full:
            return "frames are not captured"
        seq = deliverer.position.seq if deliverer.position else 0
        if seq != capture.sink.next_seq:
            return f"delivered up to {seq} of {capture.sink.next_seq}"
        for symbol in SYMBOLS:
            coverage = covered_ids(self.store, symbol)
            hull = coverage.hull() if coverage else None
            last = trade(symbol, self.venue.last(symbol)).trade_id
            if hull is None or hull[1] != last:
                return f"{symbol} is known up to {hull and hull[1]} and not {last}"
        gaps = [gap for gap in stored_gaps(self.store) if gap.state == "open"]
        return f"{len(gaps)} gaps are open, {gaps[0]}" if gaps else ""

    async def _market(self) -> None:
        dice = self.dice["venue"]
        while self.loop.time() < CHAOS_S + 1.0:
            await self.clock.sleep(dice.uniform(0.02, 0.5))
            for _ in range(dice.randint(1, 6)):
                self.venue.happen(dice.choice(SYMBOLS))
        for symbol in SYMBOLS:  # whatever history lacks, it lists something behind it
            self.venue.happen(symbol)

    async def _heartbeats(self) -> None:
        while True:
            await self.clock.sleep(1.0)
            self.venue.heartbeat()

    async def _moments(self) -> None:
        for at, kind in self.weather.moments:
            await self.clock.sleep(max(0.0, at - self.loop.time()))
            self.trace.note(kind if strike(self, kind) else f"no_{kind}")

    # --------------------------------------------------------- the processes

    async def _keep_alive(
        self, name: str, body: Callable[[Life], Coroutine[Any, Any, None]]
    ) -> None:
        """Start a process again whenever it is gone, as a supervisor would."""
        dice = self.dice["machine"]
        while not self.finishing:
            life = self.machine.start(name)
            if not self.weather.calm and self.weather.lasts("unsteady", self.loop.time()):
                life.fuse = dice.randint(0, 30)
                life.fuse_cuts_power = dice.random() < 0.3
            life.task = asyncio.create_task(body(life))
            self.trace.note("started", name)
            await asyncio.wait({life.task})
            self._ended(life, life.task)
            life.kill()
            await self.clock.sleep(dice.uniform(0.05, 0.8))

    def _ended(self, life: Life, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if not life.alive:
            self.trace.note("killed", life.name)
        elif isinstance(error, ForebayError):
            self.trace.note("crashed", f"{life.name}: {error}")
        elif error is not None or task.cancelled():
            self.fail(f"{life.name} crashed: {error!r}")

    async def _capture(self, life: Life) -> None:
        writer = await self._open_journal(life)
        life.recovering = False
        dice = random.Random(self.dice["machine"].getrandbits(64))
        network = Network(life, self.venue, self.weather, dice)
        observe = self._observer(life)
        source = WatchedSource(network, self.witness, clock=self.clock, rng=dice, observer=observe)
        settings = CaptureSettings(
            limits=GroupLimits(linger_s=self._linger_s, max_pending=self._max_pending), drain_s=5.0
        )
        capture = Capture(
            WatchedWriter(writer, self.witness, self.trace.note),
            [SourceFeed(SIMULATED.name, source, lambda: self._ask_gaps(life))],
            clock=self.clock,
            rng=dice,
            next_seq=writer.position.seq,
            settings=settings,
            observer=observe,
        )
        self.network, self.capture = network, capture
        self.stop_capture.clear()
        if self.finishing:
            self.stop_capture.set()
        try:
            await capture.run(self.stop_capture)
        finally:
            self.network = self.capture = None

    async def _open_journal(self, life: Life) -> JournalWriter:
        while True:
            life.recovering = True
            try:
                writer = await asyncio.to_thread(self._recover, life)
            except Transient as error:
                self.trace.note("journal_not_opened", str(error))
                await self.clock.sleep(0.3)
            else:
                return writer

    def _recover(self, life: Life) -> JournalWriter:
        floor, unknown = self._floor(life)
        writer = JournalWriter.open(
            FOLDER,
            clock=self.clock,
            random_id=self.random_id,
            disk=life.disk,
            segment_bytes=self._segment_bytes,
            ballast_bytes=4096,
            floor=floor,
            new_log=unknown,
        )
        self._opened(writer)
        return writer

    def _floor(self, life: Life) -> tuple[list[Position], bool]:
        try:
            position = CursorFile(CURSOR, life.disk).load()
        except Corrupt:
            self.trace.note("cursor_unreadable")
            return [], True
        return ([position] if position else []), False

    def _opened(self, writer: JournalWriter) -> None:
        """Hold recovery to what was promised."""
        report, end = writer.report, writer.position
        self.written = end
        self.trace.note("opened", f"{end} {report}")
        if report.truncated_bytes:
            self.trace.note("tail_truncated")
        if report.new_log:
            self.trace.note("new_log")
        if report.losses:
            self.trace.note("loss_declared")
        if self.rotted:
            if self.witness.forgive(end.seq):
                self.trace.note("rot_beyond_proof")
            return
        promised = max(self.witness.durable, default=0)
        if promised >= end.seq:
            self.fail(f"acknowledged up to {promised}, recovered up to {end.seq}")
        if report.losses or report.new_log:
            self.fail(f"recovery found {report} though nothing was damaged")

    async def _ask_gaps(self, life: Life) -> tuple[Sequence[HistoryRequest], int]:
        await self.clock.sleep(self.dice["loop"].uniform(0.0, 0.02))
        life.check()
        if self.deliverer is None:
            raise Unreachable("Deliver does not answer.")
        return self.deliverer.open_gaps(SIMULATED.name)

    async def _deliver(self, life: Life) -> None:
        store = SimStore(self.store, life, self.weather, self.loop.time)
        cursor = CursorFile(CURSOR, life.disk)
        accounts = Accounts(self, life, store)
        where: dict[str, Any] = {"observer": self._observer(life), "disk": life.disk}

        def begin() -> Deliverer:
            return Deliverer(FOLDER, store, PARSERS, cursor=cursor, sums=accounts.sums, **where)

        deliverer = self.deliverer = await asyncio.to_thread(begin)
        try:
            await self._step_until_finished(life, deliverer, accounts)
        finally:
            self.deliverer = None

    async def _step_until_finished(
        self, life: Life, deliverer: Deliverer, accounts: Accounts
    ) -> None:
        while True:
            try:
                frames = await asyncio.to_thread(deliverer.step)
            except Transient as error:
                self.trace.note("step_failed", str(error))
                await self.clock.sleep(0.5)
                continue
            if frames:
                self.trace.note("delivered", f"{frames} {deliverer.position}")
            ends = not frames and self.finishing and self.capture is None
            if ends or self.dice["ledger"].random() < _RECORDED:
                await asyncio.to_thread(accounts.record, deliverer, FOLDER, PARSERS)
            if ends:
                return
            if deliverer.delivered.duplicates:
                self.trace.seen["duplicate_removed"] = 1
            if frames < BACKLOG_FRAMES:
                await self.clock.sleep(self._pace_s)
            life.check()

    # --------------------------------------------------------------- telling

    def _observer(self, life: Life) -> Callable[[TelemetryEvent], None]:
        def observe(happening: TelemetryEvent) -> None:
            if life.alive:
                state = getattr(happening, "state", "")
                self.trace.note(
                    f"{type(happening).__name__}{state and '_' + state}", str(happening)
                )

        return observe

    def _unhandled(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, Killed):
            self.fail(f"unhandled: {context.get('message')} {error!r}")
