"""The projection: however frames are cut, repeated or ordered, the same tables follow."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.domain.frames import Context, FrameBatch, FrameKind
from forebay.stores.memory import MemoryStore
from tests.support.delivery import deliver, plain_rows
from tests.support.frames import T0, as_json, batch, context, heartbeat, match, rest_row

if TYPE_CHECKING:
    from collections.abc import Sequence

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


@settings(max_examples=60)
@given(FRAMES, st.lists(st.integers(0, 25), max_size=5))
def test_where_batches_end_does_not_matter(frames: list[Frame], at: list[int]) -> None:
    whole = tables([[made(frames)]])
    parts = [made(part) for part in cut(frames, at)]
    assert tables([[part] for part in parts]) == whole
    assert tables([parts]) == whole


@settings(max_examples=60)
@given(FRAMES, st.lists(st.integers(0, 25), max_size=3), st.booleans())
def test_replaying_twice_changes_nothing(
    frames: list[Frame], at: list[int], same_epoch: bool
) -> None:
    again = context() if same_epoch else context(epoch="again")
    runs = [[made(frames)], *[[made(part, again)] for part in cut(frames, at)]]
    assert tables(runs) == tables([[made(frames)]])


@settings(max_examples=60)
@given(FRAMES, st.integers(0, 25), st.integers(0, 25))
def test_overlapping_halves_in_either_order_are_the_same(
    frames: list[Frame], one: int, other: int
) -> None:
    """But for receipt and flags of a trade that was told twice: they are those stored first."""
    low, high = sorted((one % (len(frames) + 1), other % (len(frames) + 1)))
    first, second = made(frames[:high], context(epoch="a")), made(frames[low:], context(epoch="b"))
    orders = [[[first], [second]], [[second], [first]], [[first, second]], [[second, first]]]
    found = [tables(runs, "flags", "received_ts", "epoch") for runs in orders]
    assert found[1:] == found[:1] * 3


@settings(max_examples=60)
@given(st.integers(1, 60), st.integers(0, 60), st.integers(0, 60), st.sets(st.integers(0, 60)))
def test_halves_of_a_clean_recording_are_the_whole_flags_included(
    count: int, one: int, other: int, withheld: set[int]
) -> None:
    frames = timed([match(native) for native in range(1, count + 1) if native not in withheld])
    low, high = sorted((one % (len(frames) + 1), other % (len(frames) + 1)))
    halves = [made(frames[:high], context(epoch="a")), made(frames[low:], context(epoch="b"))]
    whole = tables([[made(frames)]])
    for runs in ([[halves[0]], [halves[1]]], [[halves[1]], [halves[0]]]):
        found = tables(runs)
        assert found["trades"] == whole["trades"]
        assert missing(found) == missing(whole)


def missing(found: Tables) -> set[int]:
    """Answer the ids in gaps; the reason is another if the hole is where the halves meet."""
    return {
        native for gap in found["gaps"] for native in range(int(str(gap[4])), int(str(gap[5])) + 1)
    }


@settings(max_examples=60)
@given(FRAMES, st.lists(st.integers(1, 45), unique=True), st.booleans())
def test_history_before_or_after_the_feed_is_the_same(
    frames: list[Frame], natives: list[int], together: bool
) -> None:
    live = made(frames)
    page = made([(as_json([rest_row(native) for native in natives]), T0)], context("rest"))
    runs = ([[live, page]], [[page, live]]) if together else ([[live], [page]], [[page], [live]])
    one, other = (tables(run, "flags", "received_ts") for run in runs)
    assert one == other


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


@settings(max_examples=100)
@given(st.lists(ANYTHING, max_size=20), st.sampled_from(KINDS), st.sampled_from(["coinbase", "x"]))
def test_every_frame_yields_is_control_or_is_dead(
    payloads: list[bytes], kind: FrameKind, venue: str
) -> None:
    origin = context("rest" if kind is FrameKind.REST else "ws", venue=venue)
    store = MemoryStore()
    total = deliver(store, [[batch(payloads, origin, kind=kind)]])
    assert total.frames.total() == len(payloads)
    assert all(count >= 0 for count in total.frames.values())
    assert len(store.table("dead_letters")) >= total.frames["dead"]
