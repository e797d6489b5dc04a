"""The venue's own client, ``massive``, takes the simulator for the venue: REST and websocket."""

from __future__ import annotations

import asyncio
import contextlib
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from forebay.clock import SystemClock
from forebay.lab.exchanges.exchange import ExchangeConfig
from forebay.lab.exchanges.market import MarketConfig
from forebay.lab.exchanges.massive import VENUE
from forebay.lab.exchanges.massive.messages import KEY
from forebay.lab.exchanges.server import Running, ServerConfig, running
from forebay.lab.faults import TOO_MANY
from forebay.lab.truth import Bars, Tickers
from forebay.lab.truth.histories import BEGIN_MS, MINUTE_MS, MadeBars
from tests.unit.lab.fakes import until as turned

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

massive = pytest.importorskip("massive", reason="the venue's client, massive, is not installed")

SYMBOLS = ("BTC-USD", "EUR-USD")
EVENTS, STEP_US = 600, 1_000_000
MADE = MadeBars("EUR-USD", 1_025_720, holes=20)
SECONDS = 60


@contextlib.asynccontextmanager
async def serving(**market: Any) -> AsyncIterator[Running]:  # noqa: ANN401
    """Serve a market of one event a second and symbol of its own time, 250 a second of ours."""
    config = MarketConfig(7, SYMBOLS, 500, EVENTS, step_us=STEP_US, **market)
    async with (
        asyncio.timeout(SECONDS),
        running(ServerConfig(ExchangeConfig(VENUE, config)), SystemClock()) as server,
    ):
        yield server


async def asked(server: Running, call: Callable[[Any], Any], key: str = KEY) -> Any:  # noqa: ANN401
    """Return what a call with the venue's client answers."""
    client = massive.RESTClient(key, base=server.rest_url, retries=3)
    return await asyncio.to_thread(lambda: call(client))


# ----------------------------------------------------------------------------- REST


async def test_all_pages_of_bars_are_the_truth() -> None:
    first, last = BEGIN_MS + 1_000 * MINUTE_MS, BEGIN_MS + 7_000 * MINUTE_MS
    async with serving(bars={"EUR-USD": MADE}) as server:
        bars = await asked(
            server,
            lambda client: list(
                client.list_aggs("C:EURUSD", 1, "minute", first, last, adjusted=False, limit=500)
            ),
        )
    told = [
        (each.timestamp, *map(str, (each.open, each.high, each.low, each.close))) for each in bars
    ]
    made = [
        (line.open_ms, *(str(float(text)) for text in line[1:5]))
        for line in MADE.between(first, last)
    ]
    assert told == made
    assert 5_700 < len(made) < 6_000, "some are left out"


async def test_hours_are_made_of_minutes_and_the_limit_counts_those() -> None:
    first, last = BEGIN_MS, BEGIN_MS + 48 * 60 * MINUTE_MS - 1
    async with serving(bars={"EUR-USD": MADE}) as server:
        hours = await asked(
            server,
            lambda client: list(client.list_aggs("C:EURUSD", 1, "hour", first, last, limit=100)),
        )
        asked_for = server.exchange.rest_requests
    minutes = list(MADE.between(first, last))
    assert [each.timestamp for each in hours] == list(range(first, last, 60 * MINUTE_MS))
    assert (hours[0].open, hours[-1].close) == (float(minutes[0].open), float(minutes[-1].close))
    assert max(each.high for each in hours) == max(float(each.high) for each in minutes)
    assert sum(int(each.volume) for each in hours) == sum(int(each.volume) for each in minutes)
    assert asked_for > 20, "two hours a page"


async def test_trades_quotes_and_tickers_are_listed_page_by_page() -> None:
    async with serving() as server:
        trades = await asked(
            server,
            lambda client: list(client.list_trades("X:BTC-USD", order="asc", limit=30)),
        )
        quotes = await asked(
            server,
            lambda client: list(client.list_quotes("C:EUR-USD", order="asc", limit=7)),
        )
        tickers = await asked(
            server, lambda client: list(client.list_tickers(market="fx", limit=1))
        )
        market = server.exchange.market
    truth = market.trades["BTC-USD"].events(0, 100)
    assert [(each.id, each.participant_timestamp) for each in trades] == [
        (str(each.trade_id), each.event_ts) for each in truth
    ]
    due = map(Tickers(market.trades["EUR-USD"]).quote, range(100))
    assert [(each.participant_timestamp, each.bid_price, each.ask_price) for each in quotes] == [
        (each.event_ts, float(each.bid_price), float(each.ask_price)) for each in due if each
    ]
    assert [each.ticker for each in tickers] == ["C:EURUSD"]


