"""Payloads in one buffer behave as the list of them, and share what they can."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.payloads import Payloads

SOME = [b"ab", b"", b"cde", b"f", b""]
lists = st.lists(st.binary(max_size=5), max_size=12)


def shared(payloads: Payloads, whole: Payloads) -> bool:
    """Whether both look at the same bytes in memory."""
    ours, theirs = (np.frombuffer(each.data, np.uint8) for each in (payloads, whole))
    return np.shares_memory(ours, theirs)


def whole_and_sound(payloads: Payloads) -> bool:
    ends = payloads.ends
    rising = bool((np.diff(ends, prepend=0) >= 0).all())
    return rising and ends.dtype == np.int64 and ends.shape == (len(payloads),)


@given(lists)
def test_they_are_what_was_put_in(single: list[bytes]) -> None:
    payloads = Payloads.of(single)
    assert list(payloads) == single
    assert payloads == single
    assert len(payloads) == len(single)
    assert bytes(payloads.data) == b"".join(single)
    assert [payloads[at] for at in range(len(single))] == single
    assert [payloads[at] for at in range(-len(single), 0)] == single
    assert list(reversed(payloads)) == single[::-1]
    assert whole_and_sound(payloads)


@given(lists, st.integers(-14, 14) | st.none(), st.integers(-14, 14) | st.none())
def test_a_slice_is_the_lists_slice(single: list[bytes], start: int, stop: int) -> None:
    part = Payloads.of(single)[start:stop]
    assert part == single[start:stop]
    assert bytes(part.data) == b"".join(single[start:stop])
    assert whole_and_sound(part)
    assert part[1:] == single[start:stop][1:]


@given(st.lists(lists, max_size=5))
def test_joining_is_adding_the_lists(parts: list[list[bytes]]) -> None:
    joined = Payloads.joined([Payloads.of(part) for part in parts])
    assert joined == [payload for part in parts for payload in part]
    assert bytes(joined.data) == b"".join(payload for part in parts for payload in part)
    assert whole_and_sound(joined)


@given(lists, st.data(), st.integers(0, 30))
def test_within_counts_as_many_as_have_the_size(
    single: list[bytes], data: st.DataObject, size: int
) -> None:
    start = data.draw(st.integers(0, len(single)))
    stop = Payloads.of(single).within(start, size)
    assert start <= stop <= len(single)
    assert sum(map(len, single[start:stop])) <= size
    assert stop == len(single) or sum(map(len, single[start : stop + 1])) > size


def test_within_a_size_below_zero_is_none() -> None:
    assert Payloads.of(SOME).within(3, -4) == 3


def test_slices_and_joins_of_one_copy_nothing() -> None:
    whole = Payloads.of(SOME)
    part = whole[2:4]
    assert shared(part, whole)
    assert shared(part[1:], whole)
    assert Payloads.joined([part]) is part
    assert Payloads.of(part) is part
    assert not shared(Payloads.joined([part, whole]), whole)


def test_parts_of_a_larger_buffer_join_without_what_lies_between() -> None:
    whole = Payloads.of(SOME)
    assert Payloads.joined([whole[:1], whole[2:3], whole[4:]]) == [b"ab", b"cde", b""]


def test_a_single_payload_is_bytes_of_its_own() -> None:
    view = Payloads(memoryview(b"abcde"), np.array([2, 5]))
    assert type(view[1]) is bytes
    assert {type(payload) for payload in view} == {bytes}
    assert view[1] == b"cde"


@pytest.mark.parametrize("at", [5, -6, 99])
def test_beyond_the_last_is_an_error(at: int) -> None:
    with pytest.raises(IndexError):
        Payloads.of(SOME)[at]


def test_a_step_is_refused() -> None:
    with pytest.raises(ValueError, match="no steps"):
        Payloads.of(SOME)[::2]


def test_they_differ_from_other_payloads_and_from_what_is_no_list() -> None:
    payloads = Payloads.of(SOME)
    assert payloads == Payloads.of(list(SOME))
    assert payloads != SOME[1:]
    assert payloads != [*SOME[:2], b"cd", b"ef", b""]  # the same bytes, cut elsewhere
    assert payloads != "ab"
    with pytest.raises(TypeError):
        hash(payloads)


def test_they_say_how_much_they_are_and_not_what() -> None:
    assert repr(Payloads.of(SOME)) == "<5 payloads, 6 bytes>"
