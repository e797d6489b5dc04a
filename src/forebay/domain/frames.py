"""Frames: bytes as an exchange sent them, plus where and when they were received."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from forebay.errors import Corrupt

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

LOSS_KIND = 255
"""Kind of the journal's own record that a range of sequence numbers is unreadable."""


class FrameKind(enum.IntEnum):
    """What a captured payload is; stored as one byte in the journal."""

    TEXT = 1
    """A whole websocket text message, or one line of a recording."""
    BINARY = 2
    """A whole websocket binary message."""
    COMPRESSED = 3
    """A websocket message with RSV1 set although no compression was negotiated."""
    REST = 4
    """The body of one REST answer; the context's ``request`` says to what."""
    CONTROL = 5
    """A :data:`Control` record of the collector itself."""
    UNREAD = 6
    """A line of a recording that could not be read, behind its place and the reason; see
    :class:`~forebay.domain.parsed.UnreadLine`."""
    LOSS = LOSS_KIND


Purpose = Literal["live", "history", "recording"]
"""Why frames were asked for: to follow the market, to fill what is missing, or to replay."""
_PURPOSE_OF_LAYOUT_1: dict[str, Purpose] = {"ws": "live", "rest": "history", "file": "recording"}


EVERY_SYMBOL = "*"
"""In the place of a symbol: all of a venue's market, or of a connection, together."""
LETTERS = "letters/"
"""How the :attr:`Context.run` of frames begins that are repeated for their dead letters."""


class Context(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where frames come from; one JSON document at the head of every journal block."""

    venue: str
    source: Literal["ws", "rest", "file"]
    """By which way they came; says nothing of why: a poller by REST is live."""
    purpose: Purpose
    collector: str
    epoch: str
    """One connection of one collector; unique, and the same for every frame of it."""
    url: str = ""
    symbols: tuple[str, ...] = ()
    """Symbols asked for, in Forebay's spelling; empty means any."""
    market: str = "spot"
    """Of :attr:`symbols`: what was asked for, in the market type that event ids know."""
    channels: tuple[str, ...] = ()
    """Channels asked for, in Forebay's words; empty means any, and none is promised."""
    request: str = ""
    """For REST: method, path and query."""
    partial: bool = False
    """The recording was filtered, so holes in its sequence are no gaps."""
    outage: tuple[int, int] | None = None
    """Of a recorded connection that followed another: from when to when nothing was connected, UTC
    nanoseconds."""
    run: str = ""
    """Which replay of a recording this is: a replay repeated tells its epochs once more, so
    equal events of two runs are counted apart. Empty for what was captured."""
    first: tuple[str, int] | None = None
    """Of a frame that is repeated because of its dead letters: where it was told first, log id
    and sequence number, which ids of observations hold."""

    def encode(self) -> bytes:
        """JSON bytes, as the journal keeps them."""
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, raw: bytes) -> Context:
        """Read what :meth:`encode` wrote; raises :class:`~forebay.errors.Corrupt`.

        Contexts of layout 1 do not say their purpose; there, it followed from the source.
        """
        try:
            if b'"purpose"' in raw:
                return msgspec.json.decode(raw, type=cls)
            fields = msgspec.json.decode(raw, type=dict[str, Any])
            fields.setdefault("purpose", _PURPOSE_OF_LAYOUT_1.get(str(fields.get("source"))))
            return msgspec.convert(fields, cls, strict=False)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            message = f"A journal block's context is unreadable: {error}."
            raise Corrupt(message, hint="Run `forebay journal fsck`.") from error


class EpochOpened(msgspec.Struct, frozen=True, tag="epoch_opened"):
    """The connection is up; nothing is subscribed yet."""


class EpochAccepted(msgspec.Struct, frozen=True, tag="epoch_accepted", omit_defaults=True):
    """The venue accepted the subscription, or part of it; several may follow one another."""

    streams: tuple[tuple[str, str], ...] = ()
    """Kinds of event with symbols; empty: all that was asked for."""


class StreamsAsked(msgspec.Struct, frozen=True, tag="streams_asked"):
    """What a collector asks a venue for from here on, instead of what it asked for before."""

    streams: tuple[tuple[str, str, str], ...]
    """Market, kind of event and symbol of each."""


class StreamsRefused(msgspec.Struct, frozen=True, tag="streams_refused"):
    """The venue does not give some streams; an acceptance that follows ends that."""

    streams: tuple[tuple[str, str], ...]
    """Kinds of event with symbols."""
    reason: str


class StreamsEnded(msgspec.Struct, frozen=True, tag="streams_ended"):
    """A connection that goes on does not carry some streams any more, since nobody wants them.

    What is owed of them ends by :class:`StreamsAsked` and the like, not by this.
    """

    streams: tuple[tuple[str, str], ...]
    """Kinds of event with symbols."""
    silent_ns: int | None = None
    """As of :class:`EpochClosed`."""


class EpochClosed(msgspec.Struct, frozen=True, tag="epoch_closed", omit_defaults=True):
    """The connection is over; absent from the journal if the collector was killed."""

    reason: str
    silent_ns: int | None = None
    """How long before this record its last frame was received; None if there was none, or
    nobody noted it."""
    late_ns: int = 0
    """By how much later than before its last frames came, where that is why it ended: what was sent
    in that time before its end has not come."""


