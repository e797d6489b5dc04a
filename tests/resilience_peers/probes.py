"""Eight questions about how a breaker behaves, asked from outside: who is let in, and when.

Only what callers can see counts, which is whether the guarded function was reached. A breaker that
lets a call in, and refuses the next after one failure, was half-open: a closed one takes three.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.resilience_peers.breakers import FAILURES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.resilience_peers.breakers import Breaker, Contender

TASKS, THREADS, CANCELLED = 50, 20, 6
PARALLEL = 4
_MANY = 20
_PATIENCE_S = 1.0
"""What does not happen for so long is taken not to happen. Only wrong answers wait for it."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One answer; ``right`` is None if the question cannot be asked of this breaker."""

    right: bool | None
    text: str


NOT_ASKED = Cell(None, "-")


class Down(Exception):
    """What a call of a dependency that is down raises."""


class Tasks:
    """A breaker with tasks that call through it."""

    def __init__(self, breaker: Breaker) -> None:
        self._wait = breaker.wait
        assert breaker.awaited is not None
        self._call = breaker.awaited(self._work)
        self.hits = 0

    async def _work(self, entered: asyncio.Event, gate: asyncio.Event, outcome: list[str]) -> None:
        self.hits += 1
        entered.set()
        await gate.wait()
        if outcome:
            raise Down(outcome[0])

    async def begin(self) -> Call:
        """Start a call, and come back when it is inside or over."""
        entered, gate, outcome = asyncio.Event(), asyncio.Event(), list[str]()
        task = asyncio.ensure_future(self._call(entered, gate, outcome))
        inside = asyncio.ensure_future(entered.wait())
        await asyncio.wait({task, inside}, return_when=asyncio.FIRST_COMPLETED)
        inside.cancel()
        return Call(task, entered, gate, outcome)

    async def one(self, *, fails: bool = False) -> bool:
        """Make a call; answer whether it was let in."""
        call = await self.begin()
        await call.end(fails=fails)
        return call.admitted

    async def trip(self) -> None:
        """Fail until a call is refused."""
        for _ in range(_MANY):
            if not await self.one(fails=True):
                return
        raise AssertionError("it never tripped")

    async def half_open(self) -> None:
        """Make the next call a probe."""
        await self.trip()
        self._wait()

    def wait(self) -> None:
        """Let the recovery timeout pass."""
        self._wait()

    async def is_closed(self) -> bool:
        """Tell closed from half-open, by failing once: does that end it?"""
        return await self.one(fails=True) and await self.one()


@dataclass(frozen=True, slots=True)
class Call:
    """One call under way."""

    task: asyncio.Future[None]
    entered: asyncio.Event
    gate: asyncio.Event
    outcome: list[str]

    @property
    def admitted(self) -> bool:
        """Whether it reached the dependency."""
        return self.entered.is_set()

    async def end(self, *, fails: bool = False) -> None:
        """Let it return, or raise."""
        if fails:
            self.outcome.append("down")
        self.gate.set()
        await asyncio.wait({self.task})
        self.task.exception()  # looked at: a refusal or what it was told to raise

    async def cancel(self) -> None:
        """Give it up."""
        self.task.cancel()
        await asyncio.wait({self.task})


# --------------------------------------------------------------------------- tasks


async def stampede(breaker: Breaker) -> Cell:
    """How many of 50 tasks are probes."""
    tasks = Tasks(breaker)
    await tasks.half_open()
    before = tasks.hits
    calls = await asyncio.gather(*(tasks.begin() for _ in range(TASKS)))
    hits = tasks.hits - before
    await asyncio.gather(*(call.end() for call in calls))
    return Cell(hits == 1, str(hits))


async def cancelled_probe(breaker: Breaker) -> Cell:
    """A probe that is cancelled moves nothing, and gives its place to another."""
    tasks = Tasks(breaker)
    await tasks.half_open()
    await (await tasks.begin()).cancel()
    if await tasks.one(fails=True):
        return Cell(False, "closes") if await tasks.one() else Cell(True, "ok")
    tasks.wait()
    return Cell(False, "reopens" if await tasks.one() else "wedges")


async def cancelled_calls(breaker: Breaker) -> Cell:
    """Calls that are cancelled while all is well do not trip."""
    tasks = Tasks(breaker)
    for _ in range(CANCELLED):
        await (await tasks.begin()).cancel()
    return Cell(True, "ok") if await tasks.one() else Cell(False, "trips")


async def stale_success(breaker: Breaker) -> Cell:
    """A call from before the trip that succeeds late closes nothing, open or half-open."""
    tasks = Tasks(breaker)
    late = [await tasks.begin() for _ in range(2)]
    await tasks.trip()
    await late[0].end()
    if await tasks.one():
        return Cell(False, "closes, even open")
    tasks.wait()
    probe = await tasks.begin()
    await late[1].end()
    closed = await tasks.is_closed()
    await probe.cancel()
    return Cell(False, "closes half-open") if closed else await _stale_probe(tasks)


