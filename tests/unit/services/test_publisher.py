"""The publisher: what is told, what is remembered, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from forebay.clock import ManualClock
from forebay.domain.frames import EpochAccepted, EpochOpened, FrameKind, encode_control
from forebay.domain.messages import ControlTold, EventsTold, KnownTold, LettersTold, Mark, Step
from forebay.errors import Corrupt, Transient
from forebay.journal import CursorFile, JournalWriter, OsDisk, PendingBlock, StateFile
from forebay.services.publisher import Publisher
from tests.support.delivery import PARSERS
from tests.support.frames import LOG, T0, context, heartbeat, match
from tests.support.made_venue import Deal, MadeParser, frame

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from forebay.domain.frames import Context
    from forebay.domain.messages import Message
    from forebay.ports import Parser, Subscription


class Kept:
    """A transport that keeps what is published, and refuses what it is told to."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.errors: list[Exception] = []

    def publish(self, topic: str, messages: Sequence[Message]) -> None:
        assert topic == "events"
        if self.errors:
            raise self.errors.pop(0)
        self.messages += messages

    def subscribe(self, topic: str, group: str) -> Subscription:
        raise NotImplementedError

    def close(self) -> None: ...


class Full(OsDisk):
    """Has no space as often as it is told to."""

    failures = 0

    def fdatasync(self, fd: int) -> None:  # type: ignore[override]
        if self.failures:
            self.failures -= 1
            raise OSError(28, "full")
        OsDisk.fdatasync(fd)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[JournalWriter]:
    folder = tmp_path / "journal"
    with JournalWriter.open(folder, clock=ManualClock(), random_id=lambda: LOG) as opened:
        yield opened


def put(
    writer: JournalWriter,
    *payloads: bytes,
    origin: Context | None = None,
    kind: FrameKind = FrameKind.TEXT,
) -> None:
    times = [T0 + place for place in range(len(payloads))]
    writer.commit(
        [PendingBlock(kind, (origin or context()).encode(), list(payloads), times, (0, 0))]
    )


def publisher(
    tmp_path: Path,
    transport: Kept,
    parsers: dict[str, Parser] = PARSERS,
    disk: OsDisk | None = None,
) -> Publisher:
    state = StateFile(tmp_path / "cursors" / "p.state", disk or OsDisk())
    cursor = CursorFile(tmp_path / "cursors" / "p.cursor")
    return Publisher(tmp_path / "journal", transport, parsers, state, cursor=cursor)


def test_a_step_tells_events_high_waters_records_and_letters_then_its_mark(
    tmp_path: Path, writer: JournalWriter
) -> None:
    controls = [encode_control(EpochOpened()), encode_control(EpochAccepted())]
    put(writer, *controls, kind=FrameKind.CONTROL)
    put(writer, match(1), heartbeat(4), b"junk")
    transport = Kept()
    assert publisher(tmp_path, transport).step() == 3
    heads = [message.head for message in transport.messages]
    kinds = [EventsTold, KnownTold, LettersTold, ControlTold, ControlTold, Mark]
    assert [type(head.told) for head in heads] == kinds
    assert [head.part for head in heads] == list(range(6))
    assert {head.step for head in heads} == {Step(LOG, 1, 6)}
    assert heads[-1].told == Mark(5, {"yielding": 1, "control": 1, "dead": 1}, {})


def test_a_message_says_whence_its_frames_are_but_not_what_was_asked(
    tmp_path: Path, writer: JournalWriter
) -> None:
    """An address or a request may hold a secret."""
    asked = context("rest", url="https://x/?signature=1", symbols=("BTC-USD",), partial=True)
    put(writer, heartbeat(4), origin=asked)
    transport = Kept()
    publisher(tmp_path, transport).step()
    told = transport.messages[0].head.told
    assert isinstance(told, KnownTold)
    assert (told.origin.context.url, told.origin.context.request) == ("", "")
    assert (told.origin.context.purpose, told.origin.context.partial) == ("history", True)
    assert told.origin.channels["trade"] == PARSERS["coinbase"].channels["trade"]
    assert (told.first, told.last) == (1, 1)


