"""The projection: rows, coverage and account of frames, by example."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest

from forebay.domain.coverage import Gap, IdCoverage, StreamKey
from forebay.domain.frames import (
    Context,
    Control,
    EpochAccepted,
    EpochClosed,
    EpochOpened,
    FrameBatch,
    FrameKind,
    HistoryFinished,
    Loss,
    encode_control,
)
from forebay.domain.kinds import KINDS
from forebay.errors import Corrupt
from forebay.journal import LOSS_KIND, Block
from forebay.payloads import Payloads
from forebay.services.projection import Projected, Projection, batches_of
from tests.support.delivery import PARSERS, deliver
from tests.support.frames import (
    LOG,
    PRODUCT,
    SECOND,
    T0,
    as_json,
    batch,
    context,
    heartbeat,
    l2update,
    match,
    rest_row,
    rfc3339,
    ticker,
)
from tests.support.memory_store import MemoryStore
from tests.support.recordings import COINBASE, recorded

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from forebay.domain.coverage import Coverage
    from forebay.domain.intervals import IntervalSet

KEY = StreamKey("coinbase", "spot", "trade", PRODUCT)


def project(*batches: FrameBatch) -> Projected:
    return Projection(PARSERS, {}).project(batches)


def controls(*said: Control, origin: Context | None = None) -> FrameBatch:
    payloads = [encode_control(control) for control in said]
    return batch(payloads, origin or context("rest"), kind=FrameKind.CONTROL)


def trades(projected: Projected) -> pa.Table:
    nothing = KINDS["trade"].schema.empty_table()
    found = projected.events.get("trades")
    return nothing if found is None else found.rows


def ids(projected: Projected) -> list[str]:
    found: list[str] = trades(projected)["trade_id"].to_pylist()
    return found


def flags(projected: Projected) -> list[str]:
    found: list[str] = trades(projected)["flags"].to_pylist()
    return found


def seen_before(projected: Projected) -> list[bool]:
    found: list[bool] = projected.events["trades"].seen_before.tolist()
    return found


def holes(projected: Projected) -> list[tuple[int, int, str, str]]:
    gaps = projected.coverage[KEY].gaps(KEY)
    return [(gap.first, gap.last, gap.reason, gap.state) for gap in gaps]


def live(coverage: Coverage) -> IntervalSet:
    assert isinstance(coverage, IdCoverage)
    return coverage.live


# --------------------------------------------------------------------------- account


def test_every_kind_of_frame_is_counted_once() -> None:
    good, unbuilt = match(1), b'{"type":"status"}'
    projected = project(batch([good, unbuilt, heartbeat(1), b"junk", match(2, price="NaN"), good]))
    assert projected.frames == {"yielding": 2, "control": 2, "dead": 2}
    assert projected.unbuilt == {"status": 1}
    assert projected.reasons == {"not_json": 1, "bad_price": 1}


def test_a_page_with_good_and_bad_rows_yields_and_one_with_bad_rows_only_is_dead() -> None:
    bad, worse = rest_row(8, size="-1"), rest_row(7, size=None)
    pages = [
        as_json(rows)
        for rows in ([rest_row(9), bad, rest_row(6), worse], [bad, worse], [bad], [worse], [])
    ]
    projected = project(batch(pages, context("rest")))
    assert projected.frames == {"yielding": 1, "control": 1, "dead": 3}
    assert projected.reasons == {"bad_size": 3, "missing_field": 3}
    assert ids(projected) == ["9", "6"]


@pytest.mark.parametrize(
    ("kind", "reason"), [(FrameKind.BINARY, "binary"), (FrameKind.COMPRESSED, "compressed")]
)
def test_frames_that_are_no_text_are_dead_and_do_not_reach_the_parser(
    kind: FrameKind, reason: str
) -> None:
    projected = project(batch([match(1), match(2)], kind=kind))
    assert projected.frames == {"yielding": 0, "control": 0, "dead": 2}
    assert projected.reasons == {reason: 2}
    assert projected.coverage == {}


def test_frames_of_an_unknown_venue_are_dead() -> None:
    projected = project(batch([match(1)], context(venue="mtgox")))
    assert projected.reasons == {"unknown_venue": 1}
    letters = projected.letters
    assert letters is not None
    assert letters["parser"].to_pylist() == ["none"]


def test_a_dead_letter_keeps_bytes_place_and_parser() -> None:
    poison = b"\x00\xff"
    origin = context("rest", "fill-7")
    page = as_json([rest_row(9), rest_row(8, price="0")])
    live = batch([match(1), poison], first_seq=40, received_ns=[T0, T0 + 5])
    letters = project(live, batch([page], origin, first_seq=90)).letters
    assert letters is not None
    names = ["venue", "source", "epoch", "log_id", "seq", "item", "reason", "parser", "payload"]
    assert [tuple(row.values()) for row in letters.select(names).to_pylist()] == [
        ("coinbase", "ws", "e1", LOG, 41, 0, "not_json", "coinbase/1", poison),
        ("coinbase", "rest", "fill-7", LOG, 90, 1, "bad_price", "coinbase/1", page),
    ]
    assert letters["received_ts"][0].value == T0 + 5
    assert letters["attempts"].to_pylist() == [1, 1]


def test_a_dead_letters_id_depends_on_the_frame_and_not_on_the_journal() -> None:
    def letter_ids(received: list[int], *payloads: bytes, first_seq: int = 1) -> list[object]:
        dead = batch(payloads, received_ns=received, first_seq=first_seq)
        letters = project(dead).letters
        assert letters is not None
        found: list[object] = letters["letter_id"].to_pylist()
        return found

    assert letter_ids([T0], b"x") == letter_ids([T0], b"x", first_seq=77)
    assert len(set(letter_ids([T0, T0 + 1, T0], b"x", b"x", b"y"))) == 3


def test_a_recording_adds_up() -> None:
    frames = recorded(COINBASE)
    payloads, received = [one.payload for one in frames], [one.received_ns for one in frames]
    projected = project(batch(payloads, context("file"), received_ns=received))
    assert projected.frames.total() == len(frames)
    assert projected.frames["dead"] == 0
    assert projected.unbuilt.total() == 0
    assert all(not stream.gaps(key) for key, stream in projected.coverage.items())
    trades = [held for key, held in projected.coverage.items() if key.channel == "trade"]
    assert len(trades) == 6
    assert all(len(live(stream)) == 1 for stream in trades)
    assert sum(live(stream).count() for stream in trades) == len(ids(projected))


def test_between_two_recorded_connections_nothing_was_heard() -> None:
    outage = (T0 + SECOND, T0 + 9 * SECOND)
    second = context("file", "e2", outage=outage)
    later = {"time": rfc3339(T0 + 10 * SECOND)}
    first = batch([ticker(), match(1), l2update(("buy", "1", "1"))], context("file"))
    projected = project(first, batch([ticker(**later), match(2)], second))
    found = {key.channel: stream.gaps(key) for key, stream in projected.coverage.items()}
    assert {channel for channel, gaps in found.items() if gaps} == {"ticker", "quote"}
    for gap in (*found["ticker"], *found["quote"]):
        assert (gap.first, gap.last, gap.unit) == (*outage, "time")
        assert (gap.reason, gap.state) == ("between_connections", "permanent")
    live = batch([ticker(**later)], received_ns=[T0])
    bridged = project(live, batch([ticker(**later)], received_ns=[T0 + 10 * SECOND]),
                      batch([ticker(**later)], second))  # fmt: skip
    assert not any(stream.gaps(key) for key, stream in bridged.coverage.items())


def test_a_recording_claims_nothing_between_two_events_that_have_no_numbers() -> None:
    projected = project(batch([ticker(), ticker(time=rfc3339(T0 + SECOND))], context("file")))
    assert {key.channel for key in projected.coverage} == {"ticker", "quote"}
    assert all(not [*stream.rows()] for stream in projected.coverage.values())


# -------------------------------------------------------------------------- coverage


def test_a_hole_within_a_connection_and_one_between_two() -> None:
    first = batch([match(1), match(2), match(5)])
    second = batch([match(9), match(10)], context(epoch="e2"))
    assert holes(project(first, second)) == [
        (3, 4, "in_connection", "open"),
        (6, 8, "between_connections", "open"),
    ]


def test_a_hole_at_the_seam_of_two_batches_of_a_connection_is_in_it() -> None:
    projection = Projection(PARSERS, {})
    projection.adopt(projection.project([batch([match(1)])]))
    projected = projection.project([batch([match(4)])])
    assert holes(projected) == [(2, 3, "in_connection", "open")]


def test_a_heartbeat_reveals_a_lost_tail_and_a_lost_head() -> None:
    assert holes(project(batch([match(1), heartbeat(3)]))) == [(2, 3, "in_connection", "open")]
    head = project(batch([heartbeat(3), match(5)]))
    assert holes(head) == [(3, 4, "in_connection", "open")]


def test_history_fills_and_what_it_lacks_is_permanent() -> None:
    live = batch([match(1), match(6)])
    page = batch([as_json([rest_row(4), rest_row(3)])], context("rest"), first_seq=3)
    done = controls(HistoryFinished("trade", PRODUCT, 2, 5, absent=((2, 5),)))
    projected = project(live, page, done)
    assert holes(projected) == [
        (2, 2, "absent_from_history", "permanent"),
        (3, 4, "in_connection", "filled"),
        (5, 5, "absent_from_history", "permanent"),
    ]
    assert flags(projected) == ["", "", "backfill", "backfill"]


def test_what_was_refused_is_not_covered() -> None:
    projected = project(batch([match(1), match(2, price="NaN"), match(3)]))
    assert holes(projected) == [(2, 2, "in_connection", "open")]


def test_a_filtered_recording_owes_nothing() -> None:
    partial = context("file", partial=True)
    projected = project(batch([match(1), match(9), heartbeat(20)], partial))
    assert holes(projected) == []
    coverage = projected.coverage[KEY]
    assert isinstance(coverage, IdCoverage)
    assert list(coverage.fill) == [(1, 1), (9, 9)]


def test_controls_that_say_nothing_of_ids_change_nothing() -> None:
    said = controls(EpochOpened(), EpochAccepted(), EpochClosed("bye"), origin=context())
    projected = project(said)
    assert (projected.coverage, projected.frames, projected.letters) == ({}, {}, None)


def test_a_loss_is_reported() -> None:
    loss = controls(Loss(5, 9))
    assert project(loss).losses == [Loss(5, 9)]


@pytest.mark.parametrize(
    "payload", [b"junk", b'{"type":"wibble"}', b'{"type":"loss"}', b'{"x":"\xff"}', b"[" * 100_000]
)
def test_an_unreadable_control_is_a_dead_letter(payload: bytes) -> None:
    projected = project(batch([payload], kind=FrameKind.CONTROL))
    assert projected.reasons == {"unknown_control": 1}
    assert projected.coverage == {}


def test_nothing_changes_before_it_is_adopted() -> None:
    projection = Projection(PARSERS, {KEY: IdCoverage()})
    projected = projection.project([batch([match(1)])])
    assert not live(projection.coverage[KEY])
    projection.adopt(projected)
    assert list(live(projection.coverage[KEY])) == [(1, 1)]


def test_seen_before_says_whether_coverage_had_the_id_before() -> None:
    projection = Projection(PARSERS, {})
    first = projection.project([batch([match(1), match(2), match(2)])])
    assert seen_before(first) == [False, False, False]
    projection.adopt(first)
    page = batch([as_json([rest_row(4)])], context("rest"))
    projection.adopt(projection.project([page]))
    mixed = [match(3), match(2), match(4), match(2, "ETH-USD"), match(1)]
    second = projection.project([batch(mixed)])
    assert seen_before(second) == [False, True, True, False, True]


def test_seen_before_is_exact_however_many_holes_there_are() -> None:
    projection = Projection(PARSERS, {})
    told = [*range(3, 300, 3), *range(400, 420)]
    projection.adopt(projection.project([batch([match(native) for native in told])]))
    asked = [410, *range(1, 430), 4]
    again = projection.project([batch([match(native) for native in asked])])
    assert seen_before(again) == [native in told for native in asked]


# ----------------------------------------------------------------------------- order


def test_rows_of_a_step_are_in_the_journals_order_whatever_their_contexts() -> None:
    one, two = context(epoch="e1"), context(epoch="e2")
    blocks = [
        block(two, FrameKind.TEXT, 1, match(7), match(3)),
        block(one, FrameKind.TEXT, 3, match(5, price="1"), b"junk", match(6)),
        block(two, FrameKind.TEXT, 6, match(5, price="2"), match(4)),
        block(context("rest"), FrameKind.REST, 8, as_json([rest_row(9), rest_row(8)])),
        block(one, FrameKind.TEXT, 9, match(5, price="3"), match(7)),
    ]
    projection = Projection(PARSERS, {})
    projected = projection.project(batches_of(blocks))
    assert ids(projected) == ["7", "3", "5", "6", "5", "4", "9", "8", "5", "7"]
    prices = [str(price.normalize()) for price in trades(projected)["price"].to_pylist()]
    assert [prices[place] for place in (2, 4, 8)] == ["1", "2", "3"]
    # The second connection's frames came first, so it is they that had the ids before.
    assert seen_before(projected) == [False] * 2 + [True] + [False] * 5 + [True, True]


def test_the_first_version_received_is_the_one_that_is_stored() -> None:
    one, two = context(epoch="e1"), context(epoch="e2")
    blocks = [
        block(one, FrameKind.TEXT, 1, match(1)),
        block(two, FrameKind.TEXT, 2, match(5, price="2")),
        block(one, FrameKind.TEXT, 3, match(5, price="1")),
    ]
    stored = []
    for run in ([blocks], [[part] for part in blocks]):
        store = MemoryStore()
        deliver(store, [batches_of(step) for step in run])
        stored.append(
            [str(price.normalize()) for price in store.table("trades")["price"].to_pylist()]
        )
        assert len(store.table("conflicts")) == 1
    assert stored[0] == stored[1]
    assert stored[0][1] == "2"


def test_an_older_log_comes_before_a_newer_one() -> None:
    one, two = context(epoch="e1"), context(epoch="e2")
    newer = [
        Block("b" * 32, 1, FrameKind.TEXT, origin.encode(), np.full(1, T0), payloads)
        for origin, payloads in ((one, Payloads.of([match(3)])), (two, Payloads.of([match(4)])))
    ]
    older = [block(two, FrameKind.TEXT, 8, match(1)), block(one, FrameKind.TEXT, 9, match(2))]
    assert ids(project(*batches_of([*older, *newer]))) == ["1", "2", "3", "4"]


# ----------------------------------------------------------------------------- flags


def test_out_of_order_is_after_a_later_trade_of_the_stream_on_the_connection() -> None:
    told = [match(5), match(3), match(4), match(1, "ETH-USD"), match(6), match(6)]
    assert flags(project(batch(told))) == ["", "out_of_order", "out_of_order", "", "", ""]


def test_out_of_order_does_not_depend_on_where_batches_end() -> None:
    told = [match(5), heartbeat(9), match(7), match(6), heartbeat(9), match(8), match(9), match(8)]
    whole = flags(project(batch(told)))
    assert whole == ["", "", "out_of_order", "", "", "out_of_order"]
    for cut in range(1, len(told)):
        projection = Projection(PARSERS, {})
        first = projection.project([batch(told[:cut])])
        projection.adopt(first)
        assert flags(first) + flags(projection.project([batch(told[cut:])])) == whole, cut


def test_another_connection_and_history_have_an_order_of_their_own() -> None:
    first = batch([match(5)])
    second = batch([match(3), match(4)], context(epoch="e2"), first_seq=2)
    page = batch([as_json([rest_row(4), rest_row(3)])], context("rest"), first_seq=4)
    assert flags(project(first, second, page)) == ["", "", "", "backfill", "backfill"]


# ---------------------------------------------------------------------------- blocks


def block(origin: Context, kind: int, first_seq: int, *payloads: bytes) -> Block:
    received = np.arange(first_seq, first_seq + len(payloads), dtype=np.int64) + T0
    return Block(LOG, first_seq, kind, origin.encode(), received, Payloads.of(payloads))


def test_blocks_of_a_context_are_joined_and_controls_come_last() -> None:
    one, two = context(), context("rest")
    joined = batches_of(
        [
            block(two, FrameKind.CONTROL, 1, b"done"),
            block(one, FrameKind.TEXT, 2, b"a", b"b"),
            block(two, FrameKind.REST, 4, b"page"),
            block(one, FrameKind.TEXT, 8, b"c"),
        ]
    )
    assert [(made.context, made.kind, list(made.payloads)) for made in joined] == [
        (one, FrameKind.TEXT, [b"a", b"b", b"c"]),
        (two, FrameKind.REST, [b"page"]),
        (two, FrameKind.CONTROL, [b"done"]),
    ]
    assert joined[0].seqs.tolist() == [2, 3, 8]
    assert joined[0].received_ns.tolist() == [T0 + 2, T0 + 3, T0 + 8]


def no_object_a_frame(payloads: Payloads) -> Iterator[bytes]:
    raise AssertionError(payloads)


def test_a_backlog_is_projected_without_an_object_for_a_frame(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    single = Payloads.of([match(native) for native in range(1, 1001)])
    halves = [single[:600], single[600:]]
    made = [block(context(), FrameKind.TEXT, at) for at in (1, 601)]
    blocks = [
        dataclasses.replace(
            each,
            payloads=half,
            received_ns=np.full(len(half), T0, dtype=np.int64),
        )
        for each, half in zip(made, halves, strict=True)
    ]
    monkeypatch.setattr(Payloads, "__iter__", no_object_a_frame)
    (joined,) = batches_of(blocks)
    (alone,) = batches_of(blocks[:1])
    assert alone.payloads is blocks[0].payloads
    assert ids(project(joined)) == [str(native) for native in range(1, 1001)]


def test_a_declared_loss_has_no_context() -> None:
    lost = encode_control(Loss(4, 9))
    gone = Block(LOG, 4, LOSS_KIND, b"", np.zeros(1, dtype=np.int64), Payloads.of([lost]), 5)
    (made,) = batches_of([gone])
    assert made.kind is FrameKind.LOSS
    assert project(made).losses == [Loss(4, 9)]


@pytest.mark.parametrize("raw", [b"", b"{}", b"junk", b'{"venue":"\xff"}', b"[" * 100_000])
def test_an_unreadable_context_is_corrupt(raw: bytes) -> None:
    with pytest.raises(Corrupt) as found:
        Context.decode(raw)
    assert "fsck" in found.value.hint


def test_a_context_and_a_control_survive_being_written() -> None:
    origin = context("rest", "e9", url="wss://x", symbols=("A-B", "C-D"), partial=True)
    assert Context.decode(origin.encode()) == origin
    assert project(controls(Loss(1, 2), Loss(4, 4))).losses == [Loss(1, 2), Loss(4, 4)]


def test_a_gap_is_of_its_stream() -> None:
    other = KEY._replace(symbol="ETH-USD")
    projected = project(batch([match(1), match(1, "ETH-USD"), match(3, "ETH-USD"), match(2)]))
    assert projected.coverage[KEY].gaps(KEY) == []
    assert projected.coverage[other].gaps(other) == [
        Gap(*other, "id", "", 2, 2, "in_connection", "open")
    ]


# ------------------------------------------------------------- what each venue told


def test_events_and_dead_letters_are_counted_by_the_way_they_came() -> None:
    page = as_json([rest_row(7), rest_row(8) | {"size": "NaN"}])
    out = project(
        batch([match(1), b"garbage", match(2)]), batch([page], context("rest"), first_seq=90)
    )
    found = {source: counts.told for source, counts in out.venues["coinbase"].items()}
    assert found == {"ws": 3, "rest": 2}
    assert out.venues["coinbase"]["rest"].flags == {"backfill": 1}
    assert out.venues["coinbase"]["ws"].flags == {}


def test_only_what_a_connection_tells_as_it_happens_says_how_long_it_takes() -> None:
    page = as_json([rest_row(7)])
    live = batch([match(1), match(2)], received_ns=[T0 + 9 * SECOND, T0 + 4 * SECOND])
    out = project(live, batch([page], context("rest"), first_seq=90))
    assert out.delays == {"coinbase": (2, 4 * SECOND - 2_000_000)}
    poll = context("rest", purpose="live")
    elsewhere = batch([match(1)], context("file")), batch([page], poll, first_seq=90)
    assert project(*elsewhere).delays == {}


def test_bars_and_what_holds_say_nothing_of_a_clock() -> None:
    held = {name for name, kind in KINDS.items() if kind.holds}
    assert {name for name, kind in KINDS.items() if not kind.momentary} == {"bar", *held}
