"""What happens when a call fails, and what follows for the system."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from forebay.telemetry.happening import Happening, Level


@dataclass(frozen=True, slots=True)
class BreakerMoved(Happening):
    """A breaker went from one state to another, at ``wall_ns``; a trip is ``now`` = ``open``."""

    level: ClassVar[Level] = "warning"
    breaker: str
    was: str
    now: str
    reason: str
    wall_ns: int


@dataclass(frozen=True, slots=True)
class ProbeFailed(Happening):
    """The recovery loop called what breaker ``breaker`` guards, and that failed again."""

    level: ClassVar[Level] = "warning"
    breaker: str
    reason: str


@dataclass(frozen=True, slots=True)
class CallRetried(Happening):
    """Try number ``attempt`` of a call failed; the next one begins in ``delay_s`` seconds."""

    level: ClassVar[Level] = "warning"
    call: str
    delay_s: float
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class RetriesEnded(Happening):
    """A call is not tried again after ``attempts`` tries; ``reason`` is what forbids it."""

    level: ClassVar[Level] = "warning"
    call: str
    attempts: int
    reason: str


@dataclass(frozen=True, slots=True)
class FallbackBegan(Happening):
    """Callers of ``service`` get the fallback's answers, because of ``reason``."""

    level: ClassVar[Level] = "warning"
    service: str
    reason: str


@dataclass(frozen=True, slots=True)
class FallbackEnded(Happening):
    """Callers of ``service`` get its own answers again."""

    service: str


@dataclass(frozen=True, slots=True)
class SystemMoved(Happening):
    """The system as a whole went from one state to another (healthy, degraded, …)."""

    level: ClassVar[Level] = "warning"
    was: str
    now: str
    reason: str


@dataclass(frozen=True, slots=True)
class ServiceDown(Happening):
    """A service is not operational; ``root`` is the service whose failure that is."""

    level: ClassVar[Level] = "warning"
    service: str
    root: str
    reason: str


@dataclass(frozen=True, slots=True)
class ServiceUp(Happening):
    """A service is operational again."""

    service: str


@dataclass(frozen=True, slots=True)
class StoreWriteRefused(Happening):
    """In EMERGENCY nothing is written to a store; ``frames`` captured ones wait in the journal."""

    level: ClassVar[Level] = "warning"
    store: str
    frames: int


@dataclass(frozen=True, slots=True)
class WorkShed(Happening):
    """Work that can wait does, because the system is ``state``."""

    level: ClassVar[Level] = "warning"
    work: str
    state: str


@dataclass(frozen=True, slots=True)
class WorkResumed(Happening):
    """Work that was shed goes on."""

    work: str


@dataclass(frozen=True, slots=True)
class ConfigReloaded(Happening):
    """The configuration was read again: keys that hold from now, and keys that need a restart."""

    applied: tuple[str, ...]
    restart_needed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ConfigRefused(Happening):
    """The configuration was read again and cannot be; everything stays as it was."""

    level: ClassVar[Level] = "error"
    reason: str


@dataclass(frozen=True, slots=True)
class AdminCalled(Happening):
    """Somebody called a route of administration: the audit log, refused calls included."""

    level: ClassVar[Level] = "warning"
    action: str
    target: str
    client: str
    status: int
    """The HTTP status that was answered."""
    detail: str


@dataclass(frozen=True, slots=True)
class HttpServing(Happening):
    """Health, metrics and administration are served at ``url``."""

    url: str


@dataclass(frozen=True, slots=True)
class HttpUnavailable(Happening):
    """The routes cannot be served; it is tried again in ``delay_s`` seconds, capture goes on."""

    level: ClassVar[Level] = "error"
    reason: str
    delay_s: float
