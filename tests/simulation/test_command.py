"""``python -m tests.simulation`` as its users meet it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.simulation import __main__ as command
from tests.simulation.mutants import duplicates_not_removed
from tests.simulation.run import SOMETIMES, Summary, run_seed

Simulate = Callable[..., tuple[int, str, str]]


@pytest.fixture
def simulate(capsys: pytest.CaptureFixture[str]) -> Simulate:
    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = command.main(arguments)
        except SystemExit as ended:
            code = int(str(ended.code))
        return code, *capsys.readouterr()

    return run


def test_it_is_started_by_its_name() -> None:
    started = [sys.executable, "-m", "tests.simulation", "--seeds", "2", "--jobs", "2"]
    ended = subprocess.run(started, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines()[-1].endswith(": none failed")


def test_many_worlds_as_json(simulate: Simulate) -> None:
    code, out, err = simulate("--seeds", "4", "--from", "100", "--json")
    document = json.loads(out)
    assert (code, err) == (0, "")
    assert document["ok"]
    assert document["seeds"] == 4
    assert document["events"] > 200
    assert document["failed"] == document["never"] == []
    assert set(document["happened"]) == set(SOMETIMES)


def test_many_worlds_as_a_table(simulate: Simulate) -> None:
    code, out, _ = simulate("--seeds", "2")
    assert code == 0
    assert "a gap was filled" in out
    assert out.splitlines()[-1].startswith("2 seeds, ")
    assert out.splitlines()[-1].endswith(": none failed")


def test_processes_give_the_same_as_one(simulate: Simulate) -> None:
    one, two = (simulate("--seeds", "4", "--json", "--jobs", jobs) for jobs in ("1", "2"))
    assert one[0] == two[0] == 0
    assert json.loads(one[1]) == json.loads(two[1])


def test_a_world_is_replayed_event_by_event(simulate: Simulate) -> None:
    code, out, _ = simulate("--seed", "5", "--trace")
    outcome = run_seed(5, keep_trace=True)
    assert code == 0
    assert out.splitlines() == [*outcome.lines, f"trace {outcome.trace}"]
    assert any("delivered" in line for line in outcome.lines)


def test_a_failing_world_says_how_to_run_it_again(
    simulate: Simulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    duplicates_not_removed(monkeypatch)
    code, out, _ = simulate("--seeds", "3", "--json")
    document = json.loads(out)
    assert code == 1
    failed = document["failed"][0]
    assert "doubled row" in failed["failure"]
    assert failed["again"] == f"python -m tests.simulation --seed {failed['seed']}"
    code, out, _ = simulate("--seed", str(failed["seed"]))
    assert code == 1
    assert f"python -m tests.simulation --seed {failed['seed']} --trace" in out
    assert simulate("--seed", str(failed["seed"]), "--trace")[0] == 1


def test_what_never_happened_fails_a_long_run(
    simulate: Simulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing_much(*_: object, **__: object) -> Summary:
        return Summary(seeds=1_000)

    monkeypatch.setattr(command, "run_many", nothing_much)
    code, out, _ = simulate("--seeds", "1000")
    assert code == 1
    assert "never happened: power was cut" in out


def test_a_control_gives_its_figures(simulate: Simulate) -> None:
    code, out, _ = simulate("--part", "success-if-either", "--seeds", "10", "--json")
    document = json.loads(out)
    assert code == 0
    assert document["part"] == "success-if-either"
    assert document["lost"] > 0
    code, out, _ = simulate("--part", "success-if-either", "--seeds", "2")
    assert code == 0
    assert "success-if-either" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--trace",), "--trace is of one world"),
        (("--seed", "1", "--trace", "--json"), "--trace goes with neither --part nor --json"),
        (("--part", "hope"), "invalid choice: 'hope'"),
    ],
)
def test_wrong_usage_is_exit_2(simulate: Simulate, arguments: tuple[str, ...], says: str) -> None:
    code, out, err = simulate(*arguments)
    assert (code, out) == (2, "")
    assert says in err
