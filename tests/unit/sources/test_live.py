"""The live half of a venue against small servers: subscription, paging, fills, products."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from forebay.clock import ManualClock, SystemClock
from forebay.domain.frames import FrameKind, HistoryFinished
from forebay.errors import ConfigError, Permanent, Transient
from forebay.ports import HistoryRequest
from forebay.resilience import CircuitBreaker, CircuitOpen, RetryConfig, presets
from forebay.sources.live import LiveSource, Timings
from forebay.sources.rest import RestPolicy
from forebay.sources.venue import Limits, per_second
from forebay.sources.websocket.ear import Ear
from forebay.sources.websocket.upgrade import UpgradeRefused
from tests.support.feed_rig import pass_time
from tests.support.http_server import serving
from tests.support.live_source import UNPACED, live
from tests.support.sinks import RecordingSink
from tests.support.ws_server import Peer, WsServer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.sinks import RecordedEpoch

QUICK = RestPolicy(RetryConfig(attempts=5, base=0.001, cap=0.002, longest_asked=10))
DEEP = b'[{"x":' + b"[" * 100_000
"""No decoder follows it to its end."""


def row(trade_id: int) -> dict[str, object]:
    return {
        "trade_id": trade_id,
        "side": "buy",
        "size": "1.5",
        "price": "10.25",
        "time": "2026-01-01T00:00:00.000001Z",
    }


class History:
    """``GET /products/{id}/trades`` over the ids that exist, newest first."""

    def __init__(self, ids: Sequence[int]) -> None:
        self.ids = sorted(ids, reverse=True)
        self.asked: list[str] = []
        self.refusals: list[web.Response] = []

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.raw_path)
        if self.refusals:
            return self.refusals.pop(0)
        if request.path != "/products/BTC-USD/trades":
            return web.json_response({"message": "NotFound"}, status=404)
        after = int(request.query["after"])
        limit = int(request.query["limit"])
        assert 1 <= limit <= 1000
        page = [row(i) for i in self.ids if i < after][:limit]
        return web.json_response(page)


def source(
    rest_url: str = "",
    ws_url: str = "",
    pages_per_flush: int = 4,
) -> LiveSource:
    timings = Timings(rest=QUICK, pages_per_flush=pages_per_flush)
    return live(ws_url=ws_url, rest_url=rest_url, timings=timings)


def ids_in(epochs: Sequence[RecordedEpoch]) -> list[int]:
    return [
        trade["trade_id"]
        for epoch in epochs
        for kind, body in epoch.data
        for trade in json.loads(body)
        if kind is FrameKind.REST
    ]


async def fill(
    history: History, first: int, last: int, *, pages_per_flush: int = 4
) -> RecordingSink:
    sink = RecordingSink()
    async with (
        serving(history.answer) as url,
        source(url, pages_per_flush=pages_per_flush) as coinbase,
    ):
        await coinbase.fill(HistoryRequest("trade", "BTC-USD", first, last), sink)
    return sink


@pytest.mark.parametrize(
    ("first", "last", "pages"),
    [
        (5000, 5000, 1),
        (4003, 5000, 1),
        (4001, 5000, 2),
        (2, 5000, 6),
        (9_990, 10_050, 1),
    ],
)
async def test_a_hole_is_paged_exactly_down_to_its_first_id(
    first: int, last: int, pages: int
) -> None:
    history = History(range(1, 10_001))
    sink = await fill(history, first, last)
    assert len(history.asked) == pages
    exist = [i for i in range(last + 1, first - 2, -1) if i <= 10_000]
    if last <= 10_000:
        assert ids_in(sink.epochs) == exist, "the hole and one id on each side"
    assert sink.epochs[-1].controls == [HistoryFinished("trade", "BTC-USD", first, last)]
    assert sum(len(epoch.controls) for epoch in sink.epochs) == 1


async def test_every_page_is_one_epoch_and_says_what_was_asked() -> None:
    history = History(range(1, 3001))
    sink = await fill(history, 1001, 3000)
    contexts = [epoch.context for epoch in sink.epochs]
    assert len({context.epoch for context in contexts}) == 1
    assert [context.request for context in contexts] == [
        "GET /products/BTC-USD/trades?limit=1000&after=3002",
        "GET /products/BTC-USD/trades?limit=1000&after=2001",
        "GET /products/BTC-USD/trades?limit=1&after=1001",
        "",
    ]
    for context in contexts:
        assert (context.venue, context.source, context.collector) == ("coinbase", "rest", "c1")
        assert context.symbols == ("BTC-USD",)
        assert not context.partial
    assert sink.epochs[-1].frames[-1][0] is FrameKind.CONTROL


async def test_ids_between_two_that_are_listed_are_lacking_once_it_was_asked_again() -> None:
    history = History([7, 8, 12, 5001])
    sink = await fill(history, 8, 5000)
    assert sink.epochs[-1].controls == [
        HistoryFinished("trade", "BTC-USD", 8, 5000, lacking=((9, 11), (13, 5000)))
    ]


async def test_what_lies_below_the_end_of_history_is_lacking() -> None:
    sink = await fill(History([7, 8, 9]), 1, 8)
    finished = HistoryFinished("trade", "BTC-USD", 1, 8, lacking=((1, 6),))
    assert sink.epochs[-1].controls == [finished]


async def test_a_history_that_lags_behind_proves_no_absence() -> None:
    sink = await fill(History(range(1, 151)), 140, 160)
    assert sink.epochs[-1].controls == [HistoryFinished("trade", "BTC-USD", 140, 160)]


async def test_an_empty_history_proves_nothing() -> None:
    with pytest.raises(Transient, match="is empty"):
        await fill(History([]), 140, 141)


async def test_a_hole_that_another_page_contradicts_is_not_absent() -> None:
    """A stray old row ends paging early; asked again, history has what it seemed to lack."""

    async def stray(request: web.Request) -> web.Response:
        after, limit = (int(request.query[name]) for name in ("after", "limit"))
        ids = list(range(after - 1, max(0, after - 1 - limit), -1))
        return web.json_response([row(i) for i in [*ids[:-1], 3]] if limit > 1 else [row(ids[0])])

    sink = RecordingSink()
    async with serving(stray) as url, source(url) as coinbase:
        await coinbase.fill(HistoryRequest("trade", "BTC-USD", 101, 3199), sink)
    assert sink.epochs[-1].controls == [HistoryFinished("trade", "BTC-USD", 101, 3199)]


async def test_a_row_that_cannot_be_read_is_not_absent() -> None:
    async def poison(_: web.Request) -> web.Response:
        return web.json_response([row(141), row(140) | {"price": "NaN"}, row(139)])

    sink = RecordingSink()
    async with serving(poison) as url, source(url) as coinbase:
        await coinbase.fill(HistoryRequest("trade", "BTC-USD", 140, 140), sink)
    assert sink.epochs[-1].controls == [HistoryFinished("trade", "BTC-USD", 140, 140)]


async def test_pages_are_captured_on_the_way_so_that_memory_is_bounded() -> None:
    sink = await fill(History(range(1, 10_001)), 1, 10_000, pages_per_flush=3)
    assert sink.flushes == [3, 6, 9]


async def test_a_429_with_retry_after_is_waited_for_and_nothing_is_skipped() -> None:
    history = History(range(1, 2001))
    history.refusals = [
        web.json_response({"message": "slow down"}, status=429, headers={"Retry-After": "1"}),
        web.Response(status=503),
    ]
    sink = await fill(history, 2, 1999)
    assert ids_in(sink.epochs) == list(range(2000, 0, -1))
    assert len(history.asked) == 4


async def test_a_fill_that_the_venue_breaks_off_is_not_finished() -> None:
    history = History(range(1, 5001))
    sink = RecordingSink()
    async with serving(history.answer) as url, source(url) as coinbase:
        task = asyncio.create_task(coinbase.fill(HistoryRequest("trade", "BTC-USD", 1, 5000), sink))
        await sink.until(lambda: sink.count >= 2)
        history.refusals = [web.Response(status=503) for _ in range(50)]
        with pytest.raises(Transient, match="HTTP 503"):
            await task
    assert ids_in(sink.epochs)[:2000] == list(range(5000, 3000, -1))
    assert all(not epoch.controls for epoch in sink.epochs), "finished though it was not"


async def test_an_unknown_product_is_permanent_and_not_finished() -> None:
    sink = RecordingSink()
    async with serving(History([]).answer) as url, source(url) as coinbase:
        with pytest.raises(Permanent, match="HTTP 404"):
            await coinbase.fill(HistoryRequest("trade", "NO-PE", 1, 2), sink)
        with pytest.raises(Permanent, match="no 'quote'"):
            await coinbase.fill(HistoryRequest("quote", "BTC-USD", 1, 2), sink)
    assert sink.epochs == []


@pytest.mark.parametrize("body", [b"<html>", DEEP])
async def test_an_answer_that_cannot_be_read_is_captured_and_tried_later(body: bytes) -> None:
    history = History(range(1, 10))
    history.refusals = [web.Response(body=body)]
    sink = RecordingSink()
    async with serving(history.answer) as url, source(url) as coinbase:
        with pytest.raises(Transient, match="cannot be read"):
            await coinbase.fill(HistoryRequest("trade", "BTC-USD", 1, 5), sink)
    assert sink.epochs[0].frames == [(FrameKind.REST, body)]


async def test_a_venue_that_does_not_page_does_not_hold_us_for_ever() -> None:
    async def same(_: web.Request) -> web.Response:
        return web.json_response([row(900), row(899)])

    async with serving(same) as url, source(url) as coinbase:
        with pytest.raises(Transient, match="below 899 is not in falling order"):
            await coinbase.fill(HistoryRequest("trade", "BTC-USD", 1, 950), RecordingSink())


async def test_products_become_instruments() -> None:
    async def products(request: web.Request) -> web.Response:
        assert request.path == "/products"
        product = {"id": "BTC-USD", "base_currency": "BTC", "quote_currency": "USD"}
        return web.json_response(
            [product | {"status": "online", "new_field": {}}, product | {"id": "OLD-USD"}]
        )

    async with serving(products) as url, source(url) as coinbase:
        first, second = await coinbase.instruments()
    assert (first.symbol, first.venue_symbol, first.base, first.quote, first.status) == (
        "BTC-USD",
        "BTC-USD",
        "BTC",
        "USD",
        "online",
    )
    assert (second.symbol, second.status) == ("OLD-USD", "")


@pytest.mark.parametrize("body", [b"<html>maintenance</html>", b"{}", DEEP])
async def test_a_list_of_products_that_is_none_is_transient(body: bytes) -> None:
    async def html(_: web.Request) -> web.Response:
        return web.Response(body=body)

    async with serving(html) as url, source(url) as coinbase:
        with pytest.raises(Transient, match="cannot be read"):
            await coinbase.instruments()


async def test_the_feed_subscribes_to_matches_and_heartbeat() -> None:
    asked: list[dict[str, object]] = []

    async def script(peer: Peer) -> None:
        asked.append(json.loads((await peer.receive())[1]))
        listed = b'{"name":"matches","product_ids":["BTC-USD"]}'
        await peer.text(b'{"type":"subscriptions","channels":[%b]}' % listed)
        await peer.gone()

    sink = RecordingSink()
    async with WsServer(script) as server:
        task = asyncio.create_task(source(ws_url=server.url).run(sink))
        await sink.until(lambda: bool(sink.epochs) and len(sink.epochs[0].controls) == 2)
        task.cancel()
        await asyncio.wait({task})
    assert task.cancelled()
    assert asked == [
        {"type": "subscribe", "product_ids": ["BTC-USD"], "channels": ["matches", "heartbeat"]}
    ]
    assert sink.epochs[0].context.symbols == ("BTC-USD",)
    assert sink.epochs[0].reason == "stopped"


async def test_many_symbols_are_spread_over_connections() -> None:
    asked: list[list[str]] = []
    both = asyncio.Event()

    async def script(peer: Peer) -> None:
        asked.append(json.loads((await peer.receive())[1])["product_ids"])
        if len(asked) == 2:
            both.set()
        await peer.gone()

    sink = RecordingSink()
    async with WsServer(script) as server:
        coinbase = live(["A-B", "C-D", "A-B", "E-F"], ws_url=server.url, size=2)
        task = asyncio.create_task(coinbase.run(sink))
        async with asyncio.timeout(10):
            await both.wait()
        task.cancel()
        await asyncio.wait({task})
    assert sorted(asked) == [["A-B", "C-D"], ["E-F"]]
    assert sorted(epoch.context.symbols for epoch in sink.epochs) == [("A-B", "C-D"), ("E-F",)]


def test_no_symbols_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="No symbols"):
        live([])


async def test_all_connections_and_all_calls_go_through_the_breakers_that_it_is_given() -> None:
    clock, rng = SystemClock(), random.Random(1)
    breakers = {
        name: CircuitBreaker(f"coinbase-{name}", clock=clock, rng=rng)
        for name in ("rest", "websocket")
    }
    async with live(
        ["BTC-USD", "ETH-USD", "SOL-USD"],
        size=1,
        rest_breaker=breakers["rest"],
        websocket_breaker=breakers["websocket"],
    ) as coinbase:
        for breaker in breakers.values():
            breaker.force_open("maintenance")
        with pytest.raises(CircuitOpen, match="coinbase-rest is not called"):
            await coinbase.instruments()
        running = asyncio.create_task(coinbase.run(RecordingSink()))
        async with asyncio.timeout(20):
            for _ in range(20):
                await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait({running})
    assert breakers["rest"].snapshot().not_permitted == 1
    assert breakers["websocket"].snapshot().not_permitted == 3, "a connection has its own"


async def test_without_breakers_its_connections_share_one_of_the_preset() -> None:
    coinbase = live(["BTC-USD", "ETH-USD"], size=1)
    feeds = [coinbase._feed(lot.asked, Ear()) for lot in coinbase._feeds.lots.lots]
    assert len({id(feed._breaker) for feed in feeds}) == 1
    assert coinbase.connections == 2
    assert feeds[0]._breaker.config == presets.WEBSOCKET
    assert feeds[0]._breaker.name == "coinbase-websocket"
    assert coinbase._rest is not None
    assert coinbase._rest._breaker.config == presets.EXCHANGE_API


async def test_a_recovery_asks_for_next_to_nothing_past_the_breaker() -> None:
    history = History(range(1, 10))
    async with serving(history.answer) as url, source(url) as coinbase:
        assert coinbase._rest is not None
        coinbase._rest._breaker.force_open("as while a recovery has the permit")
        await coinbase.probe()
    assert history.asked == ["/products/BTC-USD/trades?limit=1&after=2"]


async def test_connections_are_opened_no_more_often_than_the_venue_allows() -> None:
    clock, dialled = ManualClock(), list[float]()

    async def dial(*_: object) -> None:
        dialled.append(clock.monotonic_ns() / 1e9)
        raise UpgradeRefused("not today")

    limits = Limits(connects=(per_second(1, burst=2),))
    venue = replace(UNPACED, limits=limits)
    source = live(["A", "B", "C", "D"], venue=venue, size=1, clock=clock, dial=dial)
    running = asyncio.create_task(source.run(RecordingSink()))
    await pass_time(clock, 0.5, 0.1)
    first = list(dialled)
    await pass_time(clock, 2.0, 0.1)
    running.cancel()
    await asyncio.wait({running})
    assert first[0] == first[1]
    assert len(dialled) <= 2 + 2.5
    assert len(dialled) >= 4, "they all came to it"
