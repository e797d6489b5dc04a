"""What happens to frames and events at rest: journal, gaps, dead letters, store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from forebay.telemetry.happening import Happening, Level


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
    market: str = "spot"
    unit: str = "id"


@dataclass(frozen=True, slots=True)
class GapClosed(Happening):
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
