"""What a ClickHouse server may do to a store that an embedded database does not."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING
from uuid import UUID

import pyarrow as pa
import pytest

from forebay.domain.coverage import IdCoverage, StreamKey
from forebay.domain.kinds import KINDS
from forebay.errors import (
    ConfigError,
    Corrupt,
    CursorMoved,
    RowsRefused,
    TableUnavailable,
    Transient,
    Unreachable,
)
from forebay.journal import Position
from forebay.lab.servers import free_port
from forebay.ports import Commit
from tests.support.clickhouse import a_clickhouse, a_database, running_clickhouse
from tests.support.clickhouse_stores import a_clickhouse_store, another_store, doubled
from tests.support.delivery import as_events, events_of, plain_rows
from tests.support.frames import LOG, SECOND, T0, Told, rows_of
from tests.support.memory_store import MemoryStore
from tests.support.store_histories import content, history

pytest.importorskip("clickhouse_connect")

from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError

from forebay.stores.clickhouse.commits import Intent
from forebay.stores.clickhouse.ddl import WINDOW
from forebay.stores.clickhouse.errors import translate
from forebay.stores.clickhouse.plan import state_part
from forebay.stores.clickhouse.session import Target
from forebay.stores.clickhouse.store import ClickHouseStore

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = StreamKey("coinbase", "spot", "trade", "BTC-USD")
DAY = 24 * 3600 * SECOND


@pytest.fixture
def store() -> Iterator[ClickHouseStore]:
    with a_clickhouse_store() as made:
        yield made


def at(seq: int) -> Position:
    return Position(LOG, seq)


def commit(
    seq: int, *trades: Told, chain: str = "store", before: int = 0, without_refused: bool = False
) -> Commit:
    return Commit(
        {chain: at(seq)},
        expected={chain: at(before) if before else None},
        events={"trades": events_of(*trades, first_seq=seq)},
        without_refused=without_refused,
    )


def run(store: ClickHouseStore, statement: str, table: str) -> None:
    """Run what an administrator may; ``{}`` stands for the table's whole name."""
    store._session.run(statement.format(store._session.name(table)))


def number(store: ClickHouseStore, statement: str, table: str) -> int:
    rows = store._session.rows(statement.format(store._session.name(table)))
    found: int = rows.column(0)[0].as_py()
    return found


# ------------------------------------------------------------------------------- partitions


def daily(days: int, first_seq: int = 1) -> pa.Table:
    """Build a bar a day."""
    told = [Told(day + 1, time_ns=T0 - day * DAY) for day in range(days)]
    rows = rows_of(*told, first_seq=first_seq)
    times = rows["event_ts"]
    one = pa.array([1] * days, pa.int64())
    price = rows["price"]
    cells = {
        **dict.fromkeys(("open", "high", "low", "close", "volume"), price),
        **dict.fromkeys(("open_ts", "close_ts"), times),
        **{name: pa.array([text] * days) for name, text in BAR_TEXTS.items()},
        "adjusted": pa.array([False] * days),
        "trades": one,
        "revision": one,
        "vwap": price,
    }
    return pa.table(
        [cells.get(field.name, rows[field.name] if field.name in rows.column_names else None)
         for field in KINDS["bar"].schema],
        schema=KINDS["bar"].schema,
    )  # fmt: skip


BAR_TEXTS = {
    "timeframe": "1d",
    "session": "UTC",
    "of": "trade",
    "origin": "venue",
    "state": "final",
}


def test_a_thousand_daily_bars_are_stored_and_one_more_does_not_double_them(
    store: ClickHouseStore,
) -> None:
    for seq, days in ((1, 1000), (2, 1001)):
        bars = as_events(daily(days, first_seq=seq))
        done = store.commit(Commit({"store": at(seq)}, events={"bars": bars}))
        assert done.inserted == (1000 if seq == 1 else 1)
    assert plain_rows(store.table("bars"), "seq") == plain_rows(daily(1001), "seq")
    assert doubled(store) == {}


# --------------------------------------------------------------------------------- refusals


@contextlib.contextmanager
def checked(store: ClickHouseStore) -> Iterator[None]:
    """Have a CHECK on trades while the context is open."""
    run(store, "ALTER TABLE {} ADD CONSTRAINT cheap CHECK price < 20000", "trades_rows")
    try:
        yield
    finally:
        run(store, "ALTER TABLE {} DROP CONSTRAINT IF EXISTS cheap", "trades_rows")


TRADES = [Told(index) for index in range(1, 100)]
MIXED = [*TRADES[:50], TRADES[50].but(price="99999"), *TRADES[51:]]


