"""Everything the system can say about itself, as types; logs and metrics render them.

A part that has something to say is handed an :data:`Observer` and calls it with one frozen
:class:`Happening`. Nothing here formats, filters or writes: a renderer does, in one place.
Happenings are per connection, per fill or per batch, never per frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

Level = Literal["info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Happening:
    """Something worth telling; ``level`` says how loudly."""

    level: ClassVar[Level] = "info"


Observer = Callable[[Happening], None]
"""Takes a happening; must not block and must not raise."""


def ignore(happening: Happening) -> None:
    """Observe nothing."""
    del happening


# ------------------------------------------------------------ connections


@dataclass(frozen=True, slots=True)
class ConnectionOpened(Happening):
    """A connection is up and its subscription has been sent."""

    venue: str
    url: str
    epoch: str


@dataclass(frozen=True, slots=True)
class SubscriptionAccepted(Happening):
    """The venue accepted the subscription; coverage is owed from here on."""

    venue: str
    epoch: str


@dataclass(frozen=True, slots=True)
class ConnectionClosed(Happening):
    """A connection ended, whoever ended it."""

    level: ClassVar[Level] = "warning"
    venue: str
    epoch: str
    reason: str


@dataclass(frozen=True, slots=True)
class ConnectionFailed(Happening):
    """A connection could not be made, so there was no epoch."""

    level: ClassVar[Level] = "warning"
    venue: str
    url: str
    reason: str


@dataclass(frozen=True, slots=True)
class ReconnectScheduled(Happening):
    """The next try comes in ``delay_s`` seconds; ``attempt`` is 1 after a success."""

    venue: str
    delay_s: float
    attempt: int


@dataclass(frozen=True, slots=True)
class FrameOversized(Happening):
    """A message exceeded ``limit`` bytes, so its connection was closed."""

    level: ClassVar[Level] = "error"
    venue: str
    epoch: str
    limit: int


@dataclass(frozen=True, slots=True)
class ReadingPaused(Happening):
    """A connection's socket is not read, because the journal cannot take frames fast enough."""

    level: ClassVar[Level] = "warning"
    venue: str
    epoch: str


@dataclass(frozen=True, slots=True)
class ReadingResumed(Happening):
    """A connection's socket is read again."""

    venue: str
    epoch: str


@dataclass(frozen=True, slots=True)
class SourceCrashed(Happening):
    """A source's task ended by an error of ours; it is started again in ``delay_s`` seconds."""

    level: ClassVar[Level] = "error"
    source: str
    error: str
    delay_s: float


# ------------------------------------------------------------------- REST


@dataclass(frozen=True, slots=True)
class RestRetried(Happening):
    """A REST call failed in a way that may pass; it is tried again in ``delay_s`` seconds."""

    level: ClassVar[Level] = "warning"
    path: str
    reason: str
    delay_s: float
    attempt: int


# ---------------------------------------------------------------- journal


@dataclass(frozen=True, slots=True)
class JournalFullBegan(Happening):
    """The journal cannot take frames: sources pause and what they miss becomes gaps."""

    level: ClassVar[Level] = "error"
    reason: str
    pending_bytes: int


@dataclass(frozen=True, slots=True)
class JournalFullEnded(Happening):
    """The journal takes frames again after ``lasted_s`` seconds."""

    lasted_s: float


@dataclass(frozen=True, slots=True)
class JournalRecovered(Happening):
    """The journal was opened; what its recovery cut off, and how many ranges are lost."""

    log_id: str
    next_seq: int
    truncated_bytes: int
    losses: int


@dataclass(frozen=True, slots=True)
class LossFound(Happening):
    """Journal sequence numbers ``first`` to ``last`` cannot be read any more."""

    level: ClassVar[Level] = "error"
    log_id: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class HousekeepingRefused(Happening):
    """A segment could not be recorded, sealed or removed (``action``); it stays as it is."""

    level: ClassVar[Level] = "warning"
    action: str
    segment: str
    reason: str


@dataclass(frozen=True, slots=True)
class SegmentRemoved(Happening):
    """A segment that every consumer is past and the ledger has was removed as configured."""

    segment: str
    frames: int
    bytes: int


# ------------------------------------------------------ gaps, fills, dead letters


@dataclass(frozen=True, slots=True)
class GapOpened(Happening):
    """A hole in a stream's coverage was found."""

    level: ClassVar[Level] = "warning"
    venue: str
    channel: str
    symbol: str
    first: int
    last: int
    reason: str


@dataclass(frozen=True, slots=True)
class GapClosed(Happening):
    """A gap is over: ``state`` is ``filled`` or ``permanent``."""

    venue: str
    channel: str
    symbol: str
    first: int
    last: int
    reason: str
    state: str


@dataclass(frozen=True, slots=True)
class GapsUnknown(Happening):
    """Which gaps are open could not be learnt; it is asked again."""

    reason: str


@dataclass(frozen=True, slots=True)
class FillStarted(Happening):
    """The venue's history is being asked for ids ``first`` to ``last``."""

    channel: str
    symbol: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class FillDone(Happening):
    """The answers to a fill are CAPTURED before journal sequence number ``next_seq``."""

    channel: str
    symbol: str
    first: int
    last: int
    next_seq: int


@dataclass(frozen=True, slots=True)
class FillFailed(Happening):
    """A fill did not end; it is tried again not before ``delay_s`` seconds from now."""

    level: ClassVar[Level] = "warning"
    channel: str
    symbol: str
    first: int
    last: int
    reason: str
    delay_s: float


@dataclass(frozen=True, slots=True)
class DeadLettered(Happening):
    """Frames or events that can never succeed were kept as dead letters."""

    level: ClassVar[Level] = "warning"
    count: int
    reason: str


# --------------------------------------------------------------- resilience


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


# ------------------------------------------------------------------- system


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


# -------------------------------------------------------------- processes


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
class DrainTimedOut(Happening):
    """At stop, frames were still only RECEIVED when the time to capture them was over."""

    level: ClassVar[Level] = "error"
    pending_bytes: int
    after_s: float


@dataclass(frozen=True, slots=True)
class ConflictFound(Happening):
    """Events came with an id that is stored with other content; see the table ``conflicts``."""

    level: ClassVar[Level] = "error"
    count: int


@dataclass(frozen=True, slots=True)
class CursorNotSaved(Happening):
    """A cursor file could not be written; its consumer has another copy."""

    level: ClassVar[Level] = "warning"
    reason: str


@dataclass(frozen=True, slots=True)
class CursorUnreadable(Happening):
    """Both slots of a cursor file are damaged; its consumer has another copy."""

    level: ClassVar[Level] = "warning"
    reason: str


@dataclass(frozen=True, slots=True)
class StoreUnavailable(Happening):
    """The store could not take a commit; nothing is dropped, the journal keeps it."""

    level: ClassVar[Level] = "warning"
    reason: str
    delay_s: float
