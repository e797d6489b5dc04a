"""What happens between us and a venue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from forebay.telemetry.happening import Happening, Level


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
class StreamRefused(Happening):
    """The venue does not give one symbol, or says nothing of it; the others go on."""

    level: ClassVar[Level] = "warning"
    venue: str
    epoch: str
    """The connection that goes on with the others; empty if it did not."""
    channel: str
    """One kind of event, or several."""
    symbol: str
    reason: str
    retry_s: float | None = None
    """Seconds until it is asked for again, where that is known already."""


@dataclass(frozen=True, slots=True)
class VenueComplained(Happening):
    """The venue complained of something that we said; nothing ended."""

    level: ClassVar[Level] = "warning"
    venue: str
    epoch: str
    complaint: str


@dataclass(frozen=True, slots=True)
class PollFailed(Happening):
    """A channel that is polled was not answered for one symbol; the next round asks again."""

    level: ClassVar[Level] = "warning"
    venue: str
    channel: str
    symbol: str
    reason: str


@dataclass(frozen=True, slots=True)
class ConnectionClosed(Happening):
    """A connection ended, whoever ended it."""

    level: ClassVar[Level] = "warning"
    venue: str
    epoch: str
    reason: str


@dataclass(frozen=True, slots=True)
class ConnectionStopped(ConnectionClosed):
    """A connection ended because its capture was asked to stop."""

    level: ClassVar[Level] = "info"


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


@dataclass(frozen=True, slots=True)
class RestRetried(Happening):
    """A REST call failed in a way that may pass; it is tried again in ``delay_s`` seconds."""

    level: ClassVar[Level] = "warning"
    path: str
    reason: str
    delay_s: float
    attempt: int
