"""Everything the system can say about itself, as types; logs and metrics render them.

A part that has something to say is handed an :data:`Observer` and calls it with one frozen
:class:`TelemetryEvent`. Nothing here formats, filters or writes: a renderer does, in one place.
There is one event per connection, per fill or per batch, never per frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, dataclass_transform

from forebay.text import counted

Level = Literal["info", "warning", "error"]


@dataclass_transform(frozen_default=True)
@dataclass(frozen=True)
class TelemetryEvent:
    """Something that happened; a subclass is a frozen dataclass and names its ``level``."""

    level: ClassVar[Level] = "info"

    def __init_subclass__(cls, *, level: Level = "info") -> None:
        cls.level = level
        dataclass(frozen=True)(cls)


Observer = Callable[[TelemetryEvent], None]
"""Takes an event; must not block and must not raise."""


def ignore(event: TelemetryEvent) -> None:
    """Observe nothing."""
    del event


# --------------------------------------------------------------------------- Between us and a venue


class ConnectionEvent(TelemetryEvent):
    """Something about one connection."""

    venue: str
    epoch: str
    """Empty where there was none."""


class ConnectionOpened(TelemetryEvent):
    """A connection is up and its subscription has been sent."""

    venue: str
    url: str
    epoch: str


class SubscriptionAccepted(ConnectionEvent):
    """The venue accepted the subscription; coverage is owed from here on."""


class StreamRefused(ConnectionEvent, level="warning"):
    """The venue does not give one symbol, or says nothing of it; the others go on."""

    channel: str
    """One kind of event, or several."""
    symbol: str
    reason: str
    retry_s: float | None = None
    """Seconds until it is asked for again, where that is known already."""


class VenueComplained(ConnectionEvent, level="warning"):
    """The venue complained of something that we said; nothing ended."""

    complaint: str


class PollFailed(TelemetryEvent, level="warning"):
    """A channel that is polled was not answered for one symbol; the next round asks again."""

    venue: str
    channel: str
    symbol: str
    reason: str


class RegistryFailed(TelemetryEvent, level="warning"):
    """A venue did not give its list of markets; what is captured goes on. It is asked again."""

    venue: str
    call: str
    """Method and path."""
    reason: str


class RegistryNotKept(TelemetryEvent, level="warning"):
    """What the market registry knows could not be kept: after a crash it may miss what ended."""

    venue: str
    reason: str


class MarketsWanted(TelemetryEvent):
    """Markets began or ended, so that others are captured from now on."""

    venue: str
    wanted: int
    added: int
    removed: int


class MarketGone(TelemetryEvent, level="warning"):
    """A venue does not list a market any more that had not ended; it is captured no longer."""

    venue: str
    symbol: str


class MarketImpossible(TelemetryEvent, level="warning"):
    """What a venue says of one market contradicts itself; it is stored so, and the others go on."""

    venue: str
    symbol: str
    columns: str


class ValueUnknown(TelemetryEvent, level="warning"):
    """A venue used a word that is new to us; rows that have it are stored and say so."""

    venue: str
    column: str
    value: str


class MarketsUnreadable(TelemetryEvent, level="warning"):
    """Rows of a list of markets could not be read; the others were."""

    venue: str
    rows: int
    error: str
    """Of the first one."""


class MarketsLeftOut(TelemetryEvent, level="error"):
    """More markets match what is asked for than can be known at once; narrow the patterns."""

    venue: str
    markets: int


class ConnectionClosed(ConnectionEvent, level="warning"):
    """A connection ended, whoever ended it."""

    reason: str


class ConnectionStopped(ConnectionClosed, level="info"):
    """A connection ended because its capture was asked to stop."""


class ConnectionFailed(TelemetryEvent, level="warning"):
    """A connection could not be made, so there was no epoch."""

    venue: str
    url: str
    reason: str


class ReconnectScheduled(TelemetryEvent):
    """The next try comes in ``delay_s`` seconds; ``attempt`` is 1 after a success."""

    venue: str
    delay_s: float
    attempt: int


class FrameOversized(ConnectionEvent, level="error"):
    """A message exceeded ``limit`` bytes, so its connection was closed."""

    limit: int


class ReadingPaused(ConnectionEvent, level="warning"):
    """A connection's socket is not read, because the journal cannot take frames fast enough."""


class ReadingResumed(ConnectionEvent):
    """A connection's socket is read again."""


class SourceCrashed(TelemetryEvent, level="error"):
    """A source's task ended by an error of ours; it is started again in ``delay_s`` seconds."""

    source: str
    error: str
    delay_s: float


class RestRetried(TelemetryEvent, level="warning"):
    """A REST call failed in a way that may pass; it is tried again in ``delay_s`` seconds."""

    path: str
    reason: str
    delay_s: float
    attempt: int


# ------------------------------------ Frames and events at rest: journal, gaps, dead letters, store


class JournalFullBegan(TelemetryEvent, level="error"):
    """The journal cannot take frames: sources pause and what they miss becomes gaps."""

    reason: str
    pending_bytes: int


