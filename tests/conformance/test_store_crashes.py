"""A store that outlives its process: whatever happens to it, a commit is whole or absent."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from forebay.errors import Transient
from forebay.ports import Committed
from forebay.stores.duckdb import DuckDBStore
from forebay.stores.duckdb.session import SqlSession
from tests.support.memory_store import MemoryStore
from tests.support.store_histories import STEP, content, history
from tests.unit.stores.test_duckdb import busy_commit, seed

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
NAME = "forebay.duckdb"
Content = dict[str, list[tuple[object, ...]]]


def told(done: Committed) -> tuple[dict[str, list[bool]], int]:
    """Return what a commit says, to be compared."""
    return {table: first.tolist() for table, first in done.first.items()}, done.conflicts


def image(path: Path) -> tuple[bytes, bytes]:
    """Return what a kill at this moment leaves behind: the database and its log."""
    log = path.with_name(f"{path.name}.wal")
    return path.read_bytes(), log.read_bytes() if log.exists() else b""


def reopened(folder: Path, left: tuple[bytes, bytes]) -> DuckDBStore:
    folder.mkdir()
    (folder / NAME).write_bytes(left[0])
    if left[1]:
        (folder / f"{NAME}.wal").write_bytes(left[1])
    return DuckDBStore(folder / NAME)


@pytest.fixture
def both(tmp_path: Path) -> tuple[Content, Content]:
    """Return what there is before and after :func:`busy_commit`."""
    store = seed(tmp_path / "reference")
    before = content(store)
    store.commit(busy_commit())
    after = content(store)
    store.close()
    assert all(after[name] != before[name] for name in after)
    return before, after


def images_of_a_commit(path: Path, patch: pytest.MonkeyPatch) -> list[tuple[bytes, bytes]]:
    """Return what a kill leaves, before and after each statement of a commit."""
    store, taken, real = seed(path), [image(path)], SqlSession.execute

    def watched(session: SqlSession, *told: Any) -> Any:  # noqa: ANN401
        taken.append(image(path))
        answer = real(session, *told)
        taken.append(image(path))
        return answer

    patch.setattr(SqlSession, "execute", watched)
    store.commit(busy_commit())
    patch.undo()
    store.close()
    return taken


def test_a_kill_between_any_two_statements_leaves_all_of_a_commit_or_nothing(
    tmp_path: Path, both: tuple[Content, Content], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = images_of_a_commit(tmp_path / NAME, monkeypatch)
    assert len(taken) > 24
    found = []
    for number, left in enumerate(dict.fromkeys(taken)):
        store = reopened(tmp_path / f"image{number}", left)
        found.append(both.index(content(store)))
        store.commit(busy_commit())
        assert content(store) == both[1], "the same commit again"
        store.close()
    assert found == sorted(found)
    assert set(found) == {0, 1}


def test_a_log_torn_at_any_byte_is_all_of_a_commit_or_nothing(
    tmp_path: Path, both: tuple[Content, Content], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = images_of_a_commit(tmp_path / NAME, monkeypatch)
    (database, before), (_, log) = taken[0], taken[-1]
    assert log.startswith(before)
    cuts = random.Random(5).sample(range(len(before), len(log)), 12)
    for cut in [len(before), *cuts, len(log) - 1]:
        store = reopened(tmp_path / f"cut{cut}", (database, log[:cut]))
        assert content(store) == both[0], f"cut at {cut} of {len(log)}"
        store.commit(busy_commit())
        assert content(store) == both[1]
        store.close()


@pytest.mark.parametrize(
    ("kind", "when"),
    [
        pytest.param(duckdb.IOException, "before", marks=pytest.mark.drill),
        (duckdb.FatalException, "after"),
    ],
)
def test_an_error_at_any_statement_leaves_all_or_nothing_and_the_commit_can_be_repeated(
    kind: type[duckdb.Error],
    when: str,
    tmp_path: Path,
    both: tuple[Content, Content],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, number, happened, path = SqlSession.execute, 0, set(), tmp_path / NAME
    seed(path).close()
    seeded = path.read_bytes()
    while True:
        path.write_bytes(seeded)
        store, count, number = DuckDBStore(path), 0, number + 1

        def failing(session: SqlSession, *told: Any) -> Any:  # noqa: ANN401
            nonlocal count
            count += 1
            if count == number and when == "before":  # noqa: B023
                raise kind("No space left on device")
            answer = real(session, *told)
            if count == number:  # noqa: B023
                raise kind("No space left on device")
            return answer

        with monkeypatch.context() as patch:
            patch.setattr(SqlSession, "execute", failing)
            try:
                store.commit(busy_commit())
            except Transient:
                failed = True
            else:
                failed = False
        if not failed:
            store.close()
            break
        happened.add(both.index(content(store)))
        done = store.commit(busy_commit())
        assert content(store) == both[1], f"statement {number}"
        assert done.conflicts == 2
        store.close()
    assert number > 10
    assert happened == ({0} if when == "before" else {0, 1})


COMMITTER = """
import sys
from pathlib import Path
from forebay.stores.duckdb import DuckDBStore
from tests.support.store_histories import history

store = DuckDBStore(Path(sys.argv[1]))
store._session.run("SET checkpoint_threshold = '100KB'")  # so that kills hit checkpoints too
done = store.load().positions
past = done["store"].seq if done else 0
for commit in history(int(sys.argv[2]), 10_000):
    if commit.positions['store'].seq > past:
        store.commit(commit)
        print(commit.positions['store'].seq, flush=True)
