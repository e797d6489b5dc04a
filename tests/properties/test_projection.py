"""The projection: however frames are cut, repeated or ordered, the same tables follow."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.domain import schema
from forebay.domain.coverage.gaps import EPOCHS
from forebay.domain.frames import (
    Context,
    EpochAccepted,
    EpochClosed,
    FrameBatch,
    FrameKind,
    encode_control,
)
from forebay.journal import Block
from forebay.payloads import Payloads
from forebay.services.projection import Projection, batches_of
from tests.support.delivery import commit_of, deliver, plain_rows
from tests.support.frames import LOG, T0, as_json, batch, context, heartbeat, match, rest_row
from tests.support.made_venue import PAIRS, Deal, MadeParser, frame
from tests.support.memory_store import MemoryStore
from tests.tiers import examples

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from forebay.domain.channels import Unit
    from forebay.domain.coverage import Gap, Row
    from forebay.domain.identity import IdentityClass

Tables = dict[str, list[tuple[object, ...]]]
Frame = tuple[bytes, int]
"""Payload and receipt time."""
TABLES = ("trades", "dead_letters", "coverage", "gaps", "conflicts")

REAL = st.one_of(
    st.builds(match, st.integers(1, 40), st.sampled_from(["BTC-USD", "ETH-USD"])),
    st.builds(heartbeat, st.integers(0, 45)),
    st.builds(lambda native: match(native, price="NaN"), st.integers(1, 40)),
    st.sampled_from([b"junk", b'{"type":"l2update"}', b'{"type":"wibble"}', b'{"type":[]}']),
)


def timed(payloads: list[bytes]) -> list[Frame]:
    return [(payload, T0 + index * 1_000) for index, payload in enumerate(payloads)]


FRAMES = st.lists(REAL, max_size=25).map(timed)


def made(frames: Sequence[Frame], origin: Context | None = None) -> FrameBatch:
    received = [received_ns for _, received_ns in frames]
    first_seq = (received[0] - T0) // 1_000 + 1 if received else 1
    payloads = [payload for payload, _ in frames]
    return batch(payloads, origin or context(), received_ns=received, first_seq=first_seq)


def tables(runs: list[list[FrameBatch]], *without: str) -> Tables:
    store = MemoryStore()
    deliver(store, runs)
    return {name: plain_rows(store.table(name), *without) for name in TABLES}


def cut(frames: list[Frame], at: list[int]) -> list[list[Frame]]:
    ends = [0, *sorted(place % (len(frames) + 1) for place in at), len(frames)]
    return [frames[low:high] for low, high in pairwise(ends)]


@settings(max_examples=examples(60))
@given(FRAMES, st.lists(st.integers(0, 25), max_size=5))
def test_where_batches_end_does_not_matter(frames: list[Frame], at: list[int]) -> None:
    whole = tables([[made(frames)]])
    parts = [made(part) for part in cut(frames, at)]
    assert tables([[part] for part in parts]) == whole
    assert tables([parts]) == whole


@settings(max_examples=examples(60))
@given(FRAMES, st.lists(st.integers(0, 25), max_size=3), st.booleans())
def test_replaying_twice_changes_nothing(
    frames: list[Frame], at: list[int], same_epoch: bool
) -> None:
    again = context() if same_epoch else context(epoch="again")
    runs = [[made(frames)], *[[made(part, again)] for part in cut(frames, at)]]
    assert tables(runs) == tables([[made(frames)]])


@settings(max_examples=examples(60))
@given(FRAMES, st.integers(0, 25), st.integers(0, 25))
def test_overlapping_halves_in_either_order_are_the_same(
    frames: list[Frame], one: int, other: int
) -> None:
    """But for whose frame told a trade that was told twice: the one that is stored came first."""
    low, high = sorted((one % (len(frames) + 1), other % (len(frames) + 1)))
    first, second = made(frames[:high], context(epoch="a")), made(frames[low:], context(epoch="b"))
    orders = [[[first], [second]], [[second], [first]], [[first, second]], [[second, first]]]
    found = [tables(runs, "flags", "received_ts", "epoch", "seq") for runs in orders]
    assert found[1:] == found[:1] * 3


@settings(max_examples=examples(60))
@given(st.integers(1, 60), st.integers(0, 60), st.integers(0, 60), st.sets(st.integers(0, 60)))
def test_halves_of_a_clean_recording_are_the_whole_flags_included(
    count: int, one: int, other: int, withheld: set[int]
) -> None:
    frames = timed([match(native) for native in range(1, count + 1) if native not in withheld])
    low, high = sorted((one % (len(frames) + 1), other % (len(frames) + 1)))
    halves = [made(frames[:high], context(epoch="a")), made(frames[low:], context(epoch="b"))]
    whole = tables([[made(frames)]], "epoch")
    for runs in ([[halves[0]], [halves[1]]], [[halves[1]], [halves[0]]]):
        found = tables(runs, "epoch")
        assert found["trades"] == whole["trades"]
        assert missing(found) == missing(whole)


def missing(found: Tables) -> set[int]:
    """Return the ids in gaps; the reason is another if the hole is where the halves meet."""
    names = [name for name in schema.GAPS.names if name != "epoch"]
    first, last = names.index("first"), names.index("last")
    return {
        native
        for gap in found["gaps"]
        for native in range(int(str(gap[first])), int(str(gap[last])) + 1)
    }


@settings(max_examples=examples(60))
@given(FRAMES, st.lists(st.integers(1, 45), unique=True), st.booleans())
def test_history_before_or_after_the_feed_is_the_same(
    frames: list[Frame], natives: list[int], together: bool
) -> None:
    live = made(frames)
    page = made([(as_json([rest_row(native) for native in natives]), T0)], context("rest"))
    runs = ([[live, page]], [[page, live]]) if together else ([[live], [page]], [[page], [live]])
    told_first = ("flags", "received_ts", "epoch", "seq")
    one, other = (tables(run, *told_first) for run in runs)
    assert one == other


# ---------------------------------------------------------------- connections come and go

CONNECTIONS = st.lists(
    st.tuples(st.booleans(), st.lists(st.integers(1, 9), max_size=3), st.booleans()),
    min_size=1,
    max_size=16,
).filter(lambda connections: sum(not closed for _, _, closed in connections) <= EPOCHS)
"""Whether each was accepted, the numbers that came, and whether it was closed: of those that were
killed only so many are remembered."""


def journal(connections: list[tuple[bool, list[int], bool]], dice: random.Random) -> list[Block]:
    """Return a block a frame; at most two connections, of two collectors, are up at once."""
    lines: list[list[tuple[FrameKind, Context, bytes]]] = [[], []]
    for number, (accepted, numbers, closed) in enumerate(connections):
        origin = context(epoch=f"e{number}", collector=f"c{number % 2}",
                         venue="made", symbols=("A-B",))  # fmt: skip
        line = lines[number % 2]
        if accepted:
            line.append((FrameKind.CONTROL, origin, encode_control(EpochAccepted())))
        line += [(FrameKind.TEXT, origin, frame(Deal(number=each))) for each in numbers]
        if closed:
            ended = encode_control(EpochClosed("done", silent_ns=500))
            line.append((FrameKind.CONTROL, origin, ended))
    turns = [place for place, line in enumerate(lines) for _ in line]
    dice.shuffle(turns)
    told = [lines[place].pop(0) for place in turns]
    return [
        Block(LOG, seq, int(kind), origin.encode(), np.array([T0 + seq * 1000]), Payloads.of([raw]))
        for seq, (kind, origin, raw) in enumerate(told, 1)
    ]


def stepped(
    parser: MadeParser, blocks: list[Block], at: list[int]
) -> tuple[list[list[Row]], list[list[Gap]], Tables]:
    projection, store = Projection({"made": parser}, {}), MemoryStore()
    ends = [0, *sorted(place % (len(blocks) + 1) for place in at), len(blocks)]
    for seq, (low, high) in enumerate(pairwise(ends), 1):
        projected = projection.project(batches_of(blocks[low:high]))
        store.commit(commit_of(projected, seq))
        projection.adopt(projected)
    streams = sorted(projection.coverage.items())
    return (
        [sorted(coverage.rows()) for _, coverage in streams],
        [coverage.gaps(key) for key, coverage in streams],
        {"trades": plain_rows(store.table("trades"))},
    )


@settings(max_examples=examples(200))
@given(
    st.sampled_from(PAIRS),
    CONNECTIONS,
    st.randoms(use_true_random=False),
    st.lists(st.integers(0, 60), max_size=6),
)
def test_where_steps_end_does_not_matter_to_connections(
    pair: tuple[IdentityClass, Unit],
    connections: list[tuple[bool, list[int], bool]],
    dice: random.Random,
    at: list[int],
) -> None:
    parser, blocks = MadeParser(*pair), journal(connections, dice)
    whole, parts = stepped(parser, blocks, []), stepped(parser, blocks, at)
    assert parts[:2] == whole[:2]
    assert parts[2] == whole[2]


ANYTHING = st.one_of(
    REAL,
    st.binary(max_size=60),
    st.text(max_size=30).map(lambda text: text.encode("utf-8", "replace")),
    st.builds(
        lambda frame, at, junk: frame[: at % len(frame)] + junk + frame[at % len(frame) + 1 :],
        REAL, st.integers(0, 400), st.binary(max_size=3),
    ),
)  # fmt: skip
KINDS = (FrameKind.TEXT, FrameKind.BINARY, FrameKind.COMPRESSED, FrameKind.REST)


@settings(max_examples=examples(100))
@given(st.lists(ANYTHING, max_size=20), st.sampled_from(KINDS), st.sampled_from(["coinbase", "x"]))
def test_every_frame_yields_is_control_or_is_dead(
    payloads: list[bytes], kind: FrameKind, venue: str
) -> None:
    origin = context("rest" if kind is FrameKind.REST else "ws", venue=venue)
    store = MemoryStore()
    total = deliver(store, [[batch(payloads, origin, kind=kind)]])
    assert total.frames.total() == len(payloads)
    assert all(count >= 0 for count in total.frames.values())
    letters = total.frames["dead"]
    if kind is FrameKind.REST:  # the same page again is the same letter
        letters = min(letters, len(set(payloads)))
    assert len(store.table("dead_letters")) >= letters