class JournalFullEnded(TelemetryEvent):
    """The journal takes frames again after ``lasted_s`` seconds."""

    lasted_s: float


class JournalRecovered(TelemetryEvent):
    """The journal was opened; what its recovery cut off, and how many ranges are lost."""

    log_id: str
    next_seq: int
    truncated_bytes: int
    losses: int


class LossFound(TelemetryEvent, level="error"):
    """Journal sequence numbers ``first`` to ``last`` cannot be read any more."""

    log_id: str
    first: int
    last: int


class HousekeepingRefused(TelemetryEvent, level="warning"):
    """A segment could not be recorded, sealed or removed (``action``); it stays as it is."""

    action: str
    segment: str
    reason: str


class SegmentRemoved(TelemetryEvent):
    """A segment that every consumer is past and the ledger has was removed as configured."""

    segment: str
    frames: int
    bytes: int


class GapOpened(TelemetryEvent, level="warning"):
    """A hole in a stream's coverage was found."""

    venue: str
    channel: str
    symbol: str
    first: int
    last: int
    reason: str
    market: str = "spot"
    unit: str = "id"


class GapClosed(TelemetryEvent):
    """A gap is over: ``state`` is ``filled``, ``permanent`` or ``accepted``."""

    venue: str
    channel: str
    symbol: str
    first: int
    last: int
    reason: str
    state: str
    market: str = "spot"
    unit: str = "id"


class GapsUnknown(TelemetryEvent):
    """Which gaps are open could not be learnt; it is asked again."""

    reason: str


class FillEvent(TelemetryEvent):
    """Something about a fill: the venue's history is asked for ids ``first`` to ``last``."""

    channel: str
    symbol: str
    first: int
    last: int


class FillStarted(FillEvent):
    """The venue's history is being asked."""


class FillDone(FillEvent):
    """The answers to a fill are CAPTURED before journal sequence number ``next_seq``."""

    next_seq: int


class ChecksFailed(TelemetryEvent, level="warning"):
    """Stored bars could not be compared with those that calendars expect; it is tried again."""

    reason: str


class FillFailed(FillEvent, level="warning"):
    """A fill did not end; it is tried again not before ``delay_s`` seconds from now."""

    reason: str
    delay_s: float


class AlternativeAsked(FillEvent):
    """Another venue was asked for bars, since the one whose they are did not answer."""

    source: str
    """Who was asked, as the configuration spells it."""
    problem: str
    """Why it has not answered all of it; nothing if it has."""


class DownloadEnded(TelemetryEvent):
    """Bars that the configuration wants were asked for, as far as they were not there."""

    venue: str
    pages: int
    answered: int
    problem: str  # why not all of it was had


class BarsVerified(TelemetryEvent):
    """Days of a series were compared with its source; ``first_day`` is one that differs, if any."""

    stream: str
    bars: int
    missing: int
    differing: int
    extra: int
    first_day: str


class VerificationFailed(TelemetryEvent, level="warning"):
    """A series could not be compared with its source; it is tried again."""

    stream: str
    reason: str


class DeadLettered(TelemetryEvent, level="warning"):
    """Frames or events that can never succeed were kept as dead letters."""

    count: int
    reason: str
    venue: str = ""
    """Empty where nobody knows whence they came."""


class LettersKept(TelemetryEvent, level="error"):
    """Dead letters could not be told to their topic: they are kept here, and told when they can."""

    count: int
    topic: str
    reason: str


class LettersSent(TelemetryEvent, level="info"):
    """Dead letters that were kept here are in their topics now."""

    count: int


class ConflictFound(TelemetryEvent, level="error"):
    """Events came with an id that is stored with other content; see the table ``conflicts``."""

    count: int


class ProducerReplaced(TelemetryEvent, level="warning"):
    """A publishing client was given up for a new one; what is not acknowledged is sent again."""

    transport: str
    reason: str


class CursorNotSaved(TelemetryEvent, level="warning"):
    """A cursor file could not be written; its consumer has another copy."""

    reason: str


class CursorUnreadable(TelemetryEvent, level="warning"):
    """Both slots of a cursor file are damaged; its consumer has another copy."""

    reason: str


class TopicDiffers(TelemetryEvent, level="warning"):
    """A topic is not as it would be made: ``setting`` is ``found``; nothing changes it."""

    transport: str
    topic: str
    setting: str
    wanted: str
    found: str


class StoreUnavailable(TelemetryEvent, level="warning"):
    """The store could not take a commit; nothing is dropped: journal or topic keep it."""

    reason: str
    delay_s: float


class TransportUnavailable(TelemetryEvent, level="warning"):
    """A transport did not acknowledge a batch; nothing is dropped, the journal keeps it."""

    transport: str
    reason: str
    delay_s: float


class PublishRefused(TelemetryEvent, level="error"):
    """A transport will not take a batch as it is; it is tried again, and what follows waits."""

    reason: str


class TopicMadeAnew(TelemetryEvent, level="warning"):
    """A topic has lost what was in it: the journal is told to it again, from its oldest frame."""

    topic: str


