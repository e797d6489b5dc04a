"""A big DuckDB store takes late, repeated and old rows at the rate of new ones, in flat memory."""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from forebay.stores.duckdb import DuckDBStore
from forebay.stores.duckdb.session import SqlSession
from forebay.stores.lookups import AROUND_NS
from tests.support.big_store import STEP_NS, Batches, fill
from tests.tiers import count

if TYPE_CHECKING:
    from forebay.ports import Commit

SIZE = 5000
ROWS = count("rows of a big store")
SLACK_NS = 2_000_000_000
MIX = ("in_order", "late", "backfill", "repeated")


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("big") / "forebay.duckdb"
    fill(path, ROWS)
    return path


class Watched:
    """Notes what is asked of the trades, by every commit after :meth:`forget`."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.ranges: list[tuple[int, int]] = []
        self.everywhere: list[int] = []
        self.statements: list[str] = []
        real = SqlSession.execute

        def execute(session: SqlSession, statement: str, parameters: Any, incoming: Any) -> Any:  # noqa: ANN401
            self.statements.append(statement)
            if "JOIN trades" in statement and parameters:
                self.ranges.append(tuple(parameters))
            elif "JOIN trades" in statement:
                self.everywhere.append(len(incoming))
            return real(session, statement, parameters, incoming)

        patch.setattr(SqlSession, "execute", execute)

    def forget(self) -> None:
        for told in (self.ranges, self.everywhere, self.statements):
            told.clear()


def came_of(store: DuckDBStore, commit: Commit) -> tuple[int, int, int]:
    """Commit; return how many events were stored, told again, and told otherwise."""
    done = store.commit(commit)
    told = len(commit.events["trades"].rows)
    return done.inserted, told - done.inserted - done.conflicts, done.conflicts


def test_a_commit_reads_no_more_of_the_table_than_it_must(
    big: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, batches = DuckDBStore(big), Batches(ROWS, SIZE)
    store.commit(batches.in_order())
    watched, span_ns = Watched(monkeypatch), SIZE * STEP_NS + SLACK_NS + 2 * AROUND_NS

    for commit in (batches.in_order(), batches.late(), batches.backfill()):
        watched.forget()
        assert came_of(store, commit) == (SIZE, 0, 0)
        assert not watched.ranges, "coverage says that they are new"
        assert not watched.everywhere
        assert len(watched.statements) <= 8, "one of them where the cursors are"

    watched.forget()
    assert came_of(store, batches.repeated()) == (0, SIZE, 0)
    ((first, last),) = watched.ranges
    assert last - first < span_ns
    assert watched.everywhere == []

    watched.forget()
    assert came_of(store, batches.doubled()) == (SIZE - 20, 20, 0)
    assert len(watched.ranges) == 1, "where the first of each was put"
    assert watched.everywhere == []

    watched.forget()
    assert came_of(store, batches.scattered(50)) == (SIZE - 50, 50, 0)
    assert len(watched.ranges) <= 50
    assert all(last - first < 100 * span_ns for first, last in watched.ranges)
    assert watched.everywhere == []

    watched.forget()
    assert came_of(store, batches.retold()) == (0, SIZE - 1, 1)
    assert watched.everywhere == [1], "the one that is not where it is told to be"
    store.close()


def trades_in(store: DuckDBStore) -> int:
    with store.connection() as connection:
        return int(connection.sql("SELECT count(*) FROM trades").fetchall()[0][0])


def test_a_commit_that_coverage_cannot_vouch_for_is_looked_up_around_its_time(
    big: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, batches = DuckDBStore(big), Batches(ROWS, SIZE)
    batches.next += 10**6
    batches.seq = 1000
    new = batches.in_order()
    store.commit(new)
    watched = Watched(monkeypatch)
    before = trades_in(store)
    assert came_of(store, new) == (SIZE, 0, 0), "the same commit again, and the same answer"
    assert trades_in(store) == before
    assert len(watched.ranges) == 1
    assert watched.everywhere == []
    store.close()


# ---------------------------------------------------------------------- at scale


def timed(store: DuckDBStore, commit: Commit) -> float:
    begin = time.process_time()
    store.commit(commit)
    return time.process_time() - begin


def resident_mb() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() >> 20


def rates(path: Path, rows: int, rounds: int) -> dict[str, float]:
    """Answer rows per second of one core, of each kind of commit, one after the other."""
    store, batches = DuckDBStore(path, memory_limit_mb=512), Batches(rows, SIZE)
    spent = dict.fromkeys(MIX, 0.0)
    for _ in range(rounds):
        for kind in MIX:
            spent[kind] += timed(store, getattr(batches, kind)())
    store.close()
    return {kind: SIZE * rounds / seconds for kind, seconds in spent.items()}


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_fifty_million_rows(tmp_path: Path) -> None:
    found = {}
    for rows in (1_000_000, 50_000_000):
        path = tmp_path / f"{rows}.duckdb"
        fill(path, rows)
        found[rows] = rates(path, rows, 120)
        for kind, rate in found[rows].items():
            print(f"{rows:>11,} rows: {kind:9} {rate:>9,.0f} rows/s of a core")
        path.unlink()
    big, small = found[50_000_000], found[1_000_000]
    assert big["late"] >= 0.7 * big["in_order"]
    assert big["in_order"] >= 0.7 * small["in_order"], "checkpoints name every row group"


def memory_of(path: Path, rows: int, commits: int, size: int) -> tuple[int, int]:
    """Answer MB resident after a third of ``commits``, and at the end."""
    store, batches, third = DuckDBStore(path, memory_limit_mb=256), Batches(rows, size), 0
    for number in range(commits):
        store.commit(getattr(batches, MIX[number % len(MIX)])())
        if number == commits // 3:
            third = resident_mb()
    store.close()
    return third, resident_mb()


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_memory_is_flat_over_thousands_of_commits(tmp_path: Path) -> None:
    path = tmp_path / "forebay.duckdb"
    fill(path, 1_000_000)
    third, end = memory_of(path, 1_000_000, 6000, 1000)
    print(f"{third} MB after 2000 commits, {end} MB after 6000")
    assert end < third + 100