def test_a_row_that_is_refused_holds_its_chain_and_no_other(store: ClickHouseStore) -> None:
    with checked(store):
        for _ in range(2):
            with pytest.raises(RowsRefused, match="469"):
                store.commit(commit(1, *MIXED))
            assert store.load().positions == {}
        store.commit(commit(7, Told(500), chain="other"))
        assert store.load().positions == {"other": at(7)}
        done = store.commit(commit(1, *MIXED, without_refused=True))
        assert store.load().positions == {"other": at(7), "store": at(1)}
    (refused,) = done.refused["trades"]
    assert refused.row == 50
    assert "cheap" in refused.error
    assert done.first["trades"].tolist() == [row != 50 for row in range(99)]
    letters = store.table("dead_letters")
    assert letters["reason"].to_pylist() == ["refused_by_store"]
    assert b"99999" in letters["payload"][0].as_py()
    assert len(store.table("trades")) == 99
    assert doubled(store) == {}


def test_a_refused_row_is_left_out_at_once_if_that_is_wanted(store: ClickHouseStore) -> None:
    wanted = commit(1, *MIXED, without_refused=True)
    with checked(store):
        done = store.commit(wanted)
        again = store.commit(wanted)
    for said in (done, again):
        assert [row.row for row in said.refused["trades"]] == [50]
    assert (len(store.table("trades")), len(store.table("dead_letters"))) == (98, 1)
    assert doubled(store) == {}


def test_refused_rows_of_another_commit_are_finished_before_this_one(
    store: ClickHouseStore,
) -> None:
    with checked(store):
        with pytest.raises(RowsRefused):
            store.commit(commit(1, *MIXED))
        with pytest.raises(RowsRefused):
            store.commit(commit(2, *MIXED, Told(200)))
        with pytest.raises(CursorMoved):
            store.commit(commit(2, *MIXED, Told(200), without_refused=True))
    assert store.load().positions == {"store": at(1)}
    assert len(store.table("dead_letters")) == 1


@pytest.mark.parametrize("vouched", [False, True])
def test_a_table_that_is_gone_holds_those_who_need_it(
    store: ClickHouseStore, *, vouched: bool
) -> None:
    bars = Commit({"bars": at(1)}, events={"bars": as_events(daily(3), (), [vouched] * 3)})
    here, away = (store._session.name(name) for name in ("bars_rows", "bars_away"))
    store._session.run(f"RENAME TABLE {here} TO {away}")
    try:
        for seq in range(1, 4):
            with pytest.raises(TableUnavailable, match="bars"):
                store.commit(bars)
            store.commit(commit(seq, Told(seq), before=seq - 1))
            assert store.load().positions == {"store": at(seq)}
    finally:
        store._session.run(f"RENAME TABLE {away} TO {here}")
    assert store.commit(bars).inserted == 3
    assert store.load().positions == {"store": at(3), "bars": at(1)}
    assert len(store.table("bars")) == 3
    assert doubled(store) == {}


# ------------------------------------------------------------------------------------ flags


def flagged(rows: pa.Table, flags: str) -> pa.Table:
    place = rows.column_names.index("flags")
    return rows.set_column(place, rows.schema.field(place), pa.array([flags] * len(rows)))


def test_a_stored_event_becomes_ambiguous_once(store: ClickHouseStore) -> None:
    model, trades = MemoryStore(), [Told(1), Told(2)]
    plain, again = rows_of(*trades), rows_of(*trades, Told(3), Told(3), first_seq=9)
    marked = pa.concat_tables(
        [again.slice(0, 1), again.slice(2, 1), flagged(again.slice(3), "ambiguous")]
    )
    steps = [flagged(plain, "late"), marked, flagged(again.slice(0, 1), "ambiguous")]
    for seq, rows in enumerate([*steps, steps[-1]], 1):
        for each in (store, model):
            each.commit(Commit({"store": at(seq)}, events={"trades": as_events(rows)}))
        assert plain_rows(store.table("trades")) == plain_rows(model.table("trades"))
    assert sorted(store.table("trades")["flags"].to_pylist()) == [
        "ambiguous",
        "late",
        "late,ambiguous",
    ]
    assert doubled(store) == {}


