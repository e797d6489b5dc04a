"""Recorded frames: files that were captured elsewhere, read as if they arrived again.

Three forms, each also gzipped (``.gz``):

``.rec``
    One record a line: ``URL <-> time`` opens a connection, ``URL <- time: json`` was sent
    by the client, ``time: json`` was received, ``URL -> time: body`` is a REST answer and
    ``configuration: …`` is about the recorder. Times are Unix seconds as decimals.
NDJSON
    One frame a line, either bare or as ``{"recv_ms": …, "event": …}``. Bare frames carry no
    receipt time: they are received when they are read.
journal export
    What ``forebay journal export`` writes: every frame with its context.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
import zlib
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import IO, TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from forebay.domain.frames import LOSS_KIND, Context, FrameKind
from forebay.errors import ConfigError, Corrupt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from forebay.clock import Clock

_REST = re.compile(rb"(\S+) -> ([0-9.]+): (.*)", re.DOTALL)
_OPENED = re.compile(rb"(\S+) <-> ([0-9.]+)\s*")
_SENT = re.compile(rb"\S+ <- [0-9.]+: ")
_RECEIVED = re.compile(rb"([0-9]+(?:\.[0-9]+)?): (.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Recorded:
    """One frame of a recording."""

    context: Context
    kind: FrameKind
    received_ns: int
    payload: bytes


class ExportedFrame(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of a journal export; ``payload`` or, if it is no UTF-8, ``payload_base64``."""

    log_id: str
    seq: int
    kind: int
    received_ns: int
    context: msgspec.Raw
    """A :class:`~forebay.domain.frames.Context`, of whatever layout."""
    payload: str | None = None
    payload_base64: str | None = None

    def raw(self) -> bytes:
        """Answer the frame's bytes."""
        if self.payload_base64 is not None:
            return base64.b64decode(self.payload_base64, validate=True)
        return (self.payload or "").encode()


class _Timed(msgspec.Struct):
    recv_ms: int
    event: msgspec.Raw


def nanoseconds(seconds: bytes) -> int:
    """Answer a decimal number of seconds as nanoseconds, exactly."""
    try:
        return int(Decimal(seconds.decode()).scaleb(9))
    except InvalidOperation as error:
        message = f"{seconds!r} is not a time in seconds."
        raise ConfigError(message, hint="Is this a .rec file?") from error


def read_recording(
    path: Path,
    venue: str,
    *,
    clock: Clock,
    partial: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> Iterator[Recorded]:
    """Answer the frames of ``path`` in order; ``progress`` is told the bytes of the file read.

    ``partial`` says that the recording was filtered, so that holes in it are no gaps. Raises
    :class:`~forebay.errors.ConfigError` if the file cannot be read.
    """
    try:
        identity = _identity(path)
        with path.open("rb") as file:
            lines = gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file
            context = Context(
                venue=venue,
                source="file",
                purpose="recording",
                collector="replay",
                epoch=identity,
                partial=partial,
            )
            name = path.name.removesuffix(".gz")
            records = (
                _rec(lines, context) if name.endswith(".rec") else _ndjson(lines, context, clock)
            )
            for record in records:
                yield record
                progress(file.tell())
    except (OSError, EOFError, zlib.error) as error:
        message = f"The recording {path} cannot be read: {error}."
        raise ConfigError(message, hint="Give the path of a .rec or NDJSON file.") from error


def _identity(path: Path) -> str:
    """Answer a name that follows from the content alone: a replay repeated is the same epoch."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return f"file-{digest.hexdigest()[:24]}"


def _rec(lines: IO[bytes] | gzip.GzipFile, context: Context) -> Iterator[Recorded]:
    connections, last_ns = 0, 0
    current = context
    for line in lines:
        text = line.rstrip(b"\r\n")
        if received := _RECEIVED.fullmatch(text):
            last_ns = max(last_ns, nanoseconds(received[1]))
            yield Recorded(current, FrameKind.TEXT, nanoseconds(received[1]), received[2])
        elif rest := _REST.fullmatch(text):
            yield _rest(context, rest[1].decode(), nanoseconds(rest[2]), rest[3])
        elif opened := _OPENED.fullmatch(text):
            connections += 1
            epoch, now_ns = f"{context.epoch}-{connections}", nanoseconds(opened[2])
            outage = (last_ns + 1, now_ns - 1) if 0 < last_ns < now_ns - 1 else None
            current = msgspec.structs.replace(
                context, epoch=epoch, url=opened[1].decode(), outage=outage
            )
        elif text and not _SENT.match(text) and not text.startswith(b"configuration: "):
            # Not a record: kept, so that it ends as a dead letter and not as silence.
            yield Recorded(current, FrameKind.TEXT, 0, text)


def _rest(context: Context, url: str, received_ns: int, body: bytes) -> Recorded:
    parts = urlsplit(url)
    request = f"GET {parts.path}" + (f"?{parts.query}" if parts.query else "")
    asked = msgspec.structs.replace(
        context, source="rest", purpose="history", url=url, request=request
    )
    return Recorded(asked, FrameKind.REST, received_ns, body)


def _ndjson(lines: IO[bytes] | gzip.GzipFile, context: Context, clock: Clock) -> Iterator[Recorded]:
    exported = msgspec.json.Decoder(ExportedFrame)
    timed = msgspec.json.Decoder(_Timed)
    for number, line in enumerate(lines, 1):
        text = line.rstrip(b"\r\n")
        if not text:
            continue
        try:
            frame = exported.decode(text)
            told = Context.decode(bytes(frame.context))
        except (msgspec.DecodeError, Corrupt):
            pass
        else:
            if frame.kind != LOSS_KIND:  # it tells of frames and is none
                yield _exported(frame, told, number, partial=context.partial)
            continue
        try:
            stamped = timed.decode(text)
        except msgspec.DecodeError:
            yield Recorded(context, FrameKind.TEXT, clock.wall_ns(), text)
        else:
            received_ns = stamped.recv_ms * 1_000_000
            yield Recorded(context, FrameKind.TEXT, received_ns, bytes(stamped.event))


def _exported(frame: ExportedFrame, context: Context, number: int, *, partial: bool) -> Recorded:
    """Answer the frame of line ``number`` of a journal export."""
    try:
        kind, payload = FrameKind(frame.kind), frame.raw()
    except ValueError as error:
        message = f"Line {number} of the recording is no frame of a journal export: {error}."
        raise ConfigError(message, hint="Export the journal again.") from error
    if partial:
        context = msgspec.structs.replace(context, partial=True)
    return Recorded(context, kind, frame.received_ns, payload)
