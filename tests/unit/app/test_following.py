"""Following: each event once, in the order of the journal, whatever the store does meanwhile."""

from __future__ import annotations

import itertools
import threading
from functools import partial
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import forebay
from forebay.app.following import BEGINNING, LONGEST_S, PATIENCE_S, Follow, position_of
from forebay.app.offline.replay import replay
from forebay.app.wiring.config import Config
from forebay.app.wiring.data_folder import DataFolder
from forebay.clock import ManualClock
from forebay.errors import ConfigError, Permanent, Unreachable
from forebay.telemetry import ignore
from tests.support.frames import T0, match, rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

LOGS = ("a" * 32, "b" * 32, "c" * 32)


class Store:
    """A store whose journal goes on at each wait, as a script says."""

    def __init__(self, *steps: Callable[[], object]) -> None:
        self.db = duckdb.connect()
        self.db.execute(
            "CREATE TABLE trades (log_id VARCHAR, seq BIGINT, event_ts TIMESTAMP_NS, "
            "event_id BIGINT, symbol VARCHAR)"
        )
        self.db.execute("CREATE TABLE cursors (consumer VARCHAR, log_id VARCHAR, seq BIGINT)")
        self.clock = ManualClock()
        self.stop = threading.Event()
        self.steps = list(steps)
        self.waited: list[float] = []
        self.error: Exception | None = None
        self.most = 0

    def commit(self, log: str, end: int, *events: tuple[int, int]) -> None:
        """Store events, ``(seq, id)``, and say that all before ``end`` is stored."""
        rows = [
            (log, seq, number, "BTC-USD" if number % 2 else "ETH-USD") for seq, number in events
        ]
        for row in rows:
            self.db.execute("INSERT INTO trades VALUES (?, ?, make_timestamp_ns(0), ?, ?)", row)
        self.db.execute("DELETE FROM cursors")
        self.db.execute("INSERT INTO cursors VALUES ('store', ?, ?)", [log, end])

    def query(self, text: str) -> pa.Table:
        if self.error is not None:
            raise self.error
        found = self.db.sql(text).to_arrow_table()
        self.most = max(self.most, len(found))
        return found

    def wait(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.clock.advance(seconds)
        if self.steps:
            self.steps.pop(0)()
        else:
            self.stop.set()

    def follow(
        self, after: str | None = None, *, rows: int = 1000, where: Sequence[str] = ()
    ) -> Follow:
        return Follow(
            query=self.query,
            table="trades",
            arrival="rowid",
            where=where,
            place=BEGINNING if after is None else position_of(after) if after else None,
            rows=rows,
            floats=False,
            utc=False,
            stop=self.stop,
            clock=self.clock,
            wait=self.wait,
        )


def ids(tables: Sequence[pa.Table]) -> list[int]:
    return [number for table in tables for number in table["event_id"].to_pylist()]


def test_it_begins_behind_what_is_stored() -> None:
    store = Store()
    store.commit(LOGS[0], 5, (1, 1), (4, 2))
    store.steps = [lambda: store.commit(LOGS[0], 9, (5, 3), (8, 4))]

    assert ids(list(store.follow(""))) == [3, 4]


def test_from_the_beginning_it_goes_through_all_logs_in_their_order() -> None:
    store = Store()
    store.commit(LOGS[2], 5, (1, 1), (4, 2))
    store.commit(LOGS[0], 3, (1, 3))
    store.commit(LOGS[1], 7, (2, 4))
    follow = store.follow()

    assert ids(list(follow)) == [1, 2, 3, 4]
    assert follow.position == f"{LOGS[1]}-7"


def test_a_log_that_ends_is_told_to_its_end_before_the_next_one() -> None:
    store = Store()
    store.commit(LOGS[0], 3, (1, 1))

    def lost() -> None:
        store.commit(LOGS[0], 6, (5, 2))
        store.commit(LOGS[1], 4, (1, 3))

    store.steps = [lost]
    assert ids(list(store.follow(f"{LOGS[0]}-2"))) == [2, 3]


def test_each_table_says_where_to_go_on() -> None:
    store = Store()
    store.commit(LOGS[0], 9, *((seq, seq) for seq in range(1, 9)))
    first = next(store.follow(rows=3))
    position = first.schema.metadata[b"position"].decode()

    assert ids([first]) == [1, 2, 3]
    assert ids(list(store.follow(position, rows=3))) == [4, 5, 6, 7, 8]


@settings(max_examples=25)
@given(
    st.lists(st.integers(1, 6), max_size=12),
    st.integers(1, 4),
    st.lists(st.booleans(), min_size=30),
)
def test_cut_anywhere_and_resumed_it_neither_skips_nor_doubles(
    sizes: list[int], rows: int, cuts: list[bool]
) -> None:
    """Frames of so many events; the follower is thrown away after some of its tables."""
    store, expected = Store(), []
    number = 0
    for seq, size in enumerate(sizes, 1):
        events = [(seq, number + place) for place in range(size)]
        number += size
        expected += [each for _, each in events]
        store.steps.append(partial(store.commit, LOGS[0], seq + 1, *events))
    told: list[pa.Table] = []
    follow = store.follow(rows=rows)
    for cut in (*cuts, *[False] * 100):
        table = next(follow, None)
        if table is None:
            break
        told.append(table)
        if cut:
            follow = store.follow(follow.position, rows=rows)
    assert ids(told) == expected
    assert all(len({*table["seq"].to_pylist()}) == 1 or len(table) <= rows for table in told)
    assert store.most <= max([rows + 1, *sizes])


def test_conditions_are_kept_and_what_does_not_meet_them_is_passed_over() -> None:
    store = Store()
    store.commit(LOGS[0], 9, *((seq, seq) for seq in range(1, 9)))
    assert ids(list(store.follow(rows=2, where=["symbol = 'ETH-USD'"]))) == [2, 4, 6, 8]


def test_a_store_that_is_behind_a_position_is_waited_for() -> None:
    store = Store()
    store.commit(LOGS[0], 3, (1, 1))  # put back from an older copy
    store.steps = [lambda: store.commit(LOGS[0], 8, (5, 2), (7, 3))]
    assert ids(list(store.follow(f"{LOGS[0]}-6"))) == [3]


def test_waits_grow_while_nothing_comes_and_begin_again_after_something() -> None:
    store = Store()
    store.steps = [*[lambda: None] * 8, lambda: store.commit(LOGS[0], 2, (1, 1))]
    assert ids(list(store.follow())) == [1]
    quiet, after = store.waited[:9], store.waited[9:]
    assert quiet == sorted(quiet)
    assert (quiet[0], quiet[-1]) == (0.05, LONGEST_S)
    assert after == [0.05]


def test_a_store_that_is_away_is_waited_for_however_long() -> None:
    store = Store()
    store.commit(LOGS[0], 3, (1, 1))
    store.error = Unreachable("It is away.")

    def back() -> None:
        store.error = None

    store.steps = [lambda: store.clock.advance(100_000), back]
    assert ids(list(store.follow())) == [1]


def test_a_store_that_is_invalid_for_a_moment_is_waited_for_and_not_for_ever() -> None:
    store = Store()
    store.commit(LOGS[0], 3, (1, 1))
    store.error = Permanent("There is no table trades.")

    def back() -> None:
        store.error = None

    store.steps = [lambda: None, back]
    assert ids(list(store.follow())) == [1]

    store.stop.clear()
    store.error = Permanent("There is no table trades.")
    store.steps += [lambda: None] * 1000
    before = store.clock.monotonic_ns()
    with pytest.raises(Permanent):
        next(store.follow())
    assert PATIENCE_S <= (store.clock.monotonic_ns() - before) / 1e9 <= PATIENCE_S + 2


def test_close_and_stop_end_it() -> None:
    store = Store()
    store.commit(LOGS[0], 3, (1, 1))
    with store.follow() as follow:
        assert len(list(zip(follow, range(1), strict=False))) == 1
    assert list(follow) == []
    store.stop.set()
    assert list(store.follow()) == []


def test_an_interrupt_passes_through_and_the_position_is_kept() -> None:
    store = Store()
    store.commit(LOGS[0], 3, (1, 1))

    def interrupt() -> None:
        raise KeyboardInterrupt

    store.steps = [interrupt]
    follow = store.follow()
    with pytest.raises(KeyboardInterrupt):
        list(follow)
    assert follow.position == f"{LOGS[0]}-3"


@pytest.mark.parametrize("wrong", ["", "abc", f"{LOGS[0]}", f"{LOGS[0]}-x", f"{LOGS[0]}--1"])
def test_what_is_no_position_is_refused(wrong: str) -> None:
    with pytest.raises(ConfigError, match="no position"):
        position_of(wrong)


def test_a_folder_without_a_capture_is_followed_through_replays(tmp_path: Path) -> None:
    folder, clock = DataFolder(tmp_path / "data"), ManualClock()
    numbers = iter(range(1, 7))
    stop = threading.Event()

    def more(_: float = 0.0) -> None:
        numbered = [*itertools.islice(numbers, 2)]
        if not numbered:
            stop.set()
            return
        file = tmp_path / f"{numbered[0]}.rec"
        lines = [
            b"%.1f: %s\n" % (T0 / 1e9 + each, match(each, time=rfc3339(T0 + each * 10**9)))
            for each in numbered
        ]
        file.write_bytes(b"".join(lines))
        replay([file], "coinbase", folder, Config(), clock=clock, observer=ignore)

    more()
    data = forebay.Data(folder.root, clock=clock, wait=more)
    tables = list(data.follow("BTC-USD", start="2021-01-01", floats=True, utc=True, stop=stop))

    native = [each for table in tables for each in table["trade_id"].to_pylist()]
    assert native == [str(each) for each in range(1, 7)]
    assert tables[0].schema.field("price").type == pa.float64()
    with pytest.raises(ConfigError, match="Did you mean 'BTC-USD'"):
        data.follow("BTC-USDX")
    with pytest.raises(ConfigError, match="no table 'trade'"):
        data.follow("BTC-USD", "trade")
