"""ClickHouse has no transactions: whatever is cut, a commit is whole or absent, and stored once."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from forebay.errors import CursorMoved, ForebayError, Transient, Unreachable
from tests.support.clickhouse import a_clickhouse
from tests.support.clickhouse_stores import DATABASE, a_clickhouse_store, another_store, doubled
from tests.support.memory_store import MemoryStore
from tests.support.store_histories import STEP, content, history

pytest.importorskip("clickhouse_connect")


if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from forebay.ports import Commit, Committed
    from forebay.stores.clickhouse.store import ClickHouseStore

ROOT = Path(__file__).parents[2]
REQUESTS = 9
"""More than a commit of one month needs."""


@pytest.fixture
def store() -> Iterator[ClickHouseStore]:
    with a_clickhouse_store() as made:
        yield made


def told(done: Committed) -> tuple[dict[str, list[bool]], int]:
    """Return what a commit says, to be compared."""
    return {table: first.tolist() for table, first in done.first.items()}, done.conflicts


class Cut(Unreachable):
    """The connection went."""


def intercepted(store: ClickHouseStore, number: int, what: Callable[[], None], when: str) -> None:
    """Have ``what`` happen before or after the request of a number, counted from here."""
    real, count = store._session.request, 0

    def request(*arguments: object, **more: object) -> bytes:
        nonlocal count
        count += 1
        if count == number and when == "before":
            what()
        answer: bytes = real(*arguments, **more)  # type: ignore[arg-type]
        if count == number and when == "after":
            what()
        return answer

    store._session.request = request  # type: ignore[method-assign]


def cut() -> None:
    raise Cut("The connection went.")


# ------------------------------------------------------------------------------ one owner


@pytest.mark.parametrize(
    ("when", "rounds"),
    [
        ("after", 1),
        *(pytest.param(when, 2, marks=pytest.mark.drill) for when in ("before", "after")),
    ],
)
def test_a_commit_that_is_cut_at_any_request_is_whole_or_absent(
    store: ClickHouseStore, when: str, rounds: int
) -> None:
    before, after, places = MemoryStore(), MemoryStore(), set()
    for index, commit in enumerate(history(4, rounds * REQUESTS)):
        expected = told(after.commit(commit))
        owner = another_store()
        owner.load()
        intercepted(owner, index % REQUESTS + 1, cut, when)
        try:
            assert told(owner.commit(commit)) == expected
            answered = True
        except Transient:
            answered = False
        if index % 2:  # otherwise the next commit is the first to find what is pending
            store.load()
            found = content(store)
            whole = found == content(after)
            assert whole or (found == content(before) and not answered)
            places.add((answered, whole))
        assert told(store.commit(commit)) == expected
        assert content(store) == content(after)
        assert doubled(store) == {}
        before.commit(commit)
        owner.close()
    every = {(True, True), (False, True), (False, False)}
    assert places == every or (rounds == 1 and len(places) > 1)


def test_every_store_tells_the_same_story(store: ClickHouseStore) -> None:
    model, dice = MemoryStore(), random.Random(3)
    for commit in history(3, 12):
        assert told(store.commit(commit)) == told(model.commit(commit))
        if dice.random() < 0.3:
            assert told(store.commit(commit)) == told(model.commit(commit))
    assert content(store) == content(model)
    assert dict(store.load().coverage) == dict(model.load().coverage)
    assert doubled(store) == {}


# ----------------------------------------------------------------------------- two owners


@pytest.mark.parametrize("when", ["before", pytest.param("after", marks=pytest.mark.drill)])
def test_a_former_owner_that_wakes_anywhere_stores_nothing_twice(
    store: ClickHouseStore, when: str
) -> None:
    model, ends = MemoryStore(), set()
    commits = list(history(5, 2 * REQUESTS))
    for index in range(0, len(commits), 2):
        mine, next_one = commits[index : index + 2]
        expected = told(model.commit(mine))
        former = another_store()
        former.load()
        frozen, woken = threading.Event(), threading.Event()

        def stand_still(frozen: threading.Event = frozen, woken: threading.Event = woken) -> None:
            frozen.set()
            woken.wait()

        intercepted(former, index // 2 + 1, stand_still, when)
        with ThreadPoolExecutor(1) as thread:
            late = thread.submit(former.commit, mine)
            late.add_done_callback(partial(_set, frozen))
            frozen.wait()
            store.load()
            assert told(store.commit(mine)) == expected
            expected_next = told(model.commit(next_one))
            assert told(store.commit(next_one)) == expected_next
            woken.set()
            ends.add(type(late.exception()))
            if late.exception() is None:
                assert told(late.result()) == expected
        assert content(store) == content(model)
        assert doubled(store) == {}
        with pytest.raises(CursorMoved):
            former.commit(mine)
        assert content(store) == content(model)
        former.close()
    assert ends == {CursorMoved, type(None)}


def _set(event: threading.Event, _: object) -> None:
    event.set()


def test_of_two_owners_at_once_one_goes_on(store: ClickHouseStore) -> None:
    model = MemoryStore()
    for commit in history(6, 4):
        model.commit(commit)
        owners = [another_store() for _ in range(2)]
        with ThreadPoolExecutor(2) as threads:
            ends = list(threads.map(lambda owner, commit=commit: ended(owner, commit), owners))
        assert None in ends
        assert set(ends) <= {None, CursorMoved}
        for owner in owners:
            owner.close()
        store.load()
        assert content(store) == content(model)
        assert doubled(store) == {}


def ended(store: ClickHouseStore, commit: Commit) -> type[ForebayError] | None:
    try:
        store.commit(commit)
    except ForebayError as error:
        return type(error)
    return None


# ------------------------------------------------------------------------------- processes

COMMITTER = """
import sys
from forebay.errors import Transient
from forebay.stores.clickhouse.session import Target
from forebay.stores.clickhouse.store import ClickHouseStore
from tests.support.store_histories import history

