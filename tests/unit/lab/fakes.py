"""A socket that remembers, and an exchange without real ones."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from forebay.lab.exchanges.coinbase import VENUE as COINBASE
from forebay.lab.exchanges.exchange import Exchange, ExchangeConfig
from forebay.lab.exchanges.market import MarketConfig
from forebay.lab.exchanges.socket import Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from forebay.lab.exchanges.line import Line

BTC: Final = "BTC-USD"
ETH: Final = "ETH-USD"
SECOND: Final = 1_000_000_000
TICK: Final = 5_000_000

Message = dict[str, object]


@dataclass(eq=False)
class FakeWire(Wire):
    """Everything that was done to a socket, in order."""

    did: list[tuple[str, bytes | int]] = field(default_factory=list)
    waiting: int = 0
    """Text messages since the last flush."""
    bytes_behind: int = 0

    def text(self, payload: bytes) -> None:
        self.waiting += 1
        self.did.append(("text", payload))

    def flush(self) -> None:
        self.waiting = 0

    def ping(self, payload: bytes) -> None:
        self.did.append(("ping", payload))

    def pong(self, payload: bytes) -> None:
        self.did.append(("pong", payload))

    def close(self, code: int) -> None:
        self.did.append(("close", code))

    def cut(self, payload: bytes) -> None:
        self.did.append(("cut", payload))

    def abort(self) -> None:
        self.did.append(("abort", 0))

    def backlog(self) -> int:
        return self.bytes_behind

    def payloads(self) -> list[bytes]:
        return [p for kind, p in self.did if kind == "text" and isinstance(p, bytes)]

    def messages(self, *types: str) -> list[Message]:
        """Messages that are whole JSON, of these types or all."""
        whole = []
        for payload in self.payloads():
            try:
                message = json.loads(payload)
            except ValueError:
                continue
            if not types or message["type"] in types:
                whole.append(message)
        return whole

    def last(self) -> tuple[str, bytes | int]:
        return self.did[-1]


def build(
    faults: Mapping[str, float] | None = None,
    *,
    symbols: tuple[str, ...] = (BTC,),
    seed: int = 5,
    rate: float = 1_000,
    events: int | None = None,
) -> Exchange:
    return Exchange(
        ExchangeConfig(COINBASE, MarketConfig(seed, symbols, rate, events), faults or {})
    )


def command(
    kind: str = "subscribe",
    symbols: tuple[str, ...] = (BTC,),
    channels: tuple[str, ...] = ("matches",),
) -> bytes:
    document = {"type": kind, "product_ids": list(symbols), "channels": list(channels)}
    return json.dumps(document).encode()


def join(
    exchange: Exchange,
    now_ns: int = 0,
    symbols: tuple[str, ...] = (BTC,),
    channels: tuple[str, ...] = ("matches",),
) -> tuple[Line, FakeWire]:
    """A connection that has subscribed."""
    wire = FakeWire()
    line = exchange.connected(wire, now_ns)
    exchange.received(line, command(symbols=symbols, channels=channels), now_ns)
    return line, wire


def indices(exchange: Exchange, wire: FakeWire, symbol: str = BTC) -> list[int]:
    """Indices of the live trades that the peer was sent whole, in order of arrival."""
    origin = exchange.market.trades[symbol].first_trade_id
    return [
        int(str(m["trade_id"])) - origin
        for m in wire.messages("match")
        if m["product_id"] == symbol
    ]


async def until(condition: Callable[[], bool]) -> None:
    """Let the event loop turn until it is so; the caller sets the time-out."""
    while not condition():  # noqa: ASYNC110 - what is waited for is the server's own state
        await asyncio.sleep(0)


def pass_time(exchange: Exchange, start_ns: int, end_ns: int, step_ns: int = TICK) -> None:
    for now_ns in range(start_ns, end_ns, step_ns):
        exchange.tick(now_ns)
    exchange.tick(end_ns)
