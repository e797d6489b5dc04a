"""The DuckDB store under failure: all or nothing, and errors that say what to do."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from pyarrow import parquet

from forebay.domain.coverage import IdCoverage, StreamKey
from forebay.domain.intervals import IntervalSet
from forebay.errors import ConfigError, Corrupt, Permanent, Transient, Unreachable
from forebay.journal import Position
from forebay.ports import Commit
from forebay.stores.duckdb import DuckDBStore, ddl
from forebay.stores.duckdb.session import SqlSession
from forebay.stores.duckdb.store import translate
from tests.support.delivery import as_events, commit_of, deliver, events_of, plain_rows
from tests.support.frames import HOUR, LOG, T0, Told, batch, context, match, rows_of
from tests.support.memory_store import stored_gaps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TABLES = ("trades", "dead_letters", "conflicts", "coverage", "gaps", "cursors",
          "stream_epochs")  # fmt: skip
KEY = StreamKey("coinbase", "spot", "trade", "BTC-USD")


def content(store: DuckDBStore) -> dict[str, list[tuple[object, ...]]]:
    return {name: plain_rows(store.table(name)) for name in TABLES}


def busy_commit(seq: int = 2) -> Commit:
    """Build a commit that touches every table: new, known, conflicting and dead.

    The second one is for a store that is seeded, the first one for a new one.
    """
    coverage = IdCoverage(known=IntervalSet([(1, 30)]), epochs={"e2": 22})
    coverage.live.add(1, 5)
    coverage.live.add(9, 22)
    trades = [Told(1), Told(2, "9"), Told(3, time_ns=T0 - 50 * HOUR), Told(77), Told(78)]
    known, new = [True, True, True, False, False], [False, False, False, True, True]
    return Commit(
        {"store": Position(LOG, seq)},
        expected={"store": Position(LOG, seq - 1) if seq > 1 else None},
        events={"trades": events_of(*trades, seen_before=known, vouched_new=new, first_seq=50)},
        dead_letters=letters(),
        coverage={KEY: coverage},
    )


def letters() -> Any:  # noqa: ANN401  # Arrow has no types
    from forebay.services.projection import Projection
    from tests.support.delivery import PARSERS

    return commit_of(Projection(PARSERS, {}).project([batch([b"junk"])])).dead_letters


def seed(path: Path) -> DuckDBStore:
    store = DuckDBStore(path)
    deliver(store, [[batch([match(4), b"old junk"])]])
    rows = rows_of(Told(1), Told(2), Told(3))
    store.commit(Commit({"store": Position(LOG, 1)}, events={"trades": as_events(rows)}))
    return store


@pytest.fixture
def seeded(tmp_path: Path) -> Iterator[DuckDBStore]:
    store = seed(tmp_path / "forebay.duckdb")
    yield store
    store.close()


# -------------------------------------------------------------------------- atomicity


class FailAt:
    """Stands in for ``SqlSession.execute`` and fails once, at the ``number``-th statement."""

    def __init__(self, number: int, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left, self.error, self.failed, self.real = number, error, False, SqlSession.execute
        monkeypatch.setattr(SqlSession, "execute", self.bound())

    def bound(self) -> Callable[..., Any]:
        def run(session: SqlSession, *told: Any) -> Any:  # noqa: ANN401
            self.left -= 1
            if self.left == 0 and not self.failed:
                self.failed = True
                raise self.error
            return self.real(session, *told)

        return run


def test_a_failure_that_is_not_the_drivers_changes_nothing_either(
    seeded: DuckDBStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(seeded)
    for error in (ValueError("bug"), KeyboardInterrupt()):
        with monkeypatch.context() as patch:
            FailAt(9, error, patch)
            with pytest.raises(type(error)):
                seeded.commit(busy_commit())
        assert content(seeded) == before
    seeded.commit(busy_commit())
    assert content(seeded) != before


@pytest.mark.parametrize(("kind", "anew"), [("Fatal", True), ("IO", False)])
def test_a_database_that_is_invalidated_is_opened_anew(
    seeded: DuckDBStore, monkeypatch: pytest.MonkeyPatch, kind: str, *, anew: bool
) -> None:
    before = seeded._session
    with monkeypatch.context() as patch:
        FailAt(3, getattr(duckdb, f"{kind}Exception")("invalidated"), patch)
        with pytest.raises(Transient):
            seeded.commit(busy_commit())
    seeded.commit(busy_commit())
    assert (seeded._session is not before) == anew


CHILD = """
import os, signal, sys
from pathlib import Path
from forebay.stores.duckdb import DuckDBStore
from forebay.stores.duckdb.session import SqlSession
from tests.unit.stores.test_duckdb import busy_commit

store = DuckDBStore(Path(sys.argv[1]))
fatal, real = int(sys.argv[2]), SqlSession.execute
count = 0

