"""Thirteen equal trades in one microsecond, on the real path: 13 are stored, not 12 and not 26."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from forebay.app.offline.replay import replay
from forebay.app.wiring.config import Config
from forebay.app.wiring.data_folder import DataFolder
from forebay.clock import ManualClock
from forebay.domain.coverage import Row
from forebay.domain.frames import Context
from forebay.journal import JournalReader, JournalWriter
from forebay.stores.duckdb import DuckDBStore
from forebay.telemetry import ignore
from tests.support.frames import SECOND, match
from tests.support.made_venue import T0_NS, Deal, Rig, frame, rig
from tests.support.memory_store import MemoryStore, stored_gaps

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from forebay.domain.identity import IdentityClass
    from tests.support.delivery import TableStore

ONE = Deal()
COUNT = 13
BEFORE, AFTER = Deal(micros=4), Deal(micros=6)
SPLITS = [[13], [6, 7], [1] * 13]


@pytest.fixture(params=["memory", "duckdb"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], TableStore]:
    kept = MemoryStore()
    if request.param == "memory":
        return lambda: kept
    return lambda: DuckDBStore(tmp_path / "made.duckdb")


def equal_rows(made: Rig) -> int:
    return sum(row["event_ts"] == T0_NS + ONE.micros * 1000 for row in made.rows())


def ambiguous(made: Rig) -> list[int]:
    """Microseconds of the rows that are flagged, in order."""
    flagged = [row for row in made.rows() if row["flags"] == "ambiguous"]
    return sorted((int(str(row["event_ts"])) - T0_NS) // 1000 for row in flagged)


@pytest.mark.parametrize("split", SPLITS, ids=str)
@pytest.mark.parametrize("between", ["nothing", "step", "kill"])
def test_thirteen_equal_trades_are_thirteen_however_they_are_cut(
    tmp_path: Path, opened: Callable[[], TableStore], split: list[int], between: str
) -> None:
    with rig(tmp_path, "content", opened) as made:
        made.tell("e1", BEFORE)
        for size in split:
            made.tell("e1", *[ONE] * size)
            if between != "nothing":
                made.step()
            if between == "kill":
                made.kill()
        made.tell("e1", AFTER)
        made.drain()
        assert (equal_rows(made), len(made.rows())) == (COUNT, COUNT + 2)
        assert ambiguous(made) == [BEFORE.micros], "the connection may have begun within it"


@pytest.mark.parametrize("at", range(COUNT + 1))
def test_a_kill_between_any_two_of_thirteen_stores_thirteen(tmp_path: Path, at: int) -> None:
    with rig(tmp_path, "content") as made:
        made.tell("e1", BEFORE, *[ONE] * at)
        made.step()
        made.kill()
        made.tell("e1", *[ONE] * (COUNT - at))
        made.drain()
        assert equal_rows(made) == COUNT


@pytest.mark.parametrize("order", [(13, 12), (12, 13), (13, 13), (1, 13)], ids=str)
@pytest.mark.parametrize("alternating", [False, True])
def test_of_two_collectors_the_one_that_saw_most_counts(
    tmp_path: Path, opened: Callable[[], TableStore], order: tuple[int, int], alternating: bool
) -> None:
    with rig(tmp_path, "content", opened) as made:
        heard = [("e1", "c1", order[0]), ("e2", "c2", order[1])]
        for epoch, collector, _ in heard:
            made.tell(epoch, BEFORE, collector=collector)
        if alternating:
            for turn in range(COUNT):
                for epoch, collector, count in heard:
                    if turn < count:
                        made.tell(epoch, ONE, collector=collector)
                made.step()
        else:
            for epoch, collector, count in heard:
                made.tell(epoch, *[ONE] * count, collector=collector)
                made.step()
                made.kill()
        made.drain()
        assert equal_rows(made) == COUNT
        assert len(made.store.table("conflicts")) == 0


@pytest.mark.parametrize("first", ["feed", "history"])
def test_the_feed_and_the_history_tell_the_same_thirteen(
    tmp_path: Path, opened: Callable[[], TableStore], first: str
) -> None:
    with rig(tmp_path, "content", opened) as made:
        page = [Deal(micros=9), *[ONE] * COUNT, Deal(micros=1)]
        for source in ("feed", "history") if first == "feed" else ("history", "feed"):
            if source == "feed":
                made.tell("e1", BEFORE, *[ONE] * COUNT, AFTER)
            else:
                made.page("fill", *page)
            made.step()
        assert equal_rows(made) == COUNT
        flags = {row["event_ts"]: row["flags"] for row in made.rows()}
        assert flags[T0_NS + 5000] == ("" if first == "feed" else "backfill")


def test_each_answer_of_history_counts_for_itself(tmp_path: Path) -> None:
    """Pages of one fill overlap; its epoch is that of the fill and not of the answer."""
    with rig(tmp_path, "content") as made:
        made.page("fill", AFTER, *[ONE] * COUNT, BEFORE)
        made.page("fill", AFTER, *[ONE] * COUNT, BEFORE)
        made.step()
        made.page("fill", AFTER, *[ONE] * COUNT, BEFORE)
        made.drain()
        assert equal_rows(made) == COUNT


@pytest.mark.parametrize("kill", [False, True])
def test_a_group_that_pages_cut_is_flagged(tmp_path: Path, kill: bool) -> None:
    """Seven on one page and six on the next cannot be told from seven on both."""
    with rig(tmp_path, "content") as made:
        made.page("fill", AFTER, *[ONE] * 7)
        if kill:
            made.step()
            made.kill()
        made.page("fill", *[ONE] * 6, BEFORE)
        made.drain()
        assert equal_rows(made) == 7
        flags = [str(row["flags"]).split(",")[-1] for row in made.rows()]
        assert flags == ["ambiguous"] * 9


@pytest.mark.parametrize("later_first", [False, True])
def test_a_group_that_a_new_connection_cuts_is_flagged_in_any_order(
    tmp_path: Path, opened: Callable[[], TableStore], later_first: bool
) -> None:
    """The new connection hears the rest, whose ids are those of the rows that are there."""
    with rig(tmp_path, "content", opened) as made:
        parts = [("e1", [BEFORE, *[ONE] * 7]), ("e2", [*[ONE] * 6, AFTER])]
        for epoch, deals in reversed(parts) if later_first else parts:
            made.tell(epoch, *deals)
            made.step()
        assert equal_rows(made) == 7
        assert ambiguous(made) == [BEFORE.micros, *[ONE.micros] * 6]


def test_a_flag_is_added_to_others_once_and_by_its_whole_name(
    tmp_path: Path, opened: Callable[[], TableStore]
) -> None:
    with rig(tmp_path, "content", opened) as made:
        made.page("fill", AFTER, ONE, BEFORE)
        made.step()
        for epoch in ("e1", "e2", "e3"):
            made.tell(epoch, ONE, ONE)
            made.step()
        flags = sorted(str(row["flags"]) for row in made.rows())
        assert flags == ["ambiguous", *["backfill,ambiguous"] * 3]


def test_a_connection_that_is_over_is_forgotten_and_the_others_are_not(tmp_path: Path) -> None:
    with rig(tmp_path, "content") as made:
        made.tell("e1", BEFORE, ONE)
        made.tell("e2", BEFORE, ONE, collector="c2")
        made.step()
        made.close("e1")
        made.drain()
        ((key, raw),) = made.store.load().ordinals.items()
        assert (key.symbol, b"e1" in raw, b"e2" in raw) == ("A-B", False, True)
        made.kill()
        made.tell("e2", *[ONE] * 12, collector="c2")
        made.drain()
        assert equal_rows(made) == COUNT


def test_rows_that_are_refused_are_not_counted(tmp_path: Path) -> None:
    with rig(tmp_path, "content") as made:
        poison = Deal(price="NaN")
        made.tell("e1", BEFORE, poison, ONE, poison, ONE, poison)
        made.tell("e2", BEFORE, ONE, ONE)
        made.page("fill", poison, AFTER, ONE, poison, ONE, BEFORE)
        made.drain()
        assert equal_rows(made) == 2
        letters = made.store.table("dead_letters")
        assert len(letters) == 2, (
            "the same bytes at the same time are one, and so is a row of history"
        )


def test_a_journal_that_is_read_again_from_its_start_is_not_counted_twice(
    tmp_path: Path, opened: Callable[[], TableStore]
) -> None:
    """The log that the cursor counted in is gone; of what is read again nothing is new."""
    with rig(tmp_path, "content", opened) as made:
        for count in (3, 4):
            made.tell("e1", BEFORE, *[ONE] * count)
            made.drain()
        other = Deal(symbol="A-C")
        made.tell("e1", other, other)
        made.drain()
        assert len(made.rows()) == 11
        made.writer.close()
        for file in (tmp_path / "journal").iterdir():
            file.unlink()
        made.writer = JournalWriter.open(tmp_path / "journal", clock=ManualClock())
        made.tell("e1", BEFORE, *[ONE] * 3)
        made.kill()
        made.drain()
        assert len(made.rows()) == 11
        made.kill()  # and what was forgotten is forgotten in the store, of every stream
        made.tell("e1", BEFORE, *[ONE] * 4, other, other)
        made.drain()
        assert len(made.rows()) == 11
        made.tell("e1", ONE)
        made.drain()
        assert equal_rows(made) == 8 + 2


@pytest.mark.parametrize("cut", [0, 4, 13])
def test_a_recording_that_is_replayed_again_adds_nothing(tmp_path: Path, cut: int) -> None:
    """The first replay may have been broken off; a replay repeated is the same epoch."""
    frames = [frame(deal) for deal in [BEFORE, *[ONE] * COUNT, AFTER]]
    with rig(tmp_path, "content") as made:
        made.put(made.context("file", "replay", "file", run="1"), *frames[:cut])
        for run in ("2", "3"):
            made.put(made.context("file", "replay", "file", run=run), *frames[:7])
            made.step()
            made.kill()
            made.put(made.context("file", "replay", "file", run=run), *frames[7:])
        made.drain()
        assert (equal_rows(made), len(made.rows())) == (COUNT, COUNT + 2)


def test_each_replay_of_a_recording_is_a_run_of_its_own(tmp_path: Path) -> None:
    recording = tmp_path / "made.ndjson"
    recording.write_bytes(match(1) + b"\n" + match(2) + b"\n")
    folder = DataFolder(tmp_path / "data")
    for _ in range(2):
        replay([recording], "coinbase", folder, Config(), clock=ManualClock(), observer=ignore)
    with JournalReader(folder.journal) as reader:
        contexts = [Context.decode(block.context) for block in reader.read()]
    assert [context.run.split("-")[1] for context in contexts] == ["1", "3"]
    assert len({context.epoch for context in contexts}) == 1


def test_a_session_number_is_another_event_on_another_connection(
    tmp_path: Path, opened: Callable[[], TableStore]
) -> None:
    with rig(tmp_path, "session", opened) as made:
        for epoch, collector in (("e1", "c1"), ("e2", "c1"), ("e1", "c2")):
            for _ in range(2):
                made.tell(epoch, Deal(number=22), Deal(number=23), collector=collector)
                made.step()
                made.kill()
        rows = made.rows()
        assert [row["trade_id"] for row in rows].count("22") == 3
        assert len(rows) == 6


def test_an_observation_is_an_event_each_time(tmp_path: Path) -> None:
    with rig(tmp_path, "observation") as made:
        made.tell("e1", ONE, ONE)
        made.page("fill", ONE, ONE)
        made.kill()
        made.drain()
        made.kill()
        made.drain()
        assert len(made.rows()) == 4
        assert {row["trade_id"] for row in made.rows()} == {""}


@pytest.mark.parametrize("identity", ["content", "observation"])
def test_what_has_no_numbers_is_counted_in_time(
    tmp_path: Path, opened: Callable[[], TableStore], identity: IdentityClass
) -> None:
    with rig(tmp_path, identity, opened) as made:
        made.tell("e1", Deal(number=1), Deal(number=9))
        made.drain()
        made.kill()
        (coverage,) = made.store.load().coverage.values()
        assert list(coverage.rows()) == [Row("live", "", T0_NS + SECOND, T0_NS + SECOND)]
        assert stored_gaps(made.store) == []
