"""Massive's source against its simulator: what is captured is the truth, whatever goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from forebay.clock import SystemClock
from forebay.domain.frames import EpochAccepted, HistoryFinished
from forebay.errors import ForebayError, Permanent, Transient
from forebay.lab.exchanges.exchange import ExchangeConfig
from forebay.lab.exchanges.market import MarketConfig
from forebay.lab.exchanges.massive import VENUE as SIMULATED
from forebay.lab.exchanges.massive.messages import KEY
from forebay.lab.exchanges.massive.truth import SOURCES
from forebay.lab.exchanges.server import ServerConfig, running
from forebay.lab.faults import FLAP, PAGE, SILENCE, TOO_MANY
from forebay.lab.truth import events
from forebay.lab.truth.histories import BEGIN_MS, MINUTE_MS, MadeBars, ReadBars
from forebay.ports import HistoryRequest
from forebay.resilience import BreakerConfig, CircuitBreaker
from forebay.services.projection import Projection
from forebay.sources.live import Addresses, LiveSource, Timings, Wiring
from forebay.sources.massive import VENUE
from forebay.sources.rest import RestPolicy
from forebay.sources.venue import ConnectionPurpose, Limits
from forebay.sources.websocket import Timeouts
from forebay.telemetry import StreamRefused, VenueComplained
from tests.support.frames import batch
from tests.support.recordings import DATA
from tests.support.sinks import RecordingSink
from tests.unit.sources.coinbase.test_feed_kinds import rows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from forebay.lab.exchanges.server import Running
    from forebay.lab.truth.histories import BarHistory
    from forebay.services.projection import Projected
    from forebay.telemetry import TelemetryEvent

SYMBOLS = {"crypto": ("BTC-USD", "ETH-USD"), "forex": ("EUR-USD", "GBP-USD")}
EVENTS = 800
MS = 1_000_000
FOREX = DATA / "forex"


@dataclass
class Rig:
    """A source, what it captured and what it said, and the simulator that it captures."""

    server: Running
    source: LiveSource
    sink: RecordingSink = field(default_factory=RecordingSink)
    said: list[TelemetryEvent] = field(default_factory=list)

    def heard(self, kind: type[TelemetryEvent]) -> list[TelemetryEvent]:
        return [event for event in self.said if isinstance(event, kind)]

    def projected(self) -> Projected:
        """Return everything that was captured as rows."""
        batches, now_ns = [], SystemClock.wall_ns()
        for epoch in self.sink.epochs:
            if epoch.data:
                kinds, payloads = zip(*epoch.data, strict=True)
                told_ns = [now_ns] * len(payloads)
                batches.append(batch(payloads, epoch.context, kind=kinds[0], received_ns=told_ns))
        return Projection({"massive": VENUE.parser}, {}).project(batches)

    def finished(self) -> HistoryFinished:
        found = [
            control
            for epoch in self.sink.epochs
            for control in epoch.controls
            if isinstance(control, HistoryFinished)
        ]
        lacking = tuple(each for control in found for each in control.lacking)
        return msgspec.structs.replace(found[-1], first=found[0].first, lacking=lacking)

    def trouble(self, name: str, *, on: bool = True, **settings: int) -> None:
        now_ns = SystemClock.monotonic_ns()
        self.server.exchange.switch(name, now_ns, on=on, settings=settings)

    async def until(self, holds: Any) -> None:  # noqa: ANN401 - any condition
        while not holds():  # noqa: ASYNC110 - the simulator's state
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def rigged(
    market: str = "crypto",
    *,
    channels: Iterable[str] = (),
    key: str = KEY,
    bars: Mapping[str, BarHistory] | None = None,
    **changed: Any,  # noqa: ANN401
) -> AsyncIterator[Rig]:
    """Serve a market whose time passes 500 times as fast as ours."""
    symbols = SYMBOLS[market]
    config = MarketConfig(5, symbols, 1000, EVENTS, step_us=1_000_000, bars=bars or {}, **changed)
    said: list[TelemetryEvent] = []
    async with (
        asyncio.timeout(60),
        running(ServerConfig(ExchangeConfig(SIMULATED, config)), SystemClock()) as server,
    ):
        kinds = tuple(channels) or (
            ("quote", "bar") if market == "forex" else VENUE.default_channels
        )
        patient = BreakerConfig(failure_threshold=1_000)
        breaker = CircuitBreaker("w", patient, clock=SystemClock(), rng=random.Random(1))
        source = LiveSource(
            replace(VENUE, limits=Limits(rest=(), wait=VENUE.limits.wait)),
            ConnectionPurpose(symbols, kinds, market, credentials={"key": key}),
            Wiring("c1", SystemClock(), random.Random(3), said.append, websocket_breaker=breaker),
            addresses=Addresses(f"{server.ws_url}/{{market}}", server.rest_url),
            timings=Timings(feed=Timeouts(backoff_base_s=0.05), rest=RestPolicy()),
        )
        async with source:
            yield Rig(server, source, said=said)


@contextlib.asynccontextmanager
async def capturing(rig: Rig) -> AsyncIterator[None]:
    task = asyncio.create_task(rig.source.run(rig.sink))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


TABLES = {"trade": "trades", "quote": "quotes", "bar": "bars"}


def ids(projected: Projected, kind: str) -> Counter[str]:
    return Counter(str(row["event_id"]) for row in rows(projected, TABLES[kind]))


def truth(rig: Rig, kind: str, first: int = 100, end: int = 100 + EVENTS // 2) -> Counter[str]:
    """Return the ids of all events of a kind."""
    trades = rig.server.exchange.market.trades.values()
    told = (event for each in trades for event in events(SOURCES[kind](each), first, end))
    return Counter(event.document()["event_id"] for event in told)


# ------------------------------------------------------------------------------ live


@pytest.mark.parametrize("market", ["crypto", "forex"])
async def test_everything_that_is_told_is_captured_and_is_the_truth(market: str) -> None:
    async with rigged(market) as rig, capturing(rig):
        await rig.until(lambda: rig.server.exchange.status()["settled"]
                        and rig.server.exchange.market.finished)  # fmt: skip
        await asyncio.sleep(0.1)
    projected = rig.projected()
    assert not projected.reasons
    for kind in ("quote", "bar") if market == "forex" else TABLES:
        assert ids(projected, kind) == truth(rig, kind), kind
    contexts = {epoch.context.url for epoch in rig.sink.epochs}
    assert contexts == {f"{rig.server.ws_url}/{market}"}


async def test_the_key_is_in_nothing_that_is_kept_or_said() -> None:
    async with rigged(key=KEY) as rig, capturing(rig):
        await rig.until(lambda: rig.sink.count > 50)
        await rig.source.fill(trades_request(rig), rig.sink)
    for epoch in rig.sink.epochs:
        kept = msgspec.json.encode(epoch.context) + b"".join(raw for _, raw in epoch.frames)
        assert KEY.encode() not in kept
    assert KEY not in repr(rig.said)
    assert KEY not in repr(rig.source.__dict__["_asked"])


async def test_a_wrong_key_is_complained_of_and_blames_no_stream() -> None:
    async with rigged(key="another") as rig, capturing(rig):
        await rig.until(lambda: len(rig.sink.epochs) >= 4)
        assert rig.source.connections == 1
    assert "auth_failed" in str(rig.heard(VenueComplained)[0])
    assert not rig.heard(StreamRefused)
    assert "ended by the venue: auth_failed" in str(rig.sink.epochs[0].reason)
    assert all(set(each.context.symbols) == set(SYMBOLS["crypto"]) for each in rig.sink.epochs)


@pytest.mark.parametrize(
    "trouble", ["status-max-connections", "status-slow-consumer", "status-force-disconnect"]
)
async def test_what_ends_a_connection_after_a_success_blames_no_stream(trouble: str) -> None:
    async with rigged() as rig, capturing(rig):
        await rig.until(lambda: rig.sink.count > 50)
        rig.trouble(trouble)
        await rig.until(lambda: len(rig.sink.epochs) >= 4)
        rig.trouble(trouble, on=False)
        await rig.until(
            lambda: (
                rig.sink.epochs[-1].reason is None
                and any(isinstance(each, EpochAccepted) for each in rig.sink.epochs[-1].controls)
            )
        )
        assert rig.source.connections == 1
    assert not rig.heard(StreamRefused)
    reason = trouble.removeprefix("status-").replace("-", "_")
    assert any(f"ended by the venue: {reason}" in str(each.reason) for each in rig.sink.epochs)


@pytest.mark.parametrize("trouble", [FLAP, SILENCE])
async def test_it_comes_back_from_a_flapping_and_from_a_silent_link(trouble: str) -> None:
    async with rigged() as rig, capturing(rig):
        await rig.until(lambda: rig.sink.count > 50)
        rig.trouble(trouble)
        if trouble == FLAP:
            await rig.until(lambda: len(rig.sink.epochs) >= 3)
        rig.trouble(trouble, on=False)
        await rig.until(lambda: rig.server.exchange.market.finished)
    assert not rig.heard(StreamRefused)
    assert set(ids(rig.projected(), "trade")) <= set(truth(rig, "trade"))


# --------------------------------------------------------------------------- history


def trades_request(rig: Rig, kind: str = "trade", market: str = "crypto") -> HistoryRequest:
    symbol = SYMBOLS[market][0]
    trades = rig.server.exchange.market.trades[symbol]
    return HistoryRequest(kind, symbol, trades.time_ns(0), trades.time_ns(99), "time", market)


@pytest.mark.parametrize(("market", "kind"), [("crypto", "trade"), ("forex", "quote")])
async def test_history_of_ticks_is_the_truth(market: str, kind: str) -> None:
    async with rigged(market) as rig:
        await rig.source.fill(trades_request(rig, kind, market), rig.sink)
        first = rig.server.exchange.market.trades[SYMBOLS[market][0]]
    told = Counter(each.document()["event_id"] for each in events(SOURCES[kind](first), 0, 100))
    assert ids(rig.projected(), kind) == told
    assert told


async def test_what_the_stream_told_and_rest_tells_is_one_event() -> None:
    async with rigged() as rig:
        async with capturing(rig):
            await rig.until(lambda: rig.server.exchange.market.finished)
            await asyncio.sleep(0.1)
        symbol = SYMBOLS["crypto"][0]
        trades = rig.server.exchange.market.trades[symbol]
        request = trades_request(rig)
        await rig.source.fill(replace(request, last=trades.time_ns(10_000)), rig.sink)
    told = set(truth(rig, "trade", 0))
    both = rows(rig.projected(), "trades")
    assert {str(row["event_id"]) for row in both if row["symbol"] == symbol} <= told
    streamed = {row["event_id"] for row in both if not row["flags"].count("backfill")}
    paged = {row["event_id"] for row in both if row["flags"].count("backfill")}
    assert len(streamed & paged) == EVENTS // 2


async def test_a_kind_that_the_venue_does_not_list_is_refused_for_good() -> None:
    async with rigged() as rig:
        with pytest.raises(Permanent):
            await rig.source.fill(trades_request(rig, "quote"), rig.sink)


MADE = MadeBars("EUR-USD", 10_080, holes=15)
FIRST, LAST = BEGIN_MS * MS, (BEGIN_MS + 10_079 * MINUTE_MS) * MS


def made(series: str = "1m", first: int = FIRST, last: int = LAST) -> HistoryRequest:
    end = last + 60_000 * MS - 1
    return HistoryRequest(f"bar:{series}", "EUR-USD", first, end, "time", "forex")


def told_bars(rig: Rig) -> dict[int, tuple[Decimal, ...]]:
    return {
        row["open_ts"] // MS: tuple(
            Decimal(row[name]) for name in ("open", "high", "low", "close", "volume")
        )
        for row in rows(rig.projected(), "bars")
    }


def true_bars(
    history: BarHistory, first: int = FIRST, last: int = LAST
) -> dict[int, tuple[Decimal, ...]]:
    lines = history.between(first // MS, last // MS)
    return {line.open_ms: tuple(map(Decimal, line[1:])) for line in lines}


async def test_every_bar_of_three_pages_is_the_truth_and_what_is_lacking_is_known() -> None:
    async with rigged("forex", bars={"EUR-USD": MADE}) as rig:
        rig.trouble("pages-short", rows=4_000)
        await rig.source.fill(made(), rig.sink)
        asked_for = rig.server.exchange.rest_requests
    assert asked_for == 3
    assert told_bars(rig) == true_bars(MADE)
    missing = sum(last - first + 1 for first, last in rig.finished().lacking) // (60_000 * MS)
    assert missing == 10_080 - len(true_bars(MADE))
    assert missing > 100


HOUR = (FIRST, FIRST + 59 * 60_000 * MS)


async def test_a_page_that_begins_with_the_last_row_of_the_one_before_adds_nothing() -> None:
    async with rigged("forex", bars={"EUR-USD": MADE}) as rig:
        rig.trouble("pages-short", rows=4_000)
        rig.trouble("pages-twice")
        await rig.source.fill(made(), rig.sink)
    assert told_bars(rig) == true_bars(MADE)
    told = rows(rig.projected(), "bars")
    assert len(told) == len({row["event_id"] for row in told}) == len(true_bars(MADE))
    assert rig.projected().reasons["bad_time"] == 2, "they are outside of what was asked for"


async def test_bars_that_cannot_be_are_dead_letters_and_are_asked_for_again() -> None:
    day = (FIRST, FIRST + 1439 * 60_000 * MS)
    async with rigged("forex", bars={"EUR-USD": MADE}) as rig:
        rig.trouble("pages-corrupt", every=7)
        await rig.source.fill(made("1m", *day), rig.sink)
        lacking = [
            (first, last)
            for first, last in rig.finished().lacking
            if any(first <= ms * MS <= last for ms in true_bars(MADE, *day))
        ]
        assert set(rig.projected().reasons) == {
            "bad_price", "bad_size", "bad_value", "missing_field", "wrong_type", "bad_time",
        }  # fmt: skip
        assert len(lacking) > 150
        before = told_bars(rig)
        assert before.items() < true_bars(MADE, *day).items()
        rig.trouble("pages-corrupt", on=False)
        rig.sink.epochs = [each for each in rig.sink.epochs if not each.controls]
        await rig.source.fill(made("1m", *day), rig.sink)
    assert told_bars(rig) == true_bars(MADE, *day)


async def test_a_source_that_does_not_advance_is_an_error_and_doubles_nothing() -> None:
    async with rigged("forex", bars={"EUR-USD": MADE}) as rig:
        rig.trouble("pages-short", rows=4_000)
        rig.trouble("pages-loop")
        with pytest.raises(ForebayError, match="twice"):
            await rig.source.fill(made(), rig.sink)
        assert rig.server.exchange.rest_requests <= 3
    told = rows(rig.projected(), "bars")
    assert len({row["event_id"] for row in told}) <= 4_000
    assert told_bars(rig).items() <= true_bars(MADE).items()


async def test_an_empty_answer_is_what_the_source_said() -> None:
    async with rigged("forex", bars={"EUR-USD": MADE}) as rig:
        rig.trouble("pages-empty")
        await rig.source.fill(made("1m", *HOUR), rig.sink)
    assert rig.finished().lacking == ((HOUR[0], HOUR[1] + 60_000 * MS - 1),)
    assert rig.projected().frames == Counter(control=1, yielding=0, dead=0)


async def test_adjusted_bars_are_a_series_of_their_own() -> None:
    async with rigged("forex", bars={"EUR-USD": MADE}) as rig:
        for series in ("1m", "1m,adjusted"):
            await rig.source.fill(made(series, *HOUR), rig.sink)
    told = rows(rig.projected(), "bars")
    assert Counter(row["adjusted"] for row in told) == Counter({True: len(told) // 2,
                                                                False: len(told) // 2})  # fmt: skip


@pytest.mark.parametrize("series", ["5m", "15m", "1h", "4h", "1d"])
async def test_longer_bars_are_made_of_minutes(series: str) -> None:
    async with rigged("forex", bars={"EUR-USD": MADE}) as rig:
        await rig.source.fill(made(series), rig.sink)
    told = rows(rig.projected(), "bars")
    assert not rig.projected().reasons
    assert {row["timeframe"] for row in told} == {series}
    assert sum(int(row["volume"]) for row in told) == sum(
        int(each[4]) for each in true_bars(MADE).values()
    )


@pytest.mark.parametrize("form", [0, 1, 2, 3, 4, 6])
async def test_a_429_in_every_form_is_waited_for(form: int) -> None:
    async with rigged("forex", bars={"EUR-USD": MADE}) as rig:
        rig.trouble(TOO_MANY, form=form, retry_after_s=1)
        filling = asyncio.create_task(rig.source.fill(made("1m", *HOUR), rig.sink))
        await rig.until(lambda: rig.server.exchange.rest_requests)
        rig.trouble(TOO_MANY, on=False)
        await filling
        assert rig.server.exchange.rest_requests == 2
    assert told_bars(rig) == true_bars(MADE, *HOUR)


async def test_a_page_for_people_is_no_data() -> None:
    async with rigged("forex", bars={"EUR-USD": MADE}) as rig:
        rig.source._rest._retry = replace(rig.source._rest._retry, attempts=1)  # type: ignore[union-attr]
        rig.trouble(PAGE)
        with pytest.raises(Transient):
            await rig.source.fill(made("1m", *HOUR), rig.sink)
    assert not any(epoch.data for epoch in rig.sink.epochs)


async def test_a_wrong_key_is_refused_by_rest() -> None:
    async with rigged("forex", key="another", bars={"EUR-USD": MADE}) as rig:
        with pytest.raises(Permanent, match="Unknown API Key") as refused:
            await rig.source.fill(made("1m", *HOUR), rig.sink)
    assert "another" not in str(refused.value)


async def test_the_listing_is_what_is_simulated() -> None:
    async with rigged("forex") as rig:
        listed = await rig.source.instruments()
    assert [each.symbol for each in listed] == list(SYMBOLS["forex"])


@pytest.mark.parametrize(
    ("name", "series"), [("EURUSD-1h-ask-2017.csv", "1h"), ("GBPUSD-1m-ask-2012.csv", "1m")]
)
async def test_every_bar_of_a_recording_is_captured(name: str, series: str) -> None:
    if not (FOREX / name).exists():
        pytest.skip(f"the recording {name} is not beside this checkout")
    recorded = ReadBars(FOREX / name)
    first, last = recorded.lines[0].open_ms * MS, recorded.lines[-1].open_ms * MS
    async with rigged("forex", bars={"EUR-USD": recorded}) as rig:
        await rig.source.fill(made(series, first, last), rig.sink)
    assert not rig.projected().reasons
    assert told_bars(rig) == true_bars(recorded, first, last)


def test_bars_in_closed_form_can_be_and_nothing_is_kept_of_them() -> None:
    million = MadeBars("EUR-USD", 1_025_720)
    last = BEGIN_MS + 1_025_719 * MINUTE_MS
    near = list(million.between(last - 5 * MINUTE_MS, last + 100 * MINUTE_MS))
    assert [line.open_ms for line in near] == list(range(last - 5 * MINUTE_MS, last + 1, MINUTE_MS))
    for one, other in pairwise(near):
        assert one.close == other.open
    for line in million.between(BEGIN_MS, BEGIN_MS + 5_000 * MINUTE_MS):
        opened, high, low, close = map(float, line[1:5])
        assert 0 < low <= min(opened, close) <= max(opened, close) <= high