async def test_the_client_waits_where_it_is_told_to_and_a_wrong_key_is_refused() -> None:
    def one(client: Any) -> Any:  # noqa: ANN401
        return client.get_aggs("C:EURUSD", 1, "minute", BEGIN_MS, BEGIN_MS + MINUTE_MS)

    async with serving(bars={"EUR-USD": MADE}) as server:
        server.exchange.switch(TOO_MANY, 0, on=True, settings={"retry_after_s": 1})
        waiting = asyncio.create_task(asked(server, one))
        await turned(lambda: server.exchange.rest_requests > 0)
        server.exchange.switch(TOO_MANY, 0, on=False)
        assert len(await waiting) == 2
        with pytest.raises(massive.exceptions.BadResponse, match="Unknown API Key"):
            await asked(server, one, key="another")


# ------------------------------------------------------------------------ websocket


async def watched(
    server: Running, market: str, *topics: str, until: Callable[[list[Any]], bool], key: str = KEY
) -> list[Any]:
    """Return what the venue's client is told, until that is enough."""
    seen: list[Any] = []
    feed = server.ws_url.removeprefix("ws://")
    client = massive.WebSocketClient(
        key, feed=feed, market=market, secure=False, subscriptions=list(topics), max_reconnects=0
    )
    enough = asyncio.Event()

    async def take(messages: list[Any]) -> None:
        seen.extend(messages)
        if until(seen):
            enough.set()

    running_client = asyncio.create_task(client.connect(take))
    done = asyncio.create_task(enough.wait())
    await asyncio.wait({running_client, done}, return_when=asyncio.FIRST_COMPLETED)
    if done.done():
        await client.close()
    done.cancel()
    await running_client
    return seen


def of(seen: list[Any], word: str) -> list[Any]:
    return [each for each in seen if each.event_type == word]


async def test_trades_quotes_and_bars_of_cryptocurrencies_are_the_truth() -> None:
    topics = [f"{word}.BTC-USD" for word in ("XT", "XQ", "XA", "XAS")]
    async with serving() as server:
        seen = await watched(
            server, "crypto", *topics, until=lambda seen: len(of(seen, "XT")) >= EVENTS // 2
        )
        trades = server.exchange.market.trades["BTC-USD"]
    told = [(each.id, each.exchange, each.timestamp, each.price, each.conditions)
            for each in of(seen, "XT")]  # fmt: skip
    truth = [
        (str(each.trade_id), 1, each.event_ts // 10**6, float(each.price),
         [2 if each.side == "buy" else 1])
        for each in trades.events(100, 100 + EVENTS // 2)
    ]  # fmt: skip
    assert told == truth
    bars = [bar for index in range(100, 400) if (bar := Bars(trades).event(index))]
    assert [(each.start_timestamp, each.open, each.high, each.low, each.close)
            for each in of(seen, "XA")] == [
        (bar.event_ts // 10**6, *map(float, (bar.open, bar.high, bar.low, bar.close)))
        for bar in bars
    ]  # fmt: skip
    assert len(bars) >= 4
    assert len(of(seen, "XQ")) > 50
    assert len(of(seen, "XAS")) >= EVENTS // 2 - 1
    volume = sum(Decimal(str(each.volume)) for each in of(seen, "XAS"))
    assert volume > 0


async def test_quotes_and_bars_of_currencies_are_the_truth() -> None:
    async with serving() as server:
        seen = await watched(
            server, "forex", "C.EUR/USD", "CA.*", "CAS.EUR-USD",
            until=lambda seen: len(of(seen, "CA")) >= 4,
        )  # fmt: skip
        quote = Tickers(server.exchange.market.trades["EUR-USD"]).quote
    told = [(each.timestamp, each.bid_price, each.ask_price) for each in of(seen, "C")]
    due = [
        (each.event_ts // 10**6, float(each.bid_price), float(each.ask_price))
        for index in range(100, 400)
        if (each := quote(index))
    ]
    assert told == due[: len(told)]
    assert len(told) > 30
    assert {each.pair for each in of(seen, "CA")} == {"EUR/USD"}
    assert of(seen, "CAS")


async def test_a_wrong_key_is_refused_by_the_stream() -> None:
    async with serving() as server:
        with pytest.raises(massive.exceptions.AuthError, match="Unknown API Key"):
            await watched(server, "forex", "C.*", until=bool, key="another")


async def test_too_many_connections_may_be_said_after_a_success() -> None:
    async with serving() as server:
        server.exchange.switch("status-max-connections", 0, on=True)
        with pytest.raises(Exception, match="1008"):
            await watched(server, "forex", "C.*", until=lambda _: False)
