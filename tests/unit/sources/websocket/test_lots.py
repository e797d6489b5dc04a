"""Who is asked for with whom: what is refused leaves, what is not named is found by halving."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.sources.venue import ConnectionPurpose
from forebay.sources.websocket import Timeouts
from forebay.sources.websocket.lots import STRIKES, UNPROVED, Lot, Lots, Refusal, named_in

SECOND = 1_000_000_000
PATIENCE = Timeouts()
ASKED = ConnectionPurpose(("A", "B", "C", "D"), ("trade",))
DROPPED = Refusal("lost", {}, whole=False)
REFUSED = Refusal("it is unknown", {}, whole=True)


def lots(*asked: ConnectionPurpose) -> Lots:
    return Lots(asked or (ASKED,), PATIENCE, random.Random(3), size=100)


def symbols(found: list[Lot]) -> list[tuple[str, ...]]:
    return [lot.asked.symbols for lot in found]


def named(*names: str) -> Refusal:
    return Refusal("no", {("trade", name): "no" for name in names}, whole=True)


def test_a_symbol_that_is_named_leaves_and_the_others_are_asked_for_at_once() -> None:
    group = lots()
    following = group.ended(group.lots[0], 0, named("B"), SECOND)
    assert symbols(following.lots) == [("A", "C", "D")]
    assert following.refused == {("trade", "B"): "no"}
    assert group.due(SECOND) is None
    due_ns = group.next_due_ns()
    assert due_ns is not None
    assert due_ns == SECOND + round(following.pause_s * 1e9)
    again = group.due(due_ns)
    assert again is not None
    assert (again.asked.symbols, again.again) == (("B",), True)
    assert group.next_due_ns() is None, "it is being asked for"


@given(st.sets(st.integers(0, 39), min_size=1, max_size=39), st.integers(0, 5))
def test_halving_finds_exactly_those_that_are_refused(bad: set[int], seed: int) -> None:
    names = tuple(f"S{number}" for number in range(40))
    group = Lots([replace(ASKED, symbols=names)], PATIENCE, random.Random(seed), size=100)
    refused = {names[number] for number in bad}
    waiting, found, now = list(group.lots), set[str](), 0
    for _ in range(3000):
        if not waiting:
            break
        now += SECOND
        lot = waiting.pop(0)
        if refused.isdisjoint(lot.asked.symbols):
            group.accepted(lot, lot.asked.streams, now)
            continue
        following = group.ended(lot, 0, REFUSED, now)
        found |= {symbol for _, symbol in following.refused}
        waiting += following.lots
        if not any(refused.isdisjoint(each.asked.symbols) for each in waiting) and found == refused:
            break
    assert found == refused
    served = {
        name for lot in group.lots if lot.accepted_ns is not None for name in lot.asked.symbols
    }
    assert served == set(names) - refused


def test_while_nobody_is_served_the_list_is_not_ground_to_dust() -> None:
    """A venue in maintenance refuses everything, and that is no symbol's fault."""
    names = tuple(f"S{number}" for number in range(100))
    group = lots(replace(ASKED, symbols=names))
    for _ in range(8):
        for lot in list(group.lots):
            group.ended(lot, 0, REFUSED, 0)
    assert len(group.lots) <= 4 * UNPROVED
    assert sorted(name for lot in group.lots for name in lot.asked.symbols) == sorted(names)


def test_pauses_grow_while_others_are_served_and_begin_anew_after_a_good_connection() -> None:
    group = lots(ConnectionPurpose(("A",), ("trade",)), ConnectionPurpose(("B",), ("trade",)))
    good, bad = group.lots
    group.accepted(good, good.asked.streams, 0)
    pauses, now = [], SECOND
    for _ in range(12):
        following = group.ended(bad, 0, REFUSED, now)
        assert following.lots == []
        pauses.append(following.pause_s)
        now += round(following.pause_s * 1e9)
        found = group.due(now)
        assert found is not None
        bad = found
    assert pauses[0] == pytest.approx(15, rel=0.11)
    assert pauses[1] == pytest.approx(30, rel=0.11)
    assert pauses[-1] == pytest.approx(1800, rel=0.11)
    assert group.ended(bad, 11 * SECOND, DROPPED, now).lots == [bad]
    again = group.ended(bad, 0, REFUSED, now).pause_s
    assert again == pytest.approx(15, rel=0.11)


def test_a_single_symbol_that_is_refused_while_nothing_is_served_is_asked_for_as_ever() -> None:
    group = lots(ConnectionPurpose(("A",), ("trade",)))
    following = group.ended(group.lots[0], 0, REFUSED, 0)
    assert following.lots == group.lots
    assert following.refused == {("trade", "A"): "it is unknown"}


def test_a_link_that_drops_again_and_again_divides_what_it_asked_for() -> None:
    group = lots()
    (lot,) = group.lots
    for _ in range(STRIKES - 1):
        assert group.ended(lot, 6 * SECOND, DROPPED, 0).lots == [lot]
    first, second = group.ended(lot, 6 * SECOND, DROPPED, 0).lots
    assert symbols([first, second]) == [("A", "B"), ("C", "D")]


