"""Hourly Parquet files: each equals the table's rows of its hour, whatever happens."""

from __future__ import annotations

import errno
import random
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from forebay.app.processes.maintenance import GATHER_NS, GRACE_NS, HourlyParquet, due, hour_path
from forebay.clock import ManualClock
from forebay.domain import schema
from forebay.errors import ForebayError, Transient
from forebay.journal import OsDisk, Position
from forebay.ports import Commit, HourNote
from forebay.stores.duckdb import DuckDBStore
from forebay.stores.duckdb.session import SqlSession
from tests.support.delivery import as_events, events_of, plain_rows
from tests.support.frames import HOUR, LOG, SECOND, T0, Told, rows_of
from tests.support.store_histories import history, hours_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

START = T0 // HOUR * HOUR


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckDBStore]:
    made = DuckDBStore(tmp_path / "forebay.duckdb")
    yield made
    made.close()


def put(store: DuckDBStore, *trades: Told, seq: int = 1) -> None:
    events = {"trades": events_of(*trades, first_seq=100 * seq)}
    store.commit(Commit({"store": Position(LOG, 100 * seq + 100)}, events=events))


def at(hour: int, native: int = 0, **changed: Any) -> Told:  # noqa: ANN401
    """Tell a trade of the ``hour``-th hour from :data:`START`."""
    trade = Told(hour * 1000 + native, time_ns=START + hour * HOUR + native * SECOND)
    return trade.but(received_ns=trade.time_ns + SECOND, **changed)


def hourly(tmp_path: Path, store: DuckDBStore, wall_ns: int = START + 999 * HOUR) -> HourlyParquet:
    return HourlyParquet(tmp_path / "parquet", store, clock=ManualClock(wall_ns))


def write_all(tmp_path: Path, store: DuckDBStore) -> None:
    maker = hourly(tmp_path, store)
    for note in store.hours_to_write():
        maker.make(note)


def files(tmp_path: Path) -> dict[int, Path]:
    """Answer the files by the start of their hour, as their path tells it."""
    found = {}
    for path in (tmp_path / "parquet").rglob("*.parquet"):
        day, hour = path.parts[-3].removeprefix("date="), path.parts[-2].removeprefix("hour=")
        start = np.datetime64(f"{day}T{hour}:00:00", "ns").astype(np.int64)
        assert path.parts[-4] == "trades"
        found[int(start)] = path
    return found


def of_hour(table: pa.Table, start_ns: int) -> list[tuple[object, ...]]:
    times = table["event_ts"].cast(pa.int64()).to_numpy()
    return plain_rows(table.filter(pa.array((times >= start_ns) & (times < start_ns + HOUR))))


def check(tmp_path: Path, store: DuckDBStore) -> None:
    """Every file equals the table's rows of its hour, and every other hour is noted."""
    noted = {note.start_ns for note in store.hours_to_write()}
    table, made = store.table("trades"), files(tmp_path)
    assert set(made) | noted == hours_of(store) | noted
    for start_ns, path in made.items():
        if start_ns not in noted:
            assert plain_rows(pq.read_table(path, partitioning=None)) == of_hour(table, start_ns)
    assert not list((tmp_path / "parquet" / ".making").iterdir())


# ------------------------------------------------------------------------ when


def note(hour: int, number: int = 1) -> HourNote:
    return HourNote("trades", START + hour * HOUR, number)


@pytest.mark.parametrize(
    ("late_ns", "waited_ns", "made", "expected"),
    [
        (HOUR + GRACE_NS, GRACE_NS, [], True),
        (HOUR + GRACE_NS - 1, GRACE_NS, [], False),
        (HOUR + GRACE_NS, GRACE_NS - 1, [], False),
        (99 * HOUR, GATHER_NS - 1, [note(0)[:2]], False),
        (99 * HOUR, GATHER_NS, [note(0)[:2]], True),
    ],
)
def test_an_hour_is_due_when_it_is_closed_and_its_note_has_waited(
    late_ns: int, waited_ns: int, made: list[tuple[str, int]], *, expected: bool
) -> None:
    found = due([note(0)], START + late_ns, {note(0)[:2]: waited_ns}, made)
    assert (found is not None) == expected


def test_an_hour_is_closed_when_its_table_has_moved_on_whatever_the_clock_says() -> None:
    waited = {note(hour)[:2]: GRACE_NS for hour in range(3)}
    other = HourNote("quotes", START + 9 * HOUR, 1)
    assert due([note(0), note(1)], 0, waited, []) is None, "its grace may not have passed"
    assert due([note(0), note(2)], 0, waited, []) == note(0)
    assert due([note(0), other], 0, waited | {other[:2]: GRACE_NS}, []) is None