def test_coverage_and_ordinals_of_a_stream_are_replaced_apart(store: ClickHouseStore) -> None:
    seen = IdCoverage(epochs={"e1": 5})
    seen.live.add(1, 5)
    store.commit(Commit({"store": at(1)}, coverage={KEY: seen}, ordinals={KEY: b"\x00\xff"}))
    seen.live.add(6, 9)
    store.commit(Commit({"store": at(2)}, coverage={KEY: seen}))
    state = store.load()
    assert (dict(state.coverage), dict(state.ordinals)) == ({KEY: seen}, {KEY: b"\x00\xff"})


# ------------------------------------------------------------------------- lost and late


def lost_token(store: ClickHouseStore, table: str, token: str, values: str) -> None:
    """Leave what a kill in the midst of an insert does: the token, and not the rows."""
    store._session.run(
        f"INSERT INTO {store._session.name(table)} {values}",
        insert_deduplication_token=token,
        async_insert=0,
    )


def test_a_step_that_a_killed_server_lost_is_passed_over(store: ClickHouseStore) -> None:
    lost_token(store, "commits", "store:1", "(chain, step) VALUES ('nobody', 0)")
    assert store.commit(commit(1, Told(1))).inserted == 1
    assert store.commit(commit(2, Told(2), before=1)).inserted == 1
    assert store.load().positions["store"] == at(2)


def test_what_an_intent_has_stored_is_recognised_once_the_intent_is_too_old(
    store: ClickHouseStore,
) -> None:
    """A server may be away for longer than it keeps the log."""
    events = as_events(rows_of(*TRADES), vouched_new=[True] * len(TRADES))
    wanted = Commit({"store": at(1)}, events={"trades": events})
    owner = another_store()
    insert = owner._session.insert

    def until_state(table: str, *arguments: object, **more: object) -> None:
        if table == "state":
            raise Unreachable("It went.")
        insert(table, *arguments, **more)  # type: ignore[arg-type]

    owner._session.insert = until_state  # type: ignore[method-assign]
    with pytest.raises(Unreachable):
        owner.commit(wanted)
    store._session.run(
        f"ALTER TABLE {store._session.name('commits')} DELETE WHERE 1",
        mutations_sync=2,
    )
    assert store.load().positions == {}
    assert store.commit(wanted).inserted == len(TRADES)
    assert doubled(store) == {}
    owner.close()


def test_rows_that_a_killed_server_lost_are_stored_again(store: ClickHouseStore) -> None:
    owner = another_store()
    owner.load()
    pending: list[Intent] = []

    def never(intent: Intent, **_: object) -> None:
        pending.append(intent)
        raise Unreachable("It went.")

    owner._log.apply = never  # type: ignore[method-assign, assignment]
    with pytest.raises(Unreachable):
        owner.commit(commit(1, *TRADES))
    (intent,) = pending
    lost_token(
        store,
        "trades_rows",
        f"{intent.writer}:trades:202104",
        f"(event_id, event_ts) VALUES ('{UUID(int=1)}', '2021-04-17 16:43:37')",
    )
    assert store.load().positions == {"store": at(1)}
    assert len(store.table("trades")) == len(TRADES) + 1
    assert store.commit(commit(1, *TRADES)).inserted == len(TRADES)
    assert len(store.table("trades")) == len(TRADES) + 1
    owner.close()


def test_a_step_is_written_once(store: ClickHouseStore) -> None:
    """It is the server that decides between two owners, whenever their requests arrive."""
    part = state_part(("store", 1, "x"), 1, {}, {}, {})
    intents = [Intent("store", 1, 1, writer, [part]) for writer in ("b", "a", "c")]
    for intent in intents:
        store._log.write(intent)
    assert number(store, "SELECT count() FROM {}", "commits") == 1
    assert {store._log.winner(intent) for intent in intents} == {"b"}


def test_an_intent_that_comes_after_the_window_changes_nothing(store: ClickHouseStore) -> None:
    model, commits = MemoryStore(), list(history(2, 4))
    for each in commits[:1]:
        store.commit(each)
    former = another_store()
    former.load()
    late: list[Intent] = []
    write = former._log.write
    former._log.write = late.append  # type: ignore[method-assign, assignment]
    with pytest.raises(Transient):
        former.commit(commits[1])
    for each in commits[1:3]:
        store.commit(each)
    setting = "ALTER TABLE {{}} MODIFY SETTING non_replicated_deduplication_window = {}"
    run(store, setting.format(0), "commits")
    try:
        write(late[0])
        assert number(store, "SELECT count() FROM {}", "commits") == 4
        assert former._log.winner(late[0]) != late[0].writer
        assert store.load().positions == commits[2].positions
        store.commit(commits[3])
    finally:
        run(
            store,
            f"ALTER TABLE {{}} MODIFY SETTING non_replicated_deduplication_window = {WINDOW}",
            "commits",
        )
    for each in commits:
        model.commit(each)
    assert content(store) == content(model)
    assert doubled(store) == {}
    former.close()


