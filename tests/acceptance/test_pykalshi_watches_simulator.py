"""An independent client, pykalshi, takes the simulator for the exchange."""

from __future__ import annotations

import asyncio
import contextlib
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from pykalshi import AsyncKalshiClient, CandlestickPeriod
from pykalshi.afeed import AsyncFeed
from pykalshi.exceptions import AuthenticationError, ResourceNotFoundError
from pykalshi.feed import OrderbookDeltaMessage, OrderbookSnapshotMessage, TradeMessage
from pykalshi.orderbook import OrderbookManager

from forebay.clock import SystemClock
from forebay.lab.exchanges import venue_named
from forebay.lab.exchanges.exchange import ExchangeConfig
from forebay.lab.exchanges.kalshi import messages
from forebay.lab.exchanges.kalshi.truth import KalshiBook, KalshiTrades
from forebay.lab.exchanges.market import HISTORY, MarketConfig
from forebay.lab.exchanges.server import Running, ServerConfig, running
from forebay.lab.truth import DEFAULT_START_NS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SEED = 11
EVENTS = 400
A, B = "KXA-26DEC31-T1", "KXB-26DEC31-T2"
TRADES = {
    ticker: KalshiTrades(SEED, ticker, start_ns=DEFAULT_START_NS, step_us=1_000)
    for ticker in (A, B)
}
DAY_S = 86_400


@contextlib.asynccontextmanager
async def watching(folder: Path, *, limited: bool = False) -> AsyncIterator[tuple[Running, Any]]:
    venue = venue_named("kalshi").with_account(folder)
    config = ExchangeConfig(venue, MarketConfig(SEED, (A, B), rate=1_000, events=EVENTS))
    async with (
        asyncio.timeout(30),
        running(ServerConfig(config, rest_limited=limited), SystemClock()) as server,
        AsyncKalshiClient(
            api_key_id=venue.account()["key_id"],
            private_key_path=venue.account()["private_key_file"],
            api_base=server.rest_url,
            max_retries=1,
        ) as client,
    ):
        yield server, client


async def heard(server: Running, client: Any, channel: str, count: int) -> list[Any]:  # noqa: ANN401
    """The first messages of a channel of both markets."""
    feed, told = AsyncFeed(client), []
    feed._ws_url = server.ws_url
    feed.subscribe(channel, market_tickers=[A, B])
    async with feed:
        async for message in feed:
            told.append(message)
            if len(told) == count:
                break
    return told


