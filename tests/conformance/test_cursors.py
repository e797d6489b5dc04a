"""Cursors move with what is stored, several at once, from where they are expected to be."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from forebay.domain.coverage import IdCoverage, StreamKey
from forebay.errors import CursorMoved
from forebay.journal import Position
from forebay.ports import Commit
from forebay.stores.duckdb import DuckDBStore
from tests.support.clickhouse_stores import a_clickhouse_store, set_clickhouse_cursor
from tests.support.delivery import TableStore, events_of
from tests.support.frames import LOG, Told
from tests.support.memory_store import MemoryStore
from tests.support.store_histories import content

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from forebay.ports import Committed

    Cursors = Mapping[str, Position]
    Expected = Mapping[str, Position | None]

KEY = StreamKey("coinbase", "spot", "trade", "BTC-USD")
ELSEWHERE = Position("e" * 32, 2)


def at(seq: int) -> Position:
    return Position(LOG, seq)


LIVES = pytest.mark.parametrize(
    ("store", "steps"),
    [("memory", 150), ("duckdb", 150), pytest.param("clickhouse", 40, marks=pytest.mark.drill)],
    indirect=["store"],
)
"""Of stores that move two cursors at random; what is on a server takes longer."""


@pytest.fixture(params=["memory", "duckdb", "clickhouse"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TableStore]:
    if request.param == "clickhouse":
        with a_clickhouse_store() as on_server:
            yield on_server
        return
    duckdb = request.param == "duckdb"
    made: TableStore = DuckDBStore(tmp_path / "forebay.duckdb") if duckdb else MemoryStore()
    yield made
    made.close()


def whole(positions: Cursors, expected: Expected, *trades: Told, last: int = 9) -> Commit:
    """Build a commit with something of everything."""
    seen = IdCoverage()
    seen.live.add(1, last)
    events = events_of(*trades, first_seq=max(cursor.seq for cursor in positions.values()))
    return Commit(positions, expected=expected, events={"trades": events}, coverage={KEY: seen})


def set_cursor(store: TableStore, consumer: str, position: Position) -> None:
    """Move a cursor as a failover or a restored copy does: behind the store's back."""
    if isinstance(store, MemoryStore):
        store._positions[consumer] = position
        return
    if not isinstance(store, DuckDBStore):
        set_clickhouse_cursor(store, consumer, position)
        return
    with store.connection() as other:
        statement = "UPDATE cursors SET log_id = ?, seq = ? WHERE consumer = ?"
        other.execute(statement, [position.log_id, position.seq, consumer]).fetchall()


# ---------------------------------------------------------------------- several at once


def test_several_cursors_move_together_and_no_other(store: TableStore) -> None:
    store.commit(Commit({"other": at(7)}))
    store.commit(Commit({"one": at(2), "two": at(3)}, expected={"one": None, "two": None}))
    store.commit(Commit({"one": at(4), "two": at(5)}, expected={"one": at(2), "two": at(3)}))
    assert store.load().positions == {"one": at(4), "two": at(5), "other": at(7)}


@pytest.mark.parametrize(
    "expected",
    [
        {"one": at(1)},
        {"one": at(3)},
        {"one": None},
        {"one": ELSEWHERE},
        {"one": at(2), "two": None},
        {"one": at(2), "three": at(1)},
        {"one": at(1), "two": at(3)},
    ],
)
def test_a_cursor_that_is_not_as_expected_stores_nothing(
    store: TableStore, expected: Expected
) -> None:
    store.commit(whole({"one": at(2), "two": at(3)}, {}, Told(1)))
    before = content(store)
    refused = whole({"one": at(5), "two": at(6)}, expected, Told(2), last=12)
    with pytest.raises(CursorMoved, match="nothing was stored"):
        store.commit(refused)
    assert content(store) == before


def test_a_guard_may_be_of_a_cursor_that_does_not_move(store: TableStore) -> None:
    store.commit(Commit({"one": at(2), "owner": at(1)}))
    store.commit(Commit({"one": at(3)}, expected={"one": at(2), "owner": at(1)}))
    store.commit(Commit({"owner": at(2)}))
    with pytest.raises(CursorMoved):
        store.commit(Commit({"one": at(4)}, expected={"one": at(3), "owner": at(1)}))
    assert store.load().positions == {"one": at(3), "owner": at(2)}