async def _stale_probe(tasks: Tasks) -> Cell:
    """A probe of one half-open state that succeeds in the next, where there can be two."""
    tasks.wait()
    stale, failing = await tasks.begin(), await tasks.begin()
    if not failing.admitted:  # then it is admitted when the first one's lease is over
        await failing.end()
        tasks.wait()
        failing = await tasks.begin()
    await failing.end(fails=True)
    if not failing.admitted:  # wedged: there is no next half-open state, and no stale probe
        await stale.cancel()
        return Cell(True, "ok")
    tasks.wait()
    probe = await tasks.begin()
    await stale.end()
    closed = await tasks.is_closed()
    await probe.cancel()
    return Cell(False, "closes the next half-open") if closed else Cell(True, "ok")


async def stale_failure(breaker: Breaker) -> Cell:
    """Calls from before the trip that fail late open nothing, half-open or closed again."""
    tasks = Tasks(breaker)
    late = [await tasks.begin() for _ in range(1 + FAILURES)]
    await tasks.half_open()
    probe = await tasks.begin()
    await late[0].end(fails=True)
    await probe.end()
    if not await tasks.one():
        return Cell(False, "reopens half-open")
    for call in late[1:]:
        await call.end(fails=True)
    return Cell(True, "ok") if await tasks.one() else Cell(False, "trips the next")


async def hung_probe(breaker: Breaker) -> Cell:
    """A probe that never ends gives its place to another after its lease."""
    tasks = Tasks(breaker)
    await tasks.half_open()
    hung = await tasks.begin()
    if await tasks.one():
        answer = Cell(None, "n/a, no limit")
    else:
        tasks.wait()
        freed = await tasks.one()
        answer = Cell(freed, "new probe after lease" if freed else "wedged while it hangs")
    await hung.cancel()
    return answer


# ------------------------------------------------------------------------- threads


def _together(count: int, work: Callable[[], object]) -> list[threading.Thread]:
    barrier = threading.Barrier(count)

    def run() -> None:
        barrier.wait()
        work()

    threads = [threading.Thread(target=run, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


def _fail() -> None:
    raise Down


def thread_stampede(breaker: Breaker) -> Cell:
    """How many of 20 threads are probes."""
    assert breaker.plain is not None
    failing = breaker.plain(_fail)
    for _ in range(FAILURES):
        with contextlib.suppress(Exception):
            failing()
    breaker.wait()
    hits: list[int] = []
    decided, release = threading.Semaphore(0), threading.Event()

    def work() -> None:
        hits.append(1)
        decided.release()
        release.wait()

    call = breaker.plain(work)

    def ask() -> None:
        try:
            call()
        except Exception:  # noqa: BLE001 - each breaker refuses with its own
            decided.release()

    threads = _together(THREADS, ask)
    undecided = THREADS
    while undecided and decided.acquire(timeout=_PATIENCE_S):
        undecided -= 1
    reached = len(hits)
    release.set()
    for thread in threads:
        thread.join()
    return Cell(reached == 1, str(reached))


def parallel_threads(breaker: Breaker) -> Cell:
    """Threads are inside their calls at the same time."""
    assert breaker.plain is not None
    inside = threading.Barrier(PARALLEL)
    met: list[int] = []

    @breaker.plain
    def work() -> None:
        with contextlib.suppress(threading.BrokenBarrierError):
            met.append(inside.wait(_PATIENCE_S))

    for thread in _together(PARALLEL, work):
        thread.join()
    return Cell(True, "ok") if len(met) == PARALLEL else Cell(False, "serialises")


AWAITED: dict[str, Callable[[Breaker], Awaitable[Cell]]] = {
    f"{TASKS} tasks": stampede,
    "cancelled probe": cancelled_probe,
    f"{CANCELLED} cancelled": cancelled_calls,
    "stale success": stale_success,
    "stale failure": stale_failure,
    "hung probe": hung_probe,
}
PLAIN: dict[str, Callable[[Breaker], Cell]] = {
    f"{THREADS} threads": thread_stampede,
    "threads": parallel_threads,
}
COLUMNS = (*AWAITED, *PLAIN)


def ask(contender: Contender) -> dict[str, Cell]:
    """Ask one contender everything, each question of a new breaker."""
    answers = {}
    for name, awaited in AWAITED.items():
        breaker = contender.make()
        answers[name] = (
            NOT_ASKED if breaker.awaited is None else asyncio.run(_answer(awaited, breaker))
        )
    for name, plain in PLAIN.items():
        breaker = contender.make()
        answers[name] = NOT_ASKED if breaker.plain is None else plain(breaker)
    return answers


async def _answer(probe: Callable[[Breaker], Awaitable[Cell]], breaker: Breaker) -> Cell:
    return await probe(breaker)
