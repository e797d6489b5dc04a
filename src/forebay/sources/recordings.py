"""Recorded frames: files that were captured elsewhere, read as if they arrived again.

A line says by its shape what it is, so forms may be mixed and files may have any name:

``.rec``
    ``URL <-> time`` opens a connection, ``URL <- time: json`` was sent by the client,
    ``time: json`` was received, ``URL -> time: body`` is a REST answer and
    ``configuration: …`` is about the recorder. Times are Unix seconds as decimals.
``<ns> <json>``
    A frame behind its receipt time in Unix nanoseconds.
NDJSON
    One frame a line, either bare or as ``{"recv_ms": …, "event": …}``. Bare frames carry no
    receipt time: they count as received when the file was written last.
journal export
    What ``forebay journal export`` writes: every frame with its context.

Each also gzipped. A line that cannot be read becomes a frame of the kind ``UNREAD``, and by that a
dead letter with its place and a reason.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from forebay.domain.events import EARLIEST_NS
from forebay.domain.frames import LOSS_KIND, Context, FrameKind
from forebay.domain.parsed import Reason, UnreadLine
from forebay.errors import ConfigError, Corrupt
from forebay.sources.parsing import UNDECODABLE
from forebay.sources.recording_lines import Lines, UnreadableLines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import BufferedReader
    from pathlib import Path

    from forebay.clock import Clock

LATEST_NS = 4_102_444_800_000_000_000
"""2100-01-01: a later receipt is a wrong unit."""
_UNITS = {"seconds": 10**9, "milliseconds": 10**6, "microseconds": 10**3, "nanoseconds": 1}
_LONGEST_NUMBER = 40
_NUMBER = rb"(-?[0-9][0-9.eE+-]{0,39})"
_RECEIVED = re.compile(_NUMBER + rb": (.*)", re.DOTALL)
_STAMPED = re.compile(_NUMBER + rb"[ \t]+([\[{].*)", re.DOTALL)
_REST = re.compile(rb"(\S+) -> " + _NUMBER + rb": (.*)", re.DOTALL)
_OPENED = re.compile(rb"(\S+) <-> " + _NUMBER + rb"\s*")
_SENT = re.compile(rb"\S+ <- [0-9.]+: ")
_LIKE_A_FRAME = re.compile(rb'\s*\{\s*"')
_OTHER_FILES = {
    b"\xff\xfe": "It is UTF-16: convert it to UTF-8.",
    b"\xfe\xff": "It is UTF-16: convert it to UTF-8.",
    b"\x28\xb5\x2f\xfd": "It is compressed by zstd: decompress it.",
    b"\xfd7zXZ": "It is compressed by xz: decompress it.",
    b"BZh": "It is compressed by bzip2: decompress it.",
    b"PK\x03\x04": "It is a ZIP archive: unpack it.",
}
"""How files begin that are often taken for recordings, and what to do with them."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One frame of a recording."""

    context: Context
    kind: FrameKind
    received_ns: int
    payload: bytes
    recognised: bool = True
    """Whether it looks like a frame; a line that is not read may."""


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
        """Return the frame's bytes."""
        if self.payload_base64 is not None:
            return base64.b64decode(self.payload_base64, validate=True)
        return (self.payload or "").encode()


class _Timed(msgspec.Struct):
    recv_ms: msgspec.Raw
    event: msgspec.Raw


_raw = msgspec.json.Decoder(msgspec.Raw).decode
_exported = msgspec.json.Decoder(ExportedFrame).decode
_timed = msgspec.json.Decoder(_Timed).decode


class _UnreadableError(Exception):
    """A line that is no frame, or not a whole one."""

    def __init__(self, reason: Reason, error: str, odd: bytes = b"") -> None:
        """``odd`` is a line that need not have been meant as a frame."""
        super().__init__(error)
        self.reason: Reason = reason
        self.recognised = not odd or bool(_LIKE_A_FRAME.match(odd))


def receipt_ns(number: bytes, unit: str) -> int:
    """Return a decimal number of ``unit`` as nanoseconds, exactly.

    Raises ``ValueError`` if it is no time at which a frame can have been received.
    """
    text = number[: _LONGEST_NUMBER + 1].decode(errors="replace")
    value = Decimal(0)
    try:
        value = Decimal(text)
        fitting = [name for name, ns in _UNITS.items() if EARLIEST_NS <= value * ns < LATEST_NS]
    except ArithmeticError:
        fitting = []
    if unit in fitting and len(number) <= _LONGEST_NUMBER:
        return int(value * _UNITS[unit])
    hint = "".join(f"; are these {name}?" for name in fitting)
    message = f"{text} is no receipt time in {unit} since 1970{hint}"
    raise ValueError(message)