async def test_trades_are_the_truth_by_stream_and_by_history(tmp_path: Path) -> None:
    async with watching(tmp_path) as (server, client):
        told = await heard(server, client, "trade", EVENTS)
        fetched = [await client.get_trades(ticker=t, limit=37, fetch_all=True) for t in (A, B)]
    streamed = {(each.market_ticker, each.trade_id): each for each in told}
    assert len(streamed) == EVENTS
    for trades, rows in zip(TRADES.values(), fetched, strict=True):
        right = [trades.event(index) for index in range(HISTORY + EVENTS // 2 - 1, -1, -1)]
        assert [row.trade_id for row in rows] == [trade.maker_order_id for trade in right]
        for row, trade in zip(rows, right, strict=True):
            facts = {(trade.price, trade.size, "yes" if trade.side == "buy" else "no")}
            said = {(row.yes_price_dollars, row.count_fp, row.taker_outcome_side.value)}
            if trade.index >= HISTORY:
                live = streamed[trades.symbol, row.trade_id]
                assert isinstance(live, TradeMessage)
                assert live.ts_ms == trade.event_ts // 1_000_000
                said.add((live.yes_price_dollars, live.count_fp, live.taker_outcome_side))
            assert said == facts


async def test_books_that_are_folded_are_the_truth(tmp_path: Path) -> None:
    books = {ticker: OrderbookManager(ticker) for ticker in (A, B)}
    live = range(HISTORY, HISTORY + EVENTS // 2)
    changed = [KalshiBook(trades).delta(index) for trades in TRADES.values() for index in live]
    count = len(books) + sum(delta is not None for delta in changed)
    async with watching(tmp_path) as (server, client):
        for each in await heard(server, client, "orderbook_delta", count):
            book = books[each.market_ticker]
            if isinstance(each, OrderbookSnapshotMessage):
                book.apply_snapshot(each.yes_dollars, each.no_dollars)
            else:
                assert isinstance(each, OrderbookDeltaMessage)
                book.apply_delta(each.side, each.price_dollars, each.delta_fp)
        market = await client.get_market(A)
        fetched = (await market.get_orderbook()).orderbook
    for ticker, book in books.items():
        told = KalshiBook(TRADES[ticker]).snapshot(HISTORY + EVENTS // 2 - 1)
        yes, no = messages.levels(told)
        assert {price: Decimal(size) for price, size in book.yes.items()} == {
            price: Decimal(size) for price, size in yes
        }
        assert {price: Decimal(size) for price, size in book.no.items()} == {
            price: Decimal(size) for price, size in no
        }
        assert Decimal(book.best_bid or "") < Decimal(book.best_ask or "")
        if ticker == A:
            assert fetched.yes_dollars == [tuple(level) for level in yes]
            assert fetched.no_dollars == [tuple(level) for level in no]


async def test_a_market_is_followed_from_its_creation_to_its_settlement(tmp_path: Path) -> None:
    new = "KXC-26DEC31-T9"
    deeds = ("close", "determine", "settle")
    async with watching(tmp_path) as (server, client), aiohttp.ClientSession() as session:
        where = f"{server.truth_url}/markets/{new}"
        feed = AsyncFeed(client)
        feed._ws_url = server.ws_url
        feed.subscribe("market_lifecycle_v2")
        seen: list[Any] = []
        async with feed:
            await session.post(where, json={"do": "create", "result": "no"})
            statuses = [(await client.get_market(new)).status]
            for deed in deeds:
                await session.post(where, json={"do": deed})
                statuses.append((await client.get_market(new)).status)
            async for message in feed:
                seen.append(message)
                if getattr(message, "event_type", "") == "settled":
                    break
        found = await client.get_markets(series_ticker="KXC", fetch_all=True)
    assert [str(status.value) for status in statuses] == [
        "active",
        "closed",
        "determined",
        "finalized",
    ]
    told = [each.event_type for each in seen if getattr(each, "market_ticker", "") == new]
    assert told == ["created", "activated", "close_date_updated", "determined", "settled"]
    assert [(each.ticker, each.result) for each in found] == [(new, "no")]


async def test_what_is_asked_besides_is_understood(tmp_path: Path) -> None:
    start_s = DEFAULT_START_NS // 1_000_000_000
    async with watching(tmp_path) as (_, client):
        pages = await client.get_markets(limit=1, fetch_all=True)
        event = await client.get_event("KXA-26DEC31")
        series = await client.get_series("KXA")
        market = await client.get_market(A)
        bars = await market.get_candlesticks(start_s - 3_600, start_s, CandlestickPeriod.ONE_MINUTE)
        cutoff = await client.history.get_cutoff()
        limits = await client.api_keys.get_limits()
        assert await client.exchange.is_trading()
        with pytest.raises(ResourceNotFoundError):
            await client.get_market("KXNO-1")
        client.private_key = venue_key()
        with pytest.raises(AuthenticationError):
            await client.api_keys.get_limits()
    assert [each.ticker for each in pages] == [A, B]
    assert (event.event_ticker, series.ticker) == ("KXA-26DEC31", "KXA")
    assert [bar.end_period_ts for bar in bars.candlesticks] == [
        start_s - 3_600 + 60 * number for number in range(61)
    ]
    assert cutoff.trades_created_ts.endswith("Z")
    assert limits.usage_tier == "basic"


def venue_key() -> rsa.RSAPrivateKey:
    """Nobody's key."""
    return rsa.generate_private_key(public_exponent=65_537, key_size=2_048)


async def test_asking_too_often_is_refused_without_saying_for_how_long(tmp_path: Path) -> None:
    async with watching(tmp_path, limited=True) as (server, client):
        while (answer := await client._session.get(f"{server.rest_url}/markets/{A}")).is_success:
            pass
    assert (answer.status_code, answer.json()) == (429, {"error": "too many requests"})
    assert "Retry-After" not in answer.headers
