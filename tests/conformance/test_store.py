"""One port, one exam: every store sits it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING
from uuid import UUID

import pyarrow as pa
import pytest

from forebay.domain import schema
from forebay.domain.coverage import IdCoverage, SequenceCoverage, StreamKey, TimeCoverage
from forebay.domain.frames import MissedNumbers
from forebay.domain.intervals import IntervalSet
from forebay.domain.kinds import KINDS
from forebay.domain.lines import ConnectionLines, LinePiece, NumberedLine
from forebay.journal import Position
from forebay.ports import Commit, Committed
from forebay.services.normalise import normalise
from forebay.stores.duckdb import DuckDBStore
from tests.support.clickhouse_stores import a_clickhouse_store
from tests.support.delivery import PARSERS, TableStore, as_events, deliver, events_of, plain_rows
from tests.support.frames import (
    HOUR,
    LOG,
    SECOND,
    T0,
    Told,
    as_json,
    batch,
    context,
    match,
    rest_row,
    rows_of,
)
from tests.support.memory_store import MemoryStore, stored_gaps
from tests.support.recordings import COINBASE, recorded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY = StreamKey("coinbase", "spot", "trade", "BTC-USD")
OTHER = StreamKey("coinbase", "spot", "trade", "ETH-USD")
ONE = Told(1)
TABLES = ("trades", "dead_letters", "coverage", "gaps", "cursors")


@pytest.fixture(params=["memory", "duckdb-file", "duckdb-memory", "clickhouse"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TableStore]:
    if request.param == "clickhouse":
        with a_clickhouse_store() as on_server:
            yield on_server
        return
    made: TableStore = MemoryStore()
    if request.param == "duckdb-file":
        made = DuckDBStore(tmp_path / "forebay.duckdb")
    elif request.param == "duckdb-memory":
        made = DuckDBStore(None)
    yield made
    made.close()


_FRAMES = itertools.count(1, 100)


def commit(*trades: Told, covered: list[bool] | None = None, seq: int = 1) -> Commit:
    """Build a commit of trades by frames of their own."""
    events = events_of(*trades, seen_before=covered or [], first_seq=next(_FRAMES))
    return Commit({"store": Position(LOG, seq)}, events={"trades": events})


def said(done: Committed) -> tuple[int, int, int]:
    """Return how many rows a commit stored, found stored already, and found stored otherwise."""
    rows = sum(len(first) for first in done.first.values())
    return done.inserted, rows - done.inserted - done.conflicts, done.conflicts


def coverage() -> IdCoverage:
    made = IdCoverage(known=IntervalSet([(1, 30)]), epochs={"e7": 22})
    for first, last in ((1, 5), (9, 9), (20, 22)):
        made.live.add(first, last)
    made.fill.add(11, 12)
    made.absent.add(6, 7)
    made.spanned.add(1, 9)
    made.spanned.add(20, 22)
    return made


def trades_of(store: TableStore) -> list[tuple[object, ...]]:
    return plain_rows(store.table("trades"), "seq")


def conflicts_of(store: TableStore) -> list[str]:
    table = store.table("conflicts")
    return [str(told) for told in table["event_id"].to_pylist()] if len(table) else []


# ------------------------------------------------------------------------ round trips


def test_an_empty_store_has_every_table_and_no_state(store: TableStore) -> None:
    assert (dict(store.load().positions), dict(store.load().coverage)) == ({}, {})
    assert [len(store.table(name)) for name in TABLES] == [0] * len(TABLES)
    assert stored_gaps(store) == []


def test_rows_come_back_exact(store: TableStore) -> None:
    rows = rows_of(
        Told(1, "99999999999999999999.999999999999999999", "0.000000000000000001"),
        Told(2, "0.00001305", "985", "sell", T0 + 89_723_000, received_ns=T0 + 130_000_001),
        Told(3, time="2021-04-17T16:43:37.123456789Z"),
        Told(4, "7.100000", received_ns=T0 + 24 * HOUR, symbol="ETH-USD"),
    )
    done = store.commit(Commit({"store": Position(LOG, 5)}, events={"trades": as_events(rows)}))
    assert said(done) == (4, 0, 0)
    assert plain_rows(store.table("trades")) == plain_rows(rows)
    found = store.table("trades")
    assert found.column_names == KINDS["trade"].schema.names
    assert found["price"].type == schema.DECIMAL
    assert found["event_ts"].type == schema.TIME


def test_state_comes_back_whole(store: TableStore) -> None:
    fresh = IdCoverage(epochs={"e9": 3})
    fresh.spanned.add(3)
    changed = {KEY: coverage(), OTHER: fresh}
    store.commit(Commit({"store": Position(LOG, 7)}, coverage=changed))
    store.commit(Commit({"archive": Position("b" * 32, 3)}))
    store.commit(Commit({"store": Position(LOG, 9)}))
    state = store.load()
    assert state.positions == {"store": Position(LOG, 9), "archive": Position("b" * 32, 3)}
    assert dict(state.coverage) == changed
    assert stored_gaps(store) == sorted(coverage().gaps(KEY))
    assert plain_rows(store.table("gaps")) == sorted(
        (tuple(getattr(gap, name) for name in schema.GAPS.names) for gap in coverage().gaps(KEY)),
        key=repr,
    )


def test_holes_in_the_numbers_of_a_connection_come_back(store: TableStore) -> None:
    """What a stream misses by them, what is owed of it, and what all miss together."""
    stream, together = KEY._replace(channel="quote"), KEY._replace(channel="quote", symbol="*")
    missed, over = MissedNumbers(7, 9, T0 + 5, T0 + 8), MissedNumbers(4, 4, T0 + 1, T0 + 2)
    quotes, every = TimeCoverage(), SequenceCoverage()
    quotes.opened("e1", T0)
    quotes.heard("e1", T0 + 20, T0 + 20)
    quotes.owe(T0 + 40, T0 - 9, T0 + 30)
    for held in (quotes, every):
        held.miss("e1/2", [over, missed], [])
    pieces = LinePiece(1, 6, T0, T0 + 5), LinePiece(10, 12, T0 + 8, T0 + 9)
    lines = ConnectionLines({"e1/2": NumberedLine(("quote",), pieces)})
    changed = {stream: quotes, together: every}
    for seq, ordinals in enumerate(({together: lines.encode()}, {}), 1):
        store.commit(Commit({"store": Position(LOG, seq)}, coverage=changed, ordinals=ordinals))
        for held in (quotes, every):
            held.miss("e1/2", [], [over])
    state = store.load()
    every.miss("e1/2", [], [over])
    assert {key: sorted(each.rows()) for key, each in state.coverage.items()} == {
        key: sorted(each.rows()) for key, each in changed.items()
    }
    assert stored_gaps(store) == sorted([*quotes.gaps(stream), *every.gaps(together)])
    assert [(gap.symbol, gap.first, gap.last) for gap in stored_gaps(store)] == [
        ("*", 7, 9),
        (KEY.symbol, T0 - 9, T0 - 1),
        (KEY.symbol, T0 + 5, T0 + 8),
        (KEY.symbol, T0 + 21, T0 + 30),
    ]
    assert ConnectionLines.decode(state.ordinals[together]) == lines


def test_new_coverage_replaces_that_of_its_stream_only(store: TableStore) -> None:
    store.commit(Commit({"store": Position(LOG, 1)}, coverage={KEY: coverage(), OTHER: coverage()}))
    whole = IdCoverage(epochs={"e8": 30})
    whole.live.add(1, 30)
    store.commit(Commit({"store": Position(LOG, 2)}, coverage={KEY: whole}))
    assert dict(store.load().coverage) == {KEY: whole, OTHER: coverage()}
    assert stored_gaps(store) == coverage().gaps(OTHER)


def test_what_is_loaded_or_committed_is_not_shared(store: TableStore) -> None:
    mine = coverage()
    store.commit(Commit({"store": Position(LOG, 1)}, coverage={KEY: mine}))
    mine.live.add(100, 200)
    loaded = store.load().coverage[KEY]
    assert isinstance(loaded, IdCoverage)
    loaded.live.add(300, 400)
    assert store.load().coverage[KEY] == coverage()


def test_dead_letters_come_back_with_their_bytes_and_once(store: TableStore) -> None:
    poison = batch([b"\x00\xff", match(1, price="NaN"), b"\x00\xff"], first_seq=5)
    again = batch([b"\x00\xff"], context(epoch="e2"), first_seq=99)
    deliver(store, [[poison, again], [again, poison]])
    letters = store.table("dead_letters")
    assert letters.column_names == schema.DEAD_LETTERS.names
    assert sorted(letters["payload"].to_pylist()) == sorted(poison.payloads)
    assert sorted(letters["seq"].to_pylist()) == [5, 6, 7]


def test_what_became_of_a_letter_is_stored_once(store: TableStore) -> None:
    letter = UUID(int=7)
    rows = [
        {"letter_id": letter.bytes, "state": state, "run": run, "told_ts": T0, "by": "me"}
        for state, run in (("replayed", "1"), ("failed", "1"), ("replayed", "2"))
    ]
    states = pa.Table.from_pylist(
        [row | {"reason": "no"} for row in rows], schema=schema.LETTER_STATES
    )
    for seq in (1, 2):
        store.commit(Commit({"store": Position(LOG, seq)}, letter_states=states))
    told = store.table("letter_states")
    assert told.column_names == schema.LETTER_STATES.names
    assert {str(each) for each in told["letter_id"].to_pylist()} == {str(letter)}
    kept = sorted((row["state"], row["run"]) for row in told.to_pylist())
    assert kept == [("failed", "1"), ("replayed", "1"), ("replayed", "2")]


def test_a_commit_says_which_dead_letters_it_told_first_however_often_it_is_repeated(
    store: TableStore,
) -> None:
    page = as_json([rest_row(1) | {"size": "NaN"}, rest_row(2)])
    commits: list[Commit] = []
    for seq in (1, 5):
        rows = normalise(batch([page], context("rest"), first_seq=seq), PARSERS).letters
        begun = Position(LOG, seq - 4) if commits else None
        positions = {"store": Position(LOG, seq)}
        commits.append(Commit(positions, expected={"store": begun}, dead_letters=rows))
    assert [store.commit(each).letters for each in (commits[0], *commits)] == [
        {("coinbase", "bad_size"): 1},
        {("coinbase", "bad_size"): 1},
        {},
    ]
    assert len(store.table("dead_letters")) == 1


def test_empty_tables_store_nothing_and_move_the_cursor(store: TableStore) -> None:
    nothing = Commit(
        {"store": Position(LOG, 4)},
        events={"trades": as_events(KINDS["trade"].schema.empty_table())},
        dead_letters=schema.DEAD_LETTERS.empty_table(),
    )
    assert said(store.commit(nothing)) == (0, 0, 0)
    assert store.load().positions == {"store": Position(LOG, 4)}


# ------------------------------------------------------------------------ idempotence


def test_the_same_commit_twice_is_stored_once(store: TableStore) -> None:
    trades = [ONE, Told(2), Told(3, symbol="ETH-USD")]
    assert said(store.commit(commit(*trades))) == (3, 0, 0)
    before = trades_of(store)
    assert said(store.commit(commit(*trades, seq=2))) == (0, 3, 0)
    assert said(store.commit(commit(*trades, covered=[True] * 3))) == (0, 3, 0)
    assert (trades_of(store), conflicts_of(store)) == (before, [])


def test_overlapping_batches_and_repetition_within_one_are_stored_once(store: TableStore) -> None:
    store.commit(commit(*[Told(native) for native in range(1, 6)]))
    done = store.commit(commit(*[Told(native) for native in (4, 6, 5, 6, 7, 6, 4)]))
    assert said(done) == (2, 5, 0)
    assert sorted(store.table("trades")["trade_id"].to_pylist()) == list("1234567")


def test_events_that_coverage_does_not_vouch_for_are_looked_for(store: TableStore) -> None:
    """Of classes without numbers nobody can say that an event is new."""
    trades = [Told(1, symbol="ETH-USD"), Told(2, symbol="ETH-USD")]
    for seq, expected in ((1, (2, 0, 0)), (2, (0, 2, 0))):
        assert said(store.commit(commit(*trades, seq=seq))) == expected


def vouched(*trades: Told, new: list[bool], seq: int, first_seq: int) -> Commit:
    events = events_of(
        *trades, seen_before=[not each for each in new], vouched_new=new, first_seq=first_seq
    )
    return Commit({"store": Position(LOG, seq)}, events={"trades": events})


def test_one_id_twice_in_a_batch_is_new_if_coverage_lacked_either(store: TableStore) -> None:
    """Rows come in the order of the journal, and coverage may have met them in another."""
    trades = [ONE, Told(2), ONE.but(price="2")]
    done = store.commit(vouched(*trades, new=[False, True, True], seq=1, first_seq=1))
    assert said(done) == (2, 0, 1)
    assert trades_of(store) == plain_rows(rows_of(ONE, Told(2)), "seq")


def test_a_commit_that_is_repeated_says_the_same_again(store: TableStore) -> None:
    """Its answer may have been lost, and what coverage vouched for is there by then."""
    store.commit(vouched(ONE, new=[True], seq=2, first_seq=1))
    trades = [Told(2), ONE.but(price="2"), Told(3), Told(2), ONE]
    made = vouched(*trades, new=[True, False, True, True, False], seq=9, first_seq=2)
    done = store.commit(made)
    assert done.first["trades"].tolist() == [True, False, True, False, False]
    assert said(done) == (2, 2, 1)
    for _ in range(2):
        again = store.commit(made)
        assert again.first["trades"].tolist() == done.first["trades"].tolist()
        assert again.conflicts == 1
    assert len(trades_of(store)) == 3


def test_a_store_knows_which_frame_told_an_event_first(store: TableStore) -> None:
    mine, theirs = rows_of(ONE, Told(2), ONE), rows_of(Told(2), Told(3), first_seq=50)
    for seq, rows in enumerate((mine, theirs), 1):
        store.commit(Commit({"store": Position(LOG, seq)}, events={"trades": as_events(rows)}))
    assert store.first_told("trades", mine).tolist() == [True, True, False]
    assert store.first_told("trades", theirs).tolist() == [False, True]


def test_a_frame_of_another_journal_is_another_frame(store: TableStore) -> None:
    """A journal that was begun anew counts its frames from the start."""
    mine = rows_of(ONE, Told(2))
    place = mine.column_names.index("log_id")
    log_ids = pa.array(["f" * 32] * 2).dictionary_encode()
    theirs = mine.set_column(place, mine.schema.field(place), log_ids)
    store.commit(Commit({"store": Position(LOG, 2)}, events={"trades": as_events(mine)}))
    told = Commit({"store": Position("f" * 32, 2)}, events={"trades": as_events(theirs)})
    assert said(store.commit(told)) == (0, 2, 0)
    assert store.first_told("trades", theirs).tolist() == [False, False]
    assert store.first_told("trades", mine).tolist() == [True, True]


def test_streams_of_two_markets_with_one_symbol_do_not_meet(store: TableStore) -> None:
    told = {market: rows_of(ONE, Told(2), market=market) for market in ("spot", "perpetual")}
    for seq, rows in enumerate(told.values(), 1):
        done = store.commit(
            Commit({"store": Position(LOG, seq)}, events={"trades": as_events(rows)})
        )
        assert said(done) == (2, 0, 0)
    assert sorted(store.table("trades")["market"].to_pylist()) == ["perpetual"] * 2 + ["spot"] * 2
    perpetual, whole = KEY._replace(market="perpetual"), IdCoverage(epochs={"e8": 30})
    whole.live.add(1, 30)
    for seq, changed in enumerate(
        ({KEY: coverage(), perpetual: coverage()}, {perpetual: whole}), 3
    ):
        store.commit(Commit({"store": Position(LOG, seq)}, coverage=changed))
    assert dict(store.load().coverage) == {KEY: coverage(), perpetual: whole}


def test_rows_in_chunks_and_slices_are_the_rows_they_are(store: TableStore) -> None:
    rows = rows_of(*[Told(native) for native in (9, 1, 2, 1, 2, 3)])
    chunked = pa.concat_tables([rows.slice(1, 2), rows.slice(3, 3)])
    done = store.commit(Commit({"store": Position(LOG, 1)}, events={"trades": as_events(chunked)}))
    assert said(done) == (3, 2, 0)
    assert sorted(store.table("trades")["trade_id"].to_pylist()) == ["1", "2", "3"]


def test_a_duplicate_far_from_the_rest_of_its_batch_is_found(store: TableStore) -> None:
    times = [T0 - hours * HOUR for hours in range(40)]
    old = [Told(100 - index, time_ns=time_ns) for index, time_ns in enumerate(times)]
    store.commit(commit(*old))
    done = store.commit(commit(Told(500), old[39], Told(501), old[3], *old[10:30]))
    assert said(done) == (2, 22, 0)


# -------------------------------------------------------------------------- conflicts

OTHER_CONTENT = {
    "price": {"price": "10000.02"},
    "size": {"size": "0.500000000000000001"},
    "side": {"side": "sell"},
    "time": {"time_ns": T0 + 1000},
}


@pytest.mark.parametrize("changed", OTHER_CONTENT.values(), ids=OTHER_CONTENT)
def test_other_content_under_a_known_id_is_a_conflict_and_the_first_stays(
    store: TableStore, changed: dict[str, object]
) -> None:
    store.commit(commit(ONE))
    before = trades_of(store)
    near = "time_ns" not in changed  # a row that coverage does not know is looked for at its time
    for covered in ([not near], [True], [True]):
        assert said(store.commit(commit(ONE.but(**changed), covered=covered))) == (0, 0, 1)
    assert trades_of(store) == before
    assert conflicts_of(store) == [str(rows_of(ONE)["event_id"][0].as_py())], (
        "told thrice, kept once"
    )
    assert store.table("conflicts")["table"].to_pylist() == ["trades"]


@pytest.mark.parametrize("later_ns", [-60 * SECOND, -1000, 1000, 60 * SECOND])
def test_a_conflict_a_minute_away_is_found_though_coverage_knows_nothing_of_it(
    store: TableStore, later_ns: int
) -> None:
    store.commit(commit(ONE))
    assert said(store.commit(commit(ONE.but(time_ns=T0 + later_ns)))) == (0, 0, 1)
    assert trades_of(store) == plain_rows(rows_of(ONE), "seq")


def test_a_conflict_hours_away_is_found_where_coverage_knows_the_id(store: TableStore) -> None:
    store.commit(commit(ONE))
    far = ONE.but(time_ns=T0 - 72 * HOUR)
    done = store.commit(commit(Told(2), far, covered=[False, True]))
    assert said(done) == (1, 0, 1)
    assert len(trades_of(store)) == 2
    assert len(conflicts_of(store)) == 1


def test_a_conflict_within_one_batch_is_found(store: TableStore) -> None:
    far = ONE.but(time_ns=T0 - 72 * HOUR)
    done = store.commit(commit(ONE, ONE.but(price="2"), ONE, far, ONE.but(price="2")))
    assert said(done) == (1, 1, 3)
    assert trades_of(store) == plain_rows(rows_of(ONE), "seq")
    assert len(conflicts_of(store)) == 2


def test_a_conflict_hours_away_is_found_beside_the_stored_version(store: TableStore) -> None:
    store.commit(commit(ONE))
    far = ONE.but(time_ns=T0 - 72 * HOUR)
    assert said(store.commit(commit(ONE, far))) == (0, 1, 1)
    assert said(store.commit(commit(far, ONE))) == (0, 1, 1)
    assert len(conflicts_of(store)) == 1


def test_each_other_content_is_a_conflict_of_its_own(store: TableStore) -> None:
    store.commit(commit(ONE))
    store.commit(commit(ONE.but(price="2"), ONE.but(price="3")))
    store.commit(commit(ONE.but(price="3"), ONE.but(price="4")))
    assert len(conflicts_of(store)) == 3


def test_receipt_precision_and_flags_are_no_conflict(store: TableStore) -> None:
    store.commit(commit(ONE))
    before = trades_of(store)
    finer = ONE.but(time="2021-04-17T16:43:37.000000999Z")
    later = ONE.but(received_ns=T0 + 100 * SECOND)
    assert said(store.commit(commit(finer, later))) == (0, 2, 0)
    assert (trades_of(store), conflicts_of(store)) == (before, [])


def test_trailing_zeros_are_no_conflict(store: TableStore) -> None:
    store.commit(commit(ONE.but(price="1.50")))
    assert said(store.commit(commit(ONE.but(price="1.5000")))) == (0, 1, 0)


# ------------------------------------------------------------------------- whole path


def halves() -> tuple[list[bytes], list[int]]:
    frames = [frame for frame in recorded(COINBASE) if b"match" in frame.payload[:30]]
    return [frame.payload for frame in frames], [frame.received_ns for frame in frames]


def test_overlapping_halves_of_a_recording_in_either_order_are_the_whole(tmp_path: Path) -> None:
    payloads, received = halves()
    third = len(payloads) // 3
    parts = [
        batch(payloads[low:high], context("file", f"e{low}"), received_ns=received[low:high])
        for low, high in ((0, len(payloads)), (0, 2 * third), (third, len(payloads)))
    ]
    found = []
    for number, runs in enumerate(([0], [1, 2], [2, 1], [2, 1, 2, 0, 1], [0, 0])):
        for store in (MemoryStore(), DuckDBStore(tmp_path / f"{number}.duckdb")):
            deliver(store, [[parts[run]] for run in runs])
            way = ("collector", "epoch", "log_id", "seq")  # by which it came first
            trades = plain_rows(store.table("trades"), *way)
            tables = ("coverage", "gaps", "dead_letters")
            found.append([trades, *(plain_rows(store.table(name)) for name in tables)])
            assert conflicts_of(store) == []
            store.close()
    assert len(found[0][0]) == len(payloads)
    assert found[1:] == found[:1] * (len(found) - 1)