def require_frames(path: Path) -> None:
    """Raise :class:`~forebay.errors.ConfigError` if nothing in ``path`` looks like a frame."""
    nowhere = Context(venue="", source="file", purpose="recording", collector="", epoch="")
    with _opened(path) as file:
        begin = file.read(8)
        file.seek(0)
        reader, lines = _Reader(path.name, nowhere, 0), Lines(file)
        for number, line in lines:
            frame = reader.read(number, line)
            if frame is not None and frame.recognised:
                return
    hints = [hint for magic, hint in _OTHER_FILES.items() if begin.startswith(magic)]
    why = "".join(f"; line {loss.line}: {loss.reason}" for loss in lines.losses[:1])
    message = f"The recording {path} {'holds no frame' if begin else 'is empty'}{why}."
    known = "Give a .rec file, lines of JSON, of `<ns> <json>`, or an export of a journal."
    raise ConfigError(message, hint=hints[0] if hints else known)


def read_recording(
    path: Path,
    venue: str,
    *,
    clock: Clock,
    partial: bool = False,
    restarts: Callable[[bytes], bool] = lambda _: False,
    progress: Callable[[int], object] = lambda _: None,
    lose: Callable[[UnreadableLines], object] = lambda _: None,
) -> Iterator[Recorded]:
    """Return the frames of ``path`` in order; ``progress`` is told the bytes of the file read.

    ``partial`` says that the recording was filtered, so that holes in it are no gaps. ``restarts``
    tells of each frame, where lines tell of no connections, whether one began with it. ``lose`` is
    told of what could not be read at all. Raises :class:`~forebay.errors.ConfigError` if ``path``
    is no file that can be read.
    """
    with _opened(path) as file:
        context = Context(
            venue=venue,
            source="file",
            purpose="recording",
            collector="replay",
            epoch=_identity(file),
            partial=partial,
        )
        written_ns, now_ns = os.fstat(file.fileno()).st_mtime_ns, clock.wall_ns()
        bare_ns = min(written_ns, now_ns) if written_ns >= EARLIEST_NS else now_ns
        reader = _Reader(path.name, context, bare_ns, restarts)
        lines = Lines(file)
        for number, line in lines:
            frame = reader.read(number, line)
            if frame is not None:
                yield frame
            progress(file.tell())
        for loss in lines.losses:
            lose(loss)


@contextmanager
def _opened(path: Path) -> Iterator[BufferedReader]:
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            what = "a folder" if stat.S_ISDIR(mode) else "no file that can be read twice"
            message = f"The recording {path} is {what}."
            raise ConfigError(message, hint="Give a file.")
        file = path.open("rb")
    except (OSError, ValueError) as error:  # the latter of a path that cannot be one
        message = f"The recording {path} cannot be read: {getattr(error, 'strerror', error)}."
        raise ConfigError(message, hint="Check the path.") from error
    with file:
        yield file


def _identity(file: BufferedReader) -> str:
    """Return a name that follows from the content alone: a replay repeated is the same epoch."""
    try:
        digest = hashlib.file_digest(file, "sha256")
        file.seek(0)
    except OSError as error:
        message = f"The recording {file.name} cannot be read: {error.strerror}."
        raise ConfigError(message, hint="Copy what can be read of it.") from error
    return f"file-{digest.hexdigest()[:24]}"


