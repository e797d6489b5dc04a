"""An independent client, ccxt pro, takes the simulator for the exchange."""

from __future__ import annotations

import asyncio
import contextlib
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import ccxt
import ccxt.pro
import pytest

from forebay.clock import SystemClock
from forebay.lab.exchanges.coinbase import VENUE as COINBASE
from forebay.lab.exchanges.coinbase import messages
from forebay.lab.exchanges.exchange import ExchangeConfig
from forebay.lab.exchanges.market import MarketConfig
from forebay.lab.exchanges.server import Running, ServerConfig, running
from forebay.lab.truth import DEFAULT_STEP_US, Bars, BookTruth, Tickers, Trade, Trades

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SEED = 11
EVENTS = 300


@contextlib.asynccontextmanager
async def watching(step_us: int = DEFAULT_STEP_US) -> AsyncIterator[tuple[Running, Any]]:
    market = MarketConfig(SEED, ("BTC-USD", "ETH-USD"), rate=1_000, events=EVENTS, step_us=step_us)
    async with (
        asyncio.timeout(30),
        running(ServerConfig(ExchangeConfig(COINBASE, market)), SystemClock()) as server,
    ):
        client = ccxt.pro.coinbaseexchange(
            {
                "enableRateLimit": False,
                "newUpdates": True,
                "apiKey": messages.KEY,
                "secret": messages.SECRET,
                "password": messages.PASSPHRASE,
            }
        )
        client.urls["api"]["public"] = server.rest_url
        client.urls["api"]["ws"] = server.ws_url
        client.has["fetchCurrencies"] = False  # not part of what is simulated
        try:
            yield server, client
        finally:
            await client.close()


def facts(trades: list[Any]) -> dict[int, tuple[Decimal, Decimal, str, int]]:
    """What ccxt made of trades; it gives numbers as floats, so the raw texts are compared."""
    return {
        int(trade["id"]): (
            Decimal(trade["info"]["price"]),
            Decimal(trade["info"]["size"]),
            trade["side"],
            trade["timestamp"],
        )
        for trade in trades
    }


def expected(trades: list[Trade]) -> dict[int, tuple[Decimal, Decimal, str, int]]:
    return {
        trade.trade_id: (
            Decimal(trade.price),
            Decimal(trade.size),
            trade.side,
            trade.event_ts // 1_000_000,
        )
        for trade in trades
    }


async def test_watched_trades_are_the_truth() -> None:
    seen: list[Any] = []
    last = 100 + EVENTS // 2 - 1
    truth = list(Trades(SEED, "coinbase", "BTC-USD").events(100, last + 1))
    async with watching() as (_, client):
        while not seen or int(seen[-1]["id"]) < truth[-1].trade_id:
            seen += await client.watch_trades("BTC/USD")
    watched = facts(seen)
    watched.pop(truth[0].trade_id - 1, None)  # the last match before the market's clock
    assert watched == expected(truth)
    assert {trade["symbol"] for trade in seen} == {"BTC/USD"}


async def test_fetched_trades_are_the_truth() -> None:
    async with watching() as (_, client):
        fetched = await client.fetch_trades("ETH/USD", limit=100)
    truth = list(Trades(SEED, "coinbase", "ETH-USD").events(0, 100))
    assert facts(fetched) == expected(truth)


async def test_markets_are_understood() -> None:
    async with watching() as (_, client):
        markets = await client.load_markets()
    assert set(markets) == {"BTC/USD", "ETH/USD"}
    assert Decimal(str(markets["BTC/USD"]["precision"]["price"])) == Decimal("0.01")
    assert markets["BTC/USD"]["active"]


def levels(side: list[Any]) -> list[tuple[Decimal, Decimal]]:
    """One side of a book, best first; ccxt gives floats, whose shortest texts are what was said."""
    return [(Decimal(str(price)), Decimal(str(size))) for price, size, *_ in side]


def book_as_of(index: int) -> tuple[list[tuple[Decimal, Decimal]], ...]:
    sides = BookTruth(Trades(SEED, "coinbase", "BTC-USD")).sides(index)
    return tuple([(Decimal(price), Decimal(size)) for price, size in side] for side in sides)


async def test_the_watched_book_is_the_truth_at_every_update() -> None:
    trades = Trades(SEED, "coinbase", "BTC-USD")
    last = 100 + EVENTS // 2 - 1
    indices: list[int] = []
    async with watching() as (_, client):
        while not indices or indices[-1] < last:
            book = await client.watch_order_book("BTC/USD")
            told = (levels(book["bids"]), levels(book["asks"]))
            if book["timestamp"] is None:  # the snapshot's time is not read
                assert told == book_as_of(99)
                continue
            index = next(
                index
                for index in range(indices[-1] if indices else 100, last + 1)
                if told == book_as_of(index)
            )
            assert book["timestamp"] == trades.time_ns(index) // 1_000_000
            indices.append(index)
    assert len(indices) > 10
    assert indices == sorted(indices)


async def test_a_book_is_refused_to_who_has_no_account() -> None:
    async with watching() as (_, client):
        client.secret = "b3RoZXI="
        with pytest.raises(ccxt.AuthenticationError, match="invalid signature"):
            await client.watch_order_book("BTC/USD")


async def test_the_watched_ticker_is_the_truth() -> None:
    trades = Trades(SEED, "coinbase", "BTC-USD")
    async with watching() as (_, client):
        seen = [await client.watch_ticker("BTC/USD") for _ in range(5)]
    for ticker in seen:
        index = int(ticker["info"]["trade_id"]) - trades.first_trade_id
        told = Tickers(trades).event(index)
        assert told is not None
        assert Decimal(ticker["info"]["price"]) == Decimal(told.price)
        assert Decimal(str(ticker["bid"])) == Decimal(told.bid_price)
        assert Decimal(str(ticker["askVolume"])) == Decimal(told.ask_size)


async def test_fetched_candles_and_books_are_the_truth() -> None:
    trades = Trades(SEED, "coinbase", "BTC-USD", step_us=1_000_000)
    async with watching(step_us=1_000_000) as (_, client):
        candles = await client.fetch_ohlcv("BTC/USD", "1m")
        book = await client.fetch_order_book("BTC/USD")
    bar = Bars(trades).event(59)
    assert bar is not None
    # Of the hundred trades that happened before the clock, one minute is over.
    assert [list(map(str, candle)) for candle in candles] == [
        [str(bar.event_ts // 1_000_000)]
        + [str(float(text)) for text in (bar.open, bar.high, bar.low, bar.close, bar.volume)]
    ]
    assert (levels(book["bids"]), levels(book["asks"])) == book_as_of(99)
