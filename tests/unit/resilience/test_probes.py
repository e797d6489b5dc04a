"""What breaks other breakers, asked of ours; and of two naive ones, which must get it wrong."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from tests.resilience_peers import __main__ as program
from tests.resilience_peers.breakers import CONTROLS, OURS, PEERS, Contender
from tests.resilience_peers.probes import COLUMNS, NOT_ASKED, Cell, ask

if TYPE_CHECKING:
    from collections.abc import Mapping

RIGHT, WRONG = Cell(right=True, text="ok"), Cell(right=False, text="trips")


@pytest.fixture(scope="module")
def answers() -> Mapping[str, Mapping[str, Cell]]:
    return {contender.name: ask(contender) for contender in (OURS, *CONTROLS)}


@pytest.mark.parametrize("column", COLUMNS)
def test_ours_is_right_and_a_naive_one_is_not(
    column: str, answers: Mapping[str, Mapping[str, Cell]]
) -> None:
    assert answers[OURS.name][column].right is True
    assert any(answers[control.name][column].right is False for control in CONTROLS)


def test_what_was_asked_and_answered_by_the_naive(
    answers: Mapping[str, Mapping[str, Cell]],
) -> None:
    eager, flagged = (answers[control.name] for control in CONTROLS)
    assert eager["50 tasks"].text == "50"
    assert eager["20 threads"].text == "20"
    assert eager["threads"].right is True
    assert flagged["50 tasks"].text == "1"
    assert flagged["hung probe"].text == "wedged while it hangs"
    assert flagged["threads"].text == "serialises"


def test_complaints_name_what_is_wrong_and_what_is_not_proven() -> None:
    all_right = dict.fromkeys(COLUMNS, RIGHT)
    all_wrong = dict.fromkeys(COLUMNS, WRONG)
    answers = {OURS.name: all_right, "peer": all_wrong}
    assert program.complaints(answers, ["peer"]) == []
    answers["peer"] = all_wrong | {"threads": NOT_ASKED}
    assert program.complaints(answers, ["peer"]) == ["nobody is wrong: threads"]
    for unfit in (WRONG, NOT_ASKED):
        answers[OURS.name] = all_right | {"hung probe": unfit}
        (first, _) = program.complaints(answers, ["peer"])
        assert first == f"forebay is wrong: hung probe: {unfit.text}"


def test_the_program_names_what_is_missing_and_falls_back_to_the_naive(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = Contender("absent", OURS.make, "no-such-distribution-of-breakers")
    monkeypatch.setattr(program, "PEERS", (absent,))
    monkeypatch.setattr(sys, "argv", ["probes", "--json"])
    assert program.main() == 0
    told = json.loads(capsys.readouterr().out)
    assert told["not_installed"] == [absent.distribution]
    assert told["complaints"] == []
    assert set(told["answers"]) == {OURS.name, *(control.name for control in CONTROLS)}


def test_the_program_fails_if_nobody_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    present = Contender("twin", OURS.make, "pytest")
    monkeypatch.setattr(program, "PEERS", (present,))
    monkeypatch.setattr(program, "CONTROLS", ())
    monkeypatch.setattr(sys, "argv", ["probes"])
    assert program.main() == 1
    lines = capsys.readouterr().out.splitlines()
    assert [f"nobody is wrong: {column}" for column in COLUMNS] == lines[-len(COLUMNS) :]


def test_every_peer_of_the_table_is_named_once() -> None:
    assert len({peer.distribution for peer in PEERS}) == len({peer.name for peer in PEERS}) == 9
