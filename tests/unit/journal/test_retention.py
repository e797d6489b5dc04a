"""What is done with which segment: a table, and rules that hold for any journal."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.journal import Position
from forebay.journal.retention import Floor, HousekeepingStep, Rules, plan
from forebay.journal.survey import Survey

DAY = 86_400 * 10**9
NOW = 100 * DAY
A, B = "a" * 32, "b" * 32
WEEK = Rules(7 * DAY)


def segments(text: str, *, oldest: int | None = 1) -> list[Survey]:
    """One letter a segment of 10 frames: its log, in capitals if it is sealed."""
    return [
        Survey(
            1 + 10 * index,
            {"a": A, "b": B, "?": ""}[letter.lower()],
            100,
            sealed=letter.isupper(),
            last_ns=None if index or oldest is None else NOW - oldest * DAY,
        )
        for index, letter in enumerate(text)
    ]


def told(steps: list[HousekeepingStep]) -> str:
    return " ".join(f"{step.action} {step.first_seq}" for step in steps)


def floor(cursors: str, reached: str = "") -> Floor:
    """``a21 b3``: positions by log and number."""
    found = [Position(each[0] * 32, int(each[1:])) for each in cursors.split()]
    return Floor(found, Position(reached[0] * 32, int(reached[1:])) if reached else None)


@pytest.mark.parametrize(
    ("text", "cursors", "reached", "steps"),
    [
        ("", "a1", "", ""),
        ("a", "a9", "", ""),
        ("aaa", "a10", "", ""),
        ("aaa", "a11", "", "record 1"),
        ("aaa", "a11", "a11", "seal 1"),
        ("Aaa", "a11", "a11", ""),
        ("aaa", "a31", "a11", "record 11 seal 1"),
        ("Aaa", "a31", "a11", "record 11"),
        ("Aaa", "a31", "a21", "seal 11"),
        ("AAa", "a31", "a21", ""),
        # The last segment is never touched, wherever the cursors are.
        ("aaa", "a31", "a31", "seal 1"),
        # The slowest cursor counts, and without a cursor nothing is done.
        ("aaa", "a31 a11", "a21", "seal 1"),
        ("aaa", "a31 a5", "a21", ""),
        ("aaa", "", "a21", ""),
        # A cursor or a ledger of a log that is not here says nothing.
        ("aaa", "b31", "a21", ""),
        ("aaa", "a31", "b21", "record 1"),
        ("aaa", "a31 b31", "a21", ""),
        # A log that another one continues.
        ("aabb", "b31", "b31", "seal 1"),
        ("aabb", "a21", "a11", "seal 1"),
        ("aabb", "a21", "a21", "seal 1"),
        ("AAbb", "b31", "b21", "record 21"),
        ("a?a", "a21", "a11", "record 11 seal 1"),
    ],
)
def test_the_decision(text: str, cursors: str, reached: str, steps: str) -> None:
    assert told(plan(segments(text), NOW, WEEK, floor(cursors, reached))) == steps


@pytest.mark.parametrize(
    ("rules", "oldest", "steps"),
    [
        (Rules(7 * DAY), 6, "seal 1"),
        (Rules(7 * DAY), 7, "remove 1 seal 1"),
        (Rules(7 * DAY), None, "seal 1"),
        (Rules(0), 6, "remove 1 seal 1"),
        (Rules(0), -3, "remove 1 seal 1"),
        (Rules(0), None, "remove 1 seal 1"),
        (Rules(7 * DAY, 400), 6, "seal 1"),
        (Rules(7 * DAY, 399), 6, "remove 1 seal 1"),
        (Rules(7 * DAY, 399), None, "remove 1 seal 1"),
    ],
)
def test_age_and_size(rules: Rules, oldest: int | None, steps: str) -> None:
    found = segments("aaaa", oldest=oldest)
    assert told(plan(found, NOW, rules, floor("a31", "a31"))) == steps


@pytest.mark.parametrize("cursors", ["a31", "a5"])
@pytest.mark.parametrize("reached", ["", "a5", "b31"])
def test_nothing_that_is_not_recorded_or_not_consumed_goes(cursors: str, reached: str) -> None:
    steps = plan(segments("aaaa", oldest=99), NOW, Rules(0, 1), floor(cursors, reached))
    assert "remove" not in told(steps)


def test_the_end_of_a_step_is_where_the_next_segment_begins() -> None:
    (step,) = plan(segments("aabb"), NOW, WEEK, floor("b31", "a11"), left={1})
    assert step == HousekeepingStep("record", 11, Position(B, 21))
    (step,) = plan(segments("aa?"), NOW, WEEK, floor("a31", ""))
    assert step.end == Position(A, 11)


def test_what_cannot_be_sealed_is_left_and_does_not_hold_up_the_next() -> None:
    found = segments("aaaa")
    assert told(plan(found, NOW, WEEK, floor("a31", "a31"), left={1})) == "seal 11"
    assert told(plan(found, NOW, WEEK, floor("a31", "a31"), left={1, 11, 21})) == ""


positions = st.builds(Position, st.sampled_from([A, B, "c" * 32]), st.integers(1, 80))


@settings(max_examples=500)
@given(
    text=st.text("aAbB?", max_size=8),
    cursors=st.lists(positions, max_size=3),
    reached=st.none() | positions,
    rules=st.builds(Rules, st.sampled_from([0, DAY]), st.none() | st.integers(1, 900)),
    oldest=st.none() | st.integers(-2, 3),
)
def test_nothing_is_touched_that_anybody_needs(
    text: str, cursors: list[Position], reached: Position | None, rules: Rules, oldest: int | None
) -> None:
    found = segments(text, oldest=oldest)
    steps = plan(found, NOW, rules, Floor(cursors, reached))
    assert [step.action for step in steps] == sorted(
        {step.action for step in steps}, key=["remove", "record", "seal"].index
    )
    for step in steps:
        index = [each.first_seq for each in found].index(step.first_seq)
        assert index < len(found) - 1
        assert step.end.seq == found[index + 1].first_seq
        behind = {each.log_id for each in found[index + 1 :]}
        assert cursors
        assert all(each.seq >= step.end.seq and each.log_id in behind for each in cursors)
        if step.action == "record":
            assert all(_is_recorded(found, at, reached) for at in range(index))
            assert not _is_recorded(found, index, reached)
        else:
            assert _is_recorded(found, index, reached)
        if step.action == "remove":
            assert index == 0


def _is_recorded(found: list[Survey], index: int, reached: Position | None) -> bool:
    behind = {each.log_id for each in found[index + 1 :]}
    return (
        reached is not None
        and reached.seq >= found[index + 1].first_seq
        and reached.log_id in behind
    )
