"""A simulated Kalshi without sockets, and what one of its clients was told."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from forebay.lab.exchanges.exchange import Exchange, ExchangeConfig
from forebay.lab.exchanges.kalshi import Kalshi
from forebay.lab.exchanges.market import MarketConfig
from tests.unit.lab.fakes import FakeWire

if TYPE_CHECKING:
    from collections.abc import Mapping

    from forebay.lab.exchanges.line import Line

A: Final = "KXA-26DEC31-T1"
B: Final = "KXB-26DEC31-T2"
BOTH: Final = (A, B)


def build(
    faults: Mapping[str, float] | None = None,
    symbols: tuple[str, ...] = BOTH,
    *,
    idle: tuple[str, ...] = (),
    events: int | None = None,
) -> Exchange:
    market = MarketConfig(5, symbols, 1_000, events, step_us=2_000, idle=idle)
    return Exchange(ExchangeConfig(Kalshi(), market, faults or {}))


def connected(exchange: Exchange) -> tuple[Line, FakeWire]:
    wire = FakeWire()
    return exchange.connected(wire, 0), wire


def say(exchange: Exchange, line: Line, cmd: str, **params: object) -> None:
    raw = json.dumps({"id": 7, "cmd": cmd, "params": params}).encode()
    exchange.received(line, raw, 0)


def subscribed(
    exchange: Exchange, *channels: str, tickers: tuple[str, ...] = BOTH
) -> tuple[Line, FakeWire]:
    line, wire = connected(exchange)
    named = {"market_tickers": list(tickers)} if tickers else {}
    say(exchange, line, "subscribe", channels=list(channels), **named)
    return line, wire


def told(wire: FakeWire, *types: str) -> list[dict[str, Any]]:
    return [dict(message) for message in wire.messages(*types)]
