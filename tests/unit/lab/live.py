"""A simulated exchange that listens, and a question over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import aiohttp

from forebay.clock import SystemClock
from forebay.lab.exchanges.coinbase import VENUE as COINBASE
from forebay.lab.exchanges.exchange import ExchangeConfig
from forebay.lab.exchanges.market import MarketConfig
from forebay.lab.exchanges.server import Running, ServerConfig, running
from forebay.lab.truth import DEFAULT_START_NS
from tests.unit.lab.fakes import BTC

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping


@contextlib.asynccontextmanager
async def serving(
    faults: Mapping[str, float] | None = None,
    *,
    symbols: tuple[str, ...] = (BTC,),
    rate: float = 2_000,
    events: int | None = None,
    seed: int = 5,
    limited: bool = False,
    start_ns: int = DEFAULT_START_NS,
    step_us: int = 1_000,
) -> AsyncIterator[tuple[Running, aiohttp.ClientSession]]:
    market = MarketConfig(seed, symbols, rate, events, start_ns, step_us)
    exchange = ExchangeConfig(COINBASE, market, faults or {})
    config = ServerConfig(exchange, rest_limited=limited)
    async with (
        asyncio.timeout(20),
        running(config, SystemClock()) as server,
        aiohttp.ClientSession() as session,
    ):
        yield server, session


async def ask(session: aiohttp.ClientSession, url: str) -> tuple[int, Mapping[str, str], object]:
    async with session.get(url) as answer:
        return answer.status, answer.headers, await answer.json()