def test_hours_are_made_oldest_first_and_only_once(tmp_path: Path, store: DuckDBStore) -> None:
    put(store, at(2), at(0), at(1))
    clock = ManualClock(START + 99 * HOUR)
    maker = HourlyParquet(tmp_path / "parquet", store, clock=clock)
    assert maker.step() is None, "more rows may be on their way"
    clock._now += GRACE_NS
    made = [maker.step() for _ in range(4)]
    assert [told and told.start_ns for told in made] == [
        START,
        START + HOUR,
        START + 2 * HOUR,
        None,
    ]
    check(tmp_path, store)
    assert not store.hours_to_write()


# ------------------------------------------------------------------------ what


def test_a_file_is_sorted_exact_and_read_by_duckdb_and_pyarrow(
    tmp_path: Path, store: DuckDBStore
) -> None:
    exact = at(0, 5, price="99999999999999999999.999999999999999999", size="0.000000000000000001")
    trades = [at(0, 9), at(0, 1), exact, at(0, 3, symbol="ETH-USD"), at(0, 2)]
    put(store, *trades)
    write_all(tmp_path, store)
    ((_, path),) = files(tmp_path).items()
    read = pq.read_table(path, partitioning=None)
    assert [read["symbol"][index].as_py() for index in range(5)] == ["BTC-USD"] * 4 + ["ETH-USD"]
    assert read["event_ts"].cast(pa.int64()).to_pylist()[:4] == sorted(
        told.time_ns for told in trades if told.symbol == "BTC-USD"
    )
    assert read.schema.field("price").type == schema.DECIMAL
    assert read.schema.field("event_ts").type == schema.TIME
    assert plain_rows(read) == plain_rows(rows_of(*trades, first_seq=100))
    assert pq.ParquetFile(path).metadata.row_group(0).column(0).compression == "ZSTD"
    every = duckdb.read_parquet(f"{tmp_path}/parquet/trades/*/*/*.parquet", hive_partitioning=True)
    told = every.filter("trade_id = '5'").select("event_id, price, date, hour").fetchall()
    expected = (rows_of(exact)["event_id"][0].as_py(), exact.price, "2021-04-17", "16")
    assert [tuple(map(str, row)) for row in told] == [tuple(map(str, expected))]


def test_late_rows_make_the_file_of_their_hour_again(tmp_path: Path, store: DuckDBStore) -> None:
    put(store, at(0), at(1))
    write_all(tmp_path, store)
    kept = files(tmp_path)[START + HOUR].stat().st_ino
    put(store, at(0, 7), at(2), seq=2)
    assert [told.start_ns for told in store.hours_to_write()] == [START, START + 2 * HOUR]
    put(store, at(0, 8), seq=3)
    write_all(tmp_path, store)
    check(tmp_path, store)
    assert files(tmp_path)[START + HOUR].stat().st_ino == kept, "nothing of it changed"
    put(store, at(0, 7), at(1), seq=4)
    assert not store.hours_to_write(), "repetitions change no hour"


def test_a_flag_that_is_added_makes_the_file_again(tmp_path: Path, store: DuckDBStore) -> None:
    put(store, at(0), at(1))
    write_all(tmp_path, store)
    again = rows_of(at(0), first_seq=200)
    flags = again.schema.get_field_index("flags")
    again = again.set_column(flags, again.schema.field(flags), pa.array(["late,ambiguous"]))
    store.commit(Commit({"store": Position(LOG, 300)}, events={"trades": as_events(again)}))
    assert [told.start_ns for told in store.hours_to_write()] == [START]
    write_all(tmp_path, store)
    check(tmp_path, store)


def test_rows_that_come_while_a_file_is_made_are_not_forgotten(
    tmp_path: Path, store: DuckDBStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, at(0))
    real = DuckDBStore.export_hour

    def meanwhile(self: DuckDBStore, told: HourNote, path: Path) -> int:
        found = real(self, told, path)
        put(self, at(0, 5), seq=2)
        return found

    monkeypatch.setattr(DuckDBStore, "export_hour", meanwhile)
    write_all(tmp_path, store)
    monkeypatch.undo()
    assert [told.start_ns for told in store.hours_to_write()] == [START]
    with DuckDBStore.connection(store) as connection:
        assert SqlSession(connection).run("SELECT start_ns FROM hours_to_write") == [(START,)]
    write_all(tmp_path, store)
    check(tmp_path, store)
    assert not store.hours_to_write()


