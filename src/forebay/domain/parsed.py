"""What a parser makes of frames: columns as the venue wrote them, and what could not be read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from forebay.domain.intervals import FAR, IntervalSet

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from forebay.domain.channels import Channel

    Texts: TypeAlias = Sequence[str] | pa.Array
    Numbers: TypeAlias = Sequence[int] | npt.NDArray[np.int64]
    Cells: TypeAlias = (
        Sequence[str | None]
        | Sequence[int | None]
        | Sequence[Sequence[str | None] | None]
        | npt.NDArray[np.int64]
        | pa.Array
    )

Reason = Literal[
    "binary",
    "compressed",
    "not_json",
    "unknown_type",
    "missing_field",
    "wrong_type",
    "unknown_symbol",
    "bad_id",
    "bad_price",
    "bad_size",
    "bad_side",
    "bad_time",
    "bad_value",
    "implausible_time",
    "unknown_control",
    "unknown_venue",
]
"""Why something is a dead letter."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Something of a frame that can never become an event."""

    frame: int
    """Index of the frame in its batch."""
    item: int
    """Index of the event in its frame."""
    reason: Reason
    error: str


class UnreadLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a recording that could not be read: what a frame of kind UNREAD holds."""

    file: str
    """Name of the recording."""
    line: int
    """From 1."""
    item: int
    """How many such lines there were before it since the recording told a time."""
    reason: Reason
    error: str

    def encode(self, raw: bytes) -> bytes:
        """Return the payload of its frame; ``raw`` is the line."""
        return msgspec.json.encode(self) + b"\n" + raw

    @classmethod
    def letter(cls, frame: int, payload: bytes) -> tuple[DeadLetter, bytes]:
        """Read what :meth:`encode` wrote; return the dead letter and the line."""
        head, _, raw = payload.partition(b"\n")
        try:
            unread = msgspec.json.decode(head, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return DeadLetter(frame, 0, "not_json", str(error)), payload
        error_text = f"line {unread.line} of {unread.file}: {unread.error}"
        return DeadLetter(frame, unread.item, unread.reason, error_text), raw


@dataclass(frozen=True, slots=True)
class Moments:
    """Times as the venue counts them: whole units since the Unix epoch, UTC."""

    values: Cells
    unit_ns: int


@dataclass(slots=True, kw_only=True)
class RawEvents:
    """Events of one channel and market in arrival order, a column each; texts are not checked.

    All columns have the same length. A parser that reads frame by frame gives lists; one that
    reads many at once gives arrays: numpy for numbers, Arrow for texts. What a venue left out of
    a message is None in a list and null in an array; only times and the kind's own columns may
    lack something.
    """

    channel: Channel
    market: str = "spot"
    frame: Numbers
    item: Numbers
    """Which event of its frame."""
    venue_symbol: Texts
    symbol: Texts
    native: Numbers | Texts | None = None
    """The venue's ids: of class ``native`` integers or texts that mean the same on every path,
    of class ``session`` the numbers of its connection. None in the other classes."""
    sequence: Numbers | None = None
    """What coverage of the unit ``seq`` counts; None: :attr:`native` is that."""
    time: Cells | Moments | None
    """RFC 3339 texts with a zone, or numbers; None where the venue gives no time."""
    columns: Mapping[str, Cells | Moments]
    """The kind's own columns by name."""

    def __len__(self) -> int:
        return len(self.frame)


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedMessages:
    """Messages that a venue numbers one by one, over all streams of a connection's subscription.

    One stream sees few of the numbers, so only the connection can tell that one is missing. A frame
    that could not be read is left out: what it told is missing as if it had not come.
    """

    line: str
    """The subscription, unique within the connection; what each line numbers is its own."""
    kinds: tuple[str, ...]
    """Kinds of event that it carries; those that are said to over time are added up."""
    frames: Numbers
    """Index in the batch of each frame with a number, rising; none where only the kinds are said,
    as by the answer to a subscription."""
    numbers: Numbers
    """Its number."""


StreamName: TypeAlias = tuple[str, str, str]
"""Market, channel and symbol: a stream of the venue that a parser is of."""


@dataclass(slots=True)
class Parsed:
    """The account of a batch: every frame yields events, is control, or is dead."""

    events: list[RawEvents] = field(default_factory=list)
    """Those of one channel, market and shape together; none of them empty."""
    control: int = 0
    """Frames that carry no event by design, those of unbuilt channels included."""
    unbuilt: Counter[str] = field(default_factory=Counter)
    """Frames of message types that are known but whose channels are not built yet."""
    dead: list[DeadLetter] = field(default_factory=list)
    known: dict[StreamName, IntervalSet] = field(default_factory=dict)
    """Ids that the venue said are the latest of a stream (heartbeats), those not far apart joined.
    """
    counted: list[CountedMessages] = field(default_factory=list)
    """Numbers of the connection, those of one line together."""

    def know(self, stream: StreamName, last: int) -> None:
        """Note that ``last`` is said to be the latest id of ``stream``."""
        self.known.setdefault(stream, IntervalSet()).add(last, reach=FAR - 1)
