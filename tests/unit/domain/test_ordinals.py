"""Ordinals: counting equal events, wherever the counting is cut."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.domain import ordinals
from forebay.domain.ordinals import (
    EPOCHS,
    REMEMBERED,
    EpochOrdinals,
    StreamOrdinals,
    count_page,
)

CONTENTS = st.lists(st.sampled_from([b"a", b"b", b"c", b"d", b"e", b"f"]), max_size=40)


def by_definition(contents: list[bytes], window: int) -> list[int]:
    """Count from the definition, with everything remembered."""
    found: list[int] = []
    for place, content in enumerate(contents):
        earlier = [at for at in range(place) if contents[at] == content]
        near = bool(earlier) and place - earlier[-1] <= window
        found.append(found[earlier[-1]] + 1 if near else 0)
    return found


@settings(max_examples=200)
@given(CONTENTS, st.integers(1, 5), st.lists(st.integers(0, 40), max_size=5))
def test_counting_is_the_definition_wherever_it_is_cut(
    contents: list[bytes], window: int, cuts: list[int]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ordinals, "REMEMBERED", window)
        stream, found = StreamOrdinals(), []
        ends = [0, *sorted(cuts), len(contents)]
        for low, high in pairwise(ends):
            part = contents[low:high]
            if part:
                stream = StreamOrdinals.decode(stream.copy().encode())
                found += stream.count("e1", part, [0] * len(part))[0]
                assert len(stream.epochs["e1"].groups) <= window
        assert found == by_definition(contents, window)


def test_equal_events_are_remembered_as_long_as_the_page_says() -> None:
    others = [str(number).encode() for number in range(REMEMBERED)]
    near, far = EpochOrdinals(0), EpochOrdinals(0)
    assert near.count([b"x", *others[1:], b"x"])[-1] == 1
    assert far.count([b"x", *others, b"x"])[-1] == 0
    for counted in (near, far):
        assert len(counted.groups) == REMEMBERED
        assert counted.count([b"x"]) == [[1, 2][counted is near]]


def test_memory_and_what_is_stored_are_bounded() -> None:
    dice, stream = random.Random(1), StreamOrdinals()
    for turn in range(2000):
        contents = [dice.randbytes(16) for _ in range(100)]
        stream = stream.copy()
        stream.count(f"e{turn // 10}", contents, [turn] * 100)
    stream = stream.copy()
    assert list(stream.epochs) == [f"e{number}" for number in range(200 - EPOCHS, 200)]
    assert [len(epoch.groups) for epoch in stream.epochs.values()] == [1000] * EPOCHS
    assert len(stream.encode()) < EPOCHS * REMEMBERED * 28


def test_the_connection_that_is_silent_longest_is_forgotten() -> None:
    stream = StreamOrdinals()
    for number in range(EPOCHS):
        stream.count(f"e{number}", [b"x"], [0])
    assert stream.count("e0", [b"x"], [0])[0] == [1]
    stream.count("new", [b"x"], [0])
    within = StreamOrdinals.decode(stream.encode())
    assert within.count("e1", [b"x"], [0])[0] == [1], "not before the step is over"
    stream = stream.copy()
    assert stream.count("e0", [b"x"], [0])[0] == [2]
    assert stream.count("e1", [b"x"], [0])[0] == [0], "it was the one that spoke longest ago"


def test_only_the_first_instant_of_a_connection_is_an_edge() -> None:
    stream = StreamOrdinals()
    assert stream.count("e1", [b"a", b"b", b"c"], [5, 5, 6])[1] == [True, True, False]
    assert stream.count("e1", [b"d", b"e", b"f"], [5, 4, 7])[1] == [True, False, False]
    assert stream.count("e2", [b"d"], [6])[1] == [True]
    stream.close("e1")
    assert stream.count("e1", [b"a"], [7]) == ([0], [True])


def test_a_copy_lives_its_own_life() -> None:
    stream = StreamOrdinals()
    stream.count("e1", [b"a"], [1])
    before = stream.encode()
    clone = stream.copy()
    clone.count("e1", [b"a", b"b"], [1, 1])
    clone.count("e2", [b"a"], [1])
    assert stream.encode() == before
    clone.close("e1")
    assert (stream.encode(), list(clone.epochs)) == (before, ["e2"])


@given(CONTENTS.filter(bool))
def test_a_page_counts_alone_and_has_two_edges(contents: list[bytes]) -> None:
    moments = [100 - place // 2 for place in range(len(contents))]
    counted, edges = count_page(contents, moments)
    assert counted == by_definition(contents, len(contents))
    ends = (moments[0], moments[-1])
    assert edges == [moment in ends for moment in moments]
    assert count_page(contents[::-1], moments[::-1])[1] == edges[::-1]
