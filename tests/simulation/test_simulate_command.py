"""`forebay lab simulate` as its users meet it."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from forebay.cli.lab import app
from forebay.lab.simulation.run import SOMETIMES, Summary, run_seed
from tests.simulation.mutants import duplicates_not_removed


def simulate(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(
        app, ["simulate", *arguments], env={"COLUMNS": "200", "NO_COLOR": "1"}
    )
    return result.exit_code, result.stdout, result.stderr


def test_many_worlds_as_json() -> None:
    code, out, _ = simulate("--seeds", "4", "--from", "100", "--json")
    document = json.loads(out)
    assert code == 0
    assert document["ok"]
    assert document["seeds"] == 4
    assert document["events"] > 200
    assert document["failed"] == document["never"] == []
    assert set(document["happened"]) == set(SOMETIMES)


def test_many_worlds_as_a_table() -> None:
    code, out, _ = simulate("--seeds", "2")
    assert code == 0
    assert "a gap was filled" in out
    assert out.splitlines()[-1].startswith("2 seeds, ")
    assert out.splitlines()[-1].endswith(": none failed")


def test_processes_give_the_same_as_one() -> None:
    one, two = (simulate("--seeds", "4", "--json", "--jobs", jobs) for jobs in ("1", "2"))
    assert one[0] == two[0] == 0
    assert json.loads(one[1]) == json.loads(two[1])


def test_a_world_is_replayed_event_by_event() -> None:
    code, out, _ = simulate("--seed", "5", "--trace")
    outcome = run_seed(5, keep_trace=True)
    assert code == 0
    assert out.splitlines() == [*outcome.lines, f"trace {outcome.trace}"]
    assert any("delivered" in line for line in outcome.lines)


def test_a_failing_world_says_how_to_run_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    duplicates_not_removed(monkeypatch)
    code, out, _ = simulate("--seeds", "3", "--json")
    document = json.loads(out)
    assert code == 1
    failed = document["failed"][0]
    assert "doubled row" in failed["failure"]
    assert failed["again"] == f"forebay lab simulate --seed {failed['seed']}"
    code, out, _ = simulate("--seed", str(failed["seed"]))
    assert code == 1
    assert f"forebay lab simulate --seed {failed['seed']} --trace" in out
    assert simulate("--seed", str(failed["seed"]), "--trace")[0] == 1


def test_what_never_happened_fails_a_long_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing_much(*_: object, **__: object) -> Summary:
        return Summary(seeds=1_000)

    monkeypatch.setattr("forebay.lab.simulation.run.run_many", nothing_much)
    code, out, _ = simulate("--seeds", "1000")
    assert code == 1
    assert "never happened: power was cut" in out


def test_a_control_gives_its_figures() -> None:
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
        (("--trace",), "--trace is of one world."),
        (("--part", "hope"), "There is no negative control 'hope'."),
    ],
)
def test_wrong_usage_is_exit_2(arguments: tuple[str, ...], says: str) -> None:
    code, out, err = simulate(*arguments)
    assert (code, out) == (2, "")
    assert says in err
