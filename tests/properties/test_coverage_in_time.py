"""Coverage by time, and by numbers of a connection, against plain models of what they mean."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.domain.coverage import (
    Arrival,
    Coverage,
    Gap,
    SequenceCoverage,
    StreamKey,
    TimeCoverage,
)
from forebay.domain.frames import MissedNumbers

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from forebay.domain.intervals import Interval

KEY = StreamKey("v", "spot", "quote", "A-B")
END = 40
TIMES = st.integers(0, END)
RANGES = st.tuples(TIMES, TIMES).map(lambda ends: (min(ends), max(ends)))
Event: TypeAlias = tuple[int, int]
"""Its number, and when it was received."""
Name: TypeAlias = tuple[str, str]
"""Reason and state of a gap."""


@dataclass(frozen=True)
class Opened:
    """A connection was accepted."""

    epoch: str
    now_ns: int

    def tell(self, coverage: Coverage) -> None:
        coverage.opened(self.epoch, self.now_ns)


@dataclass(frozen=True)
class Came:
    """Events came over a connection."""

    epoch: str
    events: tuple[Event, ...]
    live: bool = True

    def tell(self, coverage: Coverage) -> None:
        numbers, times = (np.array(part, dtype=np.int64) for part in zip(*self.events, strict=True))
        coverage.see(Arrival(self.epoch, self.live, numbers, times))


@dataclass(frozen=True)
class Closed:
    """A connection is over."""

    epoch: str
    last_ns: int | None

    def tell(self, coverage: Coverage) -> None:
        coverage.closed(self.epoch, self.last_ns)


@dataclass(frozen=True)
class Asked:
    """History was asked for a range, and does not have some of it."""

    first: int
    last: int
    absent: tuple[Interval, ...]

    def tell(self, coverage: Coverage) -> None:
        coverage.finished(self.first, self.last, self.absent)


@dataclass(frozen=True)
class Missed:
    """A hole in the numbers that the connection gives all its streams together."""

    number: int
    since: int
    until: int

    def tell(self, coverage: Coverage) -> None:
        hole = MissedNumbers(self.number, self.number, self.since, self.until)
        coverage.miss("e1/7", [hole], [])


@dataclass(frozen=True)
class Owed:
    """From when to when the stream is owed, and when that was said."""

    told: int
    since: int | None
    until: int | None

    def tell(self, coverage: Coverage) -> None:
        coverage.owe(self.told, self.since, self.until)


Fact: TypeAlias = Opened | Came | Closed | Asked | Missed | Owed


@dataclass(frozen=True)
class Connection:
    """One connection as it was; ``closed`` is when its last frame came, -1 if nobody closed it."""

    accepted: int | None
    events: tuple[Event, ...]
    closed: int
    pieces: int = 1

    def facts(self, epoch: str) -> list[Fact]:
        """Return what coverage is told, in the order of the journal."""
        told: list[Fact] = []
        if self.accepted is not None:
            told.append(Opened(epoch, self.accepted))
        size = max(1, -(-len(self.events) // self.pieces))
        starts = range(0, len(self.events), size)
        told += [Came(epoch, self.events[start : start + size]) for start in starts]
        if self.closed >= 0:
            told.append(Closed(epoch, self.closed))
        return told

    def heard(self) -> set[int]:
        """Return every moment at which it was listened to."""
        moments = [received for _, received in self.events]
        if self.accepted is not None:
            moments.append(self.accepted)
        if moments and self.closed >= 0:
            moments.append(self.closed)
        return set(range(min(moments), max(moments) + 1)) if moments else set()


@st.composite
def connections(draw: st.DrawFn) -> Connection:
    """Draw a connection whose events come after its acceptance and before its end."""
    begin, last = draw(RANGES)
    moments = sorted(draw(st.lists(st.integers(begin, last), max_size=5)))
    numbers = draw(st.lists(st.integers(0, 9), min_size=len(moments), max_size=len(moments)))
    return Connection(
        begin if draw(st.booleans()) else None,
        tuple(zip(numbers, moments, strict=True)),
        last if draw(st.booleans()) else -1,
        draw(st.integers(1, 3)),
    )


@dataclass
class World:
    """Connections that overlap as they like, and what history was asked."""

    connections: list[Connection]
    asked: list[Asked] = field(default_factory=list)
    missed: list[Missed] = field(default_factory=list)
    owed: list[Owed] = field(default_factory=list)
    """Each said at another time."""

    def facts(self, dice: random.Random | None = None) -> list[Fact]:
        """Return everything, each connection in its order; shuffled against each other."""
        queues: list[list[Fact]] = [
            connection.facts(f"e{number}") for number, connection in enumerate(self.connections)
        ]
        alone: list[Fact] = [*self.asked, *self.missed, *self.owed]
        queues += [[each] for each in alone]
        turns = [place for place, queue in enumerate(queues) for _ in queue]
        if dice is not None:
            dice.shuffle(turns)
        return [queues[place].pop(0) for place in turns]

    def gaps(self) -> list[Gap]:
        """Return the gaps in time, found one moment after the other."""
        live = {moment for connection in self.connections for moment in connection.heard()}
        of_line = self.connections[1] if len(self.connections) > 1 else None
        if of_line is not None and of_line.closed < 0 and (heard := of_line.heard()):
            live |= {n for each in self.missed for n in range(max(heard), each.until + 1)}
        fill: set[int] = set()
        absent: set[int] = set()
        for asked in self.asked:
            lacking = {n for first, last in asked.absent for n in range(first, last + 1)}
            fill |= set(range(asked.first, asked.last + 1)) - lacking
            absent |= lacking
        missed = {n for each in self.missed for n in range(each.since, each.until + 1)}
        names: dict[int, Name] = {}
        for moment in self.due(live) - (live - missed):
            why = "in_connection" if moment in missed else "between_connections"
            if moment in fill:
                names[moment] = (why, "filled")
            elif moment in absent:
                names[moment] = ("absent_from_history", "permanent")
            else:
                names[moment] = (why, "open")
        return sorted(
            Gap(*KEY, "time", "", first, last, *name)  # type: ignore[arg-type]  # a state
            for (first, last), name in runs(names)
        )

    def due(self, live: set[int]) -> set[int]:
        """Return every moment at which the stream must have been heard."""
        last = max(self.owed, key=lambda each: each.told, default=Owed(0, None, None))
        over = last.until is not None and last.until <= last.told
        begins = [min(live)] if live and last.since is None else [last.since]
        ends = [last.until] if over else [max(live)] if live else [None]
        if begins[0] is None or ends[0] is None:
            return set()
        due = range(begins[0], ends[0] + 1)
        return {n for n in due if last.until is None or n <= last.until}

    def holes(self) -> list[Gap]:
        """Return the numbers that connections left out."""
        return [
            Gap(*KEY, "seq", f"e{place}", first, last, "in_connection", "open")
            for place, connection in enumerate(self.connections)
            if (numbers := {number for number, _ in connection.events})
            for (first, last), _ in runs(
                dict.fromkeys(set(range(min(numbers), max(numbers))) - numbers, ("", ""))
            )
        ]


def runs(names: dict[int, Name]) -> list[tuple[Interval, Name]]:
    """Join neighbours of one name."""
    ordered = sorted(names)
    groups = groupby(enumerate(ordered), key=lambda pair: (pair[1] - pair[0], names[pair[1]]))
    found = [([moment for _, moment in group], name) for (_, name), group in groups]
    return [((moments[0], moments[-1]), name) for moments, name in found]


ASKED = st.builds(
    lambda ends, lacking: Asked(ends[0], ends[1], tuple(lacking)),
    RANGES,
    st.lists(RANGES, max_size=2),
)
MISSED = st.builds(lambda number, ends: Missed(number, *ends), st.integers(0, 99), RANGES)
OWED = st.builds(Owed, st.integers(0, 2 * END), st.none() | TIMES, st.none() | TIMES)
WORLDS = st.builds(
    World,
    st.lists(connections(), max_size=6),
    st.lists(ASKED, max_size=3),
    st.lists(MISSED, max_size=2, unique_by=lambda each: each.number),
    st.lists(OWED, max_size=2, unique_by=lambda each: each.told),
)
COUNTED: list[type[Coverage]] = [TimeCoverage, SequenceCoverage]


def told(kind: type[Coverage], facts: Sequence[Fact]) -> Coverage:
    coverage = kind()
    for fact in facts:
        fact.tell(coverage)
    return coverage


def right(kind: type[Coverage], world: World) -> list[Gap]:
    holes = world.holes() if kind is SequenceCoverage else []
    return sorted([*holes, *world.gaps()])


@pytest.mark.parametrize("kind", COUNTED)
@given(world=WORLDS)
def test_gaps_are_what_was_not_heard_and_numbers_left_out(
    kind: type[Coverage], world: World
) -> None:
    coverage = told(kind, world.facts())
    assert coverage.gaps(KEY) == right(kind, world)
    given_and_lacking = [row for row in coverage.rows() if row.origin.endswith(("fill", "absent"))]
    moments = [n for row in given_and_lacking for n in range(row.first, row.last + 1)]
    assert len(set(moments)) == len(moments), "what history gave once, it has"


@pytest.mark.parametrize("kind", COUNTED)
@given(world=WORLDS, dice=st.randoms(use_true_random=False), places=st.lists(st.integers(0, 30)))
def test_how_connections_alternate_and_what_is_repeated_does_not_matter(
    kind: type[Coverage], world: World, dice: random.Random, places: list[int]
) -> None:
    facts = world.facts(dice)
    again = [facts[place] for place in places if place < len(facts)]
    arrived_twice: list[Fact] = [fact for fact in again if not isinstance(fact, Opened | Closed)]
    plain = told(kind, world.facts())
    assert sorted(told(kind, facts).rows()) == sorted(plain.rows())
    assert sorted(told(kind, facts + arrived_twice).rows()) == sorted(plain.rows())
    assert told(kind, facts + facts).gaps(KEY) == plain.gaps(KEY)


@pytest.mark.parametrize("kind", [*COUNTED, Coverage])
@given(world=WORLDS, cut=st.integers(0, 30), dice=st.randoms(use_true_random=False))
def test_what_is_read_back_goes_on_as_it_would_have(
    kind: type[Coverage], world: World, cut: int, dice: random.Random
) -> None:
    """A store may have written the epochs when they began, and not how far they got since."""
    facts = world.facts(dice)
    coverage, begun = kind(), dict[str, int]()
    for fact in facts[:cut]:
        fact.tell(coverage)
        for epoch, last in coverage.epochs.items():
            begun.setdefault(epoch, last)
    written = [(epoch, begun[epoch]) for epoch in coverage.epochs]
    again = kind.from_rows(list(coverage.rows()), written)
    assert list(again.rows()) == list(coverage.rows())
    assert again.gaps(KEY) == coverage.gaps(KEY)
    for fact in facts[cut:]:
        fact.tell(coverage)
        fact.tell(again)
    assert list(again.rows()) == list(coverage.rows())


@pytest.mark.parametrize("kind", COUNTED)
@given(world=WORLDS)
def test_a_copy_lives_its_own_life(kind: type[Coverage], world: World) -> None:
    coverage = told(kind, world.facts())
    before, clone = list(coverage.rows()), coverage.copy()
    assert clone == coverage
    changes = Opened("x", 100), Came("e0", ((50, 120),)), Closed("x", 110), Asked(0, 200, ())
    for fact in (*changes, Missed(100, 1, 2), Owed(99, 1, 2)):
        fact.tell(clone)
    assert list(coverage.rows()) == before
    assert list(clone.rows()) != before


# ------------------------------------------------------------------------------- by example


def moments(coverage: Coverage) -> list[Interval]:
    rows = [row for row in coverage.rows() if row.origin in {"time_live", "live"} and not row.epoch]
    return [(row.first, row.last) for row in rows]


@pytest.mark.parametrize("kind", COUNTED)
def test_a_stream_that_was_silent_counts_until_the_end_of_its_connection(
    kind: type[Coverage],
) -> None:
    coverage = told(kind, [Opened("e1", 10)])
    assert moments(coverage) == [(10, 10)], "nobody knows yet that it was only silent"
    coverage.closed("e1", 30)
    assert moments(coverage) == [(10, 30)]


@pytest.mark.parametrize("kind", COUNTED)
def test_a_killed_collector_counts_to_its_last_event(kind: type[Coverage]) -> None:
    facts: list[Fact] = [
        Opened("e1", 10),
        Came("e1", ((1, 20),)),
        Opened("e2", 40),
        Came("e2", ((1, 50),)),
    ]
    coverage = told(kind, facts)
    assert moments(coverage) == [(10, 20), (40, 50)]
    assert coverage.gaps(KEY) == [Gap(*KEY, "time", "", 21, 39, "between_connections", "open")]


@pytest.mark.parametrize("kind", COUNTED)
def test_a_connection_that_closed_without_a_frame_was_not_heard(kind: type[Coverage]) -> None:
    assert moments(told(kind, [Closed("e1", 30)])) == []
    assert moments(told(kind, [Opened("e1", 10), Closed("e1", None)])) == [(10, 10)]


@pytest.mark.parametrize("kind", COUNTED)
def test_an_event_on_another_connection_that_was_heard_leaves_no_gap(kind: type[Coverage]) -> None:
    one: list[Fact] = [Opened("e1", 10), Came("e1", ((1, 15), (2, 20)))]
    other: list[Fact] = [Opened("e2", 12), Came("e2", ((7, 40),))]
    assert told(kind, one + other).gaps(KEY) == []


@pytest.mark.parametrize("kind", COUNTED)
def test_what_lies_ahead_is_not_owed_yet(kind: type[Coverage]) -> None:
    heard: list[Fact] = [Opened("e1", 10), Came("e1", ((1, 20),))]
    assert told(kind, [*heard, Owed(21, 10, 90)]).gaps(KEY) == []
    assert told(kind, [*heard, Owed(21, 10, 90), Owed(91, 10, 90)]).gaps(KEY) == [
        Gap(*KEY, "time", "", 21, 90, "between_connections", "open")
    ]
    assert told(kind, [*heard, Owed(91, 10, 90), Closed("e1", 95)]).gaps(KEY) == []


@pytest.mark.parametrize("kind", COUNTED)
def test_a_stream_that_was_never_heard_is_missing_as_a_whole_once_it_ended(
    kind: type[Coverage],
) -> None:
    whole = [Gap(*KEY, "time", "", 5, 90, "between_connections", "open")]
    assert told(kind, [Owed(90, 5, 90)]).gaps(KEY) == whole
    assert told(kind, [Owed(90, 5, 90), Owed(91, 5, 99)]).gaps(KEY) == [], "it was extended"
    assert told(kind, [Owed(99, 5, None)]).gaps(KEY) == []
    assert told(kind, [Owed(99, None, 90)]).gaps(KEY) == []


def test_history_without_a_connection_owes_nothing() -> None:
    history: list[Fact] = [Came("fill", ((1, 10), (9, 20)), live=False), Asked(0, 30, ((5, 6),))]
    for kind in COUNTED:
        assert told(kind, history).gaps(KEY) == []


def test_a_number_left_out_is_named_with_its_connection() -> None:
    facts = [Came("e1", ((1, 10), (4, 11))), Came("e2", ((1, 12),)), Came("e1", ((2, 13),))]
    assert told(SequenceCoverage, facts).gaps(KEY) == [
        Gap(*KEY, "seq", "e1", 3, 3, "in_connection", "open"),
    ]


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.lists(st.integers(0, 9), min_size=1, max_size=5)),
        max_size=6,
    )
)
def test_numbers_seen_before_and_out_of_order_are_those_of_the_connection(
    arrivals: list[tuple[str, list[int]]],
) -> None:
    coverage, had = SequenceCoverage(), dict[str, list[int]]()
    for epoch, numbers in arrivals:
        values = np.array(numbers, dtype=np.int64)
        seen = coverage.see(Arrival(epoch, live=True, numbers=values, received_ns=values))
        before = had.setdefault(epoch, [])
        assert seen.before.tolist() == [number in before for number in numbers]
        assert seen.out_of_order.tolist() == [
            any(earlier > number for earlier in before + numbers[:place])
            for place, number in enumerate(numbers)
        ]
        before += numbers


@pytest.mark.parametrize("kind", [TimeCoverage, Coverage])
def test_what_has_no_numbers_knows_no_event(kind: type[Coverage]) -> None:
    coverage = kind()
    values = np.array([5, 5, 3], dtype=np.int64)
    for _ in range(2):
        seen = coverage.see(Arrival("e1", live=True, numbers=values, received_ns=values))
        assert not seen.before.any()
        assert not seen.out_of_order.any()


@given(WORLDS)
def test_where_nothing_is_counted_nothing_is_missing(world: World) -> None:
    coverage = told(Coverage, world.facts())
    assert coverage.gaps(KEY) == []
    assert list(coverage.rows()) == []
