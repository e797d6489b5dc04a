"""The ledger's entries, and what they amount to: what was received, without the frames.

An *entry* accounts for consecutive frames: digests of the events that are new with them, the
coverage after them, how the frames ended, dead letters and losses. Entries are added to a
*record* in the order of the journal; the record of all entries is what a store is audited
against. It grows with streams, hours and holes, and not with events.

An event is new in the first entry that has its id: the version of it that came first in the
journal is the one whose row is in a digest, as it is the one that a store keeps.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from forebay.domain.channels import Unit
from forebay.domain.coverage import COVERAGES, Coverage, Row, StreamKey
from forebay.domain.digest import Digest, StreamHour
from forebay.domain.roll import Answered, AskedFor, Roll

if TYPE_CHECKING:
    from collections.abc import Iterable

    from forebay.domain.intervals import Interval

VERSION = 2
"""2: streams have a market, and coverage has a unit."""
_DAWN, _DUSK = -(1 << 63), (1 << 63) - 1


class Hour(msgspec.Struct, frozen=True):
    """Digest of the events of one hour that are new; none if there are only repeated ones."""

    hour: int
    """Hours since the Unix epoch, of ``event_ts``."""
    count: int
    ids: str
    """32 hexadecimal digits, as ``rows``."""
    rows: str

    @classmethod
    def of(cls, hour: int, digest: Digest) -> Hour:
        return cls(hour, *digest.hex())

    @property
    def digest(self) -> Digest:
        return Digest.from_hex(self.count, self.ids, self.rows)


class Covered(msgspec.Struct, frozen=True, kw_only=True):
    """Coverage of one stream, as its rows and epochs."""

    unit: Unit
    rows: list[Row]
    epochs: list[tuple[str, int]]
    """How far each of the connections got that spoke last, in the order in which they did."""

    @classmethod
    def of(cls, coverage: Coverage) -> Covered:
        return cls(
            unit=coverage.unit, rows=list(coverage.rows()), epochs=list(coverage.epochs.items())
        )

    @property
    def coverage(self) -> Coverage:
        return COVERAGES[self.unit].from_rows(self.rows, self.epochs)


class StreamEntry(msgspec.Struct, frozen=True):
    """What the frames of one entry did to one stream."""

    venue: str
    market: str
    channel: str
    symbol: str
    hours: list[Hour]
    coverage: Covered | None
    """Whole, as it is after the entry; None if it did not change."""
    ordinals: str | None = None
    """Whole ordinals of the class ``content`` after the entry, in hexadecimal digits; None if
    they did not change."""

    @property
    def key(self) -> StreamKey:
        return StreamKey(self.venue, self.market, self.channel, self.symbol)


class LostRange(msgspec.Struct, frozen=True):
    """Sequence numbers that could not be read, ``first`` to ``last``, both included."""

    first: int
    last: int
    after_ns: int | None = None
    """Receipt of the frame before, None if the entry has none."""
    before_ns: int | None = None
    """Receipt of the frame behind, None if the entry has none."""


class SegmentEntry(msgspec.Struct, frozen=True, kw_only=True):
    """The account of the frames ``first`` to ``end - 1`` of one log."""

    version: int = VERSION
    log_id: str
    first: int
    end: int
    received: tuple[int, int, int] | None
    """Receipt of the first, of the last and the earliest receipt, UTC nanoseconds."""
    frames: dict[str, int]
    """Frames by outcome: ``yielding``, ``control``, ``dead``."""
    letters: list[str]
    """Ids of dead letters, 32 hexadecimal digits each, ascending, each once."""
    lost: list[LostRange]
    streams: list[StreamEntry]
    asked: list[AskedFor] = []
    """What collectors began to ask for."""
    answered: list[Answered] = []
    """What venues said last of what was asked for."""

    def encode(self) -> bytes:
        return msgspec.json.encode(self)


class JournalRange(NamedTuple):
    """Frames of one log, from ``first`` up to ``end``, not included."""

    log_id: str
    first: int
    end: int


@dataclass(slots=True)
class LedgerState:
    """The entries so far, added up."""

    log_id: str = ""
    end: int = 1
    """Everything before this sequence number is accounted for, or lost."""
    hours: dict[StreamKey, dict[int, Digest]] = field(default_factory=dict)
    coverage: dict[StreamKey, Coverage] = field(default_factory=dict)
    ordinals: dict[StreamKey, bytes] = field(default_factory=dict)
    ordinals_before: dict[JournalRange, dict[StreamKey, bytes]] = field(default_factory=dict)
    """Of the streams whose ordinals changed within a part, those before it: from there its frames
    can be projected once more."""
    frames: Counter[str] = field(default_factory=Counter)
    parts: dict[StreamHour, list[JournalRange]] = field(default_factory=dict)
    """Where in the journal the events of an hour are, repeated ones included."""
    blind: list[Interval] = field(default_factory=list)
    """Receipt times, both included, of which frames are lost."""
    roll: Roll = field(default_factory=Roll)
    latest_ns: int = _DAWN
    """When the last frame was received."""
    _oldest_ns: int = _DUSK
    _in_loss: bool = False

    def add(self, entry: SegmentEntry) -> None:
        """Add the next entry; what lies between the last one and it is lost."""
        begins_lost = bool(entry.lost) and entry.lost[0].after_ns is None
        self._in_loss = self._in_loss or entry.first > self.end or begins_lost
        if entry.received is not None:
            first, last, earliest = entry.received
            if self._in_loss:
                self._blind(self.latest_ns, first)
            for lost in entry.lost:
                if lost.after_ns is not None and lost.before_ns is not None:
                    self._blind(lost.after_ns, lost.before_ns)
            self._in_loss = bool(entry.lost) and entry.lost[-1].before_ns is None
            self.latest_ns = last
            self._oldest_ns = min(self._oldest_ns, earliest)
        self.log_id, self.end = entry.log_id, entry.end
        self.frames.update(entry.frames)
        self.roll.add(entry.asked, entry.answered)
        part = JournalRange(entry.log_id, entry.first, entry.end)
        for stream in entry.streams:
            self._add_stream(stream, part)

    def _add_stream(self, stream: StreamEntry, part: JournalRange) -> None:
        key = stream.key
        if stream.coverage is not None:
            self.coverage[key] = stream.coverage.coverage
        if stream.ordinals is not None:
            if (before := self.ordinals.get(key)) is not None:
                self.ordinals_before.setdefault(part, {})[key] = before
            self.ordinals[key] = bytes.fromhex(stream.ordinals)
        hours = self.hours.setdefault(key, {})
        for each in stream.hours:
            self.parts.setdefault((key, each.hour), []).append(part)
            if each.count:
                hours[each.hour] = hours.get(each.hour, Digest()) + each.digest

    @property
    def complete(self) -> bool:
        """Whether no frame was lost."""
        return not self.blind and not self._in_loss

    def sees(self, received_ns: int) -> bool:
        """Whether a frame of this receipt time would be accounted for if it ever was."""
        if received_ns < self._oldest_ns:
            return False
        if self._in_loss and received_ns >= self.latest_ns:
            return False
        return not any(first <= received_ns <= last for first, last in self.blind)

    def _blind(self, first: int, last: int) -> None:
        # If the clock went back within it, receipt times prove nothing any more.
        self.blind.append((first, last) if first <= last else (_DAWN, _DUSK))


_decoder = msgspec.json.Decoder(SegmentEntry)


def decode_entry(raw: bytes) -> SegmentEntry:
    """Read what :meth:`SegmentEntry.encode` wrote; raises ``msgspec.DecodeError``."""
    return _decoder.decode(raw)


def record_of(entries: Iterable[SegmentEntry]) -> LedgerState:
    """Add up entries in the order of the journal."""
    record = LedgerState()
    for entry in entries:
        record.add(entry)
    return record