# -------------------------------------------------------------------- an answer was lost


def test_a_repeated_commit_is_recognised_and_says_the_same(store: TableStore) -> None:
    store.commit(whole({"one": at(2)}, {}, Told(1)))
    trades = [Told(2), Told(1), Told(1, price="7"), Told(2)]
    told = whole({"one": at(5)}, {"one": at(2)}, *trades)
    done, after = store.commit(told), content(store)
    for _ in range(2):
        again = store.commit(told)
        assert said(again) == said(done) == ([True, False, False, False], 1)
    assert content(store) == after


def test_a_repeated_commit_takes_nothing_back(store: TableStore) -> None:
    """By then somebody else may have gone on from it."""
    told = whole({"one": at(5)}, {"one": None}, Told(1), last=9)
    store.commit(told)
    store.commit(whole({"two": at(3)}, {"two": None}, Told(2), last=12))
    after = content(store)
    store.commit(told)
    assert content(store) == after


def test_a_commit_that_went_half_its_way_is_not_recognised(store: TableStore) -> None:
    told = Commit({"one": at(5), "two": at(6)}, expected={"one": at(2), "two": at(2)})
    store.commit(Commit({"one": at(5), "two": at(2)}))
    with pytest.raises(CursorMoved):
        store.commit(told)


def said(done: Committed) -> tuple[list[bool], int]:
    return done.first["trades"].tolist(), done.conflicts


# ------------------------------------------------------------------ never from memory


class Remembering:
    """A wrong store: it compares with what it moved itself."""

    def __init__(self, inner: TableStore) -> None:
        self._inner = inner
        self._known = dict(inner.load().positions)

    def commit(self, commit: Commit) -> Committed:
        for name, position in commit.expected.items():
            if self._known.get(name) != position:
                raise CursorMoved(f"{name}; nothing was stored.")
        done = self._inner.commit(Commit(commit.positions, events=commit.events))
        self._known |= commit.positions
        return done


def notices(commit: Callable[[Commit], Committed], inner: TableStore) -> list[bool]:
    """Return whether cursors that somebody else moved are noticed, one answer a way to move."""
    commit(Commit({"one": at(2)}, expected={"one": None}))
    answers = []
    for elsewhere in (at(1), at(9), ELSEWHERE):
        set_cursor(inner, "one", elsewhere)
        try:
            commit(whole({"one": at(5)}, {"one": at(2)}, Told(1)))
        except CursorMoved:
            answers.append(True)
        else:
            answers.append(False)
        set_cursor(inner, "one", at(2))
    return answers


def test_a_cursor_that_was_moved_by_others_is_noticed(store: TableStore) -> None:
    assert notices(store.commit, store) == [True] * 3
    assert len(store.table("trades")) == 0


def test_a_store_that_remembers_cursors_would_be_found_out(store: TableStore) -> None:
    assert not all(notices(Remembering(store).commit, store))


# ----------------------------------------------------------------------------- any life


def verdict(commit: Commit, now: Cursors) -> str:
    """Return what is to come of a commit, said another way than the stores do."""
    if all(now.get(name) == cursor for name, cursor in commit.expected.items()):
        return "stored"
    reached = {**now, **commit.positions} == dict(now)
    return "happened" if reached else "moved"


@LIVES
@pytest.mark.parametrize("seed", range(4))
def test_any_life_of_two_cursors(store: TableStore, seed: int, steps: int) -> None:
    dice, now, verdicts = random.Random(seed), dict[str, Position](), set[str]()
    for number in range(steps):
        names = dice.sample(("one", "two"), dice.randrange(1, 3))
        positions = {name: at(dice.randrange(1, 4)) for name in names}
        expected = {
            name: now.get(name) if dice.random() < 0.6 else dice.choice((at(1), at(2), None))
            for name in names
        }
        commit = whole(positions, expected, Told(number))
        rows, wanted = len(store.table("trades")), verdict(commit, now)
        if wanted == "moved":
            with pytest.raises(CursorMoved):
                store.commit(commit)
        else:
            store.commit(commit)
            now |= positions
        assert store.load().positions == now
        assert len(store.table("trades")) == rows + (wanted != "moved")
        verdicts.add(wanted)
    assert verdicts == {"stored", "happened", "moved"}
