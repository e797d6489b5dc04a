"""A server's process, which drills kill, freeze and start again; it ends when we do."""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

from forebay.errors import Unreachable
from forebay.lab.servers import STOP_S, TRIES, bound_to_us

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

LOG_TAIL = 2000


class EndedAtStart(Unreachable):
    """A server ended before it answered."""


@dataclass(slots=True, kw_only=True)
class ServerProcess:
    """One that comes and goes; ``folder`` is its own, and stays."""

    folder: Path
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def pid(self) -> int:
        """Its process, which may be frozen; 0 while it is down."""
        return self.process.pid if self.process and self.process.poll() is None else 0

    @property
    def log(self) -> Path:
        """What it said."""
        return self.folder / "server.log"

    def launch_program(self, argv: Sequence[str]) -> None:
        """Start its process in its folder, and do not wait."""
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [*bound_to_us(), *argv],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,
            )

    def require_running(self, name: str) -> None:
        """Raise :class:`EndedAtStart` with what it said last if it has ended."""
        if not self.pid:
            text = self.log.read_text(errors="replace")[-LOG_TAIL:].strip()
            raise EndedAtStart(f"{name} ended at its start: {text}", hint=f"See {self.log}.")

    def kill(self) -> None:
        """End its process at once, as if it had crashed."""
        self._signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait(STOP_S)

    def freeze(self) -> None:
        """Let it hold its connections and do nothing, as a machine that stands still."""
        if pid := self.pid:
            os.kill(pid, signal.SIGSTOP)
            os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def thaw(self) -> None:
        """Let it go on after :meth:`freeze`."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if pid := self.pid:
            os.kill(pid, number)


class Killed(Protocol):
    """What can be ended at once."""

    def kill(self) -> None:
        """End it."""
        ...


Tried = TypeVar("Tried", bound=Killed)


async def started(make: Callable[[], Tried], start: Callable[[Tried], Awaitable[None]]) -> Tried:
    """Return one that has started; another one if somebody takes its free port before it does."""
    for last in (False,) * (TRIES - 1) + (True,):
        tried = make()
        try:
            await start(tried)
        except BaseException as error:
            tried.kill()
            if last or not isinstance(error, EndedAtStart):
                raise
        else:
            return tried
    raise AssertionError
