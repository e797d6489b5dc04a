"""Ways of others lose or double under the weather that the core goes through unharmed."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from forebay.errors import ConfigError
from tests.simulation.controls import CONTROLS, Event, Score, run_control
from tests.simulation.run import run_many
from tests.tiers import count

SEEDS = count("worlds of a control")
LOSE = {"json-files", "clear-on-overflow", "timestamp-cursor", "success-if-either"}
DOUBLE = {"json-files", "clear-on-overflow"}


@pytest.mark.parametrize("part", CONTROLS)
def test_a_control_is_caught(part: str) -> None:
    score = run_control(part, 0, SEEDS)
    assert score.seeds == SEEDS
    assert score.events > 20 * SEEDS
    assert (score.lost > 0) is (part in LOSE)
    assert (score.doubled > 0) is (part in DOUBLE)
    assert score.caught >= SEEDS // 5


def test_the_core_is_clean_in_the_same_worlds() -> None:
    assert run_many(0, SEEDS).failed == []


def test_a_control_does_the_same_every_time() -> None:
    assert run_control("json-files", 5, 3) == run_control("json-files", 5, 3)


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("part", CONTROLS)
def test_the_figures_of_the_page_are_those_of_the_command(part: str) -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "explanation" / "seeds.md"
    (row,) = re.findall(rf"^\| `{part}` \|.*$", page.read_text(encoding="utf-8"), re.MULTILINE)
    score = run_control(part, 0, 100)
    told = [int(cell) for cell in row.split("|")[3:-1]]
    assert told == [score.events, score.lost, score.doubled, score.caught]


def test_there_is_no_other_control() -> None:
    with pytest.raises(ConfigError, match="There is json-files, clear-on-overflow"):
        run_control("hope", 0, 1)


def test_a_score_counts_what_was_called_safe_and_what_is_there_too_often() -> None:
    one, two, three = (Event("t", "BTC-USD", number) for number in (1, 2, 3))
    score = Score("any")
    score.add(Counter([one, two]), Counter([two, two, three]), Counter([one, two, three]))
    assert score.document() == {"seeds": 1, "events": 2, "lost": 1, "doubled": 1, "caught": 1}
    # What the venue said twice may be there twice.
    score.add(Counter([one]), Counter([one, one]), Counter([one, one]))
    assert score.document() == {"seeds": 2, "events": 3, "lost": 1, "doubled": 1, "caught": 1}