class LanesMoved(TelemetryEvent):
    """Lanes have come to this bridge, or gone to others of its group; it reads ``held`` now."""

    came: tuple[str, ...]
    went: tuple[str, ...]
    held: int


class LaneReadAgain(TelemetryEvent, level="warning"):
    """A lane is another one than it was, or ends before what was read of it.

    It is read from its oldest record; what is stored of that is recognised.
    """

    lane: str


class LaneElsewhere(TelemetryEvent, level="warning"):
    """The store is at another place in a lane than this bridge thought: it goes on from there."""

    lane: str
    reason: str


class LaneWaits(TelemetryEvent, level="warning"):
    """What a lane has cannot be read or stored now, while others go on; nothing is dropped."""

    lane: str
    reason: str
    delay_s: float


class LaneGoesOn(TelemetryEvent):
    """A lane that had to wait goes on."""

    lane: str
    waited_s: float


class RowsLeftOut(TelemetryEvent, level="error"):
    """The store would not take rows of a lane, however often: they are dead letters now."""

    lane: str
    table: str
    rows: int
    reason: str


class RecordsUnreadable(TelemetryEvent, level="error"):
    """A lane has records that are no message; what follows them is read."""

    lane: str
    records: int


# ----------------------------------------------- A call that fails, and what follows for the system


class BreakerMoved(TelemetryEvent, level="warning"):
    """A breaker went from one state to another, at ``wall_ns``; a trip is ``now`` = ``open``."""

    breaker: str
    was: str
    now: str
    reason: str
    wall_ns: int


class ProbeFailed(TelemetryEvent, level="warning"):
    """The recovery loop called what breaker ``breaker`` guards, and that failed again."""

    breaker: str
    reason: str


class CallRetried(TelemetryEvent, level="warning"):
    """Try number ``attempt`` of a call failed; the next one begins in ``delay_s`` seconds."""

    call: str
    delay_s: float
    attempt: int
    reason: str


class RetriesEnded(TelemetryEvent, level="warning"):
    """A call is not tried again after ``attempts`` tries; ``reason`` is what forbids it."""

    call: str
    attempts: int
    reason: str


class FallbackBegan(TelemetryEvent, level="warning"):
    """Callers of ``service`` get the fallback's answers, because of ``reason``."""

    service: str
    reason: str


class FallbackEnded(TelemetryEvent):
    """Callers of ``service`` get its own answers again."""

    service: str


class SystemMoved(TelemetryEvent, level="warning"):
    """The system as a whole went from one state to another (healthy, degraded, …)."""

    was: str
    now: str
    reason: str


class ServiceDown(TelemetryEvent, level="warning"):
    """A service is not operational; ``root`` is the service whose failure that is."""

    service: str
    root: str
    reason: str


class ServiceUp(TelemetryEvent):
    """A service is operational again."""

    service: str


class StoreWriteRefused(TelemetryEvent, level="warning"):
    """In EMERGENCY nothing is written to a store; ``frames`` captured ones wait in the journal."""

    store: str
    frames: int


class WorkShed(TelemetryEvent, level="warning"):
    """Work that can wait does, because the system is ``state``."""

    work: str
    state: str


class WorkResumed(TelemetryEvent):
    """Work that was shed goes on."""

    work: str


class ConfigReloaded(TelemetryEvent):
    """The configuration was read again: keys that hold from now, and keys that need a restart."""

    applied: tuple[str, ...]
    restart_needed: tuple[str, ...]


class ConfigRefused(TelemetryEvent, level="error"):
    """The configuration was read again and cannot be; everything stays as it was."""

    reason: str


class AdminCalled(TelemetryEvent, level="warning"):
    """Somebody called a route of administration: the audit log, refused calls included."""

    action: str
    target: str
    client: str
    status: int
    """The HTTP status that was answered."""
    detail: str


class HttpServing(TelemetryEvent):
    """Health, metrics and administration are served at ``url``."""

    url: str


class HttpUnavailable(TelemetryEvent, level="error"):
    """The routes cannot be served; it is tried again in ``delay_s`` seconds, capture goes on."""

    reason: str
    delay_s: float


# ---------------------------------------------------------------------------------------- Processes


class ProcessStarted(TelemetryEvent):
    """A supervised process runs."""

    name: str
    pid: int


class ProcessDied(TelemetryEvent, level="error"):
    """A supervised process ended without being asked to."""

    name: str
    pid: int
    status: str


class ProcessFailed(TelemetryEvent, level="error"):
    """A supervised process cannot go on, and ends; ``traceback`` is of an error of ours."""

    name: str
    reason: str
    traceback: str = ""


class Stopping(TelemetryEvent):
    """All processes are to end: what is captured is stored now."""

    reason: str


class Stopped(TelemetryEvent):
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


class DrainTimedOut(TelemetryEvent, level="error"):
    """At stop, frames were still only RECEIVED when the time to capture them was over."""

    pending_bytes: int
    after_s: float
