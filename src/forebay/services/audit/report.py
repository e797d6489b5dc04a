"""What an audit says: the shape of its JSON, which scripts hold on to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec

from forebay.domain.coverage import Gap, StreamKey

Basis = Literal["id", "seq", "checksum", "time", "none"]
Source = Literal["ledger", "frames"]
MAX_EXAMPLES = 20
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND_NS = 1_000_000_000


class Stage(msgspec.Struct, frozen=True):
    """Digest of a stream at one stage, see :mod:`forebay.domain.digest`."""

    count: int = 0
    ids: str = "0" * 32
    rows: str = "0" * 32


class StreamReport(msgspec.Struct, frozen=True, kw_only=True):
    """One stream; ``missing`` is None where its unit cannot tell and nothing was found."""

    venue: str
    market: str = "spot"
    channel: str
    symbol: str
    events: int
    verified_from: str | None
    """ISO 8601, UTC, nanoseconds: the first event of what was found to be complete."""
    verified_to: str | None
    basis: Basis
    """What its coverage counts; ``none`` also where the journal has none of its events."""
    stages: dict[str, Stage]
    unseeable: str = ""
    """What no audit of this stream can see, as clauses."""
    verified_by: list[Source] = []
    """Where what it was compared with is from: frames that were projected anew, the ledger."""
    missing: int | None = None
    doubled: int = 0
    mutated: int = 0
    spurious: int = 0

    @property
    def name(self) -> str:
        """The stream as one word."""
        return StreamKey(self.venue, self.market, self.channel, self.symbol).name


class Problem(msgspec.Struct, frozen=True):
    """Something that makes an audit red."""

    kind: str
    stream: str
    """The stream as one word, or empty if it concerns the whole folder."""
    count: int
    examples: list[str]
    """Numbers of events where the stream has some, otherwise event ids; or times of gaps. At most
    :data:`MAX_EXAMPLES`."""
    text: str


class AuditReport(msgspec.Struct, frozen=True, kw_only=True):
    """The whole; ``ok`` exactly if ``problems`` is empty."""

    ok: bool
    missing: int
    doubled: int
    mutated: int
    spurious: int
    ambiguous: int
    dead_letters: int
    conflicts: int
    gaps: list[Gap]
    streams: list[StreamReport]
    problems: list[Problem]
    notes: list[str]
    """What the audit could not say, one sentence each."""
    position: str | None
    """``log id:sequence`` up to which the store has consumed the journal."""
    since: str | None
    until: str | None
    frames: dict[str, int]
    """Frames of the journal up to ``position`` by outcome."""
    took_ms: int
    undelivered: int = 0
    """Captured frames, the collector's own records included, beyond ``position``."""
    verified_by: list[Source] = []

    def encode(self) -> bytes:
        """Return the report as one JSON document."""
        return msgspec.json.encode(self)


def iso(ns: int) -> str:
    """Return UTC nanoseconds as ISO 8601 with nine decimals."""
    seconds, rest = divmod(ns, _SECOND_NS)
    return f"{_EPOCH + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"