store = ClickHouseStore(Target(sys.argv[1], sys.argv[2]))
past = None
for commit in history(int(sys.argv[3]), 10_000):
    while True:
        try:
            if past is None:
                done = store.load().positions
                past = done["store"].seq if done else 0
            if commit.positions["store"].seq > past:
                store.commit(commit)
                print(commit.positions["store"].seq, flush=True)
            break
        except Transient as error:
            past = None
"""


def committer(seed: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", COMMITTER, a_clickhouse().url, DATABASE, str(seed)],
        cwd=ROOT,
        env={"PYTHONPATH": "src:.", "PATH": os.environ["PATH"]},
        stdout=subprocess.PIPE,
        text=True,
    )


def check_history(store: ClickHouseStore, seed: int, answered: int) -> None:
    """See that all that was answered is there, whole, and nothing twice."""
    seq = store.load().positions["store"].seq
    assert answered <= seq
    model = MemoryStore()
    for commit in history(seed, seq // STEP - 1):
        model.commit(commit)
    assert content(store) == content(model)
    assert doubled(store) == {}


def kill_committers(store: ClickHouseStore, seed: int, rounds: int) -> None:
    dice, answered = random.Random(seed), 0
    for _ in range(rounds):
        with committer(seed) as process:
            assert process.stdout is not None
            for _ in range(dice.randrange(1, 9)):
                answered = int(process.stdout.readline())
            threading.Event().wait(dice.random() * 0.05)  # anywhere in a commit
            process.send_signal(signal.SIGKILL)
            answered = max([answered, *map(int, process.stdout.read().split())])
        check_history(store, seed, answered)


def kill_servers(store: ClickHouseStore, seed: int, rounds: int) -> None:
    dice, answered, server = random.Random(seed), 0, a_clickhouse()
    with committer(seed) as process:
        assert process.stdout is not None
        for _ in range(rounds):
            for _ in range(dice.randrange(1, 9)):
                answered = int(process.stdout.readline())
            threading.Event().wait(dice.random() * 0.05)
            server.kill()
            asyncio.run(server.start())
        answered = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        answered = max([answered, *map(int, process.stdout.read().split())])
    check_history(store, seed, answered)


def test_kill_9_of_the_server_loses_and_doubles_nothing(store: ClickHouseStore) -> None:
    kill_servers(store, 9, 1)


@pytest.mark.drill
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [11, 12])
def test_kill_9_of_committing_processes_in_a_loop(store: ClickHouseStore, seed: int) -> None:
    kill_committers(store, seed, 20)


@pytest.mark.drill
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [13, 14])
def test_kill_9_of_servers_in_a_loop(store: ClickHouseStore, seed: int) -> None:
    kill_servers(store, seed, 20)
