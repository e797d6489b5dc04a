"""One port, one exam: every store tells the audit what it has, row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.domain import schema
from forebay.domain.coverage import IdCoverage, StreamKey, TimeCoverage
from forebay.domain.digest import HOUR_NS, MINUTE_NS, Digest, digests_by_hour, id_texts
from forebay.domain.kinds import KINDS
from forebay.journal import Position
from forebay.ports import AUDIT_COLUMNS, AUDIT_TEXTS, Commit, Span
from forebay.stores.duckdb import DuckDBAudited, DuckDBReader, DuckDBStore
from tests.conformance.test_kinds_and_audit import SETTINGS, stores
from tests.support import event_tables
from tests.support.audited_stores import AUDITED, an_audited_store
from tests.support.delivery import TableStore, as_events, deliver
from tests.support.frames import LOG, T0, Told, batch, match, rows_of
from tests.support.memory_store import stored_gaps

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from forebay.ports import Audited, Store
    from tests.support.delivery import TableStore

HOUR = T0 // HOUR_NS
BEGIN = HOUR * HOUR_NS
QUOTED = """A"B'C|D%;--{E}\\n"""
KEY = StreamKey("coinbase", "spot", "trade", "BTC-USD")


@pytest.fixture(params=AUDITED)
def sat(request: pytest.FixtureRequest) -> Iterator[tuple[TableStore, Audited]]:
    """Give an empty store and its part of the audit."""
    with an_audited_store(request.param) as made:
        yield made


def keep(store: Store, rows: pa.Table, kind: str = "trade", seq: int = 1) -> None:
    """Commit rows with a cursor behind their frames; ``seq`` counts the commits."""
    events = {KINDS[kind].table: as_events(rows)}
    store.commit(Commit({"store": Position(LOG, 1000 + seq)}, events=events))


def trades_at(*times: int, symbol: str = "BTC-USD", market: str = "spot") -> pa.Table:
    """Return a trade at each time, numbered from 1; frames count up with their numbers."""
    told = [
        Told(number, time_ns=time_ns, symbol=symbol, received_ns=T0 + number)
        for number, time_ns in enumerate(times, 1)
    ]
    rows = rows_of(*told, market=market, first_seq=40)
    place = rows.column_names.index("venue_symbol")
    theirs = pa.array(["their own"] * len(rows), pa.string()).dictionary_encode()
    return rows.set_column(place, rows.schema.field(place), theirs)


# ------------------------------------------------------------------------------ account


def test_an_hour_is_told_with_its_ends(sat: tuple[Store, Audited]) -> None:
    store, audited = sat
    keep(store, trades_at(BEGIN + 5000, BEGIN + 1000, BEGIN + 9000, BEGIN + HOUR_NS))
    first, second = (audited.account(Span()).hours[KEY, HOUR + after] for after in (0, 1))
    assert (first.events, first.first_ns, first.last_ns) == (3, BEGIN + 1000, BEGIN + 9000)
    assert (first.first_number, first.last_number) == (1, 3)
    assert (second.events, second.first_ns, second.last_ns) == (1, BEGIN + HOUR_NS, BEGIN + HOUR_NS)
    assert (second.first_number, second.last_number) == (4, 4)


def test_an_hour_of_events_without_numbers_has_no_ends_by_number(
    sat: tuple[Store, Audited],
) -> None:
    store, audited = sat
    rows = trades_at(BEGIN, BEGIN + 1000)
    place = rows.column_names.index("venue_seq")
    keep(store, rows.set_column(place, "venue_seq", pa.nulls(2, pa.int64())))
    (hour,) = audited.account(Span()).hours.values()
    assert (hour.events, hour.first_number, hour.last_number) == (2, None, None)


def test_a_span_takes_in_the_first_moment_of_its_hours(sat: tuple[Store, Audited]) -> None:
    store, audited = sat
    rows = trades_at(*(BEGIN + hours * HOUR_NS for hours in range(3)), BEGIN + HOUR_NS - 1000)
    keep(store, rows)
    digests = digests_by_hour(rows, KINDS["trade"])
    for span, hashed in (
        (Span(HOUR + 1), {1, 2}),
        (Span(None, HOUR + 1), {0}),
        (Span(HOUR + 1, HOUR + 2), {1}),
        (Span(HOUR + 9), set()),
    ):
        told = {place: hour.digest for place, hour in audited.account(span).hours.items()}
        assert told == {
            (key, hour): digest if hour - HOUR in hashed else None
            for (key, hour), digest in digests.items()
        }


