"""What travels over a transport: parts of a journal that were told together, typed and as bytes.

A publisher tells a journal in *steps*, each from one sequence number up to another. A step is some
messages and a :class:`Mark` behind them, all numbered: whoever has the mark and every part before
it has all that the frames of the step amount to, in the order in which it has to be taken. Each
message says where in the journal its frames are.

As bytes a message is ``version (1) | length of the head (4, big endian) | head, JSON | rows``,
where rows are an Arrow stream, or nothing. A transport that spells events otherwise has them as
they are in :attr:`Message.rows`.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import msgspec
import pyarrow as pa

from forebay.domain import schema
from forebay.domain.channels import Channel
from forebay.domain.frames import Context, Control
from forebay.domain.kinds import KINDS
from forebay.errors import Corrupt

VERSION = 1
_FIXED = struct.Struct(">BI")


class Step(msgspec.Struct, frozen=True):
    """Everything of a log from ``begin`` up to ``end``, which is not included."""

    log_id: str
    begin: int
    end: int


class FrameOrigin(msgspec.Struct, frozen=True):
    """Whence frames are, and what their venue declares: so coverage is kept without its code."""

    context: Context
    channels: dict[str, Channel]


class EventsTold(msgspec.Struct, frozen=True, tag="events"):
    """Events of one context, kind and market: the rows of the message, in arrival order."""

    origin: FrameOrigin
    kind: str
    own_sequence: bool
    """Whether coverage counts other numbers than those in the events' ids."""


class ControlTold(msgspec.Struct, frozen=True, tag="control"):
    """A record of a collector about itself."""

    origin: FrameOrigin
    control: Control
    received_ns: int
    seq: int


class HighWater(NamedTuple):
    """The least and the greatest number that a venue said is the latest of a stream."""

    market: str
    channel: str
    symbol: str
    least: int
    greatest: int


class KnownTold(msgspec.Struct, frozen=True, tag="known"):
    """What a venue said exists, in frames ``first`` to ``last`` of one context."""

    origin: FrameOrigin
    first: int
    last: int
    streams: list[HighWater]


class LettersTold(msgspec.Struct, frozen=True, tag="letters", omit_defaults=True):
    """Dead letters: the rows of the message."""

    topic: str = ""
    """Where they would be had they become events; empty if they were told by an older Forebay."""
    run: str = ""
    """The run of the frames that they are of, see :class:`~forebay.domain.frames.Context`."""


class Mark(msgspec.Struct, frozen=True, tag="mark"):
    """The step is told; it had ``parts`` messages before this one."""

    parts: int
    frames: dict[str, int]
    """Its frames by outcome: ``yielding``, ``control``, ``dead``."""
    unbuilt: dict[str, int]
    """Frames of message types that are known but not built yet."""


Told = EventsTold | ControlTold | KnownTold | LettersTold | Mark


class Head(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a message is."""

    step: Step
    part: int
    """Its place in the step, from 0 on."""
    told: Told
    repair: bool = False
    """Whether the step has what a lane had lost, behind newer ones."""


class Message(NamedTuple):
    """One message; ``rows`` in one chunk, where it tells some."""

    head: Head
    rows: pa.Table | None = None


_UNREADABLE = (pa.ArrowException, ValueError, OSError)
"""What Arrow says of bytes that are no rows."""
_heads = msgspec.json.Decoder(Head)


def encode_message(message: Message) -> bytes:
    """Return the bytes of a message."""
    head = msgspec.json.encode(message.head)
    parts: list[bytes | pa.Buffer] = [_FIXED.pack(VERSION, len(head)), head]
    if message.rows is not None:
        stream = pa.BufferOutputStream()
        with pa.ipc.new_stream(stream, message.rows.schema) as writer:
            writer.write_table(message.rows)
        parts.append(stream.getvalue())
    return b"".join(parts)


def decode_message(raw: bytes) -> Message:
    """Read what :func:`encode_message` wrote; raises :class:`~forebay.errors.Corrupt`."""
    try:
        version, length = _FIXED.unpack_from(raw)
        if version != VERSION:
            message = f"A message of version {version} came over the transport."
            raise Corrupt(message, hint="Run the same Forebay on both sides.")
        body = memoryview(raw)[_FIXED.size + length :]
        head = _heads.decode(memoryview(raw)[_FIXED.size : _FIXED.size + length])
        return Message(head, _rows(head.told, body))
    except (msgspec.DecodeError, struct.error, KeyError, *_UNREADABLE) as error:
        raise Corrupt(f"A message that cannot be read came over the transport: {error}.") from error


def _rows(told: Told, body: memoryview) -> pa.Table | None:
    if isinstance(told, EventsTold):
        expected = KINDS[told.kind].schema
    elif isinstance(told, LettersTold):
        expected = schema.DEAD_LETTERS
    else:
        return None
    with pa.ipc.open_stream(pa.py_buffer(body)) as stream:
        rows = stream.read_all()
    if rows.schema != expected or not len(rows):
        message = "its rows are not those of its table"
        raise ValueError(message)
    return rows if rows.column(0).num_chunks == 1 else rows.unify_dictionaries().combine_chunks()
