"""What one statement said of a store, or of the journal's projection, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from forebay.domain.coverage import StreamKey
from forebay.domain.digest import Digest
from forebay.domain.intervals import IntervalSet
from forebay.journal import Position
from forebay.services.audit.report import GapRow

if TYPE_CHECKING:
    import pyarrow as pa

EVERY_ID = (0, (1 << 62) - 1)
LOST = ("open", "permanent")
"""States of gaps whose ids the store does not have."""


class _Sums(msgspec.Struct):
    events: int
    ids_high: str
    ids_low: str
    rows_high: str
    rows_low: str

    def digest(self) -> Digest:
        return Digest.from_halves(
            self.events,
            (int(self.ids_high), int(self.ids_low)),
            (int(self.rows_high), int(self.rows_low)),
        )


class _Bucket(_Sums):
    venue: str
    symbol: str
    hour: int
    chunk: int


class _Minute(_Sums):
    minute: int


class _Hole(msgspec.Struct):
    first: int
    last: int


class _Stream(msgspec.Struct):
    venue: str
    symbol: str
    first: int
    last: int
    holes: list[_Hole] | None
    doubled: int
    twice: list[int] | None
    first_ns: int | None
    last_ns: int | None
    inside_first: int | None
    inside_last: int | None
    before: int | None
    after: int | None


class _Covered(msgspec.Struct):
    venue: str
    channel: str
    symbol: str
    unit: str
    origin: str
    first: int
    last: int


class _Cursor(msgspec.Struct):
    log_id: str | None
    seq: int | None


class _Accounts(msgspec.Struct):
    buckets: list[_Bucket] | None
    streams: list[_Stream] | None


class _Snapshot(_Accounts):
    cursor: _Cursor
    gaps: list[GapRow] | None
    coverage: list[_Covered] | None
    letters: int
    conflicts: int
    ambiguous: int


@dataclass(slots=True)
class StreamAccount:
    """What is held of one stream."""

    ids: IntervalSet = field(default_factory=IntervalSet)
    """Native ids, whatever their time."""
    doubled: int = 0
    """Rows of the audited times beyond one for each id."""
    twice: list[int] = field(default_factory=list)
    """Some of the ids that have them."""
    first_ns: int | None = None
    last_ns: int | None = None
    window: tuple[int, int] = EVERY_ID
    """Ids that the audited times can contain, both included: everything between the last
    id before and the first id after, so that an hour of which all is lost is looked at."""
    hours: dict[int, Digest] = field(default_factory=dict)
    chunks: dict[int, Digest] = field(default_factory=dict)

    def total(self) -> Digest:
        """Digest of the audited times."""
        return sum(self.hours.values(), Digest())


Accounts = dict[StreamKey, StreamAccount]


@dataclass(slots=True)
class Claim:
    """What a store's coverage says of one stream."""

    live: IntervalSet = field(default_factory=IntervalSet)
    covered: IntervalSet = field(default_factory=IntervalSet)
    hull: tuple[int, int] | None = None

    def reach(self, first: int, last: int) -> None:
        """Widen the hull."""
        low, high = self.hull or (first, last)
        self.hull = (min(low, first), max(high, last))


@dataclass(slots=True)
class Snapshot:
    """A store at one moment."""

    cursor: Position | None
    accounts: Accounts
    gaps: list[GapRow]
    claims: dict[StreamKey, Claim]
    letters: int
    conflicts: int
    ambiguous: int

    def declared(self, key: StreamKey, states: tuple[str, ...] = ()) -> IntervalSet:
        """Ids of a stream's gaps in ``states``; in any state if none is named."""
        return IntervalSet(
            (gap.first, gap.last)
            for gap in self.gaps
            if (gap.venue, gap.channel, gap.symbol) == key
            and gap.unit == "id"
            and (not states or gap.state in states)
        )


def accounts_from(table: pa.Table) -> Accounts:
    """Read the answer of :func:`forebay.services.audit.sql.accounts`."""
    return _accounts(msgspec.convert(table.to_pylist()[0], _Accounts))


def snapshot_from(table: pa.Table) -> Snapshot:
    """Read the answer of :func:`forebay.services.audit.sql.snapshot`."""
    said = msgspec.convert(table.to_pylist()[0], _Snapshot)
    cursor = said.cursor
    at = None
    if cursor.log_id is not None and cursor.seq is not None:
        at = Position(cursor.log_id, cursor.seq)
    return Snapshot(
        cursor=at,
        accounts=_accounts(said),
        gaps=sorted(said.gaps or []),
        claims=_claims(said.coverage or []),
        letters=said.letters,
        conflicts=said.conflicts,
        ambiguous=said.ambiguous,
    )


def minutes_from(row: object) -> dict[int, Digest]:
    """Read the ``minutes`` of :func:`forebay.services.audit.sql.minutes`."""
    found = msgspec.convert(row or [], list[_Minute])
    return {each.minute: each.digest() for each in found}


def _accounts(said: _Accounts) -> Accounts:
    accounts: Accounts = {}
    for stream in said.streams or []:
        ids = IntervalSet([(stream.first, stream.last)])
        ids -= IntervalSet((hole.first, hole.last) for hole in stream.holes or [])
        accounts[StreamKey(stream.venue, "trade", stream.symbol)] = StreamAccount(
            ids=ids,
            doubled=stream.doubled,
            twice=stream.twice or [],
            first_ns=stream.first_ns,
            last_ns=stream.last_ns,
            window=_window(stream),
        )
    for bucket in said.buckets or []:
        account = accounts[StreamKey(bucket.venue, "trade", bucket.symbol)]
        digest = bucket.digest()
        for parts, key in ((account.hours, bucket.hour), (account.chunks, bucket.chunk)):
            parts[key] = parts.get(key, Digest()) + digest
    return accounts


def _window(stream: _Stream) -> tuple[int, int]:
    low = EVERY_ID[0] if stream.before is None else stream.before + 1
    high = EVERY_ID[1] if stream.after is None else stream.after - 1
    if stream.inside_first is not None and stream.inside_last is not None:
        # Ids that are not in the order of their times must not narrow the window.
        low, high = min(low, stream.inside_first), max(high, stream.inside_last)
    return low, high


def _claims(coverage: list[_Covered]) -> dict[StreamKey, Claim]:
    claims: dict[StreamKey, Claim] = {}
    for row in coverage:
        if row.unit != "id":
            continue
        claim = claims.setdefault(StreamKey(row.venue, row.channel, row.symbol), Claim())
        if row.origin == "live":
            claim.live.add(row.first, row.last)
        if row.origin in ("live", "fill"):
            claim.covered.add(row.first, row.last)
        if row.origin in ("live", "known"):
            claim.reach(row.first, row.last)
    return claims