@pytest.mark.parametrize("seed", range(6))
def test_any_life_of_a_store_ends_in_equal_files(tmp_path: Path, seed: int) -> None:
    dice, path = random.Random(seed), tmp_path / "forebay.duckdb"
    store = DuckDBStore(path)
    for commit in history(seed, 10):
        store.commit(commit)
        maker = hourly(tmp_path, store)
        for told in store.hours_to_write():
            if dice.random() < 0.4:
                maker.make(told)
        if dice.random() < 0.3:
            store.close()
            store = DuckDBStore(path)
    write_all(tmp_path, store)
    assert not store.hours_to_write()
    check(tmp_path, store)
    store.close()


# -------------------------------------------------------------------- failures


class FailingDisk(OsDisk):
    """Fails at the ``left``-th call."""

    def __init__(self, left: int) -> None:
        self.left = left
        for name in ("open", "fdatasync", "make_folder", "rename", "fsync_dir"):
            setattr(self, name, self.failing(getattr(OsDisk(), name)))

    def failing(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*told: Any, **more: Any) -> Any:  # noqa: ANN401
            self.left -= 1
            if self.left == 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(*told, **more)

        return call


def test_an_error_at_any_call_leaves_a_note_and_no_half_file(
    tmp_path: Path, store: DuckDBStore
) -> None:
    put(store, at(0), at(1))
    (first, _) = store.hours_to_write()
    for number in range(1, 99):
        maker = HourlyParquet(
            tmp_path / "parquet", store, clock=ManualClock(), disk=FailingDisk(number)
        )
        try:
            maker.make(first)
        except ForebayError:
            assert first in store.hours_to_write()
            put(store, at(0, number), seq=number + 1)
            (first, _) = store.hours_to_write()
            continue
        break
    assert number > 5
    assert START + HOUR in {told.start_ns for told in store.hours_to_write()}
    write_all(tmp_path, store)
    check(tmp_path, store)


def test_a_database_that_cannot_export_now_is_transient_and_stays_noted(
    tmp_path: Path, store: DuckDBStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, at(0))
    real = SqlSession.execute

    def failing(session: SqlSession, *told: Any) -> Any:  # noqa: ANN401
        if told[0].startswith("COPY"):
            raise duckdb.IOException("No space left on device")
        return real(session, *told)

    monkeypatch.setattr(SqlSession, "execute", failing)
    with pytest.raises(Transient):
        write_all(tmp_path, store)
    monkeypatch.undo()
    put(store, at(0, 1), seq=2)
    assert len(store.hours_to_write()) == 1
    write_all(tmp_path, store)
    check(tmp_path, store)


KILLED = """
import os, signal, sys
from pathlib import Path
from forebay.app.processes.maintenance import HourlyParquet
from forebay.clock import ManualClock
from forebay.journal import OsDisk
from forebay.stores.duckdb import DuckDBStore

root, fatal = Path(sys.argv[1]), int(sys.argv[2])
count = 0

def watched(name):
    real = getattr(OsDisk, name)
    def call(*told, **more):
        global count
        count += 1
        if count == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*told, **more)
    return staticmethod(call) if isinstance(OsDisk.__dict__[name], staticmethod) else call

for name in ("open", "fdatasync", "make_folder", "rename", "fsync_dir"):
    setattr(OsDisk, name, watched(name))
store = DuckDBStore(root / "forebay.duckdb")
maker = HourlyParquet(root / "parquet", store, clock=ManualClock())
for note in store.hours_to_write():
    maker.make(note)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(
    "fatal", [5, 13, *(pytest.param(call, marks=pytest.mark.drill) for call in (3, 9, 99))]
)
def test_kill_9_at_any_call_leaves_a_note_or_the_file(tmp_path: Path, fatal: int) -> None:
    store = DuckDBStore(tmp_path / "forebay.duckdb")
    put(store, at(0), at(1))
    write_all(tmp_path, store)
    put(store, at(0, 4), at(1, 4), at(2), seq=2)
    store.close()
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), str(fatal)],
        check=False,
        cwd=Path(__file__).parents[3],
        env={"PYTHONPATH": "src:."},
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -9, killed.stderr
    store = DuckDBStore(tmp_path / "forebay.duckdb")
    noted = {told.start_ns for told in store.hours_to_write()}
    assert len(noted) == 3 or fatal > 3
    assert noted or fatal == 99
    table = store.table("trades")
    for start_ns, path in files(tmp_path).items():
        whole = plain_rows(pq.read_table(path, partitioning=None))
        assert start_ns in noted or whole == of_hour(table, start_ns)
    write_all(tmp_path, store)
    if noted:
        check(tmp_path, store)
    store.close()


def test_the_path_says_date_and_hour_in_utc(tmp_path: Path) -> None:
    told = HourNote("trades", START, 1)
    expected = "trades/date=2021-04-17/hour=16/trades.parquet"
    assert hour_path(tmp_path, told).relative_to(tmp_path).as_posix() == expected