"""


def start(code: str, *arguments: object, **more: Any) -> subprocess.Popen[str]:  # noqa: ANN401
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        env={"PYTHONPATH": "src:.", "PATH": os.environ["PATH"]},
        stdout=subprocess.PIPE,
        text=True,
        **more,
    )


def kill_in_a_loop(path: Path, seed_: int, rounds: int) -> int:
    """Kill a committing process again and again; answer how many commits it has answered."""
    dice, answered = random.Random(seed_), 0
    for _ in range(rounds):
        committer = start(COMMITTER, path, seed_)
        with committer:
            assert committer.stdout is not None
            for _ in range(dice.randrange(1, 25)):
                answered = int(committer.stdout.readline())
            committer.send_signal(signal.SIGKILL)
            answered = max([answered, *map(int, committer.stdout.read().split())])
        store = DuckDBStore(path)
        seq = store.load().positions["store"].seq
        assert answered <= seq <= answered + STEP, "what was answered is there"
        model = MemoryStore()
        for commit in history(seed_, seq // STEP - 1):
            model.commit(commit)
        assert content(store) == content(model)
        store.close()
    return answered


def test_kill_9_in_a_loop_of_commits_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    assert kill_in_a_loop(tmp_path / NAME, 3, rounds=2) > 500


@pytest.mark.drill
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed_", range(4))
def test_kill_9_in_a_long_loop_of_commits(tmp_path: Path, seed_: int) -> None:
    assert kill_in_a_loop(tmp_path / NAME, seed_, rounds=15) > 6000


LIMITED = """
import resource, sys
from pathlib import Path
from forebay.errors import Transient
from forebay.stores.duckdb import DuckDBStore
from tests.support.store_histories import content, history

path = Path(sys.argv[1])
store, refused = DuckDBStore(path), 0
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
for commit in history(7, 30):
    if commit.positions['store'].seq % 1000 == 0:
        before = content(store)
        for spare in (0, 100, 2000):
            wal = path.with_name(path.name + ".wal")
            size = wal.stat().st_size if wal.exists() else 0
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + spare, hard))
            try:
                store.commit(commit)
            except Transient:
                refused += 1
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            assert content(store) == before, spare
    store.commit(commit)
print(refused)
"""


def test_a_full_disk_is_transient_and_the_commit_succeeds_when_there_is_space(
    tmp_path: Path,
) -> None:
    with start(LIMITED, tmp_path / NAME) as limited:
        assert limited.stdout is not None
        refused = limited.stdout.read()
    assert limited.returncode == 0
    assert int(refused) == 9, "every try below the limit"
    store, model = DuckDBStore(tmp_path / NAME), MemoryStore()
    for commit in history(7, 30):
        model.commit(commit)
    assert content(store) == content(model)
    store.close()


READING = """
import os, sys
from pathlib import Path
from forebay.errors import Transient
from forebay.stores.duckdb import DuckDBStore

if not os.geteuid():
    os.setuid(65534)  # the superuser may write everywhere
try:
    DuckDBStore(Path(sys.argv[1]))
except Transient as error:
    print(error)
"""


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """Make a folder that everybody may read, and nobody but its owner may write to."""
    folder = Path(tempfile.mkdtemp(prefix="forebay-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("there", [False, True], ids=["new", "existing"])
def test_a_folder_that_cannot_be_written_to_is_said_so(public_folder: Path, *, there: bool) -> None:
    path = public_folder / NAME
    if there:
        seed(path).close()
        path.chmod(0o444)
    before = image(path) if there else None
    if os.geteuid():
        public_folder.chmod(0o555)
    try:
        with start(READING, path) as reading:
            assert reading.stdout is not None
            said = reading.stdout.read()
    finally:
        public_folder.chmod(0o755)
    assert "permission" in said.lower()
    assert "Check space and permissions." in said
    assert (image(path) if there else None) == before


@pytest.mark.parametrize("seed_", range(12))
def test_every_store_tells_the_same_story(tmp_path: Path, seed_: int) -> None:
    """Late, repeated and altered rows, commits that are repeated, and reopening."""
    path = tmp_path / NAME
    store, model, dice = DuckDBStore(path), MemoryStore(), random.Random(seed_)
    for commit in history(seed_):
        done = store.commit(commit)
        assert told(done) == told(model.commit(commit))
        if dice.random() < 0.3:
            again = store.commit(commit)
            assert told(again) == told(model.commit(commit))
            assert again.inserted == done.inserted
        if dice.random() < 0.2:
            store.close()
            store = DuckDBStore(path)
    assert content(store) == content(model)
    assert dict(store.load().coverage) == dict(model.load().coverage)
    store.close()


def test_a_commit_whose_answer_was_lost_is_stored_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, model, real = DuckDBStore(tmp_path / NAME), MemoryStore(), SqlSession.execute

    def lost(session: SqlSession, *told: Any) -> Any:  # noqa: ANN401
        answer = real(session, *told)
        if told[0] == "COMMIT":
            raise duckdb.IOException("the answer was lost")
        return answer

    for commit in history(2):
        with monkeypatch.context() as patch:
            patch.setattr(SqlSession, "execute", lost)
            with pytest.raises(Transient):
                store.commit(commit)
        model.commit(commit)
        assert told(store.commit(commit)) == told(model.commit(commit)) != told(Committed())
    assert content(store) == content(model)
    store.close()
