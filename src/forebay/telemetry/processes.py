"""What happens to processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from forebay.telemetry.happening import Happening, Level


@dataclass(frozen=True, slots=True)
class ProcessStarted(Happening):
    """A supervised process runs."""

    name: str
    pid: int


@dataclass(frozen=True, slots=True)
class ProcessDied(Happening):
    """A supervised process ended without being asked to."""

    level: ClassVar[Level] = "error"
    name: str
    pid: int
    status: str


@dataclass(frozen=True, slots=True)
class ProcessFailed(Happening):
    """A supervised process cannot go on, and ends; ``traceback`` is of an error of ours."""

    level: ClassVar[Level] = "error"
    name: str
    reason: str
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class Stopping(Happening):
    """All processes are to end: what is captured is stored now."""

    reason: str


@dataclass(frozen=True, slots=True)
class Stopped(Happening):
    """All processes have ended as they were asked to; counts are since the start."""

    events: int
    """Events that were stored."""
    waiting: int
    """Frames that are captured and not stored: the next start does that."""
    gaps_open: int

    def __str__(self) -> str:
        """Say it as a sentence."""
        rest = f", {counted(self.waiting, 'frame')} waiting in the journal" if self.waiting else ""
        told = f"{counted(self.events, 'event')} captured and stored{rest}"
        return f"Stopped. {told}, {counted(self.gaps_open, 'gap')} open."


def counted(number: int, name: str) -> str:
    """Return a number and what it counts, in the plural where that is right."""
    return f"{number:,} {name}{'' if number == 1 else 's'}"


@dataclass(frozen=True, slots=True)
class DrainTimedOut(Happening):
    """At stop, frames were still only RECEIVED when the time to capture them was over."""

    level: ClassVar[Level] = "error"
    pending_bytes: int
    after_s: float