def test_nothing_is_remembered_before_it_is_acknowledged(
    tmp_path: Path, writer: JournalWriter
) -> None:
    put(writer, match(1))
    transport = Kept()
    transport.errors = [Transient("full")]
    moving = publisher(tmp_path, transport)
    with pytest.raises(Transient):
        moving.step()
    again = publisher(tmp_path, transport)
    assert again.position is None
    assert again.drain() == 1
    assert CursorFile(tmp_path / "cursors" / "p.cursor").load() == writer.position
    assert publisher(tmp_path, transport).drain() == 0


def test_what_is_acknowledged_is_not_told_again_because_the_disk_is_full(
    tmp_path: Path, writer: JournalWriter
) -> None:
    put(writer, match(1))
    transport, disk = Kept(), Full()
    moving = publisher(tmp_path, transport, disk=disk)
    disk.failures = 2
    for _ in range(2):
        with pytest.raises(Transient):
            moving.step()
    assert moving.step() == 1
    assert len(transport.messages) == 2, "the events and the mark, once"


def ids_told(transport: Kept) -> list[str]:
    return [
        str(each)
        for message in transport.messages
        if isinstance(message.head.told, EventsTold) and message.rows is not None
        for each in message.rows["event_id"].to_pylist()
    ]


def test_equal_events_get_the_same_ids_whenever_it_is_killed(
    tmp_path: Path, writer: JournalWriter
) -> None:
    """Ordinals are remembered with the position, also those of a stream that was silent."""
    parsers: dict[str, Parser] = {"made": MadeParser("content")}
    plain, killed, going = Kept(), Kept(), Kept()
    journal = tmp_path / "journal"
    alive = Publisher(journal, going, parsers, StateFile(tmp_path / "a.state"))
    for symbol in ("A-B", "C-D", "A-B", "C-D"):
        deal = Deal(symbol=symbol)
        put(writer, frame(deal), frame(deal), origin=context(venue="made"))
        Publisher(journal, killed, parsers, StateFile(tmp_path / "k.state")).step()
        alive.step()
    Publisher(journal, plain, parsers, StateFile(tmp_path / "p.state")).drain()
    assert len(set(ids_told(plain))) == 8
    assert ids_told(killed) == ids_told(plain)
    assert ids_told(going) == ids_told(plain)


def test_a_journal_that_began_anew_is_counted_anew(tmp_path: Path) -> None:
    """What it tells again has the ids that were told."""
    parsers: dict[str, Parser] = {"made": MadeParser("content")}
    transport = Kept()
    for log_id in (LOG, "b" * 32):
        folder = tmp_path / log_id
        with JournalWriter.open(folder, clock=ManualClock(), random_id=lambda: log_id) as writer:  # noqa: B023
            put(writer, frame(Deal()), frame(Deal()), origin=context(venue="made"))
            Publisher(folder, transport, parsers, StateFile(tmp_path / "p.state")).drain()
    told = ids_told(transport)
    assert len(told) == 4
    assert told[2:] == told[:2]


def test_a_step_begins_where_the_last_one_ended(tmp_path: Path, writer: JournalWriter) -> None:
    transport = Kept()
    moving = publisher(tmp_path, transport)
    for number in (1, 2, 3):
        put(writer, match(number))
        moving.step()
        moving = publisher(tmp_path, transport) if number == 2 else moving
    steps = list(dict.fromkeys(message.head.step for message in transport.messages))
    assert steps == [Step(LOG, 1, 2), Step(LOG, 2, 3), Step(LOG, 3, 4)]


def test_a_state_of_something_else_is_refused_by_name(
    tmp_path: Path, writer: JournalWriter
) -> None:
    put(writer, match(1))
    StateFile(tmp_path / "cursors" / "p.state").store(b"?")
    with pytest.raises(Corrupt, match="publisher's state"):
        publisher(tmp_path, Kept())
