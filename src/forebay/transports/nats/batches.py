"""Messages as batches of NATS messages, each of which a stream takes whole or not at all. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import xxhash

from forebay.transports.nats.streams import control_subject
from forebay.transports.spelling import CONTROL, EVENT_ID, records
from forebay.transports.subjects import prefixes_of, subjects

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from forebay.domain.messages import Head, Message

MOST = 1000
"""NATS messages in a batch; a server takes no more, and much fewer are slower."""
MOST_BYTES = 4 << 20
PIECE = "forebay-piece"
"""The header of a piece of a record that is larger than a server takes."""


class Entry(NamedTuple):
    """One message of NATS."""

    subject: str
    value: bytes
    event_id: str
    """Empty if it is no event."""
    about: Sequence[tuple[str, bytes]] = ()
    """Of a dead letter, what it is."""
    piece: str = ""
    """Which piece of a record it is, from 0 on, and of how many: ``0/3``; empty if it is whole."""

    @property
    def size(self) -> int:
        """Bytes of it, but for headers that every one has."""
        return len(self.value) + sum(len(name) + len(_line(text)) + 4 for name, text in self.about)

    @property
    def headers(self) -> dict[str, str]:
        """Its own headers; a header of NATS is one line of ASCII, so errors are escaped."""
        pieces = {PIECE: self.piece} if self.piece else {}
        if not self.event_id:
            return {CONTROL: "control", **pieces}
        about = {name: _line(text) for name, text in self.about}
        return {EVENT_ID: self.event_id, **about, **pieces}


class Batch(NamedTuple):
    """Consecutive entries of a lane."""

    name: str
    """Where it begins in what is told, and a digest of its content: nothing else has it."""
    entries: list[Entry]


def entries_of(lane: str, message: Message) -> Iterator[Entry]:
    """Return what is told of a message in a lane, the control record first."""
    control = control_subject(lane)
    first, *rows = records(message)
    yield Entry(control, first.value, "")
    spelled = subjects(message)
    if not spelled or spelled[0].partition(".")[0] not in prefixes_of(lane):
        spelled = [control] * len(rows)
    for subject, row in zip(spelled, rows, strict=True):
        yield Entry(subject, row.value, row.event_id.decode("ascii"), row.about)


def _line(text: bytes) -> str:
    shown = text.decode(errors="replace")
    return " ".join(shown.split()).encode("ascii", "backslashreplace").decode()


def in_pieces(lane: str, entry: Entry, largest: int) -> list[Entry]:
    """Return an entry, or what it becomes if it has more than ``largest`` bytes.

    Who listens to events gets whole ones only, so its pieces go where control records do.
    """
    if entry.size <= largest:
        return [entry]
    room = largest - (entry.size - len(entry.value))
    count = -(-len(entry.value) // room)
    return [
        Entry(
            control_subject(lane),
            entry.value[number * room : (number + 1) * room],
            entry.event_id,
            () if number else entry.about,
            f"{number}/{count}",
        )
        for number in range(count)
    ]


def batches_of(lane: str, messages: Iterable[Message], largest: int) -> Iterator[Batch]:
    """Return the entries of messages in batches; the same messages give the same ones.

    No entry has more than ``largest`` bytes, and the pieces of a record are in one batch.
    """
    place, entries, size = "", list[Entry](), 0
    for message in messages:
        for index, entry in enumerate(entries_of(lane, message)):
            pieces = in_pieces(lane, entry, largest)
            if entries and len(entries) + len(pieces) > MOST:
                yield _batch(place, entries)
                entries, size = [], 0
            if not entries:
                place = _place(message.head, index)
            entries += pieces
            size += len(entry.value)
            if len(entries) == MOST or size >= MOST_BYTES:
                yield _batch(place, entries)
                entries, size = [], 0
    if entries:
        yield _batch(place, entries)


class PieceReader:
    """Puts records together from their pieces, which follow one another in a stream."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._first = 0

    def add(self, offset: int, value: bytes, piece: str) -> tuple[int, bytes] | None:
        """Return where the record that a piece completes begins, and what it is.

        Pieces of a record whose first one was not seen are passed over.
        """
        number, _, count = piece.partition("/")
        if number == "0":
            self._pieces, self._first = [], offset
        self._pieces.append(value)
        if len(self._pieces) != int(number) + 1:
            self._pieces = []
        if len(self._pieces) < int(count):
            return None
        whole, self._pieces = b"".join(self._pieces), []
        return self._first, whole


def _place(head: Head, index: int) -> str:
    step = head.step
    return f"{step.log_id}:{step.begin}-{step.end}:{head.part}:{index}"


def _batch(place: str, entries: list[Entry]) -> Batch:
    digest = xxhash.xxh3_64()
    for entry in entries:
        digest.update(entry.value)
    return Batch(f"{place}:{digest.hexdigest()}", entries)
