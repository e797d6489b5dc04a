"""What one statement said of a store, or of the journal's projection, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from forebay.domain.coverage import Gap, StreamKey
from forebay.domain.digest import Digest
from forebay.domain.intervals import IntervalSet
from forebay.journal import Position
from forebay.services.audit import sql

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa

EVERY_ID = (0, (1 << 62) - 1)
LOST = ("open", "permanent")
"""States of gaps whose ids the store does not have."""


class _Sums(msgspec.Struct, kw_only=True):
    events: int
    ids_high: str
    ids_low: str
    rows_high: str | None = None
    """None where rows were only counted."""
    rows_low: str | None = None

    def digest(self) -> Digest:
        return Digest.from_halves(
            self.events,
            (int(self.ids_high), int(self.ids_low)),
            (int(self.rows_high or 0), int(self.rows_low or 0)),
        )


class Bucket(_Sums, kw_only=True):
    """Rows of one stream, hour and chunk of ids."""

    venue: str
    symbol: str
    hour: int
    chunk: int
    offsets: str
    squares: str
    inside: int
    """How many are of the audited times; what follows is of those."""
    inside_first: int | None = None
    inside_last: int | None = None
    first_ns: int | None = None
    last_ns: int | None = None
    before: int | None = None
    """The last id before the audited times."""
    after: int | None = None

    @property
    def moments(self) -> Moments:
        """Sums by which its ids are told."""
        return Moments(self.events, int(self.offsets), int(self.squares))


class _Minute(_Sums):
    minute: int


class _Hole(msgspec.Struct):
    first: int
    last: int


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

    @property
    def position(self) -> Position | None:
        if self.log_id is None or self.seq is None:
            return None
        return Position(self.log_id, self.seq)


class _Snapshot(msgspec.Struct):
    cursor: _Cursor
    buckets: list[Bucket] | None
    gaps: list[dict[str, Any]] | None
    coverage: list[_Covered] | None
    letters: int
    conflicts: int
    ambiguous: int


class _Look(msgspec.Struct):
    cursor: _Cursor
    coverage: list[_Covered] | None
    buckets: list[Bucket] | None
    first: int | None
    last: int | None
    holes: list[_Hole] | None
    doubled: int
    twice: list[int] | None


class Moments(NamedTuple):
    """How many ids of a chunk there are, the sum of their offsets in it, and of the squares.

    A set of ids is taken for the one that coverage has if all three agree, which takes no
    list of ids. Sets that differ and agree in all three exist; where the digests of journal
    and store are equal as well, the ids are proved by those.
    """

    ids: int = 0
    offsets: int = 0
    squares: int = 0

    def plus(self, other: Moments) -> Moments:
        """Answer the moments of both together."""
        return Moments(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


def moments_of(ids: IntervalSet, chunk: int) -> Moments:
    """Answer the moments of ids that all lie in ``chunk``."""
    total = Moments()
    for first, last in ids:
        low, high = first - chunk * sql.CHUNK, last - chunk * sql.CHUNK
        count = high - low + 1
        squares = _squares(high) - _squares(low - 1)
        total = total.plus(Moments(count, (low + high) * count // 2, squares))
    return total


def _squares(last: int) -> int:
    """Sum of the squares from 0 to ``last``."""
    return last * (last + 1) * (2 * last + 1) // 6


@dataclass(slots=True)
class StreamAccount:
    """What a store holds of one stream."""

    ids: IntervalSet = field(default_factory=IntervalSet)
    """Native ids, whatever their time, but those of ``unsure`` chunks."""
    unsure: set[int] = field(default_factory=set)
    """Chunks whose ids are not those of coverage."""
    doubled: int = 0
    """Rows of the audited times beyond one for each id."""
    twice: list[int] = field(default_factory=list)
    """Some of the ids that have them."""
    window: tuple[int, int] = EVERY_ID
    """Ids that the audited times can contain, both included: everything between the last id
    before and the first id after, so that an hour of which all is lost is looked at."""
    buckets: list[Bucket] = field(default_factory=list)

    @property
    def events(self) -> int:
        """Different events of the audited times."""
        return sum(bucket.inside for bucket in self.buckets)

    def hours(self) -> dict[int, Digest]:
        """Digests by hour; of the hours that the audited times touch."""
        hours: dict[int, Digest] = {}
        for bucket in self.buckets:
            if bucket.rows_high is not None:
                hours[bucket.hour] = hours.get(bucket.hour, Digest()) + bucket.digest()
        return hours

    def chunk(self, chunk: int) -> Digest:
        """Digest of one chunk of ids, of the hours that the audited times touch."""
        parts = (each for each in self.buckets if each.chunk == chunk)
        return sum((each.digest() for each in parts if each.rows_high is not None), Digest())

    def chunks_of(self, hours: Iterable[int]) -> set[int]:
        """Chunks that have rows in any of ``hours``."""
        wanted = set(hours)
        return {bucket.chunk for bucket in self.buckets if bucket.hour in wanted}


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
    gaps: list[Gap]
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


def snapshot_from(table: pa.Table) -> Snapshot:
    """Read the answer of :func:`forebay.services.audit.sql.snapshot`."""
    said = msgspec.convert(table.to_pylist()[0], _Snapshot)
    claims = _claims(said.coverage or [])
    return Snapshot(
        cursor=said.cursor.position,
        accounts=_accounts(said.buckets or [], claims),
        gaps=sorted(Gap(**gap) for gap in said.gaps or []),
        claims=claims,
        letters=said.letters,
        conflicts=said.conflicts,
        ambiguous=said.ambiguous,
    )


def looked(table: pa.Table, key: StreamKey, snapshot: Snapshot, chunks: Iterable[int]) -> int:
    """Put the answer of :func:`forebay.services.audit.sql.look` into a snapshot.

    Ids that were covered since then are left out. Answers the cursor of the look.
    """
    said = msgspec.convert(table.to_pylist()[0], _Look)
    account, seen = snapshot.accounts[key], set(chunks)
    ids = IntervalSet()
    if said.first is not None and said.last is not None:
        ids.add(said.first, said.last)
        ids -= IntervalSet((hole.first, hole.last) for hole in said.holes or [])
    now = _claims(said.coverage or []).get(key, Claim()).covered
    then = snapshot.claims.get(key, Claim()).covered
    for chunk in seen:
        account.ids -= IntervalSet([_ends(chunk)])
    account.ids |= ids - (now - then)
    account.doubled += said.doubled
    account.twice = sorted([*account.twice, *(said.twice or [])])
    account.buckets = [each for each in account.buckets if each.chunk not in seen]
    account.buckets += said.buckets or []
    return said.cursor.seq or 1


def minutes_from(row: object) -> dict[int, Digest]:
    """Read the ``minutes`` of :func:`forebay.services.audit.sql.minutes`."""
    found = msgspec.convert(row or [], list[_Minute])
    return {each.minute: each.digest() for each in found}


def _ends(chunk: int) -> tuple[int, int]:
    return chunk * sql.CHUNK, (chunk + 1) * sql.CHUNK - 1


def _accounts(buckets: list[Bucket], claims: dict[StreamKey, Claim]) -> Accounts:
    accounts: Accounts = {}
    for bucket in buckets:
        key = StreamKey(bucket.venue, "trade", bucket.symbol)
        accounts.setdefault(key, StreamAccount()).buckets.append(bucket)
    for key, account in accounts.items():
        account.window = _window(account.buckets)
        covered = claims.get(key, Claim()).covered
        moments: dict[int, Moments] = {}
        for bucket in account.buckets:
            moments[bucket.chunk] = moments.get(bucket.chunk, Moments()).plus(bucket.moments)
        for chunk in sorted(moments):
            owed = covered.within(*_ends(chunk))
            if moments_of(owed, chunk) == moments[chunk]:
                for interval in owed:
                    account.ids.add(*interval)
            else:
                account.unsure.add(chunk)
    return accounts


def _window(buckets: list[Bucket]) -> tuple[int, int]:
    befores = [bucket.before for bucket in buckets if bucket.before is not None]
    afters = [bucket.after for bucket in buckets if bucket.after is not None]
    low = max(befores) + 1 if befores else EVERY_ID[0]
    high = min(afters) - 1 if afters else EVERY_ID[1]
    # Ids that are not in the order of their times must not narrow the window.
    lows = [bucket.inside_first for bucket in buckets if bucket.inside_first is not None]
    highs = [bucket.inside_last for bucket in buckets if bucket.inside_last is not None]
    return min([low, *lows]), max([high, *highs])


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
