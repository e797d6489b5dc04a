"""What `make bench-compare` runs: a worktree that goes away, and our side alone in each tree."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
from functools import partial
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from tests.benchmarks import alone, compare, harness
from tests.benchmarks.alone import Figure
from tests.benchmarks.comparing import BASE, HEAD, Compared, Failed, Outcome
from tests.benchmarks.harness import OURS, Goal, NotRun, Row
from tests.support.commands import alive, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
HARNESS = """
OURS = "forebay"
class NotRun(Exception): ...
class Rounds: ...
"""
PROGRAM = """
import os, signal, subprocess, sys
from pathlib import Path
import forebay
from tests.benchmarks.harness import Rounds
HERE = Path(__file__).parents[2]

def one():
    yield Rounds().row(f"by {forebay.NAME}", "frames/s", None)

def crash():
    sys.stderr.write("a stack")
    raise SystemExit(3)
    yield

def left():
    command = [sys.executable, "-c", "import signal; signal.pause()"]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    (HERE / "child").write_text(str(child.pid))
    yield Rounds().row("left", "frames/s", None)

def stuck():
    signal.pause()
    yield

def interrupted():
    yield from left()
    try:
        os.kill(os.getppid(), signal.SIGUSR1)
        signal.pause()
    finally:
        (HERE / "cleaned").touch()

BENCHMARKS = {run.__name__: ("", run) for run in (one, crash, left, stuck, interrupted)}
"""
ROW = 'Rounds.figures = {"forebay": [7.0]}\n'


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a checkout of some other commit, with an API of its own."""
    files = {
        "src/forebay/__init__.py": 'NAME = "another tree"\n',
        "tests/benchmarks/harness.py": HARNESS + ROW,
        "tests/benchmarks/__main__.py": PROGRAM,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


# ------------------------------------------------------------------- worktree


class Git:
    """Remember what it was asked, and fail where it should."""

    def __init__(self, *failing: str) -> None:
        self.failing = failing
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, *arguments: str) -> str:
        self.asked.append(arguments)
        if arguments[1] in self.failing:
            raise Failed(f"cannot {arguments[1]}")
        if arguments[1] == "add":
            Path(arguments[3]).mkdir()
        return ""

    @property
    def verbs(self) -> list[str]:
        return [arguments[1] for arguments in self.asked]


def test_a_worktree_is_detached_and_removed_by_its_own_path() -> None:
    git = Git()
    with compare.checkout("c0ffee", git) as place:
        assert place.is_dir()
        assert git.asked == [("worktree", "add", "--detach", str(place), "c0ffee")]
    assert git.asked[1:] == [("worktree", "remove", "--force", "--force", str(place))]
    assert not place.parent.exists()


@pytest.mark.parametrize("error", [Failed("measured nothing"), KeyboardInterrupt(), SystemExit(1)])
def test_a_worktree_is_removed_whatever_happens_in_it(error: BaseException) -> None:
    git = Git()
    with pytest.raises(type(error)), compare.checkout("c0ffee", git):
        raise error
    assert git.verbs == ["add", "remove"]
    assert not Path(git.asked[0][3]).parent.exists()


def test_a_worktree_that_cannot_be_made_says_why() -> None:
    git = Git("add", "remove")
    with pytest.raises(Failed, match="cannot add"), compare.checkout("c0ffee", git):
        pytest.fail("there is no worktree")
    assert git.verbs == ["add", "remove"]


