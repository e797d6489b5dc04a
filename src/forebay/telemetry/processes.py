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
class DrainTimedOut(Happening):
    """At stop, frames were still only RECEIVED when the time to capture them was over."""

    level: ClassVar[Level] = "error"
    pending_bytes: int
    after_s: float