# ----------------------------------------------------------------------- servers and people


def test_nobody_answers(store: ClickHouseStore) -> None:
    away = ClickHouseStore(Target(f"http://127.0.0.1:{free_port()}"))
    for ask in (away.load, lambda: away.commit(commit(1, Told(1)))):
        with pytest.raises(Unreachable, match="the url of the store"):
            ask()


def test_a_server_that_stands_still_is_noticed_and_goes_on(store: ClickHouseStore) -> None:
    server = a_clickhouse()
    waiting = ClickHouseStore(
        Target(server.url, store._target.database, options={"send_receive_timeout": "1"})
    )
    waiting.load()
    server.freeze()
    with pytest.raises(Unreachable):
        waiting.commit(commit(1, Told(1)))
    server.thaw()
    assert waiting.commit(commit(1, Told(1))).inserted == 1
    assert doubled(store) == {}
    waiting.close()


def test_a_server_that_was_started_again_is_found(store: ClickHouseStore) -> None:
    store.commit(commit(1, Told(1)))
    server = a_clickhouse()
    server.kill()
    with pytest.raises(Unreachable):
        store.commit(commit(2, Told(2), before=1))
    asyncio.run(server.start())
    assert store.commit(commit(2, Told(2), before=1)).inserted == 1


@pytest.mark.parametrize("url", ["", "http://", "tcp://host:9000", "http://host:port", "//"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="address"):
        Target(url)


def test_a_database_of_others_is_left_alone() -> None:
    server = a_clickhouse()
    with a_database(server) as database:
        server.ask(f"CREATE DATABASE {database}")
        server.ask(f"CREATE TABLE {database}.trades (x Int8) ENGINE = Memory")
        with pytest.raises(ConfigError, match="trades is not one of our tables"):
            ClickHouseStore(Target(server.url, database)).load()


def test_a_database_of_a_newer_forebay_is_left_alone(store: ClickHouseStore) -> None:
    run(store, "INSERT INTO {} (schema_version) VALUES (99)", "meta")
    try:
        with pytest.raises(ConfigError, match="newer"):
            another_store().load()
    finally:
        run(store, "ALTER TABLE {} DELETE WHERE schema_version = 99", "meta")


PROFILE = {
    "async_insert": "1",
    "wait_for_async_insert": "0",
    "insert_deduplicate": "0",
    "do_not_merge_across_partitions_select_final": "1",
    "output_format_arrow_string_as_string": "1",
    "join_use_nulls": "1",
    "max_partitions_per_insert_block": "1",
    "max_query_size": "10000",
}


@pytest.mark.drill
def test_a_profile_of_an_administrator_changes_nothing() -> None:
    """What is acknowledged is there, also if the server is killed right after it."""
    with running_clickhouse(settings=PROFILE) as server:
        store, model = ClickHouseStore(Target(server.url)), MemoryStore()
        for each in history(5, 8):
            store.commit(each)
            model.commit(each)
        mine = [Told(10_000 + index) for index in range(100)]
        done = store.commit(commit(5000, *mine, chain="last"))
        server.kill()
        asyncio.run(server.start())
        assert done.inserted == len(mine)
        assert len(store.table("trades")) == len(model.table("trades")) + len(mine)
        assert doubled(store) == {}
        store.close()


CODES = [
    (None, False, Unreachable),
    (516, False, Unreachable),
    (81, True, Unreachable),
    (469, True, RowsRefused),
    (469, False, Transient),
    (60, True, TableUnavailable),
    (60, False, Transient),
    (242, True, TableUnavailable),
    (241, True, Transient),
    (252, True, Transient),
    (243, False, Transient),
    (40, False, Corrupt),
    (12345, True, Transient),
]


@pytest.mark.parametrize(("code", "events", "kind"), CODES)
def test_what_a_server_says_becomes_an_error_of_ours(
    code: int | None, kind: type[Exception], *, events: bool
) -> None:
    said = f"Received ClickHouse exception, code: {code}, server response: Code: {code}. "
    said += "DB::Exception: It is so. (WHY) (version 26.9.2.1) (for url http://h:1)"
    driver = OperationalError("no route") if code is None else DatabaseError(said, code=code)
    error = translate(driver, events="trades" if events else "")
    assert type(error) is kind
    assert "http://" not in error.message
    assert code is None or "It is so" in error.message