class _Reader:
    """Reads one line after the other."""

    def __init__(
        self,
        name: str,
        context: Context,
        bare_ns: int,
        restarts: Callable[[bytes], bool] = lambda _: False,
    ) -> None:
        self._name = name.encode(errors="backslashreplace").decode()
        self._file = self._connection = context
        self._bare_ns = bare_ns
        self._restarts = restarts
        self._tells = False
        """Whether lines tell of connections."""
        self._connections = 0
        self._last_ns = 0
        """The latest receipt that a line of a connection told."""
        self._unread = (0, 0)
        """The time that the file stated last, and the lines since then that could not be read."""

    def read(self, number: int, line: bytes) -> Recorded | None:
        """Return the frame of a line; None if it tells none by design."""
        try:
            frame = self._frame(line)
        except _UnreadableError as error:
            return self._dead(number, line, error)
        if frame is not None and frame.received_ns != self._bare_ns:
            self._unread = (frame.received_ns, 0)
        return frame

    def _dead(self, number: int, line: bytes, error: _UnreadableError) -> Recorded:
        """A dead letter is known by its time and number: the same whenever the file is read."""
        stated_ns, before = self._unread
        self._unread = (stated_ns, before + 1)
        place = UnreadLine(
            file=self._name, line=number, item=before, reason=error.reason, error=str(error)
        )
        payload = place.encode(line)
        return Recorded(self._connection, FrameKind.UNREAD, stated_ns, payload, error.recognised)

    def _frame(self, line: bytes) -> Recorded | None:
        if line.lstrip()[:1] in {b"{", b"["}:
            return self._json(line)
        if received := _RECEIVED.fullmatch(line):
            received_ns = _receipt(received[1], "seconds")
            self._last_ns = max(self._last_ns, received_ns)
            return self._text(received_ns, received[2])
        if stamped := _STAMPED.fullmatch(line):
            received_ns = _receipt(stamped[1], "nanoseconds")
            return self._text(received_ns, stamped[2])
        try:
            if rest := _REST.fullmatch(line):
                return self._rest(rest[1].decode(), _receipt(rest[2], "seconds"), rest[3])
            if opened := _OPENED.fullmatch(line):
                self._tells = True
                self._open(opened[1].decode(), _receipt(opened[2], "seconds"))
                return None
        except ValueError as error:
            raise _UnreadableError("wrong_type", f"its address cannot be read: {error}") from error
        if _SENT.match(line) or line.startswith(b"configuration: "):
            return None
        raise _UnreadableError("not_json", "it is no record of a recording", line)

    def _text(self, received_ns: int, payload: bytes) -> Recorded:
        try:
            payload.decode()
        except UnicodeDecodeError as error:
            raise _UnreadableError("not_json", f"it is no text: {error}") from error
        return Recorded(self._connection, FrameKind.TEXT, received_ns, payload)

    def _open(self, url: str, now_ns: int) -> None:
        self._connections += 1
        last_ns = self._last_ns
        self._connection = msgspec.structs.replace(
            self._file,
            epoch=f"{self._file.epoch}-{self._connections}",
            url=url,
            outage=(last_ns + 1, now_ns - 1) if 0 < last_ns < now_ns - 1 else None,
        )

    def _rest(self, url: str, received_ns: int, body: bytes) -> Recorded:
        parts = urlsplit(url)
        request = f"GET {parts.path}" + (f"?{parts.query}" if parts.query else "")
        asked = msgspec.structs.replace(
            self._file, source="rest", purpose="history", url=url, request=request
        )
        return Recorded(asked, FrameKind.REST, received_ns, body)

    def _json(self, line: bytes) -> Recorded | None:
        try:
            line.decode()
            _raw(line)
        except UNDECODABLE as error:
            raise _UnreadableError("not_json", str(error), line) from error
        if b'"log_id"' in line:
            try:
                frame = _exported(line)
                context = Context.decode(bytes(frame.context))
            except (msgspec.DecodeError, Corrupt):
                pass
            else:
                return self._of_export(frame, context)
        if b'"recv_ms"' in line:
            try:
                timed = _timed(line)
            except msgspec.DecodeError:
                pass
            else:
                received_ns = _receipt(bytes(timed.recv_ms).strip(b'"'), "milliseconds")
                return self._message(received_ns, bytes(timed.event))
        return self._message(self._bare_ns, line)

    def _message(self, received_ns: int, payload: bytes) -> Recorded:
        """Return a frame that may be the first one of a connection."""
        if not self._tells and self._restarts(payload):
            self._open("", received_ns)
        self._last_ns = max(self._last_ns, received_ns)
        return Recorded(self._connection, FrameKind.TEXT, received_ns, payload)

    def _of_export(self, frame: ExportedFrame, context: Context) -> Recorded | None:
        if frame.kind == LOSS_KIND:  # it tells of frames and is none
            return None
        try:
            kind, payload = FrameKind(frame.kind), frame.raw()
        except ValueError as error:
            message = f"it is no frame of a journal export: {error}"
            raise _UnreadableError("wrong_type", message) from error
        if not 0 <= frame.received_ns < LATEST_NS:
            raise _UnreadableError("bad_time", f"{frame.received_ns} ns is no receipt time")
        if self._file.partial:
            context = msgspec.structs.replace(context, partial=True)
        return Recorded(context, kind, frame.received_ns, payload)


def _receipt(number: bytes, unit: str) -> int:
    try:
        return receipt_ns(number, unit)
    except ValueError as error:
        raise _UnreadableError("bad_time", str(error)) from error