def test_two_that_a_venue_ignores_everything_for_are_told_apart_soon() -> None:
    """Each end is five seconds without any symbol, and the breaker counts those that repeat."""
    names = tuple(f"S{number:02d}" for number in range(20))
    group = lots(replace(ASKED, symbols=names))
    waiting, repeated = list(group.lots), 0
    while not any(lot.accepted_ns for lot in group.lots):
        lot = waiting.pop(0)
        if {"S03", "S17"}.isdisjoint(lot.asked.symbols):
            group.accepted(lot, lot.asked.streams, SECOND)
            continue
        following = group.ended(lot, 0, DROPPED, SECOND)
        repeated += following.lots == [lot]
        waiting += following.lots
    assert repeated < 3


def test_a_venue_that_ignores_everybody_is_not_dialled_by_ever_more() -> None:
    group = lots(replace(ASKED, symbols=tuple(f"S{number:02d}" for number in range(20))))
    for _ in range(STRIKES + 3):
        for lot in list(group.lots):
            group.ended(lot, 0, DROPPED, 0)
    assert len(group.lots) <= UNPROVED


def test_a_link_that_lived_long_holds_nothing_against_anybody() -> None:
    group = lots()
    (lot,) = group.lots
    for _ in range(5):
        group.ended(lot, 6 * SECOND, DROPPED, 0)
        assert group.ended(lot, 11 * SECOND, DROPPED, 0).lots == [lot]


def test_a_symbol_whose_link_drops_is_blamed_only_while_another_stays() -> None:
    group = lots(ConnectionPurpose(("A",), ("trade",)), ConnectionPurpose(("B",), ("trade",)))
    good, bad = group.lots
    for number in range(1, 3 * STRIKES):
        group.accepted(good, good.asked.streams, number * SECOND)
        assert group.ended(bad, 6 * SECOND, DROPPED, number * SECOND).lots == [bad]
        good.accepted_ns = None
    group.accepted(good, good.asked.streams, 0)
    following = group.ended(bad, 6 * SECOND, DROPPED, 60 * SECOND)
    assert following.refused == {("trade", "B"): "lost"}


def test_what_is_left_out_is_asked_for_alone_and_with_every_connection_until_it_is_given() -> None:
    asked = ConnectionPurpose(("A", "B"), ("trade", "ticker"))
    group = lots(asked)
    (lot,) = group.lots
    group.accepted(lot, asked.streams - {("ticker", "B")}, 0)
    pause_s = group.left_out(lot, {("ticker", "B"): "no"}, 0)
    assert pause_s == pytest.approx(60, rel=0.11)
    assert group.ended(lot, 20 * SECOND, DROPPED, 20 * SECOND).lots == [lot]
    group.accepted(lot, asked.streams - {("ticker", "B")}, 20 * SECOND)
    again_s = group.left_out(lot, {("ticker", "B"): "no"}, 20 * SECOND)
    assert again_s == pytest.approx(pause_s - 20), "not later for having been asked again"
    again = group.due(round(pause_s * 1e9))
    assert again is not None
    assert again.asked.streams == {("ticker", "B")}
    group.accepted(again, again.asked.streams, 70 * SECOND)
    following = group.ended(lot, 60 * SECOND, DROPPED, 80 * SECOND)
    assert [(each.asked.symbols, each.asked.channels) for each in following.lots] == [
        (("A",), ("trade", "ticker")),
        (("B",), ("trade",)),
    ]
    assert not following.refused


def test_a_late_answer_is_an_answer() -> None:
    group = lots()
    (lot,) = group.lots
    group.left_out(lot, {("trade", "B"): "no answer"}, 0)
    group.accepted(lot, [("trade", "B")], SECOND)
    assert group.next_due_ns() is None
    assert group.ended(lot, 60 * SECOND, DROPPED, 60 * SECOND).lots == [lot]


@pytest.mark.parametrize(
    ("words", "blamed"),
    [
        ("BTC-USDX is not a valid product", {"BTC-USDX"}),
        ("no BTC-USD.", {"BTC-USD"}),
        ("Failed to subscribe", set()),
        ("cannot subscribe to BTC-USD,BTC-USDX", set()),
        ("(BTC-USDX)", {"BTC-USDX"}),
    ],
)
def test_words_name_whole_symbols_and_all_of_them_name_none(words: str, blamed: set[str]) -> None:
    asked = ConnectionPurpose(("BTC-USD", "BTC-USDX"), ("trade",))
    assert {symbol for _, symbol in named_in(words, asked)} == blamed


def test_only_connections_that_are_counted_on_are_wanted() -> None:
    group = lots()
    group.ended(group.lots[0], 0, named("B"), 0)
    assert group.wanted == 1
    again = group.due(1 << 62)
    assert again is not None
    assert group.wanted == 1
    group.accepted(again, again.asked.streams, 0)
    assert group.wanted == 2
