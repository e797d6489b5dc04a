"""Holes in the numbers of connections from journal to store, over lanes, audited and told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from forebay.clock import ManualClock
from forebay.domain.coverage import StreamKey
from forebay.domain.frames import (
    EpochAccepted,
    EpochClosed,
    FrameKind,
    GapAccepted,
    HistoryFinished,
    StreamsAsked,
    StreamsOwed,
)
from forebay.journal import StateFile
from forebay.services.bridge import Bridge
from forebay.services.deliver import Deliverer
from forebay.services.publisher import Publisher
from forebay.stores.duckdb.gaps import show_gaps
from tests.support.audit_bench import Bench, bench
from tests.support.frames import SECOND, T0, context
from tests.support.memory_store import MemoryStore
from tests.support.memory_transport import Broker, MemoryTransport
from tests.support.numbered_venue import (
    CHANNELS,
    LINE,
    SYMBOLS,
    VENUE,
    NumberedParser,
    garbage,
    numbered,
    trade,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from forebay.ports import Parser, Store
    from forebay.services.audit import Use

PARSERS: dict[str, Parser] = {VENUE: NumberedParser()}
TOGETHER = StreamKey(VENUE, "spot", min(CHANNELS), "*")
STREAMS = [StreamKey(VENUE, "spot", kind, symbol) for kind in CHANNELS for symbol in SYMBOLS]
HISTORY = context("rest", "fill", venue=VENUE)


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path / "journal", delivering=PARSERS, segment_bytes=4096) as opened:
        opened.parsers = PARSERS
        yield opened


def tell(bench: Bench, numbers: range, second: int, *, epoch: str = "e1", lost: str = "") -> None:
    """Capture trades, a nanosecond apart; some are lost, some cannot be read."""
    frames = [garbage(n) if n == 12 else trade(n, SYMBOLS[n % 2]) for n in numbers]
    left = [frame for n, frame in zip(numbers, frames, strict=True) if str(n) not in lost.split()]
    bench.write(left, FrameKind.TEXT, T0 + second * SECOND, numbered(epoch))


def capture(bench: Bench, meanwhile: Callable[[], None] | None = None) -> None:
    """Two connections, the first of which lost 7 and 8, could not read 12, and was killed."""
    bench.control(EpochAccepted(), T0, numbered())
    tell(bench, range(3, 7), 1)
    (meanwhile or bench.deliver)()
    tell(bench, range(9, 16), 2)
    bench.control(EpochAccepted(), T0 + 5 * SECOND, numbered("e2"))
    tell(bench, range(1, 6), 6, epoch="e2")
    bench.control(EpochClosed("done", silent_ns=0), T0 + 7 * SECOND, numbered("e2"))


def fill(bench: Bench) -> None:
    for symbol in SYMBOLS:
        ends = T0, T0 + 7 * SECOND
        asked = HistoryFinished("trade", symbol, *ends, unit="time")
        bench.control(asked, T0 + 8 * SECOND, HISTORY)


def gaps_of(store: Store) -> set[tuple[str, ...]]:
    """Return symbol, channel, unit, connection, reason and state of gaps."""
    coverage = store.load().coverage
    return {
        (gap.symbol, gap.channel, gap.unit, gap.epoch, gap.reason, gap.state)
        for key, held in coverage.items()
        for gap in held.gaps(key)
    }


def numbers_of(store: Store) -> list[tuple[str, int, int]]:
    gaps = store.load().coverage[TOGETHER].gaps(TOGETHER)
    return [(gap.state, gap.first, gap.last) for gap in gaps]


def test_a_loss_is_declared_filled_and_audited(recorded: Bench) -> None:
    capture(recorded)
    recorded.deliver()
    assert numbers_of(recorded.store) == [("permanent", 7, 8), ("permanent", 12, 12)]
    assert ("A-D", "trade", "time", "", "in_connection", "open") in gaps_of(recorded.store)
    assert ("A-D", "quote", "time", "", "in_connection", "permanent") in gaps_of(recorded.store)
    report = recorded.audit()
    assert {problem.kind for problem in report.problems} == {"gap_open"}
    assert all("*" not in problem.stream for problem in report.problems)

    fill(recorded)
    recorded.deliver()
    recorded.keep_ledger()
    sources: list[Use] = ["frames", "auto"]
    for source in sources:
        report = recorded.audit(source=source)
        assert report.ok, report.problems
        assert {gap.symbol for gap in report.gaps} == {*SYMBOLS, "*"}
        assert "*" not in {stream.symbol for stream in report.streams}


def test_what_a_store_claims_otherwise_is_found(recorded: Bench) -> None:
    capture(recorded)
    fill(recorded)
    recorded.deliver()
    recorded.sql("DELETE FROM coverage WHERE origin = 'missed' AND symbol = 'A-D'")
    recorded.sql("DELETE FROM gaps WHERE symbol = '*' AND first = 12")
    kinds = {problem.kind: problem.stream for problem in recorded.audit().problems}
    assert kinds["coverage_unlike"].endswith("A-D")
    assert kinds["gap_undeclared"].endswith("/*")


def test_a_process_that_is_started_anew_goes_on_counting(recorded: Bench) -> None:
    stores: list[Store] = [MemoryStore(), recorded.store]

    def delivered() -> None:
        for store in stores:
            deliverer = Deliverer(recorded.folder, store, PARSERS)
            deliverer.drain()
            deliverer.close()

    capture(recorded, delivered)
    delivered()
    for store in stores:
        assert numbers_of(store) == [("permanent", 7, 8), ("permanent", 12, 12)]
        assert gaps_of(store) == gaps_of(stores[0])
    report = recorded.audit(source="frames")
    assert {problem.kind for problem in report.problems} == {"gap_open"}


@pytest.mark.parametrize("partitions", [1, 3])
def test_behind_a_transport_it_is_the_same(
    recorded: Bench, tmp_path: Path, partitions: int
) -> None:
    transport, store = MemoryTransport(Broker(partitions=partitions)), MemoryStore()
    owed = StreamsOwed((("trade", "A-B"), ("quote", "A-X")), T0 - 5, T0 + 9)

    def carry() -> None:
        """As processes that live for this alone."""
        state = StateFile(tmp_path / "publish.state")
        publisher = Publisher(recorded.folder, transport, PARSERS, state, clock=ManualClock())
        publisher.drain()
        publisher.close()
        bridge = Bridge(transport, store, clock=ManualClock())
        bridge.drain()
        bridge.close()

    recorded.control(EpochAccepted(), T0, numbered())
    tell(recorded, range(3, 7), 1)
    carry()
    tell(recorded, range(9, 16), 2)
    carry()
    recorded.control(owed, T0 + 99 * SECOND, numbered())
    recorded.deliver()
    carry()
    assert dict(store.load().coverage) == dict(recorded.store.load().coverage)
    assert numbers_of(store) == [("permanent", 7, 8), ("permanent", 12, 12)]
    never = StreamKey(VENUE, "spot", "quote", "A-X")
    (whole,) = store.load().coverage[never].gaps(never)
    assert (whole.first, whole.last) == (T0 - 5, T0 + 9)


def test_the_table_of_gaps_says_when_and_who_accepted_it(recorded: Bench) -> None:
    capture(recorded)
    epoch = f"e1/{LINE}"
    accepted = GapAccepted("quote", "*", 12, 12, "me", "a typo", unit="seq", epoch=epoch)
    recorded.control(accepted, T0 + 20 * SECOND, HISTORY)
    recorded.deliver()
    with recorded.store.connection() as connection:
        show_gaps(connection)
        rows = connection.sql(
            "SELECT epoch, first, last, state, accepted_by, epoch_ns(from_ts) AS since, "
            "epoch_ns(to_ts) AS until, epoch_ns(opened_ts) AS opened FROM gaps "
            "WHERE symbol = '*' ORDER BY first"
        ).fetchall()
    before, behind = T0 + SECOND + 3, T0 + 2 * SECOND
    assert rows == [
        (epoch, 7, 8, "permanent", None, before, behind, behind),
        (epoch, 12, 12, "accepted", "me", behind + 2, behind + 4, behind + 4),
    ]


def test_a_market_in_which_nothing_happens_is_heard_if_it_is_said_to_be_there(
    recorded: Bench,
) -> None:
    quiet, asked = SYMBOLS[2], numbered()
    streams = [("spot", "trade", symbol) for symbol in (quiet, "A-GONE", "*")]
    recorded.control(StreamsAsked(tuple(streams)), T0, asked)
    recorded.control(EpochAccepted(), T0, asked)
    tell(recorded, range(3, 5), 1)
    tell(recorded, range(6, 8), 60)
    recorded.deliver()

    def silent() -> list[str]:
        return [each.stream for each in recorded.audit().problems if each.kind == "never_heard"]

    assert silent() == ["numbered/trade/A-D", "numbered/trade/A-GONE"]
    assert StreamKey(VENUE, "spot", "trade", quiet) not in recorded.deliverer.heard
    owed = StreamsOwed((("trade", quiet), ("trade", "A-GONE")), T0 + SECOND)
    recorded.control(owed, T0 + 61 * SECOND, asked)
    recorded.deliver()
    assert silent() == ["numbered/trade/A-GONE"], "no connection carried it"
    for deliverer in (recorded.deliverer, Deliverer(recorded.folder, recorded.store, PARSERS)):
        assert deliverer.heard[StreamKey(VENUE, "spot", "trade", quiet)] == 0
        heard = {key.symbol for key in deliverer.heard if key.channel == "trade"}
        assert heard == set(SYMBOLS), "neither that which is only owed, nor all together"
