"""Keeps capture, deliver and publishers running, each in a process of its own.

A heavy query must not stall a socket, and one process may hold a DuckDB file; so there are
two, and one more for each transport. The supervisor only starts them, starts them again when they
die, and at the end asks capture to stop first, so that everything that was captured can be stored
and published.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebay.app.processes import samples
from forebay.app.processes.http_endpoint import HttpEndpoint
from forebay.app.processes.local_socket import ask
from forebay.app.processes.samples import CountingObserver
from forebay.app.processes.system import SUPERVISOR, RunningSystem
from forebay.app.processes.worker import roles
from forebay.app.wiring import logs, stores
from forebay.app.wiring.config import token_of
from forebay.app.wiring.data_folder import DataFolder
from forebay.app.wiring.transports import consumers
from forebay.clock import SystemClock
from forebay.errors import ConfigError, ForebayError
from forebay.resilience.backoff import Backoff
from forebay.telemetry import ProcessDied, ProcessStarted, Stopped, Stopping

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from forebay.app.wiring.config import Config
    from forebay.ops.view import Sample
    from forebay.telemetry import Observer

STOP_S = {"capture": 20.0, "deliver": 40.0}
"""How long a process may take to finish its work before it is killed: publishers end beside
deliver, and have as long."""
LAST_WORD_S = 1.0
"""How long what a process that has ended said is read: a child of its own may hold the pipe."""
STEADY_S = 10.0
"""A process that ran so long is started again at once."""
REAP_S = 1.0
"""How often orphans are looked for."""
LEAN = {"MALLOC_ARENA_MAX": "2", "ARROW_DEFAULT_MEMORY_POOL": "system", "OPENBLAS_NUM_THREADS": "1"}
"""What saves a child memory, where the environment says nothing else: else each of its threads may
keep memory of its own, and Arrow has an allocator beside those of Python and of DuckDB."""
REFUSED = ConfigError.exit_code
"""A process that ends with this code was asked for something that cannot be."""


@dataclass(slots=True)
class Child:
    """One supervised process."""

    role: str
    process: asyncio.subprocess.Process | None = None
    ending: asyncio.subprocess.Process | None = None
    """The process that was asked to end."""
    last: dict[str, Any] | None = None
    """What it said of itself when it had ended as it should."""


@dataclass(slots=True)
class Supervisor:
    """Runs ``config`` until :attr:`stop` is set."""

    config: Config
    observer: Observer
    load: Callable[[], Config] | None = None
    """Reads the configuration again; SIGHUP and administration ask for it."""
    clock: SystemClock = field(default_factory=SystemClock)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    children: dict[str, Child] = field(default_factory=dict)
    only: tuple[str, ...] = ()
    """The processes to run; none: all that there are."""
    system: RunningSystem = field(init=False)
    """What is known of the processes, once :meth:`run` has begun."""
    _reloads: set[asyncio.Task[None]] = field(default_factory=set)
    _terminal: bool = field(default_factory=lambda: os.isatty(0))
    _why: str = "a process ended"
    _starting: int = 0
    interrupted: bool = False
    """Whether it was stopped from the keyboard; it ends in the same order either way."""
    stopped: Stopped | None = None
    """What came of it, if deliver could still say."""

    async def run(self, watch: Callable[[Supervisor], Any] | None = None) -> int:
        """Supervise until stopped, ``watch`` beside it; return the exit code of the whole."""
        token_of(self.config.http)  # one that cannot be read is said now, not when it is asked for
        self.only = self.only or roles(self.config)
        folder = DataFolder(Path(self.config.data)).create()
        with folder.owned():
            folder.remember_consumers(consumers(self.config))
            stores.remember(folder, self.config)
            self.system = self._system(folder)
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGTERM, self._end_by, "SIGTERM")
            loop.add_signal_handler(signal.SIGINT, self._end_by, "SIGINT")
            loop.add_signal_handler(signal.SIGHUP, self._hung_up)
            keepers = [
                asyncio.create_task(self._keep(Child(role)), name=f"forebay-{role}")
                for role in self.only
            ]
            beside = [
                asyncio.create_task(self.stop.wait()),
                asyncio.create_task(self.system.watch(), name="forebay-system"),
                *([asyncio.create_task(self._reap())] if os.getpid() == 1 else []),
                *([asyncio.create_task(watch(self))] if watch else []),
            ]
            front = HttpEndpoint(self.system, folder, "forebay", self.clock, self.observer)
            async with front.open():
                try:
                    stopping = {*beside[:2], *keepers}  # without its watch it must not go on
                    await asyncio.wait(stopping, return_when=asyncio.FIRST_COMPLETED)
                    if beside[1].done():
                        beside[1].result()
                finally:
                    self.observer(Stopping(self._why))
                    self.stop.set()
                    codes = await self._end(keepers)
                    for task in beside:
                        task.cancel()
                    await asyncio.gather(*beside, return_exceptions=True)
        deliver = self.children.get("deliver")
        if deliver is not None and (last := deliver.last) is not None:
            events = self.system.risen("deliver", last["rows"])
            self.stopped = Stopped(events, last["backlog"], last["gaps"].get("open", 0))
            if watch is None:
                self.observer(self.stopped)
        return max(codes, default=0)

    def _system(self, folder: DataFolder) -> RunningSystem:
        tally, reader = CountingObserver(self.observer), samples.OsReader()
        self.observer = tally

        def measure() -> list[Sample]:
            return [
                *samples.tallied(SUPERVISOR, tally.counts(), logs.LOST.total),
                *samples.process(SUPERVISOR, reader),
                *samples.machine(reader, folder.root, folder.journal),
            ]

        return RunningSystem(
            self.config,
            {role: folder.socket(role) for role in self.only},
            load=self.load or (lambda: self.config),
            measure=measure,
            clock=self.clock,
            observer=self.observer,
        )

    def _hung_up(self) -> None:
        """SIGHUP: the terminal is gone, so stop; or somebody wants the configuration read again."""
        if self._terminal and not os.isatty(0):
            self._end_by("its terminal was closed")
        elif len(self._reloads) <= 1:  # one that waits will read what is written by then
            self._reload()

    def _reload(self) -> None:
        task = asyncio.create_task(self.system.reload(), name="forebay-reload")
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    def _end_by(self, why: str) -> None:
        self._why, self.interrupted = why, self.interrupted or why == "SIGINT"
        self.stop.set()

    async def _end(self, keepers: list[asyncio.Task[int]]) -> list[int]:
        """Stop the processes in order: what is captured last must still be stored and published."""
        for some in ({"capture"}, {*self.only} - {"capture"}):
            children = (self.children.get(role) for role in some)
            await asyncio.gather(
                *(_finish(child, stop_s(child.role)) for child in children if child)
            )
        return list(await asyncio.gather(*keepers))

    async def _keep(self, child: Child) -> int:
        """Start a process again whenever it dies; return a code other than 0 if it refuses."""
        self.children[child.role] = child
        backoff = Backoff(random.Random(), base=0.1, cap=5.0)
        while not self.stop.is_set():
            began = self.clock.monotonic_ns()
            try:
                self._starting += 1
                child.process = await self._start(child.role)
            except OSError as error:  # no descriptors or no memory now: the other goes on
                self.observer(ProcessDied(child.role, 0, f"it could not be started: {error}"))
                await self._pause(backoff.next())
                continue
            finally:
                self._starting -= 1
            if self.stop.is_set():  # whoever ends the others has not seen this one
                await _finish(child, stop_s(child.role))
            self.observer(ProcessStarted(child.role, child.process.pid))
            code = await child.process.wait()
            child.last = await _last_word(child.process)
            if self.stop.is_set():
                return _end_code(code)
            if code == REFUSED:
                return code
            how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
            self.observer(ProcessDied(child.role, child.process.pid, how))
            if self.clock.monotonic_ns() - began > STEADY_S * 1e9:
                backoff.reset()
            await self._pause(backoff.next())
        return 0

    async def _reap(self) -> None:
        """As the first process of a container, wait for those whose parents are gone."""
        while True:
            if not self._starting:  # one that is just being started is nobody's yet
                reap({child.process.pid for child in self.children.values() if child.process})
            await self.clock.sleep(REAP_S)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.stop.wait(), seconds)

    async def _start(self, role: str) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "forebay.app.processes.worker",
            role,
            *([logs.TERMINAL] if logs.on_terminal() else []),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**LEAN, **os.environ},
            start_new_session=True,  # a Ctrl-C is for the supervisor, which stops it in order
        )
        assert process.stdin is not None  # noqa: S101 - it was asked for
        process.stdin.write(self.system.config.encode() + b"\n")
        with contextlib.suppress(ConnectionError):  # it died already: wait() will tell
            await process.stdin.drain()
        return process


def stop_s(role: str) -> float:
    """Return how long a process may take to finish its work before it is killed."""
    return STOP_S.get(role, STOP_S["deliver"])


def reap(own: Collection[int]) -> None:
    """Take the end of every process that was left to this one; those of ``own`` are waited for."""
    with contextlib.suppress(ChildProcessError):  # there is none
        while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if ended.si_pid in own:  # whoever waits for it does so at once: look again later
                return
            os.waitpid(ended.si_pid, 0)


def _end_code(code: int) -> int:
    """Return what the end of a process that was asked to stop means for the whole."""
    if code == -signal.SIGTERM:  # it had not begun yet: there was nothing to finish
        return 0
    # Any other signal, be it ours because it was late or a crash: its work is not done.
    return 1 if code < 0 else code


async def _last_word(process: asyncio.subprocess.Process) -> dict[str, Any] | None:
    """Return what a process that has ended left on its standard output, if it is that."""
    if process.stdout is None:
        return None
    with contextlib.suppress(TimeoutError, ValueError):
        told = json.loads(await asyncio.wait_for(process.stdout.read(), LAST_WORD_S))
        return told if isinstance(told, dict) else None
    return None


async def _finish(child: Child, seconds: float) -> None:
    """End a process once: a signal to one that ends just then takes its exit code away."""
    process = child.process
    if process is None or process.returncode is not None:
        return
    if child.ending is process:
        await process.wait()
        return
    child.ending = process
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), seconds)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def statuses(folder: DataFolder, *, timeout_s: float = 2.0) -> dict[str, dict[str, Any] | None]:
    """Return what capture and deliver say of themselves, None for one that does not answer."""
    found: dict[str, dict[str, Any] | None] = {}
    for role, path in folder.sockets().items():
        try:
            found[role] = ask(path, {"op": "status"}, timeout_s=timeout_s)[0]
        except ForebayError:
            found[role] = None
    return found
