"""Delivery: what happens between a read and a commit, and when either goes wrong."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from forebay.clock import ManualClock
from forebay.domain.frames import FrameKind, GapAccepted, HistoryFinished, encode_control
from forebay.errors import ConfigError, CursorMoved, Transient
from forebay.journal import CursorFile, JournalWriter, PendingBlock
from forebay.ports import Commit, HistoryRequest
from forebay.services.clock_skew import SkewWatch
from forebay.services.deliver import Deliverer
from forebay.sources.coinbase.protocol import CoinbaseParser
from forebay.telemetry import (
    ConflictFound,
    CursorNotSaved,
    DeadLettered,
    GapClosed,
    GapOpened,
    LossFound,
    TelemetryEvent,
)
from tests.support.frames import PRODUCT, T0, as_json, context, heartbeat, match, rest_row
from tests.support.made_venue import SYMBOL, Deal, MadeParser, frame
from tests.support.memory_store import MemoryStore, stored_gaps

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from forebay.domain.frames import Context
    from forebay.ports import Committed

PARSERS = {"coinbase": CoinbaseParser()}


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[JournalWriter]:
    with JournalWriter.open(tmp_path / "journal", clock=ManualClock()) as opened:
        yield opened


def put(
    writer: JournalWriter,
    payloads: Sequence[bytes],
    origin: Context | None = None,
    kind: FrameKind = FrameKind.TEXT,
) -> None:
    received = [T0 + index for index in range(len(payloads))]
    writer.commit(
        [PendingBlock(kind, (origin or context()).encode(), list(payloads), received, (0, 0))]
    )


class FaultyStore(MemoryStore):
    """Refuses a commit before or after it has happened."""

    def __init__(self) -> None:
        super().__init__()
        self.refuse: str = ""
        self.commits = 0

    def commit(self, commit: Commit) -> Committed:
        refuse, self.refuse = self.refuse, ""
        if refuse == "before":
            raise Transient("the disk is full")
        done = super().commit(commit)
        self.commits += 1
        if refuse == "after":
            raise Transient("the answer was lost")
        return done


def deliverer(
    tmp_path: Path, store: MemoryStore, seen: list[TelemetryEvent] | None = None
) -> Deliverer:
    observe = (seen if seen is not None else []).append
    cursor = CursorFile(tmp_path / "store.cursor")
    return Deliverer(tmp_path / "journal", store, PARSERS, cursor=cursor, observer=observe)


def stored_ids(store: MemoryStore) -> list[int]:
    return sorted(int(text) for text in store.table("trades")["trade_id"].to_pylist())


def test_a_step_stores_rows_and_moves_both_cursors(tmp_path: Path, writer: JournalWriter) -> None:
    store = MemoryStore()
    moving = deliverer(tmp_path, store)
    put(writer, [match(1), match(2), b"garbage", heartbeat(2)])

    assert moving.step() == 4
    assert moving.step() == 0

    assert stored_ids(store) == [1, 2]
    assert moving.position == writer.position
    assert store.load().positions["store"] == writer.position
    assert CursorFile(tmp_path / "store.cursor").load() == writer.position
    assert moving.delivered.outcomes == {"yielding": 2, "control": 1, "dead": 1}
    assert moving.status()["seq"] == 5


def test_a_restart_goes_on_where_the_store_is_not_where_the_file_is(
    tmp_path: Path, writer: JournalWriter
) -> None:
    store = MemoryStore()
    put(writer, [match(1)])
    deliverer(tmp_path, store).drain()
    put(writer, [match(2)])
    # The file is a hint for housekeeping: here it claims more than was stored.
    CursorFile(tmp_path / "store.cursor").store(writer.position)

    again = deliverer(tmp_path, store)

    assert again.drain() == 1
    assert stored_ids(store) == [1, 2]


def test_a_refused_commit_is_tried_again_and_nothing_is_skipped(
    tmp_path: Path, writer: JournalWriter
) -> None:
    store = FaultyStore()
    moving = deliverer(tmp_path, store)
    put(writer, [match(1), match(2)])
    store.refuse = "before"

    with pytest.raises(Transient):
        moving.step()
    assert stored_ids(store) == []
    assert moving.status()["behind"] is True
    put(writer, [match(3)])

    assert moving.drain() == 3
    assert stored_ids(store) == [1, 2, 3]
    assert moving.delivered.rows == 3


def test_a_commit_whose_answer_was_lost_is_recognised(
    tmp_path: Path, writer: JournalWriter
) -> None:
    store = FaultyStore()
    moving = deliverer(tmp_path, store)
    put(writer, [match(1), b"garbage"])
    store.refuse = "after"
    with pytest.raises(Transient):
        moving.step()

    assert moving.step() == 2

    assert stored_ids(store) == [1]
    assert (moving.delivered.rows, moving.delivered.duplicates) == (1, 0), "as the first answer"
    assert len(store.table("dead_letters")) == 1
    assert moving.delivered.outcomes == {"yielding": 1, "control": 0, "dead": 1}


def test_an_older_copy_of_the_store_is_gone_on_from(tmp_path: Path, writer: JournalWriter) -> None:
    """After a failover or a restore the store knows best."""
    store = MemoryStore()
    moving = deliverer(tmp_path, store)
    put(writer, [match(1), match(2)])
    moving.drain()
    older = copy.deepcopy(vars(store))
    put(writer, [match(3), match(7)])
    moving.drain()
    put(writer, [match(8)])
    vars(store).update(older)

    with pytest.raises(CursorMoved):
        moving.step()
    assert stored_ids(store) == [1, 2], "nothing of what came later alone"
    assert (moving.position, moving.gap_counts()["open"]) == (store.load().positions["store"], 0)

    assert moving.drain() == 3
    assert stored_ids(store) == [1, 2, 3, 7, 8]
    assert moving.gap_counts()["open"] == 1
    assert store.load().positions["store"] == writer.position


def test_a_store_that_somebody_else_moved_on_is_gone_on_from(
    tmp_path: Path, writer: JournalWriter
) -> None:
    store = MemoryStore()
    one, other = deliverer(tmp_path, store), deliverer(tmp_path, store)
    put(writer, [match(1), match(2)])
    assert one.prepare()
    other.drain()
    put(writer, [match(3)])
    other.drain()

    with pytest.raises(CursorMoved):
        one.store()
    assert one.drain() == 0
    put(writer, [match(4)])
    assert one.drain() == 1
    assert stored_ids(store) == [1, 2, 3, 4]


def test_a_commit_says_where_the_cursor_must_be(tmp_path: Path, writer: JournalWriter) -> None:
    seen: list[Commit] = []

    class Listening(MemoryStore):
        def commit(self, commit: Commit) -> Committed:
            seen.append(commit)
            return super().commit(commit)

    moving = deliverer(tmp_path, Listening())
    for number in (1, 2):
        put(writer, [match(number)])
        moving.drain()
    first, second = seen
    assert dict(first.expected) == {"store": None}
    assert second.expected == first.positions


def test_gaps_are_told_offered_for_filling_and_closed(
    tmp_path: Path, writer: JournalWriter
) -> None:
    seen: list[TelemetryEvent] = []
    moving = deliverer(tmp_path, MemoryStore(), seen)
    put(writer, [match(1), match(5)])
    moving.drain()

    wanted, seq = moving.open_gaps("coinbase")
    assert [(gap.symbol, gap.first, gap.last) for gap in wanted] == [(PRODUCT, 2, 4)]
    assert seq == writer.position.seq
    assert moving.open_gaps("elsewhere") == ([], seq)
    assert GapOpened("coinbase", "trade", PRODUCT, 2, 4, "in_connection") in seen

    put(writer, [as_json([rest_row(3), rest_row(2)])], context("rest"), FrameKind.REST)
    finished = encode_control(HistoryFinished("trade", PRODUCT, 2, 4, absent=((4, 4),)))
    put(writer, [finished], context("rest"), FrameKind.CONTROL)
    moving.drain()

    assert moving.gap_counts() == {"open": 0, "filled": 1, "permanent": 1, "accepted": 0}
    assert GapClosed("coinbase", "trade", PRODUCT, 2, 3, "in_connection", "filled") in seen
    assert GapClosed("coinbase", "trade", PRODUCT, 4, 4, "absent_from_history", "permanent") in seen


def test_absence_is_believed_over_restarts_and_what_comes_at_last_is_filled(
    tmp_path: Path,
) -> None:
    """Each look is of another process, and so is each delivery."""
    store, clock = MemoryStore(), ManualClock()
    lacking = encode_control(HistoryFinished("trade", PRODUCT, 2, 4, lacking=((2, 4),)))
    states, journal = [], tmp_path / "journal"
    moving = Deliverer(journal, store, PARSERS)
    for wait_s in (0, 0, 59, 2, 600, 3600, 21_600):
        clock.advance(wait_s)
        with JournalWriter.open(journal, clock=clock) as writer:
            if writer.position.seq == 1:
                put(writer, [match(1), match(5)])
            origin, now = context("rest").encode(), clock.monotonic_ns()
            writer.commit([PendingBlock(int(FrameKind.CONTROL), origin, [lacking], [now])])
        moving = Deliverer(journal, store, PARSERS)
        moving.drain()
        states.append([gap.state for gap in stored_gaps(store)])
    assert states == [["open"]] * 6 + [["permanent"]]
    assert moving.open_gaps() == ([], moving.position.seq if moving.position else 0)
    assert [wanted.first for wanted in moving.open_gaps(states=("permanent",))[0]] == [2]
    with JournalWriter.open(journal, clock=clock) as writer:
        rows = [as_json([rest_row(4), rest_row(3), rest_row(2)])]
        put(writer, rows, context("rest"), FrameKind.REST)
    moving.drain()
    assert [gap.state for gap in stored_gaps(store)] == ["filled"]
    again = MemoryStore()
    Deliverer(journal, again, PARSERS).drain()
    assert again.load().coverage == store.load().coverage


def test_an_acceptance_is_in_the_journal(tmp_path: Path, writer: JournalWriter) -> None:
    seen: list[TelemetryEvent] = []
    moving = deliverer(tmp_path, MemoryStore(), seen)
    put(writer, [match(1), match(5)])
    accepted = encode_control(GapAccepted("trade", PRODUCT, 2, 3, "ann", "never listed"))
    put(writer, [accepted], context("rest"), FrameKind.CONTROL)
    moving.drain()
    assert moving.gap_counts() == {"open": 1, "filled": 0, "permanent": 0, "accepted": 1}
    assert [gap.first for gap in moving.open_gaps(states=("open", "permanent"))[0]] == [4]
    assert [each.state for each in seen if isinstance(each, GapClosed)] == ["accepted"]


def test_a_gap_is_offered_with_its_market_if_history_has_its_unit(tmp_path: Path) -> None:
    """Numbers of a connection are nothing that a venue could be asked for later."""
    asked = replace(MadeParser("native").channel, history=True)
    seen: list[TelemetryEvent] = []
    for number, channel in enumerate((asked, replace(asked, unit="seq"),
                                      replace(asked, history=False))):  # fmt: skip
        parser = MadeParser("native")
        parser.channel, parser.channels = channel, {"trade": channel}
        folder = tmp_path / str(number)
        with JournalWriter.open(folder, clock=ManualClock()) as writer:
            origin = context(venue="made", market="perpetual", epoch="e1")
            put(writer, [frame(Deal(number=native)) for native in (1, 4)], origin)
            moving = Deliverer(folder, MemoryStore(), {"made": parser}, observer=seen.append)
            moving.drain()
        offered = [HistoryRequest("trade", SYMBOL, 2, 3, "id", "perpetual")] if number == 0 else []
        assert moving.open_gaps()[0] == offered
        assert moving.gap_counts()["open"] == 1
    where = ("made", "trade", SYMBOL, 2, 3, "in_connection")
    assert seen == [
        GapOpened(*where, market="perpetual", unit=unit) for unit in ("id", "seq", "id")
    ]


def test_a_store_that_counted_in_another_unit_is_refused(
    tmp_path: Path, writer: JournalWriter
) -> None:
    """What is stored would be vouched for as new by a coverage that begins empty."""
    store = MemoryStore()
    put(writer, [frame(Deal(number=1))], context(venue="made"))
    Deliverer(tmp_path / "journal", store, {"made": MadeParser("native", "time")}).drain()
    with pytest.raises(ConfigError, match="counted by time and declared to be by id") as refused:
        Deliverer(tmp_path / "journal", store, {"made": MadeParser("native", "id")})
    assert "forebay rebuild" in refused.value.hint
    Deliverer(tmp_path / "journal", store, {"made": MadeParser("native", "time")}).drain()


def test_a_restart_knows_the_gaps_that_are_open(tmp_path: Path, writer: JournalWriter) -> None:
    store = MemoryStore()
    put(writer, [match(1), match(5)])
    deliverer(tmp_path, store).drain()

    seen: list[TelemetryEvent] = []
    again = deliverer(tmp_path, store, seen)

    assert len(again.open_gaps()[0]) == 1
    put(writer, [match(6)])
    again.drain()
    assert seen == [], "what was told before is not told again"


def test_dead_letters_are_told_by_reason_and_venue(tmp_path: Path, writer: JournalWriter) -> None:
    seen: list[TelemetryEvent] = []
    put(writer, [b"garbage", b"{", match(1, price="NaN")])

    deliverer(tmp_path, MemoryStore(), seen).drain()

    told = [(2, "not_json"), (1, "bad_price")]
    assert seen == [DeadLettered(*each, "coinbase") for each in told]


def test_what_is_stored_says_how_long_it_took_and_by_which_way_it_came_again(
    tmp_path: Path, writer: JournalWriter
) -> None:
    clock = ManualClock()
    watch = SkewWatch(clock)
    moving = Deliverer(tmp_path / "journal", MemoryStore(), PARSERS, skew=watch)
    for first in (1, 11):
        put(writer, [match(number) for number in range(first, first + 10)])
        moving.drain()
        clock.advance(60)
    put(writer, [match(20)])
    page = as_json([rest_row(19), rest_row(20)])
    put(writer, [page], context("rest", "e2"), FrameKind.REST)
    moving.drain()
    # The last of each ten happened so many milliseconds after its frame is said to have come.
    assert watch.skews() == {"coinbase": pytest.approx(-0.02)}
    ways = moving.status()["venues"]["coinbase"]  # type: ignore[index]
    assert ways["ws"] == {"told": 21, "again": 1, "flags": {}}
    assert ways["rest"] == {"told": 2, "again": 2, "flags": {}}


def test_a_journal_that_began_anew_is_read_from_its_oldest_frame(
    tmp_path: Path, writer: JournalWriter
) -> None:
    store = MemoryStore()
    put(writer, [match(1), match(2)])
    deliverer(tmp_path, store).drain()
    writer.close()
    for file in (tmp_path / "journal").iterdir():
        file.unlink()

    with JournalWriter.open(tmp_path / "journal", clock=ManualClock()) as fresh:
        put(fresh, [match(2), match(3)])
        seen: list[TelemetryEvent] = []
        again = deliverer(tmp_path, store, seen)
        assert again.drain() == 2

    assert stored_ids(store) == [1, 2, 3]
    assert [type(event) for event in seen] == [LossFound]
    assert again.delivered.duplicates == 1


def test_a_journal_recovered_later_is_read_once_it_is(tmp_path: Path) -> None:
    store = MemoryStore()
    folder = tmp_path / "journal"
    with JournalWriter.open(folder, clock=ManualClock()) as first:
        put(first, [match(1)])
        deliverer(tmp_path, store).drain()
    for file in folder.iterdir():
        file.unlink()

    waiting = deliverer(tmp_path, store)
    assert waiting.step() == 0

    with JournalWriter.open(folder, clock=ManualClock()) as fresh:
        put(fresh, [match(2)])
        assert waiting.drain() == 1
    assert stored_ids(store) == [1, 2]


def test_nothing_is_read_beyond_what_is_durable(tmp_path: Path) -> None:
    assert deliverer(tmp_path, MemoryStore()).step() == 0


def test_hundreds_of_small_steps_skip_nothing(tmp_path: Path, writer: JournalWriter) -> None:
    store = MemoryStore()
    moving = deliverer(tmp_path, store)
    for number in range(1, 301):
        put(writer, [match(number)])
        assert moving.step() == 1
    assert stored_ids(store) == list(range(1, 301))
    assert moving.delivered.rows == 300


def test_a_conflict_is_an_alarm(tmp_path: Path, writer: JournalWriter) -> None:
    seen: list[TelemetryEvent] = []
    put(writer, [match(1), match(1, price="7"), match(2)])

    deliverer(tmp_path, MemoryStore(), seen).drain()

    assert seen == [ConflictFound(1)]
    assert ConflictFound.level == "error"


def test_a_cursor_file_that_cannot_be_written_stops_nothing(
    tmp_path: Path, writer: JournalWriter
) -> None:
    seen: list[TelemetryEvent] = []
    store, file = MemoryStore(), tmp_path / "folder" / "store.cursor"
    cursor = CursorFile(file)
    moving = Deliverer(tmp_path / "journal", store, PARSERS, cursor=cursor, observer=seen.append)
    file.parent.write_text("a file where a folder should be")
    put(writer, [match(1), match(3)])

    assert moving.drain() == 2

    assert stored_ids(store) == [1, 3]
    assert [type(event) for event in seen] == [GapOpened, CursorNotSaved]
    assert len(moving.open_gaps()[0]) == 1


def test_a_kind_or_context_of_nobody_knows_stops_nothing(
    tmp_path: Path, writer: JournalWriter
) -> None:
    store = MemoryStore()
    put(writer, [match(1)])
    writer.commit([PendingBlock(77, context().encode(), [b"?"], [T0], (0, 0))])
    writer.commit([PendingBlock(1, b"{broken", [b"??"], [T0], (0, 0))])
    put(writer, [match(2)])

    assert deliverer(tmp_path, store).drain() == 4

    assert stored_ids(store) == [1, 2]
    assert sorted(store.table("dead_letters")["payload"].to_pylist()) == [b"?", b"??"]
