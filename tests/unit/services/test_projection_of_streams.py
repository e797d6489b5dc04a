"""The projection: whose stream an event is, why it was asked for, and what its unit counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from forebay.domain.channels import UNITS_OF, Channel
from forebay.domain.coverage import COVERAGES, Gap, IdCoverage, StreamKey, TimeCoverage
from forebay.domain.frames import (
    Context,
    EpochAccepted,
    EpochClosed,
    FrameKind,
    HistoryFinished,
    StreamsEnded,
    encode_control,
)
from forebay.domain.parsed import Parsed
from forebay.errors import Corrupt
from forebay.journal import Block
from forebay.payloads import Payloads
from forebay.services.projection import Projected, Projection, batches_of
from tests.support.delivery import deliver
from tests.support.frames import SECOND, T0, batch, context
from tests.support.made_venue import MADE, PAIRS, SYMBOL, Deal, MadeParser, frame
from tests.support.memory_store import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Mapping

    from forebay.domain.channels import Unit
    from forebay.domain.coverage import Coverage, Row
    from forebay.domain.frames import Control, FrameBatch, Purpose
    from forebay.domain.identity import IdentityClass
    from forebay.ports import Parser
    from tests.support.frames import Source

VENUE = "made"
KEY = StreamKey(VENUE, "spot", "trade", SYMBOL)


def told(origin: Context, *numbers: int, first_seq: int = 1) -> FrameBatch:
    """Build frames of one trade each, a second apart."""
    deals = [frame(Deal(number=number, micros=number)) for number in numbers]
    received = [T0 + number * SECOND for number in numbers]
    return batch(deals, origin, received_ns=received, first_seq=first_seq)


def control(origin: Context, said: Control, second: int) -> FrameBatch:
    raw = [encode_control(said)]
    return batch(raw, origin, kind=FrameKind.CONTROL, received_ns=[T0 + second * SECOND])


def made(epoch: str = "e1", source: Source = "ws", **changed: object) -> Context:
    asked = {"venue": VENUE, "symbols": (SYMBOL,), "channels": ("trade",)}
    return context(source, epoch, **(asked | changed))


def project(
    parser: Parser, *batches: FrameBatch, coverage: Mapping[StreamKey, Coverage] | None = None
) -> Projected:
    return Projection({VENUE: parser}, coverage or {}).project(batches)


def flags(projected: Projected) -> list[str]:
    found: list[str] = projected.events["trades"].rows["flags"].to_pylist()
    return found


def heard(coverage: Coverage) -> list[tuple[int, int]]:
    """Return when a stream was heard, in seconds."""
    rows: list[Row] = [row for row in coverage.rows() if row.origin in {"live", "time_live"}]
    return [
        ((row.first - T0) // SECOND, (row.last - T0) // SECOND) for row in rows if not row.epoch
    ]


# ------------------------------------------------------------------------- why frames were asked


@pytest.mark.parametrize(
    ("source", "purpose"), [("ws", "live"), ("rest", "history"), ("file", "recording")]
)
def test_a_context_of_layout_1_has_the_purpose_of_its_source(
    source: Source, purpose: Purpose
) -> None:
    raw = b'{"venue":"v","source":"%s","collector":"c","epoch":"e","symbols":["A-B"]}'
    assert Context.decode(raw % source.encode()) == Context(
        venue="v", source=source, purpose=purpose, collector="c", epoch="e", symbols=("A-B",)
    )


@pytest.mark.parametrize("source", [b'"wire"', b"[]", b"{}", b"null", b"3"])
def test_a_context_of_layout_1_of_no_source_is_corrupt(source: bytes) -> None:
    with pytest.raises(Corrupt):
        Context.decode(b'{"venue":"v","source":%s,"collector":"c","epoch":"e"}' % source)


def test_a_purpose_that_is_said_counts() -> None:
    polled = made(source="rest", purpose="live")
    assert Context.decode(polled.encode()) == polled


def test_a_poller_by_rest_that_follows_the_market_is_live() -> None:
    polled = made(source="rest", purpose="live")
    projected = project(MadeParser("native"), told(polled, 1, 4))
    assert flags(projected) == ["", ""]
    assert projected.coverage[KEY].gaps(KEY) == [Gap(*KEY, "id", "", 2, 3, "in_connection", "open")]


def test_history_owes_nothing_by_whichever_way_it_came() -> None:
    downloaded = made(source="file", purpose="history")
    projected = project(MadeParser("native"), told(downloaded, 1, 4))
    assert flags(projected) == ["backfill", "backfill"]
    assert projected.coverage[KEY].gaps(KEY) == []


def test_of_pages_that_a_poller_asks_for_again_only_what_is_new_is_a_row() -> None:
    polled = context("rest", "poll", venue="made-content", purpose="live")
    a, b, c, d = (Deal(micros=micros) for micros in (1, 2, 2, 3))
    pages = [frame(a, b, c), b"#", frame(a, b, c, d)]
    store = MemoryStore()
    runs = [
        [batch([page], polled, kind=FrameKind.REST, first_seq=seq)]
        for seq, page in enumerate(pages, 1)
    ]
    deliver(store, runs[:2], MADE)
    before = set(store.table("trades")["event_id"].to_pylist())
    assert len(before) == 3, "of the equal ones on a page, each is an event"
    deliver(store, runs[2:], MADE)
    rows = store.table("trades").to_pylist()
    assert [row["seq"] for row in rows if row["event_id"] not in before] == [3]
    assert len(rows) == 4
    assert all("backfill" not in row["flags"] for row in rows)


# --------------------------------------------------------------------------------- whose stream


@pytest.mark.parametrize(("identity", "unit"), PAIRS)
def test_spot_and_perpetual_share_neither_ids_nor_coverage_nor_gaps(
    identity: IdentityClass, unit: Unit
) -> None:
    parser = MadeParser(identity, unit)
    batches = [
        told(made(market="spot"), 1, 2, 5, first_seq=1),
        told(made("e2", market="perpetual"), 1, 2, 3, 4, 5, 9, first_seq=4),
    ]
    projected = project(parser, *batches)
    rows = projected.events["trades"].rows
    assert len(set(rows["event_id"].to_pylist())) == 9
    assert not projected.events["trades"].seen_before.any()
    keys = [KEY._replace(market=market) for market in ("spot", "perpetual")]
    for key, alone in zip(keys, batches, strict=True):
        assert projected.coverage[key] == project(parser, alone).coverage[key]
    if unit in ("id", "seq"):
        holes = {key.market: projected.coverage[key].gaps(key) for key in keys}
        ends = {name: [(gap.first, gap.last) for gap in gaps] for name, gaps in holes.items()}
        assert ends == {"spot": [(3, 4)], "perpetual": [(6, 8)]}
        assert all(gap.market == name for name, gaps in holes.items() for gap in gaps)


def test_history_fills_the_gaps_of_its_market_alone() -> None:
    live = [told(made(market=market), 1, 4) for market in ("spot", "perpetual")]
    finished = HistoryFinished("trade", SYMBOL, 2, 3, absent=((2, 3),), market="perpetual")
    projected = project(MadeParser("native"), *live, control(made(source="rest"), finished, 9))
    states = {
        key.market: [gap.state for gap in coverage.gaps(key)]
        for key, coverage in projected.coverage.items()
    }
    assert states == {"spot": ["open"], "perpetual": ["permanent"]}


# ------------------------------------------------------------------------ when it was listened to


class TwoChannels:
    """A venue with a channel that counts time, one that counts numbers, and two that do not."""

    name = "two/1"

    def __init__(self) -> None:
        self.channels: Mapping[str, Channel] = {
            "trade": Channel("trade", "native", "id"),
            "quote": Channel("quote", "observation", "time"),
            "book_delta": Channel("book_delta", "session", "seq"),
            "ticker": Channel("ticker", "observation", "none"),
        }

    def parse(self, batch: FrameBatch) -> Parsed:
        return Parsed(control=len(batch))


def carried(origin: Context, *said: tuple[Control, int]) -> dict[tuple[str, str], object]:
    """Return when each stream of two symbols was heard, in seconds."""
    projected = project(TwoChannels(), *[control(origin, each, second) for each, second in said])
    assert all(key[:2] == (VENUE, origin.market) for key in projected.coverage)
    return {(key.channel, key.symbol): heard(each) for key, each in projected.coverage.items()}


ACCEPTED, CLOSED = (EpochAccepted(), 10), (EpochClosed("done", silent_ns=5 * SECOND), 30)


def test_every_stream_of_a_connection_that_was_accepted_was_heard() -> None:
    channels, symbols = ("quote", "book_delta"), ("A-B", "A-C")
    both = made(symbols=symbols, channels=channels, market="perpetual")
    assert carried(both, ACCEPTED, CLOSED) == {
        (channel, symbol): [(10, 25)]
        for channel in ("quote", "book_delta")
        for symbol in ("A-B", "A-C")
    }


def test_a_connection_that_does_not_say_its_channels_promises_none() -> None:
    assert carried(made(channels=()), ACCEPTED, CLOSED) == {}


def test_only_the_channels_that_were_asked_for_were_heard() -> None:
    asked = made(channels=("trade", "quote"))
    assert carried(asked, ACCEPTED, CLOSED) == {("quote", SYMBOL): [(10, 25)]}


def test_only_the_streams_that_were_accepted_were_heard_each_since_then() -> None:
    both = made(symbols=("A-B", "A-C", "A-D"), channels=("trade", "quote", "book_delta"))
    first = EpochAccepted((("quote", "A-B"), ("trade", "A-C")))
    second = EpochAccepted((("quote", "A-C"), ("book_delta", "A-B"), ("quote", "of another")))
    assert carried(both, (first, 10), (second, 20), CLOSED) == {
        ("quote", "A-B"): [(10, 25)],
        ("quote", "A-C"): [(20, 25)],
        ("book_delta", "A-B"): [(20, 25)],
    }


def test_a_stream_that_was_left_was_heard_until_then_and_the_others_go_on() -> None:
    three = made(symbols=("A-B", "A-C", "A-D"), channels=("quote", "book_delta"))
    left = (("quote", "A-B"), ("book_delta", "A-C"), ("quote", "of another"))
    ended = StreamsEnded(left, silent_ns=2 * SECOND)
    assert carried(three, ACCEPTED, (ended, 20), CLOSED) == {
        ("quote", "A-B"): [(10, 18)],
        ("book_delta", "A-B"): [(10, 25)],
        ("quote", "A-C"): [(10, 25)],
        ("book_delta", "A-C"): [(10, 18)],
        ("quote", "A-D"): [(10, 25)],
        ("book_delta", "A-D"): [(10, 25)],
    }
    again = (EpochAccepted((("quote", "A-B"),)), 22)
    assert carried(three, ACCEPTED, (ended, 20), again, CLOSED)["quote", "A-B"] == [
        (10, 18),
        (22, 25),
    ]


def test_an_acceptance_of_everything_is_written_as_ever() -> None:
    assert encode_control(EpochAccepted()) == b'{"type":"epoch_accepted"}'


def test_a_silent_stream_counts_to_the_end_and_a_killed_one_to_its_last_event() -> None:
    assert carried(made(channels=("quote",)), ACCEPTED) == {("quote", SYMBOL): [(10, 10)]}
    parser = MadeParser("content")
    killed = [control(made(), EpochAccepted(), 0), told(made(), 3, 8)]
    (coverage,) = project(parser, *killed).coverage.values()
    assert heard(coverage) == [(0, 8)]


@pytest.mark.parametrize("silent_ns", [None, 0])
def test_an_end_that_does_not_say_how_long_it_was_silent_says_nothing(
    silent_ns: int | None,
) -> None:
    closed = (EpochClosed("done", silent_ns), 30)
    found = carried(made(channels=("quote",)), ACCEPTED, closed)
    assert found == {("quote", SYMBOL): [(10, 10 if silent_ns is None else 30)]}


def test_a_stream_that_spoke_without_being_asked_for_is_heard_to_the_end_too() -> None:
    any_symbol = made(symbols=())
    said = [told(any_symbol, 3, 8), control(any_symbol, EpochClosed("done", 2 * SECOND), 20)]
    (coverage,) = project(MadeParser("content"), *said).coverage.values()
    assert heard(coverage) == [(3, 18)]


@pytest.mark.parametrize(
    "changed",
    [
        {"purpose": "history"},
        {"purpose": "recording"},
        {"venue": "elsewhere"},
        {"partial": True},
    ],
)
def test_only_what_follows_the_market_is_heard(changed: dict[str, Any]) -> None:
    assert carried(made(**changed), ACCEPTED, CLOSED) == {}


def test_what_a_connection_that_got_behind_did_not_send_any_more_is_missing() -> None:
    origin = made(channels=("quote",))
    late = EpochClosed("it got behind", silent_ns=0, late_ns=9 * SECOND)
    controls = [control(origin, each, at) for each, at in (ACCEPTED, (late, 30))]
    again = control(made("e2", channels=("quote",)), EpochAccepted(), 31)
    ((key, coverage),) = project(TwoChannels(), *controls, again).coverage.items()
    gaps = coverage.gaps(key)
    assert gaps[0].first == T0 + 21 * SECOND, "from 9 s before its end"
    assert [gap.reason for gap in gaps] == ["in_connection", "between_connections"]
    assert gaps[-1].last == T0 + 31 * SECOND - 1
    assert COVERAGES["time"].from_rows(coverage.rows(), ()).gaps(key) == gaps


@pytest.mark.parametrize(("history", "state"), [(True, "open"), (False, "permanent")])
def test_between_two_connections_is_a_gap_in_time(history: bool, state: str) -> None:
    said = [
        control(made("e1"), EpochAccepted(), 0),
        told(made("e1"), 1, 2, 4),
        control(made("e1"), EpochClosed("away", silent_ns=SECOND), 7),
        control(made("e2"), EpochAccepted(), 20),
        told(made("e2"), 21, first_seq=4),
    ]
    gap = (T0 + 6 * SECOND + 1, T0 + 20 * SECOND - 1, "between_connections", state)
    (in_time,) = project(MadeParser("content", "time", history=history), *said).coverage.values()
    assert in_time.gaps(KEY) == [Gap(*KEY, "time", "", *gap)]  # type: ignore[arg-type]
    (counted,) = project(MadeParser("content", "seq", history=history), *said).coverage.values()
    assert counted.gaps(KEY) == [
        Gap(*KEY, "seq", "e1", 3, 3, "in_connection", "open"),
        Gap(*KEY, "time", "", *gap),  # type: ignore[arg-type]
    ]


# ------------------------------------------------------------------------------- what is counted


@pytest.mark.parametrize("unit", UNITS_OF["native"])
def test_a_venue_whose_unit_is_another_now_counts_anew(unit: Unit) -> None:
    before = TimeCoverage() if unit != "time" else IdCoverage()
    before.finished(5, 9, [(5, 9)])
    parser = MadeParser("native", unit)
    projected = project(parser, told(made(), 1, 2), coverage={KEY: before})
    assert projected.coverage == project(parser, told(made(), 1, 2)).coverage
    assert projected.coverage[KEY].unit == unit


@pytest.mark.parametrize(("identity", "unit"), PAIRS)
def test_history_that_was_asked_in_another_unit_fills_nothing(
    identity: IdentityClass, unit: Unit
) -> None:
    parser = MadeParser(identity, unit)
    live = told(made(), 1, 4)
    ends = {"id": (2, 3), "time": (T0, T0 + 9 * SECOND)}
    for asked, absent in ends.items():
        said = HistoryFinished("trade", SYMBOL, *absent, absent=(absent,), unit=asked)  # type: ignore[arg-type]
        projected = project(parser, live, control(made(source="rest"), said, 9))
        rows = list(projected.coverage[KEY].rows())
        counts_it = (unit == "id") if asked == "id" else unit in ("time", "seq")
        assert any("absent" in row.origin for row in rows) is counts_it


@pytest.mark.parametrize(("identity", "unit"), PAIRS)
@pytest.mark.parametrize("source", ["ws", "rest"])
def test_coverage_vouches_for_what_its_numbers_identify(
    identity: IdentityClass, unit: Unit, source: Source
) -> None:
    """Then a store need not look: an id by id, a number of a connection by its connection."""
    parser = MadeParser(identity, unit)
    projection = Projection({VENUE: parser}, {})
    projection.adopt(projection.project([told(made(source=source), 1, 2)]))
    events = projection.project([told(made(source=source), 2, 3, first_seq=3)]).events["trades"]
    session = (identity, unit, source) == ("session", "seq", "ws")
    knows = unit == "id" or session
    assert events.vouched_new.tolist() == [False, knows]
    assert events.seen_before.tolist() == [knows, False]


def test_coverage_of_every_unit_has_its_name() -> None:
    for identity, unit in PAIRS:
        (coverage,) = project(MadeParser(identity, unit), told(made(), 1)).coverage.values()
        assert type(coverage) is COVERAGES[unit]


# -------------------------------------------------------- connections that carry other symbols


def test_symbols_that_come_and_go_are_covered_alike_however_a_journal_is_cut() -> None:
    """A market that comes, goes and comes again within one epoch, in one step and in many."""
    few, more = made(symbols=("A-B",)), made(symbols=("A-B", "C-D"))
    ours, line = FrameKind.CONTROL, FrameKind.TEXT
    came = EpochAccepted((("trade", "C-D"),))
    gone = StreamsEnded((("trade", "C-D"),), silent_ns=SECOND)
    script: list[tuple[Context, FrameKind, bytes, int]] = [
        (few, ours, encode_control(EpochAccepted()), 0),
        (few, line, frame(Deal(symbol="A-B", micros=1)), 1),
        (more, ours, encode_control(came), 2),
        (more, line, frame(Deal(symbol="C-D", micros=3)), 3),
        (more, ours, encode_control(gone), 5),
        (few, line, frame(Deal(symbol="A-B", micros=6)), 6),
        (more, ours, encode_control(came), 8),
        (more, line, frame(Deal(symbol="C-D", micros=9)), 9),
        (more, ours, encode_control(gone), 11),
        (few, line, frame(Deal(symbol="A-B", micros=14)), 14),
        (few, ours, encode_control(EpochClosed("over", silent_ns=SECOND)), 20),
    ]
    blocks = [
        Block("log", seq, kind, origin.encode(), np.array([T0 + at * SECOND]), Payloads.of([told]))
        for seq, (origin, kind, told, at) in enumerate(script, 1)
    ]
    for size in (1, 2, 3, 5, len(blocks)):
        projection = Projection({VENUE: MadeParser("content")}, {})
        for begin in range(0, len(blocks), size):
            projection.adopt(projection.project(batches_of(blocks[begin : begin + size])))
        found = {key.symbol: heard(held) for key, held in projection.coverage.items()}
        assert found == {"A-B": [(0, 19)], "C-D": [(2, 4), (8, 10)]}, f"{size} blocks a step"
