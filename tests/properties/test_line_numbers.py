"""Holes in the numbers of a connection, against a plain model, however the journal is cut."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from forebay.domain.coverage import Gap, SequenceCoverage, StreamKey
from forebay.domain.coverage.gaps import Arrival
from forebay.domain.frames import (
    EpochAccepted,
    EpochClosed,
    FrameKind,
    StreamsEnded,
    StreamsOwed,
    encode_control,
)
from forebay.domain.intervals import IntervalSet
from forebay.domain.lines import LINES, ConnectionLines, NumberedLine
from forebay.domain.messages import Message, Step
from forebay.journal import Block
from forebay.payloads import Payloads
from forebay.services.batches import batches_of
from forebay.services.lane_bridge import LaneBook, listen
from forebay.services.lanes import all_topics, lane_of, parts_of, topic_of
from forebay.services.normalise import OrdinalAssigner
from forebay.services.projection import CoverageBook, Projection, declared
from forebay.services.publisher import tell
from forebay.stores.rows import coverage_from, coverage_rows, epoch_rows
from tests.support.frames import LOG, SECOND, T0, batch
from tests.support.numbered_venue import (
    CHANNELS,
    LINE,
    SYMBOLS,
    VENUE,
    NumberedParser,
    garbage,
    numbered,
    reply,
    trade,
)

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

    from forebay.domain.coverage import Coverage
    from forebay.domain.frames import Context, Control, FrameBatch
    from forebay.ports import Parser

PARSERS: dict[str, Parser] = {VENUE: NumberedParser()}
DECLARED = declared(PARSERS)
STREAMS = [StreamKey(VENUE, "spot", kind, symbol) for kind in CHANNELS for symbol in SYMBOLS]
TOGETHER = StreamKey(VENUE, "spot", min(CHANNELS), "*")
Steps = list[list["FrameBatch"]]
Held = dict[StreamKey, "Coverage"]
Told = list[tuple["Context", "Control | bytes"]]


class Sent(NamedTuple):
    """A message that the venue sent over one connection."""

    number: int
    received_ns: int
    payload: bytes | None
    """None: it never came."""
    reads: bool = True
    """Whether something can be made of it."""


MESSAGES = st.sampled_from(["trade"] * 6 + ["reply", "lost", "lost", "garbage", "bad"])


@st.composite
def connections(draw: st.DrawFn) -> list[Sent]:
    """Draw what a venue sent, in order, some of it at one moment; the first may have any number."""
    number, at = draw(st.integers(0, 3000)), 0
    sent = []
    for place, what in enumerate(draw(st.lists(MESSAGES, min_size=1, max_size=16))):
        at += draw(st.integers(0, 3))
        number += place > 0
        told: bytes | None = None
        if what == "reply":
            told = reply(number)
        elif what == "garbage":
            told = garbage(number)
        elif what != "lost":
            told = trade(number, draw(st.sampled_from(SYMBOLS[:2])), "?" if what == "bad" else "1")
        sent.append(Sent(number, T0 + at, told, what in ("trade", "reply")))
    return sent


def frames_of(sent: Sequence[Sent], origin: Context) -> FrameBatch | None:
    came = [each for each in sent if each.payload is not None]
    if not came:
        return None
    payloads = [each.payload or b"" for each in came]
    return batch(
        payloads,
        origin,
        received_ns=[each.received_ns for each in came],
        first_seq=10 + came[0].number,
    )


def record(origin: Context, said: Control, at_ns: int) -> FrameBatch:
    return batch([encode_control(said)], origin, kind=FrameKind.CONTROL, received_ns=[at_ns])


BEGIN, END = T0 - 1, T0 + 100


def opened(origin: Context) -> list[FrameBatch]:
    return [record(origin, EpochAccepted(), BEGIN)]


def closed(origin: Context) -> list[FrameBatch]:
    return [record(origin, EpochClosed("done", silent_ns=0), END)]


def cut(sent: Sequence[Sent], places: Sequence[int], origin: Context) -> Steps:
    """Return a step of each part between two places."""
    ends = sorted({0, len(sent), *(place % (len(sent) + 1) for place in places)})
    parts = (frames_of(sent[low:high], origin) for low, high in pairwise(ends))
    return [[part] for part in parts if part is not None]


def projected(steps: Steps, *, restarts: bool = False) -> Held:
    """Return the coverage after some steps; the process may have been another for each."""
    projection = Projection(PARSERS, {})
    kept: dict[StreamKey, bytes] = {}
    for step in steps:
        out = projection.project(step)
        projection.adopt(out)
        if restarts:
            kept |= {key: each.encode() for key, each in out.ordinals.items()}
            projection = Projection(PARSERS, written(projection.coverage), kept)
    return projection.coverage


def written(coverage: Mapping[StreamKey, Coverage]) -> Held:
    """Return coverage as a store gives it back."""

    def rows(table: pa.Table) -> list[tuple[object, ...]]:
        return list(zip(*(column.to_pylist() for column in table), strict=True))

    return coverage_from(rows(coverage_rows(coverage)), rows(epoch_rows(coverage)))  # type: ignore[arg-type]


def in_lanes(steps: Steps, count: int) -> Held:
    """Return the coverage of bridges that have a lane each, behind one publisher."""

    def lanes(topic: str) -> list[str]:
        return [f"{topic}-{n}" for n in range(count)]

    def owner(key: StreamKey) -> str:
        return lane_of(lanes(topic_of(key.channel)), key.venue, key.symbol)

    books: dict[str, CoverageBook] = {
        name: LaneBook({}, {}, lambda key, name=name: owner(key) == name)  # type: ignore[misc]
        for topic in all_topics()
        for name in lanes(topic)
    }
    assigner, step_of = OrdinalAssigner({}), Step(LOG, 1, 2)
    for step in steps:
        messages: dict[str, list[Message]] = {}
        changed = assigner.changed()
        for item in assigner.normalised(step, PARSERS, changed):
            for part in parts_of(item, DECLARED, lanes):
                messages.setdefault(part.lane, []).extend(tell(step_of, [part], {}, {}))
        assigner.adopt(changed)
        for name, told in messages.items():
            book = books[name]
            book._channels |= DECLARED
            book.adopt(book.enter(listen(told)))
    found: Held = {}
    for name, book in books.items():
        assert {owner(key) for key in book.coverage} <= {name}
        found |= book.coverage
    return found


@dataclass
class Model:
    """What must be told of what a venue sent."""

    numbers: IntervalSet = field(default_factory=IntervalSet)
    times: IntervalSet = field(default_factory=IntervalSet)

    @classmethod
    def of(cls, sent: Sequence[Sent]) -> Model:
        made = cls()
        came = [each for each in sent if each.payload is not None and each.reads]
        for before, behind in pairwise(came):
            if behind.number > before.number + 1:
                made.numbers.add(before.number + 1, behind.number - 1)
                made.times.add(before.received_ns, behind.received_ns)
        return made

    def gaps(self, epoch: str = "e1") -> dict[StreamKey, list[Gap]]:
        name = f"{epoch}/{LINE}"
        found = {
            TOGETHER: [
                Gap(*TOGETHER, "seq", name, *hole, "in_connection", "permanent")
                for hole in self.numbers
            ]
        }
        for key in STREAMS:
            state = "open" if key.channel == "trade" else "permanent"
            found[key] = [
                Gap(*key, "time", "", *hole, "in_connection", state)  # type: ignore[arg-type]
                for hole in self.times
            ]
        return {key: gaps for key, gaps in found.items() if gaps}


def gaps_of(coverage: Mapping[StreamKey, Coverage]) -> dict[StreamKey, list[Gap]]:
    found = {key: held.gaps(key) for key, held in coverage.items()}
    return {key: gaps for key, gaps in found.items() if gaps}


def alike(coverage: Mapping[StreamKey, Coverage]) -> dict[StreamKey, list[object]]:
    """Return what of coverage is compared by an audit."""
    found = {key: sorted(held.rows()) for key, held in coverage.items()}
    return {key: list(rows) for key, rows in found.items() if rows}


PLACES = st.lists(st.integers(0, 30), max_size=5)


@given(sent=connections(), places=PLACES)
def test_every_stream_misses_what_its_connection_does(sent: list[Sent], places: list[int]) -> None:
    origin = numbered()
    steps = [opened(origin), *cut(sent, places, origin), closed(origin)]
    whole = projected(steps)
    assert gaps_of(projected(steps[:-1])) == gaps_of(whole) == Model.of(sent).gaps()
    at_once = projected([[each for step in steps for each in step]])
    assert alike(at_once) == alike(whole)


@given(sent=connections(), places=PLACES, dice=st.randoms(use_true_random=False))
def test_neither_the_order_of_steps_nor_repetition_nor_restarts_matter(
    sent: list[Sent], places: list[int], dice: random.Random
) -> None:
    origin = numbered()
    steps = cut(sent, places, origin)
    again = [*steps, *dice.sample(steps, dice.randint(0, len(steps)))]
    dice.shuffle(again)
    around = opened(origin), closed(origin)
    plain = projected([around[0], *steps, around[1]])
    shuffled = projected([around[0], *again, around[1]], restarts=dice.random() < 0.5)
    assert alike(shuffled) == alike(plain)
    assert gaps_of(shuffled) == Model.of(sent).gaps()


@given(sent=connections(), places=PLACES, count=st.integers(1, 3))
def test_coverage_behind_lanes_is_that_of_the_journal(
    sent: list[Sent], places: list[int], count: int
) -> None:
    origin = numbered()
    owed = StreamsOwed(tuple((key.channel, key.symbol) for key in STREAMS), BEGIN - 9, END)
    steps = [opened(origin), *cut(sent, places, origin), closed(origin)]
    steps.insert(1, [record(origin, owed, END + 1)])
    assert alike(in_lanes(steps, count)) == alike(projected(steps))


@given(sent=connections(), places=PLACES, dice=st.randoms(use_true_random=False))
def test_what_comes_late_heals_as_far_as_it_comes(
    sent: list[Sent], places: list[int], dice: random.Random
) -> None:
    origin = numbered()
    lost = [each for each in sent if each.payload is None or not each.reads]
    late = [Sent(each.number, END - 1, trade(each.number)) for each in lost]
    dice.shuffle(late)
    some = late[: dice.randint(0, len(late))]
    steps = [opened(origin), *cut([*sent, *some], places, origin)]
    whole = projected([*steps, closed(origin)], restarts=True)
    never = {each.number for each in lost} - {each.number for each in some}
    came = {each.number for each in sent} - {each.number for each in lost}
    came |= {each.number for each in some}
    due = {n for n in never if came and min(came) < n < max(came)}
    declared_ = {
        n for gap in gaps_of(whole).get(TOGETHER, []) for n in range(gap.first, gap.last + 1)
    }
    assert declared_ == due
    if not due:
        assert gaps_of(whole) == {}
    on_time = [each for each in sent if each not in lost]
    for key in STREAMS:
        times = IntervalSet((gap.first, gap.last) for gap in whole[key].gaps(key))
        for before, behind in pairwise(on_time):
            if due & set(range(before.number, behind.number)):
                ends = before.received_ns, behind.received_ns
                assert times.within(*ends) == IntervalSet([ends])
    assert alike(in_lanes([*steps, closed(origin)], 2)) == alike(whole)


@given(sent=connections(), places=PLACES, grows=st.integers(0, 20))
def test_symbols_that_are_added_miss_what_is_seen_to_be_lost_from_then_on(
    sent: list[Sent], places: list[int], grows: int
) -> None:
    """The same wherever steps are cut: the frame behind a hole tells whose it is."""
    few, all_ = numbered(symbols=SYMBOLS[:2]), numbered()
    at = grows % (len(sent) + 1)
    now_ns = sent[at].received_ns if at < len(sent) else END - 1
    added = EpochAccepted(tuple((kind, SYMBOLS[2]) for kind in CHANNELS))
    steps = [opened(few), *cut(sent[:at], places, few)]
    steps += [[record(all_, added, now_ns)], *cut(sent[at:], places, all_), closed(all_)]
    whole = projected(steps)
    at_once = projected([[each for step in steps for each in step]])
    assert alike(at_once) == alike(whole)
    wanted = Model.of(sent).gaps()
    for key in STREAMS:
        ends = (now_ns, END) if key.symbol == SYMBOLS[2] else (BEGIN, END)
        times = IntervalSet((gap.first, gap.last) for gap in wanted.get(key, []))
        told = IntervalSet((gap.first, gap.last) for gap in whole[key].gaps(key))
        assert told == times.within(*ends)


def test_numbers_of_one_market_alone_show_holes_that_are_none() -> None:
    """Why the check stands before what came is split by market: behind it, it declares falsely."""
    sent = [Sent(n, T0 + n, trade(n, SYMBOLS[n % 2])) for n in range(1, 7)]
    assert gaps_of(projected(cut(sent, [], numbered()))) == {}
    by_market = SequenceCoverage()
    odd = np.array([1, 3, 5], dtype=np.int64)
    by_market.see(Arrival("e1", live=True, numbers=odd, received_ns=T0 + odd))
    assert [(gap.first, gap.last) for gap in by_market.gaps(STREAMS[1])] == [(2, 2), (4, 4)]


def test_a_thousand_silent_streams_cost_nothing_while_nothing_is_missing() -> None:
    many = numbered(symbols=[f"S-{n}" for n in range(1000)])
    projection = Projection(PARSERS, {})
    projection.adopt(projection.project(opened(many)))
    for step in range(3):
        sent = [Sent(n, T0 + n, trade(n, "S-1")) for n in range(step * 10, step * 10 + 10)]
        out = projection.project(cut(sent, [], many)[0])
        projection.adopt(out)
        assert [key.symbol for key in out.coverage] == ["S-1"]
    lost = [Sent(40, T0 + 40, trade(40, "S-1"))]
    assert len(projection.project(cut(lost, [], many)[0]).coverage) == 2001


def test_lines_are_remembered_while_their_connection_is_open() -> None:
    origins = numbered("e1"), numbered("e2")
    steps = [cut([Sent(1, T0, trade(1))], [], origin)[0] for origin in origins]
    projection = Projection(PARSERS, {})
    for step in steps:
        projection.adopt(projection.project(step))
    kept = projection.project(closed(origins[0])).ordinals[TOGETHER._replace(channel="")]
    assert isinstance(kept, ConnectionLines)
    assert [*kept.lines] == [f"e2/{LINE}"]
    many = ConnectionLines({f"e{n}/{LINE}": NumberedLine() for n in range(2 * LINES)})
    assert [*many.copy().lines] == [*many.lines][LINES:]


def test_a_filtered_recording_and_history_tell_of_no_hole() -> None:
    sent = [Sent(n, T0 + n * SECOND, trade(n)) for n in (1, 5)]
    assert TOGETHER in projected(cut(sent, [], numbered()))
    for changed in ({"partial": True}, {"purpose": "history"}, {"purpose": "recording"}):
        origin = msgspec.structs.replace(numbered(), **changed)
        assert TOGETHER not in projected(cut(sent, [], origin))


# ----------------------------------------------------- symbols that come and go meanwhile


@given(cuts=st.lists(st.integers(1, 20), max_size=6), again=st.booleans())
def test_where_a_step_ends_does_not_matter_to_streams_that_end(
    cuts: list[int], *, again: bool
) -> None:
    """The connection's context without them is the one that it began with."""
    few, more = numbered(symbols=SYMBOLS[:2]), numbered()
    added = tuple((kind, SYMBOLS[2]) for kind in CHANNELS)
    accepted, ended = EpochAccepted(added), StreamsEnded(added, silent_ns=0)
    anew: Told = [(more, accepted), (more, trade(4, SYMBOLS[2]))]
    told: Told = [
        (few, EpochAccepted()),
        (few, trade(1)),
        (more, accepted),
        (more, trade(2, SYMBOLS[2])),
        (more, ended),
        (few, trade(3)),
        *(anew if again else []),
        (more if again else few, EpochClosed("done", silent_ns=0)),
    ]
    blocks = [block_of(place, *each) for place, each in enumerate(told, 1)]
    ends = sorted({0, len(blocks), *(cut % len(blocks) for cut in cuts)})
    steps = [batches_of(blocks[low:high]) for low, high in pairwise(ends)]
    whole = projected(steps, restarts=True)
    assert alike(projected([batches_of(blocks)])) == alike(whole)
    (held,) = (whole[key] for key in STREAMS[2:3])
    live = [(row.first - T0, row.last - T0) for row in held.rows() if row.origin == "live"]
    assert live == [(3, 5), *([(7, 9)] if again else [])]


def block_of(place: int, origin: Context, told: Control | bytes) -> Block:
    frame = isinstance(told, bytes)
    payload = told if isinstance(told, bytes) else encode_control(told)
    kind = FrameKind.TEXT if frame else FrameKind.CONTROL
    received = np.array([T0 + place], dtype=np.int64)
    return Block(LOG, place, kind, origin.encode(), received, Payloads.of([payload]))
