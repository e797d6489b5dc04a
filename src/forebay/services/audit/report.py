"""What an audit says: the shape of its JSON, which scripts hold on to."""

from __future__ import annotations

from typing import Literal

import msgspec

from forebay.domain.coverage import Gap

Basis = Literal["id", "seq", "checksum", "time", "none"]
Source = Literal["ledger", "frames"]
MAX_EXAMPLES = 20


class Stage(msgspec.Struct, frozen=True):
    """Digest of a stream at one stage, see :mod:`forebay.domain.digest`."""

    count: int = 0
    ids: str = "0" * 32
    rows: str = "0" * 32


class StreamReport(msgspec.Struct, frozen=True, kw_only=True):
    """One stream; ``missing`` is None where there was nothing to compare with."""

    venue: str
    channel: str
    symbol: str
    events: int
    verified_from: str | None
    """ISO 8601, UTC, nanoseconds: the first event of what was found to be complete."""
    verified_to: str | None
    basis: Basis
    stages: dict[str, Stage]
    verified_by: list[Source] = []
    """Where what it was compared with is from: frames that were projected anew, the ledger."""
    missing: int | None = None
    doubled: int = 0
    mutated: int = 0
    spurious: int = 0

    @property
    def name(self) -> str:
        """The stream as one word."""
        return f"{self.venue}/{self.channel}/{self.symbol}"


class Problem(msgspec.Struct, frozen=True):
    """Something that makes an audit red."""

    kind: str
    stream: str
    """``venue/channel/symbol``, or empty if it concerns the whole folder."""
    count: int
    examples: list[str]
    """Trade ids, at most :data:`MAX_EXAMPLES`."""
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
        """The report as one JSON document."""
        return msgspec.json.encode(self)
