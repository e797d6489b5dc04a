"""What goes into a journal and what comes out; opaque bytes, no market in sight."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from forebay.payloads import Payloads

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:
    from forebay.lazy import numpy as np

LOSS_KIND = 255
"""Kind of the journal's own record that a range of sequence numbers is unreadable."""

NO_LOG = "0" * 32
"""Log id of a position before anything was read."""


def new_id() -> str:
    """Return 32 random hexadecimal digits, which nothing else has for its id or its name."""
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a log: the next sequence number wanted. Sequence numbers start at 1."""

    log_id: str
    """32 hexadecimal digits."""
    seq: int


@dataclass(slots=True)
class PendingBlock:
    """Frames not yet written: one context, one kind."""

    kind: int
    """1 to 254; 255 is the journal's own."""
    context: bytes
    payloads: list[bytes]
    mono_ns: list[int]
    """Receipt of each payload on the monotonic clock, nanoseconds."""
    anchor: tuple[int, int] | None = None
    """``(wall_ns, mono_ns)`` of one moment, which turns monotonic times into wall times.

    None: the writer samples its clock when it commits. A replay gives ``(0, 0)`` and wall
    times as ``mono_ns``.
    """


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive frames of one context and kind, or one declared loss."""

    log_id: str
    first_seq: int
    kind: int
    context: bytes
    """Empty if ``kind`` is :data:`LOSS_KIND`."""
    received_ns: npt.NDArray[np.int64]
    """Receipt of each frame: wall clock, UTC nanoseconds; 0 for a loss found while reading."""
    payloads: Payloads
    """They and the :meth:`part` of a block share a buffer with the blocks beside them in the file,
    of some MB, or with all of a pack, of at most 64 MiB; it lives as long as one of them does."""
    unreadable: int = 0
    """Sequence numbers that follow the payloads and that nothing can be said about."""

    @property
    def next_seq(self) -> int:
        """The sequence number after this block."""
        return self.first_seq + len(self.payloads) + self.unreadable

    def part(self, start: int, stop: int) -> Block:
        """Return the frames ``start`` to ``stop`` (not included), counted from 0."""
        if start == 0 and stop >= len(self.payloads):
            return self
        return Block(
            self.log_id,
            self.first_seq + start,
            self.kind,
            self.context,
            self.received_ns[start:stop],
            self.payloads[start:stop],
        )


def encode_loss(first: int, last: int) -> bytes:
    """Return the JSON bytes of a loss of ``first`` to ``last``, both included."""
    return json.dumps(
        {"type": "loss", "first": first, "last": last}, separators=(",", ":")
    ).encode()


def loss_block(log_id: str, first: int, next_seq: int) -> Block:
    """Return the block a reader gives instead of ``first`` to ``next_seq - 1``."""
    received = np.zeros(1, dtype=np.int64)
    payloads = Payloads.of([encode_loss(first, next_seq - 1)])
    return Block(log_id, first, LOSS_KIND, b"", received, payloads, next_seq - first - 1)