def run(session, *told):
    global count
    count += 1
    if count == fatal:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(session, *told)

SqlSession.execute = run
store.commit(busy_commit())
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("statement", [0, 6, 14])
def test_kill_9_leaves_all_of_a_commit_or_nothing(
    seeded: DuckDBStore, tmp_path: Path, statement: int
) -> None:
    before = content(seeded)
    seeded.commit(busy_commit())
    after = content(seeded)
    path = tmp_path / "child.duckdb"
    seed(path).close()
    killed = subprocess.run(
        [sys.executable, "-c", CHILD, str(path), str(statement)],
        check=False,
        cwd=Path(__file__).parents[3],
        env={"PYTHONPATH": "src:."},
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -9, killed.stderr
    reopened = DuckDBStore(path)
    assert content(reopened) == (before if statement else after)
    reopened.close()


# ------------------------------------------------------------------------ concurrency


def test_another_thread_reads_whole_commits_while_they_happen(tmp_path: Path) -> None:
    store = DuckDBStore(tmp_path / "forebay.duckdb")
    done, seen = threading.Event(), []

    def read() -> None:
        with store.connection() as connection:
            while not done.is_set():
                question = "SELECT count(*), (SELECT max(seq) FROM cursors) FROM trades"
                seen.append(SqlSession(connection).run(question)[0])

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for seq in range(1, 40):
            rows = rows_of(*[Told(seq * 100 + index) for index in range(10)])
            store.commit(Commit({"store": Position(LOG, seq)}, events={"trades": as_events(rows)}))
    finally:
        done.set()
        reader.join()
    store.close()
    assert seen
    assert {count - 10 * (seq or 0) for count, seq in seen} == {0}


def test_commits_of_two_threads_do_not_mix(tmp_path: Path) -> None:
    store = DuckDBStore(tmp_path / "forebay.duckdb")

    def write(consumer: str, base: int) -> None:
        for seq in range(1, 15):
            rows = rows_of(Told(base + seq))
            store.commit(Commit({consumer: Position(LOG, seq)}, events={"trades": as_events(rows)}))

    threads = [threading.Thread(target=write, args=(name, base)) for name, base in
               (("one", 0), ("two", 7), ("three", 100))]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.load().positions == dict.fromkeys(("one", "two", "three"), Position(LOG, 14))
    assert len(store.table("trades")) == 21 + 14
    store.close()


# ----------------------------------------------------------------------------- errors


HOLDER = """
import duckdb, sys
connection = duckdb.connect(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


def test_a_database_held_by_another_process_is_unreachable(tmp_path: Path) -> None:
    path = tmp_path / "forebay.duckdb"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Unreachable, match="open in another process") as refused:
            DuckDBStore(path)
        assert "Stop the other process" in refused.value.hint
        holder.terminate()
    DuckDBStore(path).close()


def damage(data: bytes, how: str) -> bytes:
    dice = random.Random(7)
    if how == "noise":
        return dice.randbytes(50_000)
    if how == "cut":
        return data[:10_000]
    at = {"head": 0, "header": 100, "block": 8200}[how]
    return data[:at] + dice.randbytes(64) + data[at + 64 :]


@pytest.mark.parametrize("how", ["noise", "cut", "head", "header", "block"])
def test_a_damaged_file_is_corrupt_and_stays_as_it_is(tmp_path: Path, how: str) -> None:
    path = tmp_path / "forebay.duckdb"
    store = DuckDBStore(path)
    store.commit(busy_commit(1))
    store.close()
    path.write_bytes(damage(path.read_bytes(), how))
    damaged = path.read_bytes()
    with pytest.raises(Corrupt) as found:
        DuckDBStore(path)
    assert "`forebay rebuild` makes it anew" in found.value.hint
    assert path.read_bytes() == damaged


def test_an_older_copy_of_a_database_beside_a_newer_log_is_corrupt(tmp_path: Path) -> None:
    path, log = tmp_path / "forebay.duckdb", tmp_path / "forebay.duckdb.wal"
    store = seed(path)
    store.close()
    older = path.read_bytes()
    store = DuckDBStore(path)
    store.commit(busy_commit())
    store.close()
    store = DuckDBStore(path)
    store.commit(busy_commit(seq=3))
    newer = log.read_bytes()
    store.close()
    path.write_bytes(older)
    log.write_bytes(newer)
    for _ in range(2):
        with pytest.raises(Corrupt, match="WAL"):
            DuckDBStore(path)
    assert (path.read_bytes(), log.read_bytes()) == (older, newer), "both stay as they are"


@pytest.mark.parametrize("text", [b"", b"hello", b"{}" * 10_000])
def test_a_file_that_is_no_database_is_corrupt(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(text)
    with pytest.raises(Corrupt):
        DuckDBStore(path)


def test_a_folder_that_is_not_there_is_transient(tmp_path: Path) -> None:
    with pytest.raises(Transient, match="nowhere"):
        DuckDBStore(tmp_path / "nowhere" / "forebay.duckdb")


def test_a_database_of_a_newer_forebay_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "forebay.duckdb"
    DuckDBStore(path).close()
    with duckdb.connect(str(path)) as connection:
        connection.execute("UPDATE meta SET schema_version = ?", [ddl.SCHEMA_VERSION + 1])
    with pytest.raises(ConfigError, match=f"version {ddl.SCHEMA_VERSION + 1},") as refused:
        DuckDBStore(path)
    assert refused.value.hint == "Upgrade Forebay."


def test_opening_again_keeps_what_was_stored(tmp_path: Path) -> None:
    path = tmp_path / "forebay.duckdb"
    store = DuckDBStore(path)
    store.commit(busy_commit(1))
    stored, state = content(store), store.load()
    store.close()
    again = DuckDBStore(path)
    assert (content(again), again.load()) == (stored, state)
    again.close()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (duckdb.IOException("IO Error: Could not set lock on file"), Unreachable),
        (duckdb.IOException("IO Error: disk"), Transient),
        (duckdb.TransactionException("conflict"), Transient),
        (duckdb.FatalException("invalidated"), Transient),
        (duckdb.InternalException("assertion"), Transient),
        (duckdb.SerializationException("field id mismatch"), Corrupt),
        (duckdb.Error("Corrupt database file: checksum"), Corrupt),
        (duckdb.BinderException("no such column"), Permanent),
        (duckdb.ConstraintException("not null"), Permanent),
        (duckdb.Error(""), Permanent),
    ],
)
def test_what_the_driver_says_becomes_one_of_ours(error: duckdb.Error, kind: type) -> None:
    translated = translate(error)
    assert type(translated) is kind
    assert "\n" not in str(translated)


def test_rows_of_another_shape_are_refused_whole(tmp_path: Path) -> None:
    store = DuckDBStore(tmp_path / "forebay.duckdb")
    narrow = rows_of(Told(1)).drop_columns(["price", "size"])
    with pytest.raises(Permanent):
        store.commit(Commit({"store": Position(LOG, 1)}, events={"trades": as_events(narrow)}))
    assert store.load().positions == {}
    store.commit(busy_commit(1))
    store.close()


def test_unknown_context_is_no_matter_of_the_store(seeded: DuckDBStore) -> None:
    """Dead letters of a venue without a parser are stored like any other."""
    total = deliver(seeded, [[batch([b"?"], context(venue="mtgox"))]])
    assert total.reasons == {"unknown_venue": 1}
    assert "unknown_venue" in seeded.table("dead_letters")["reason"].to_pylist()


def test_a_commit_whose_answer_was_lost_leaves_no_stale_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DuckDBStore(tmp_path / "forebay.duckdb")
    holed = IdCoverage(epochs={"e": 0})
    holed.live.add(1, 2)
    holed.live.add(4, 5)
    real = SqlSession.execute

    def lost(session: SqlSession, *told: Any) -> Any:  # noqa: ANN401
        answer = real(session, *told)
        if told[0] == "COMMIT":
            monkeypatch.setattr(SqlSession, "execute", real)
            raise duckdb.IOException("the answer was lost")
        return answer

    monkeypatch.setattr(SqlSession, "execute", lost)
    with pytest.raises(Transient):
        store.commit(Commit({"store": Position(LOG, 1)}, coverage={KEY: holed}))
    assert len(stored_gaps(store)) == 1

    whole = holed.copy()
    whole.live.add(3)
    store.commit(Commit({"store": Position(LOG, 2)}, coverage={KEY: whole}))

    assert stored_gaps(store) == []
    store.close()


def test_an_hour_is_written_by_venue_market_symbol_and_time(tmp_path: Path) -> None:
    store, streams = DuckDBStore(None), (("spot", "A-B"), ("perpetual", "C-D"), ("spot", "C-D"))
    for seq, (market, symbol) in enumerate(streams):
        told = [Told(1, time_ns=T0 + 9000), Told(2, time_ns=T0 + 5000)]
        trades = [trade.but(symbol=symbol) for trade in told]
        rows = rows_of(*trades, market=market, first_seq=seq * 10 + 1)
        store.commit(Commit({"store": Position(LOG, seq)}, events={"trades": as_events(rows)}))
    (note,) = store.hours_to_write()
    assert store.export_hour(note, tmp_path / "hour.parquet") == 6
    written = parquet.read_table(tmp_path / "hour.parquet")
    assert written["market"].to_pylist() == ["perpetual"] * 2 + ["spot"] * 4
    assert written["symbol"].to_pylist() == ["C-D"] * 2 + ["A-B"] * 2 + ["C-D"] * 2
    assert written["trade_id"].to_pylist() == ["2", "1"] * 3
    store.close()
