"""The quick way to read: plain messages cut straight from the socket's bytes.

Nearly every frame of a venue is a whole, unmasked, uncompressed text message of less than 64 KiB.
To be called by the driver for each of them costs more than all the rest of capture. A
:class:`Splitter` therefore stands between the socket and the driver, cuts these messages out and
gives them on as one list for each read. Every other frame goes to the driver, its bytes unchanged:
control frames, fragments, binary, compressed, huge and broken ones are judged in their place.

The header is that of RFC 6455, section 5.2.
"""

from __future__ import annotations

import asyncio
import threading
from struct import Struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from picows import WSTransport

READ_BYTES = 256 << 10
"""Most bytes of one read; a plain message fits several times."""
PLAIN_BYTES = (1 << 16) - 1
"""Payload of the longest message that is cut out here."""

_head = Struct(">HH").unpack_from
_size_64 = Struct(">Q").unpack_from
_SHORT = 0x8100
"""FIN and text, and then, without a mask, the length if it is below 126."""
_LONG = 0x817E
"""FIN and text, and the length in the next 16 bits."""
_SIZE_16 = 126
_SIZE_64 = 127
_MARGIN = b"\0\0\0"
"""Behind the data, so that four bytes of header can be looked at wherever it begins."""


def split(data: bytes, at: int, end: int) -> tuple[list[bytes], int]:
    """Cut out the plain messages from ``at`` on; return them and where the next frame begins.

    That frame is not plain, or not whole before ``end``. ``data`` is three bytes longer.
    """
    messages: list[bytes] = []
    append = messages.append
    while at < end:
        first, size = _head(data, at)
        begin = at + 4
        if first != _LONG:
            size = first - _SHORT
            if not 0 <= size < _SIZE_16:
                break
            begin -= 2
        elif size < _SIZE_16:  # forbidden: a short length in a long field
            break
        stop = begin + size
        if stop > end:
            break
        append(data[begin:stop])
        at = stop
    return messages, at


def other_size(data: bytes, at: int, end: int) -> int:
    """Bytes of the frame at ``at`` if it is for the driver; 0 if it is plain or still unknown.

    A masked frame is four bytes longer, but the driver refuses it at its header.
    """
    known = end - at
    if known < 2:  # noqa: PLR2004 - a header's first two bytes hold kind, mask and length
        return 0
    first: int
    size: int
    first, size = _head(data, at)
    if _SHORT <= first < _LONG:
        return 0
    flag = first & 0x7F
    if flag < _SIZE_16:
        return 2 + flag
    if flag == _SIZE_16:
        plain = first == _LONG and size >= _SIZE_16
        return 0 if known < 4 or plain else 4 + size  # noqa: PLR2004 - likewise
    if known < 10:  # noqa: PLR2004 - likewise
        return 0
    (length,) = _size_64(data, at + 2)
    return 10 + int(length)


class _Room(threading.local):
    """Where all connections of a thread read, one at a time.

    An event loop reads into what it was given last and says so before it asks anybody else, so
    that what is kept of each connection at rest is only the beginning of a frame.
    """

    def __init__(self) -> None:
        self.memory = memoryview(bytearray(READ_BYTES + len(_MARGIN)))


_room = _Room()


class Splitter(asyncio.BufferedProtocol):
    """Reads for one connection from now on; what it does not know it hands to the driver.

    The driver must be between two frames: nothing may be in its buffer.
    """

    def __init__(self, transport: WSTransport, take: Callable[[list[bytes]], None]) -> None:
        self._transport = transport
        self._driver: asyncio.BufferedProtocol = transport.underlying_transport.get_protocol()  # type: ignore[assignment]
        self._take = take
        self._memory = _room.memory
        self._rest = b""
        """What was read of a frame that is not whole."""
        self._owed = 0
        """Bytes that the driver still has to get of a frame."""
        transport.underlying_transport.set_protocol(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Give the room behind what is left of the last read."""
        del sizehint
        rest, memory = self._rest, self._memory
        memory[: len(rest)] = rest
        return memory[len(rest) : READ_BYTES]

    def buffer_updated(self, nbytes: int) -> None:
        """Work off everything that is whole."""
        end = len(self._rest) + nbytes
        data = bytes(self._memory[: end + len(_MARGIN)])
        at = 0
        while at < end:
            if self._owed:
                at = self._hand_over(data, at, min(end, at + self._owed))
                continue
            messages, at = split(data, at, end)
            if messages:
                self._take(messages)
            self._owed = other_size(data, at, end)
            if not self._owed:
                break
        self._rest = data[at:end]

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the driver, which tells the connection."""
        self._driver.connection_lost(exc)

    def eof_received(self) -> bool | None:
        """Tell the driver."""
        return self._driver.eof_received()

    def pause_writing(self) -> None:
        """Tell the driver."""
        self._driver.pause_writing()

    def resume_writing(self) -> None:
        """Tell the driver."""
        self._driver.resume_writing()

    def _hand_over(self, data: bytes, at: int, stop: int) -> int:
        """Let the driver read these bytes; return where to go on."""
        while at < stop:
            room = memoryview(self._driver.get_buffer(-1))
            size = min(len(room), stop - at)
            room[:size] = data[at : at + size]
            self._driver.buffer_updated(size)
            self._owed -= size
            at += size
        if self._transport.is_close_frame_sent:  # nothing counts after it: let all of it pass
            self._take = lambda _: None
        return at