def test_a_real_repository_is_left_as_it_was(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        named = ("-c", "user.name=n", "-c", "user.email=n@localhost")
        command = ["git", *named, *arguments]
        return subprocess.run(
            command, cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout

    git("init", "--quiet")
    (tmp_path / "file").write_text("old", encoding="utf-8")
    git("add", "file")
    git("commit", "--quiet", "--message", "Old")
    (tmp_path / "file").write_text("new", encoding="utf-8")
    with compare.checkout("HEAD", git) as place:
        assert (place / "file").read_text(encoding="utf-8") == "old"
        (place / "left behind").touch()
        assert len(git("worktree", "list").splitlines()) == 2
    assert len(git("worktree", "list").splitlines()) == 1
    assert (tmp_path / "file").read_text(encoding="utf-8") == "new"


def test_what_git_says_is_the_reason() -> None:
    with pytest.raises(Failed, match="no-such-verb"):
        compare.git("no-such-verb")


# ------------------------------------------------------------ a fresh process


def test_a_tree_is_measured_by_its_own_benchmarks_against_its_own_code(tree: Path) -> None:
    assert compare.ask(tree, "one") == {
        "rows": [["by another tree", 7.0, "frames/s", False]],
        "notes": [],
    }


def test_a_tree_says_which_benchmarks_it_has(tree: Path) -> None:
    assert compare.ask(tree) == ["one", "crash", "left", "stuck", "interrupted"]


def test_this_tree_has_every_benchmark() -> None:
    from tests.benchmarks.__main__ import BENCHMARKS

    assert compare.ask(ROOT) == list(BENCHMARKS)


def test_a_benchmark_that_fails_is_a_sentence_after_what_it_said(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Failed, match="exit code 3"):
        compare.ask(tree, "crash")
    assert capsys.readouterr().err.strip() == "a stack"


def test_a_benchmark_that_takes_for_ever_is_ended(tree: Path) -> None:
    with pytest.raises(Failed, match=r"took more than 0\.01 s"):
        compare.ask(tree, "stuck", patience_s=0.01)


def _gone(tree: Path) -> bool | None:
    return None if alive(int((tree / "child").read_text(encoding="utf-8"))) else True


def test_what_a_benchmark_has_left_running_is_ended(tree: Path) -> None:
    assert compare.ask(tree, "left")["rows"]
    assert wait_for(partial(_gone, tree), "the end of what was left")


def test_an_interrupt_lets_a_benchmark_clean_up_and_leaves_nothing_running(
    tree: Path, signals: list[int]
) -> None:
    signal.signal(signal.SIGUSR1, compare.interrupt)
    with pytest.raises(KeyboardInterrupt):
        compare.ask(tree, "interrupted")
    assert (tree / "cleaned").exists()
    assert wait_for(partial(_gone, tree), "the end of what was left")


@pytest.fixture
def signals() -> Iterator[list[int]]:
    """Give the signals that end a run, and put back who handles them."""
    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1]
    handlers = [signal.getsignal(number) for number in numbers]
    yield [*numbers[:3]]
    for number, handler in zip(numbers, handlers, strict=True):
        signal.signal(number, handler)


def test_a_second_interrupt_does_not_disturb_the_cleaning_up(signals: list[int]) -> None:
    with pytest.raises(KeyboardInterrupt):
        compare.interrupt(signal.SIGTERM, None)
    assert {signal.getsignal(number) for number in signals} == {signal.SIG_IGN}


# ------------------------------------------------------------------ our side


@pytest.mark.parametrize(
    ("name", "peer", "ours"),
    [
        ("journal append / lmdb", "lmdb", "journal append"),
        ("breaker, refusal, nopanic", "nopanic", "breaker, refusal"),
        ("breaker, call", "bare wrapper", "breaker, call"),
        ("normalise", "", "normalise"),
    ],
)
def test_a_row_is_named_without_the_peer(name: str, peer: str, ours: str) -> None:
    assert alone.named(name, peer) == ours


@pytest.mark.parametrize(
    ("step", "most", "figures"), [(0.1, 5, 5), (10.0, 5, 1), (1.0, 5, 2), (0.0, 1, 1)]
)
def test_quick_work_is_repeated_and_the_first_time_does_not_count(
    step: float, most: int, figures: int
) -> None:
    ticks, done = count(0.0, step), count()
    found = alone.turns(lambda: float(next(done)), most, lambda: next(ticks))
    assert found == [1.0 + number for number in range(figures)]


@pytest.fixture
def ours_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the peers out of our real harness, for one test."""
    monkeypatch.setattr(harness, "alternate", harness.alternate)
    monkeypatch.setattr(harness.Rounds, "row", harness.Rounds.row)
    alone.leave_out_peers(harness)


def _never() -> float:
    raise AssertionError("a peer was measured")


@pytest.mark.usefixtures("ours_only")
@pytest.mark.parametrize(
    ("goal", "less"), [(None, False), (Goal(ratio=2), False), (Goal(most=8), True)]
)
def test_only_we_are_measured_and_the_goal_says_what_is_better(
    goal: Goal | None, less: bool
) -> None:
    rounds = harness.alternate({"peer": _never, OURS: lambda: 5.0}, 3)
    assert rounds.row("a / peer", "ms", goal, "peer", "a note") == Figure("a", 5.0, "ms", less)  # type: ignore[comparison-overlap]
    assert rounds.row("a", "ms", goal, note="a note") == Figure("a", 5.0, "ms", less)  # type: ignore[comparison-overlap]


def test_peers_in_a_table_with_us_do_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("tests.made_up")
    module.CONTENDERS, module.GOALS = {"we ourselves": len, "peer": _never}, {"peer": 3}
    monkeypatch.setitem(sys.modules, "tests.made_up", module)
    alone.idle_peers("we ourselves")
    assert module.CONTENDERS["peer"]("a folder", take=len) is None
    assert (module.CONTENDERS["we ourselves"], module.GOALS) == (len, {"peer": 3})


def _answer(run: Callable[[], Iterator[object]]) -> tuple[list[float], list[str]]:
    answer = alone.measure("b", harness, {"b": ("", run)})
    return [row.value for row in answer["rows"]], answer["notes"]


A = Figure("a", 1.0, "ms", less=True)


def test_a_row_that_stands_beside_several_peers_is_one() -> None:
    assert _answer(lambda: iter([A, A._replace(value=2.0)])) == ([1.0], [])


def test_a_peer_that_is_not_installed_is_not_worth_a_word_where_we_were_measured() -> None:
    missing = [Row("a, peer", "", "", note="no peer"), Row("c, peer", "", "", note="no peer")]
    assert _answer(lambda: iter([*missing, A])) == ([1.0], ["c, peer: no peer"])


def test_what_stops_before_or_after_our_turns_is_told_apart() -> None:
    def run(*before: Figure) -> Iterator[object]:
        yield from before
        raise NotRun("something is missing")

    assert _answer(run) == ([], ["b: something is missing"])
    assert _answer(partial(run, A)) == ([1.0], [])


# ------------------------------------------------------------------ the whole


def _row(*, fails: bool = False) -> Compared:
    return Compared("b", "a", "ms", True, [1.0], [1.0], 1.0, 0.01, "within noise", fails)


def test_a_run_goes_through_what_both_trees_have(monkeypatch: pytest.MonkeyPatch) -> None:
    trees = {BASE: Path(BASE), HEAD: Path(HEAD)}
    names = {BASE: ["a", "b", "old"], HEAD: ["new", "b", "a"]}
    asked: list[tuple[str, ...]] = []

    def ask(tree: Path, *arguments: str) -> Any:  # noqa: ANN401
        if not arguments:
            return names[tree.name]
        asked.append((tree.name, *arguments))
        return {"rows": [[*arguments, 1.0, "ms", True]], "notes": []}

    monkeypatch.setattr(compare, "ask", ask)
    outcome = compare.run_all(trees, (), 2, 10.0)
    assert [row.name for row in outcome.rows] == ["a", "b"]
    assert outcome.missing == ["old: only in base", "new: only in head"]
    assert asked[:4] == [(BASE, "a"), (HEAD, "a"), (HEAD, "a"), (BASE, "a")]
    assert compare.run_all(trees, ["b", "new"], 1, 10.0).missing == ["new: only in head"]
    with pytest.raises(Failed, match="No such benchmark: nonsense"):
        compare.run_all(trees, ["a", "nonsense"], 1, 10.0)


def test_a_tree_without_benchmarks_is_named(tree: Path) -> None:
    (tree / "tests" / "benchmarks" / "__main__.py").unlink()
    with pytest.raises(
        Failed, match="benchmarks of base cannot be listed: it ended with exit code"
    ):
        compare.run_all({BASE: tree, HEAD: ROOT}, (), 1, 10.0)


def test_what_is_told_is_written_too(tmp_path: Path) -> None:
    path = tmp_path / "build" / "bench-compare.json"
    said = compare.tell(Outcome([_row()], ["c: only in base"]), {"base": "c0ffee"}, path)
    document = json.loads(path.read_text(encoding="utf-8"))
    assert said.splitlines()[-1] == "not compared: c: only in base"
    assert (document["base"], document["missing"]) == ("c0ffee", ["c: only in base"])
    assert (document["passes"], document["rows"][0]["ratio"]) == (True, 1.0)


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (Outcome([_row()]), 0),
        (Outcome([_row(), _row(fails=True)]), 1),
        (Outcome([_row()], broken=True), 1),
        (Outcome([], ["a: only in base"]), 2),
    ],
)
def test_the_exit_code_says_what_came_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcome: Outcome, code: int
) -> None:
    monkeypatch.setattr(compare, "WRITTEN", tmp_path / "bench-compare.json")
    monkeypatch.setattr(compare, "git", lambda *_: "c0ffee")
    monkeypatch.setattr(compare, "checkout", contextlib.nullcontext)
    monkeypatch.setattr(compare, "run_all", lambda *_: outcome)
    chosen = argparse.Namespace(base="main", only=None, rounds=5, limit=10.0)
    assert compare.compare_trees(chosen) == code


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "the following arguments are required: --base"),
        (("--base", "no-such-commit"), "no-such-commit is no commit here"),
        (("--base", "HEAD", "--rounds", "0"), "at least one"),
    ],
)
def test_what_cannot_be_compared_is_a_sentence_and_exit_2(
    arguments: tuple[str, ...], sentence: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.compare", *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert sentence in done.stderr
