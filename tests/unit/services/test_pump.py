"""The pump alone: what stays in hand, who says where to go on, and what begins again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest

from forebay.errors import CursorBeyondEnd, CursorMoved, Permanent, Transient
from forebay.journal import Block, Position
from forebay.payloads import Payloads
from forebay.services.pump import JournalFeed, Pump
from forebay.telemetry import LossFound, Observer, ignore

if TYPE_CHECKING:
    from pathlib import Path

    from forebay.telemetry import TelemetryEvent

LOG, NEW = "a" * 32, "b" * 32


@dataclass(frozen=True)
class Number:
    """One number of a feed."""

    value: int
    end: Position
    oldest_ns: int = 7


class Numbers:
    """A feed of numbers from 1 on, in a log that may be replaced."""

    def __init__(self, last: int) -> None:
        self.log_id, self.last, self.at, self.held = LOG, last, 1, 0
        self.told: Position | None = None

    def seek(self, position: Position | None) -> None:
        if position is not None and position.log_id != self.log_id:
            raise CursorBeyondEnd("of another log")
        self.at = position.seq if position else 1

    def read(self) -> Number | None:
        if self.at > self.last:
            return None
        self.at += 1
        return Number(self.at - 1, Position(self.log_id, self.at))

    def hold(self) -> None:
        self.held += 1

    def done(self, position: Position) -> None:
        self.told = position

    def close(self) -> None: ...


class Kept:
    """A sink that keeps numbers and its cursor, and refuses what it is told to."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.cursor: Position | None = None
        self.errors: list[Exception] = []
        self.unreachable = 0
        self.again = 0

    def load(self) -> Position | None:
        if self.unreachable:
            self.unreachable -= 1
            raise Transient("not now")
        return self.cursor

    def plan(self, piece: Number) -> Number:
        return piece

    def commit(self, plan: Number) -> int:
        if self.errors:
            raise self.errors.pop(0)
        self.numbers.append(plan.value)
        self.cursor = plan.end
        return 1


class Numbered(Pump[Number, Number]):
    """A pump of numbers into what keeps them."""

    def __init__(self, feed: Numbers, sink: Kept, observer: Observer = ignore) -> None:
        self.kept = sink
        super().__init__(feed, observer)

    def load(self) -> Position | None:
        return self.kept.load()

    def begin_again(self) -> None:
        super().begin_again()
        self.kept.again += 1

    def plan(self, piece: Number) -> Number:
        return self.kept.plan(piece)

    def commit(self, plan: Number) -> int:
        return self.kept.commit(plan)


def test_all_that_there_is_moves_in_order_and_once() -> None:
    sink = Kept()
    feed = Numbers(3)
    pump = Numbered(feed, sink)
    assert pump.drain() == 3
    assert (sink.numbers, pump.position, feed.told) == ([1, 2, 3], *[Position(LOG, 4)] * 2)
    assert Numbered(Numbers(4), sink).drain() == 1, "another pump goes on where the sink is"
    assert sink.numbers == [1, 2, 3, 4]


def test_what_the_sink_refused_stays_in_hand_and_the_feed_is_held() -> None:
    sink, feed = Kept(), Numbers(2)
    pump = Numbered(feed, sink)
    sink.errors = [Transient("full"), Transient("full")]
    for tries in (1, 2):
        with pytest.raises(Transient):
            pump.step()
        assert (pump.behind, pump.waiting_since_ns, feed.held, feed.at) == (True, 7, tries, 2)
    assert pump.drain() == 2
    assert (sink.numbers, pump.behind, pump.waiting_since_ns) == ([1, 2], False, 0)


def test_a_sink_that_is_elsewhere_is_taken_at_its_word() -> None:
    sink = Kept()
    pump = Numbered(Numbers(3), sink)
    pump.step()
    pump.prepare()
    sink.numbers, sink.cursor, sink.errors = [], None, [CursorMoved("a replica without the rows")]
    sink.unreachable = 2
    with pytest.raises(CursorMoved):
        pump.store()
    assert not pump.behind
    with pytest.raises(Transient):
        pump.prepare()
    assert pump.drain() == 3
    assert sink.numbers == [1, 2, 3]


def test_what_could_not_be_planned_is_read_again() -> None:
    class Puzzled(Kept):
        puzzled = True

        def plan(self, piece: Number) -> Number:
            if self.puzzled:
                raise Permanent("what is this?")
            return piece

    sink = Puzzled()
    pump = Numbered(Numbers(2), sink)
    for _ in range(2):
        with pytest.raises(Permanent):
            pump.step()
    sink.puzzled = False
    assert pump.drain() == 2
    assert sink.numbers == [1, 2]


def test_a_log_that_is_gone_is_told_and_the_new_one_read_from_its_beginning() -> None:
    sink = Kept()
    told: list[TelemetryEvent] = []
    feed = Numbers(3)
    Numbered(feed, sink).drain()
    feed.log_id = NEW
    pump = Numbered(feed, sink, told.append)
    assert told == [LossFound(LOG, 1, 3)]
    assert sink.again == 1
    assert pump.drain() == 3
    assert sink.cursor == Position(NEW, 4)


def test_a_piece_of_a_journal_begins_where_the_last_one_ended(tmp_path: Path) -> None:
    """A record of a loss that was declared already is passed over, and belongs to the piece."""

    class Reader:
        position = Position(LOG, 5)

        def read(self, **_: int) -> list[Block]:
            self.position = Position(LOG, 8)
            return [Block(LOG, 6, 1, b"", np.array([9, 10]), Payloads.of([b"a", b"b"]))]

    feed = JournalFeed(tmp_path)
    feed._reader = Reader()  # type: ignore[assignment]
    piece = feed.read()
    assert piece is not None
    assert (piece.begin, piece.end, piece.oldest_ns) == (5, Position(LOG, 8), 9)
