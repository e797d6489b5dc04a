"""The lines of a file as far as they can be read, gzipped or not, and what is lost of it.

Gzip is known by its first bytes, whatever the file is called. Where it is damaged or cut, all that
was compressed before that place is told first.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST_LINE = 64 << 20
"""Bytes of a line: as long as the longest message that is captured. Of a longer one nothing is
kept, so that no file makes its reader allocate more."""
_PIECE = 16 << 10
"""Bytes of the file that are read at once: decompressed, at most a thousand times as many."""
_GZIP = b"\x1f\x8b"
_MARK = b"\xef\xbb\xbf"
"""A byte order mark; files that were put together have several."""


@dataclass(frozen=True, slots=True)
class UnreadableLines:
    """Something of a file that could not be read at all."""

    line: int
    """The number of the line that is lost, or of the first that is; from 1."""
    reason: str


class _DamagedError(Exception):
    """Nothing of a file can be read from here on."""


@dataclass(slots=True)
class Lines:
    """Iterates over the lines that are not blank, with their numbers, without what ends them."""

    file: BinaryIO
    longest: int = LONGEST_LINE
    losses: list[UnreadableLines] = field(default_factory=list)
    """What could not be read so far: lines longer than :attr:`longest`, and all after damage."""
    count: int = 1
    """The number of the line that is being read."""
    _pieces: list[bytes] = field(default_factory=list)
    _size: int = 0

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        damage = ""
        try:
            for data in _contents(self.file):
                first, *others = data.split(b"\n")
                self._add(first)
                for other in others:
                    yield from self._end()
                    self.count += 1
                    self._add(other)
        except (OSError, _DamagedError) as error:
            damage = f"{error}; what follows is lost"
        begun = bool(self._size)
        yield from self._end()
        if damage:
            self.losses.append(UnreadableLines(self.count + begun, damage))

    def _add(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size <= self.longest:
            self._pieces.append(piece)
        else:
            self._pieces.clear()

    def _end(self) -> Iterator[tuple[int, bytes]]:
        text = b"".join(self._pieces).removeprefix(_MARK).rstrip(b"\r\n")
        size, self._size = self._size, 0
        self._pieces.clear()
        if size > self.longest:
            reason = f"it has {size:,} bytes, and at most {self.longest:,} are read"
            self.losses.append(UnreadableLines(self.count, reason))
        elif text and not text.isspace():
            yield self.count, text


def _contents(file: BinaryIO) -> Iterator[bytes]:
    """Return what a file says, in pieces; raises :class:`_DamagedError` after the last good one."""
    data = file.read(_PIECE)
    if not data.startswith(_GZIP):
        while data:
            yield data
            data = file.read(_PIECE)
        return
    inflate, foreign = zlib.decompressobj(wbits=31), False
    while data:
        if inflate.eof:
            data = data.lstrip(b"\0")  # some writers fill a block with them
            if not data:
                data = file.read(_PIECE)
                continue
            inflate, foreign = zlib.decompressobj(wbits=31), data[:2] not in (_GZIP, _GZIP[:1])
        before = inflate.copy()
        try:
            yield inflate.decompress(data)
        except zlib.error as error:
            yield from _until_damage(before, data)
            where = "what follows the gzip data is none" if foreign else "the gzip data is damaged"
            message = f"{where} ({error})"
            raise _DamagedError(message) from error
        data = inflate.unused_data or file.read(_PIECE)
    if not inflate.eof:
        message = "what follows the gzip data is none" if foreign else "the gzip data is cut short"
        raise _DamagedError(message)


def _until_damage(inflate: zlib._Decompress, data: bytes) -> Iterator[bytes]:
    try:
        for place in range(len(data)):
            yield inflate.decompress(data[place : place + 1])
    except zlib.error:
        return
