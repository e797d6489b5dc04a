"""Frames that had to wait are counted once, and each leaves the count when it is stored."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from forebay.services.guarded_delivery import BufferedCounter


def numbers(waiting: BufferedCounter) -> tuple[int, int]:
    return waiting.waited, waiting.flushed


def test_nothing_waits_while_the_store_takes_frames() -> None:
    waiting = BufferedCounter()
    waiting.stored(1, 5, 9)
    waiting.stored(5, 9, 9)
    assert numbers(waiting) == (0, 0)


def test_a_frame_is_counted_once_however_often_it_is_tried() -> None:
    waiting = BufferedCounter()
    for captured in (4, 4, 6, 6):
        waiting.held_back(1, captured)
    assert numbers(waiting) == (5, 0)
    waiting.stored(1, 4, 8)
    assert numbers(waiting) == (7, 3), "what came until the store took frames again waited too"
    waiting.stored(4, 20, 25)
    assert numbers(waiting) == (7, 7), "what came later did not wait"


def test_a_second_outage_before_the_first_is_caught_up_with() -> None:
    waiting = BufferedCounter()
    waiting.held_back(1, 11)
    waiting.stored(1, 6, 11)
    waiting.held_back(6, 16)
    assert numbers(waiting) == (15, 5)
    waiting.stored(6, 16, 16)
    assert numbers(waiting) == (15, 15)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 8)), max_size=40))
def test_what_waits_now_is_what_waited_and_was_not_flushed(
    steps: list[tuple[bool, int, int]],
) -> None:
    """Against a set of numbered frames, which says the same in another way."""
    waiting, model = BufferedCounter(), set[int]()
    stored, captured, ever, held = 1, 1, 0, False
    for fails, new, taken in steps:
        captured += new
        if fails or held:
            pending = set(range(stored, captured))
            ever += len(pending - model)
            model |= pending
        held = fails
        if fails:
            waiting.held_back(stored, captured)
        else:
            after = min(captured, stored + taken)
            waiting.stored(stored, after, captured)
            model -= set(range(stored, after))
            stored = after
        assert waiting.waited == ever
        assert waiting.waited - waiting.flushed == len(model)
