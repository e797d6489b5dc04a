"""The numbers of a connection's lines: which have come, and what is missing between them.

A venue that numbers what it sends over a connection, whatever stream it is of, tells by a hole in
these numbers that something was lost, and not of which stream. What has come of a line is kept as
*pieces* without a hole, each with the earliest and the latest receipt in it: nothing that depends
on the order in which the numbers came, or on how often. The first number of a line may be any.

Lines are kept while their connection is open. Holes do not live here, but in coverage.
"""

from __future__ import annotations

from itertools import islice, pairwise
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from forebay.domain.coverage.ids import runs
from forebay.domain.frames import MissedNumbers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy.typing as npt

    from forebay.domain.intervals import Interval

    Numbers = npt.NDArray[np.int64]

LINES = 1024
"""Lines of a venue's market that are remembered at once, those that spoke last: collectors that
were killed leave some behind."""


class LinePiece(NamedTuple):
    """Numbers that came, without a hole."""

    first: int
    last: int
    earliest_ns: int
    latest_ns: int
    """Receipts, UTC nanoseconds."""


class NumberedLine(msgspec.Struct, array_like=True, frozen=True):
    """What has come of one line."""

    kinds: tuple[str, ...] = ()
    """Kinds of event that it was said to carry, in order."""
    pieces: tuple[LinePiece, ...] = ()


class ConnectionLines(msgspec.Struct, array_like=True):
    """What has come of the lines of one venue's market; :meth:`copy` shares no change."""

    lines: dict[str, NumberedLine] = msgspec.field(default_factory=dict)
    """By :func:`name_of_line`, in the order in which they spoke last."""

    def copy(self) -> ConnectionLines:
        """Return an independent copy; lines are forgotten here, and never within a step."""
        kept = islice(self.lines.items(), max(len(self.lines) - LINES, 0), None)
        return ConnectionLines(dict(kept))

    def carry(self, name: str, kinds: Iterable[str]) -> None:
        """Note that a line carries some kinds, besides those that it was said to before."""
        line = self.lines.pop(name, NumberedLine())
        self.lines[name] = NumberedLine(tuple(sorted({*line.kinds, *kinds})), line.pieces)

    def add(self, name: str, numbers: Numbers, received_ns: Numbers) -> list[Interval]:
        """Add numbers of a line with their receipts, both of shape (n,); return them as runs.

        There is at least one, and :meth:`carry` was called before.
        """
        if (numbers[1:] < numbers[:-1]).any():
            order = np.argsort(numbers, kind="stable")
            numbers, received_ns = numbers[order], received_ns[order]
        came = runs(numbers)
        begins = np.searchsorted(numbers, [first for first, _ in came])
        earliest = np.minimum.reduceat(received_ns, begins).tolist()
        latest = np.maximum.reduceat(received_ns, begins).tolist()
        ends = zip(came, earliest, latest, strict=True)
        pieces = [LinePiece(first, last, *times) for (first, last), *times in ends]
        line = self.lines[name]
        self.lines[name] = NumberedLine(line.kinds, tuple(_joined([*line.pieces, *pieces])))
        return came

    def holes(self, name: str) -> list[MissedNumbers]:
        """Return what is missing of a line, each with the receipts of what is beside it."""
        pieces = self.lines[name].pieces if name in self.lines else ()
        return [
            MissedNumbers(a.last + 1, b.first - 1, *_between(a, b)) for a, b in pairwise(pieces)
        ]

    def of(self, epoch: str) -> Iterator[str]:
        """Return the names of a connection's lines."""
        return (name for name in [*self.lines] if name.rpartition("/")[0] == epoch)

    def encode(self) -> bytes:
        """MessagePack, as a store keeps it."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def decode(cls, raw: bytes) -> ConnectionLines:
        """Read what :meth:`encode` wrote; raises ``msgspec.DecodeError`` if it cannot be."""
        return msgspec.msgpack.decode(raw, type=cls)


def name_of_line(epoch: str, line: str) -> str:
    """Return what a line is called: its connection, and which of that one's it is."""
    return f"{epoch}/{line.replace('/', '|')}"


def _joined(pieces: list[LinePiece]) -> list[LinePiece]:
    """Return pieces in order; those that touch or overlap have become one."""
    found: list[LinePiece] = []
    for piece in sorted(pieces):
        last = found[-1] if found else None
        if last is None or piece.first > last.last + 1:
            found.append(piece)
            continue
        found[-1] = LinePiece(
            last.first,
            max(last.last, piece.last),
            min(last.earliest_ns, piece.earliest_ns),
            max(last.latest_ns, piece.latest_ns),
        )
    return found


def _between(before: LinePiece, behind: LinePiece) -> tuple[int, int]:
    """Return from when to when what lies between two pieces was sent, as receipts tell.

    If some of the earlier piece came late, nobody knows where in it the hole was seen.
    """
    if before.latest_ns <= behind.earliest_ns:
        return before.latest_ns, behind.earliest_ns
    return min(before.earliest_ns, behind.earliest_ns), max(before.earliest_ns, behind.earliest_ns)
