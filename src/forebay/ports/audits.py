"""The socket of the audit: how a store answers for what it has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

    from forebay.domain.coverage import Coverage, Gap, StreamKey
    from forebay.domain.digest import Digest, StreamHour
    from forebay.journal import Position


@dataclass(frozen=True, slots=True)
class Span:
    """Whole hours of ``event_ts`` that are audited, since the Unix epoch; None: no bound."""

    since: int | None = None
    until: int | None = None
    """Not included."""

    @property
    def whole(self) -> bool:
        """Whether nothing is left out."""
        return self.since is None and self.until is None

    def touches(self, hour: int) -> bool:
        """Return whether an hour is audited."""
        after = self.since is None or hour >= self.since
        return after and (self.until is None or hour < self.until)


class HourAccount(NamedTuple):
    """What a store has of one stream and hour."""

    digest: Digest | None
    """Of all rows, doubled ones included; None outside the audited span."""
    events: int
    """Rows."""
    first_ns: int
    last_ns: int
    """Least and greatest ``event_ts``, UTC nanoseconds."""
    first_number: int | None
    last_number: int | None
    """Least and greatest ``venue_seq``; None where there is none."""


@dataclass(frozen=True, slots=True)
class StoreAccount:
    """A store at one moment."""

    position: Position | None
    """Up to where it has consumed the journal."""
    hours: Mapping[StreamHour, HourAccount]
    coverage: Mapping[StreamKey, Coverage]
    gaps: Sequence[Gap]
    letters: int
    """Different dead letters."""
    conflicts: int
    ambiguous: int
    """Rows flagged so."""
    replayed: int = 0
    """Of the letters, those whose frames were repeated and yielded none: none need be left."""
    discarded: int = 0
    """Of the others, those that somebody gave up."""
    damaged: Sequence[str] = ()
    """What cannot be read, and is told here as not there: a sentence each, with its hours."""


class Minutes(NamedTuple):
    """Digests of all rows of one stream and hour, by minutes since the Unix epoch."""

    position: Position | None
    """Of the store at that moment."""
    digests: Mapping[int, Digest]


class Rows(NamedTuple):
    """Some rows of one stream, as the audit compares them."""

    position: Position | None
    """Of the store at that moment."""
    rows: pa.Table
    """Of :data:`AUDIT_COLUMNS`: those of :data:`AUDIT_TEXTS` as texts, the others integers."""


AUDIT_TEXTS = ("event_id", "canonical", "venue", "market", "symbol")
AUDIT_COLUMNS = (*AUDIT_TEXTS, "event_ns", "received_ns", "venue_seq", "seq")


class Audited(Protocol):
    """A store as the audit asks it; every answer is of one moment, and says which.

    Raises :class:`~forebay.errors.Unreachable` when it cannot be asked.
    """

    def account(self, span: Span) -> StoreAccount:
        """Return all of the store by hour; only hours of ``span`` are hashed."""
        ...

    def minutes(self, stream: StreamKey, hour: int) -> Minutes:
        """Return the digests of one hour by minute."""
        ...

    def rows(self, stream: StreamKey, begin_ns: int, end_ns: int) -> Rows:
        """Return the rows with ``begin_ns <= event_ts < end_ns``, doubled ones included."""
        ...

    def find(self, channel: str, ids: Sequence[str]) -> Rows:
        """Return the rows of a kind of event that have one of ``ids``, of whatever stream."""
        ...