def test_coverage_gaps_letters_and_conflicts_are_told(
    sat: tuple[TableStore, Audited],
) -> None:
    store, audited = sat
    deliver(store, [[batch([match(1), match(4), b"junk", b"more junk"])]])
    deliver(store, [[batch([match(1, price="7")], first_seq=60)]])
    store.commit(Commit({"store": Position(LOG, 61)}))  # behind all these frames
    account = audited.account(Span())
    held = account.coverage[KEY]
    assert isinstance(held, IdCoverage)
    assert (list(held.live), held.epochs) == ([(1, 1), (4, 4)], {"e1": 4})
    assert [(gap.first, gap.last) for gap in account.gaps] == [(2, 3)]
    assert list(account.gaps) == stored_gaps(store)
    assert (account.letters, account.conflicts) == (2, 1)


def test_letters_that_are_settled_are_told_apart(
    sat: tuple[TableStore, Audited],
) -> None:
    store, audited = sat
    deliver(store, [[batch([b"junk 1", b"junk 2", b"junk 3", b"junk 4"])]])
    first, second, third, fourth = letter_ids(store)
    told = [
        *((each, "replayed", "run 1") for each in (first, second, third)),
        (second, "failed", "run 1"),
        *((each, "discarded", "") for each in (first, fourth)),
    ]
    for seq, states in enumerate((told, told), 1000):
        store.commit(Commit({"store": Position(LOG, seq)}, letter_states=letter_states(*states)))
    account = audited.account(Span())
    assert (account.letters, account.replayed, account.discarded) == (4, 2, 1)


def letter_ids(store: TableStore) -> list[bytes]:
    found = store.table("dead_letters").sort_by("seq")["letter_id"].to_pylist()
    return [UUID(str(each)).bytes for each in found]


def letter_states(*told: tuple[bytes, str, str]) -> pa.Table:
    about = {"told_ts": T0, "by": "me", "reason": ""}
    rows = [{"letter_id": each, "state": state, "run": run, **about} for each, state, run in told]
    return pa.Table.from_pylist(rows, schema=schema.LETTER_STATES)


def test_connections_are_told_in_the_order_in_which_they_spoke_last(
    sat: tuple[Store, Audited],
) -> None:
    """Of many, the one that was silent longest is forgotten first."""
    store, audited = sat
    held, names = TimeCoverage(), ["b", "c", "a"]
    for after, epoch in enumerate(names):
        held.opened(epoch, T0 + after)
    store.commit(Commit({"store": Position(LOG, 1)}, coverage={KEY: held}))
    for coverage in (store.load().coverage, audited.account(Span()).coverage):
        assert list(coverage[KEY].epochs) == names


def test_an_empty_store_tells_that_it_is_empty(sat: tuple[Store, Audited]) -> None:
    account = sat[1].account(Span())
    assert (account.hours, account.coverage, list(account.gaps)) == ({}, {}, [])
    assert (account.letters, account.conflicts, account.ambiguous) == (0, 0, 0)


# -------------------------------------------------------------------- minutes and rows


def test_minutes_are_of_their_hour_and_add_up_to_it(sat: tuple[Store, Audited]) -> None:
    store, audited = sat
    ends = (BEGIN - 1000, BEGIN, BEGIN + MINUTE_NS, BEGIN + HOUR_NS - 1000, BEGIN + HOUR_NS)
    keep(store, trades_at(*ends, BEGIN + 1000))
    minutes = audited.minutes(KEY, HOUR).digests
    counts = {minute - HOUR * 60: told.count for minute, told in minutes.items()}
    assert counts == {0: 2, 1: 1, 59: 1}
    assert sum(minutes.values(), Digest()) == audited.account(Span()).hours[KEY, HOUR].digest


def test_rows_are_told_from_the_first_moment_to_before_the_last(sat: tuple[Store, Audited]) -> None:
    store, audited = sat
    keep(store, trades_at(BEGIN - 1000, BEGIN, BEGIN + 2000, BEGIN + 3000))
    rows = audited.rows(KEY, BEGIN, BEGIN + 3000).rows
    assert sorted(rows["event_ns"].to_pylist()) == [BEGIN, BEGIN + 2000]