class HistoryFinished(msgspec.Struct, frozen=True, tag="fill_finished"):
    """The venue's history was asked for the whole range ``first`` to ``last``, in ``unit``.

    ``lacking`` are the ids that it left out: it listed an older and a newer one, or ended. An id
    that is merely not there yet, or whose row could not be read, is not among them. Of times, it is
    what history says nothing of.
    """

    channel: str
    symbol: str
    first: int
    last: int
    absent: tuple[tuple[int, int], ...] = ()
    """Likewise, and to be believed at once: a record of before looks were counted."""
    unit: Literal["id", "time"] = "id"
    market: str = "spot"
    lacking: tuple[tuple[int, int], ...] = ()


class GapAccepted(msgspec.Struct, frozen=True, tag="gap_accepted"):
    """A person accepted that what is missing in a range stays missing."""

    channel: str
    symbol: str
    first: int
    last: int
    by: str
    reason: str
    unit: Literal["id", "seq", "time", "none"] = "id"
    epoch: str = ""
    """The connection that numbers of the unit ``seq`` are of, otherwise empty."""
    market: str = "spot"


class RangeChecked(msgspec.Struct, frozen=True, tag="range_checked"):
    """The store was compared with what a calendar lets expect, from ``first`` to ``last``."""

    channel: str
    """With the series, such as ``bar:1m``."""
    symbol: str
    first: int
    """UTC nanoseconds of the market, both ends included."""
    last: int
    missing: tuple[tuple[int, int], ...]
    """All that is expected in the range and not stored."""
    stored: tuple[tuple[int, int], ...] = ()
    """What was missing once and is stored now; what was and is in neither is expected no more."""
    market: str = "spot"


class StreamsOwed(msgspec.Struct, frozen=True, tag="streams_owed", omit_defaults=True):
    """From when to when streams are owed that count by time; of several records the last holds.

    Without it, a stream is owed from the first connection that was accepted for it on, and forever.
    """

    streams: tuple[tuple[str, str], ...]
    """Kinds of event with symbols; their venue and market are the context's."""
    since_ns: int | None = None
    """What happened from then on is owed, though nobody was connected yet; UTC nanoseconds."""
    until_ns: int | None = None
    """Nothing is owed after; UTC nanoseconds."""


class MissedNumbers(NamedTuple):
    """Numbers of a connection's line that did not come, both ends included."""

    first: int
    last: int
    since_ns: int
    """Receipt of what came before, UTC nanoseconds."""
    until_ns: int
    """Receipt of what came behind, not before that."""


class NumbersMissed(msgspec.Struct, frozen=True, tag="numbers_missed", omit_defaults=True):
    """What is missing of the numbers of a connection's line has changed.

    No collector says so: it follows from the frames, and is told to those who have some of them.
    """

    line: str
    """As :func:`~forebay.domain.lines.name_of_line` calls it."""
    kinds: tuple[str, ...]
    """Kinds of event that the line carries, for all symbols of the context."""
    missed: tuple[MissedNumbers, ...] = ()
    over: tuple[MissedNumbers, ...] = ()
    """Holes that are none any more, or not these."""


class LettersSettled(msgspec.Struct, frozen=True, tag="letters_settled", omit_defaults=True):
    """What became of dead letters: their frames were repeated, or a person gave them up."""

    letters: tuple[str, ...]
    """Their ids."""
    state: Literal["replayed", "discarded"]
    by: str
    reason: str = ""
    run: str = ""
    """Of ``replayed``: the :attr:`Context.run` of the frames that were repeated. A letter that
    comes of them once more is as open as before."""


class Loss(msgspec.Struct, frozen=True, tag="loss"):
    """Journal sequence numbers ``first`` to ``last`` cannot be read any more."""

    first: int
    last: int


Control = (
    EpochOpened
    | EpochAccepted
    | StreamsEnded
    | EpochClosed
    | HistoryFinished
    | GapAccepted
    | RangeChecked
    | Loss
    | NumbersMissed
    | StreamsAsked
    | StreamsOwed
    | StreamsRefused
    | LettersSettled
)
"""What a CONTROL or LOSS frame says."""

_control_decoder = msgspec.json.Decoder(Control)


def encode_control(control: Control) -> bytes:
    """JSON bytes of a control record."""
    return msgspec.json.encode(control)


def decode_control(raw: bytes) -> Control:
    """Read what :func:`encode_control` wrote; raises ``msgspec.DecodeError`` if it cannot be."""
    try:
        control: Control = _control_decoder.decode(raw)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error
    return control


@dataclass(frozen=True, slots=True)
class FrameBatch:
    """Consecutive frames of one context and kind."""

    context: Context
    kind: FrameKind
    payloads: Sequence[bytes]
    received_ns: npt.NDArray[np.int64]
    """Receipt time of each frame: wall clock, UTC nanoseconds."""
    log_id: str
    seqs: npt.NDArray[np.int64]
    """Journal sequence number of each frame."""

    def __len__(self) -> int:
        return len(self.payloads)
