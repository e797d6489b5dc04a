"""An independent client, ccxt pro, takes the simulator for the exchange."""

from __future__ import annotations

import asyncio
import contextlib
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import ccxt.pro

from forebay.clock import SystemClock
from forebay.lab.exchanges.coinbase import VENUE as COINBASE
from forebay.lab.exchanges.exchange import ExchangeConfig
from forebay.lab.exchanges.market import MarketConfig
from forebay.lab.exchanges.server import Running, ServerConfig, running
from forebay.lab.truth import Trade, Trades

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SEED = 11
EVENTS = 300


@contextlib.asynccontextmanager
async def watching() -> AsyncIterator[tuple[Running, Any]]:
    market = MarketConfig(SEED, ("BTC-USD", "ETH-USD"), rate=1_000, events=EVENTS)
    async with (
        asyncio.timeout(30),
        running(ServerConfig(ExchangeConfig(COINBASE, market)), SystemClock()) as server,
    ):
        client = ccxt.pro.coinbaseexchange({"enableRateLimit": False, "newUpdates": True})
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