def test_a_row_is_told_with_all_that_the_audit_compares(sat: tuple[Store, Audited]) -> None:
    store, audited = sat
    mine = trades_at(BEGIN, symbol=QUOTED)
    keep(store, mine)
    event_id = id_texts(mine)[0].as_py()
    told = {
        "event_id": event_id,
        "canonical": f"{event_id}|coinbase|spot|{QUOTED}|{BEGIN}|1"
        "|10000.010000000000000000|0.500000000000000000|buy",
        "venue": "coinbase",
        "market": "spot",
        "symbol": QUOTED,
        "event_ns": BEGIN,
        "received_ns": T0 + 1,
        "venue_seq": 1,
        "seq": 40,
    }
    key = KEY._replace(symbol=QUOTED)
    for answer in (audited.rows(key, BEGIN, BEGIN + 1), audited.find("trade", [event_id])):
        assert answer.rows.to_pylist() == [told]
        assert answer.rows.column_names == list(AUDIT_COLUMNS)
        types = [answer.rows.schema.field(name).type for name in AUDIT_COLUMNS]
        expected = [pa.string() if name in AUDIT_TEXTS else pa.int64() for name in AUDIT_COLUMNS]
        assert types == expected


OTHERS = [
    ("BTC-USD", "perpetual"),
    ("BTC-USD'", "spot"),
    ('BTC-USD"', "spot"),
    ("btc-usd", "spot"),
    ("BTC-USD|spot", "spot"),
    ("", "spot"),
    (QUOTED, "it's"),
]


def test_streams_of_like_names_are_asked_for_apart(sat: tuple[Store, Audited]) -> None:
    store, audited = sat
    for seq, (symbol, market) in enumerate([("BTC-USD", "spot"), *OTHERS], 1):
        keep(store, trades_at(*[BEGIN] * seq, symbol=symbol, market=market), seq=seq)
    hours = audited.account(Span()).hours
    for seq, (symbol, market) in enumerate([("BTC-USD", "spot"), *OTHERS], 1):
        key = KEY._replace(symbol=symbol, market=market)
        assert hours[key, HOUR].events == seq
        assert len(audited.rows(key, BEGIN, BEGIN + 1).rows) == seq
        assert [told.count for told in audited.minutes(key, HOUR).digests.values()] == [seq]
    for absent in (KEY._replace(venue="x"), KEY._replace(market=""), KEY._replace(symbol="%")):
        assert len(audited.rows(absent, BEGIN, BEGIN + 1).rows) == 0
        assert audited.minutes(absent, HOUR).digests == {}


def test_an_event_is_found_wherever_it_is_but_among_its_kind_alone(
    sat: tuple[Store, Audited],
) -> None:
    store, audited = sat
    here, there = trades_at(BEGIN), trades_at(BEGIN - 90 * HOUR_NS, symbol=QUOTED)
    keep(store, here)
    keep(store, there, seq=2)
    ids = [id_texts(rows)[0].as_py() for rows in (here, there)]
    found = audited.find("trade", [*ids, str(UUID(int=5))]).rows
    assert sorted(found["event_id"].to_pylist()) == sorted(ids)
    assert len(audited.find("quote", ids).rows) == 0


# ------------------------------------------------------------------------------- DuckDB


def test_what_is_stored_twice_is_told_twice_by_every_answer(tmp_path: Path) -> None:
    path, rows = tmp_path / "forebay.duckdb", trades_at(BEGIN, BEGIN + 1000)
    store = DuckDBStore(path)
    keep(store, rows)
    deliver(store, [[batch([b"junk"])]])
    for table in ("trades WHERE venue_seq = 2", "dead_letters"):
        store._session.run(f"INSERT INTO {table.split()[0]} FROM {table}")
    store.close()

    reader = DuckDBReader.of_file(path)
    audited, doubled = DuckDBAudited(reader.query), id_texts(rows)[1].as_py()
    account = audited.account(Span())
    assert account.hours[KEY, HOUR].events == 3
    assert account.letters == 1, "a dead letter is no event"
    assert [told.count for told in audited.minutes(KEY, HOUR).digests.values()] == [3]
    found = [audited.rows(KEY, BEGIN, BEGIN + HOUR_NS), audited.find("trade", [doubled])]
    assert [told.rows["event_id"].to_pylist().count(doubled) for told in found] == [2, 2]
    reader.close()


# ----------------------------------------------------------------------------- any kind


@pytest.mark.parametrize("channel", sorted(KINDS))
@SETTINGS
@given(st.data())
def test_canonical_rows_are_those_of_the_contract_byte_for_byte(
    channel: str, data: st.DataObject
) -> None:
    drawn = data.draw(event_tables.rows_of(channel, most=4))
    expected = sorted(event_tables.canonical(channel, row).encode() for row in drawn)
    ids = [str(UUID(bytes=row["event_id"])) for row in drawn]
    for store, audited in stores():
        keep(store, event_tables.table_of(channel, drawn), channel)
        if ids:
            found = audited.find(channel, ids).rows["canonical"].to_pylist()
            assert sorted(text.encode() for text in found) == expected
