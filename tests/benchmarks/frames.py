"""Prepared frames: Coinbase matches as the simulator writes them, made once a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.lab.exchanges.coinbase import messages
from forebay.lab.truth import Trades
from tests.benchmarks.sender import text_frame

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SYMBOLS = ("BTC-USD", "ETH-USD", "SOL-USD")
APPENDED_BYTES = 250


def matches(count: int) -> Iterator[bytes]:
    """Matches of three symbols in turn, each with ids that follow one another."""
    markets = [Trades(1, "coinbase", symbol) for symbol in SYMBOLS]
    for index in range(count):
        turn, at = divmod(index, len(markets))
        yield messages.match(markets[at].event(turn))


def greeting() -> bytes:
    """The venue's answer to the subscription for :data:`SYMBOLS`."""
    return messages.subscriptions([(messages.MATCHES, symbol) for symbol in SYMBOLS])


def write_wire(path: Path, count: int) -> None:
    """Write what a venue sends to one connection: its greeting, then ``count`` matches."""
    with path.open("wb") as file:
        file.write(text_frame(greeting()))
        for payload in matches(count):
            file.write(text_frame(payload))


def payloads(count: int, size: int = APPENDED_BYTES) -> list[bytes]:
    """Frames of one size, each an object of its own and unlike the others."""
    return [b"%012d" % index + b"\xa5" * (size - 12) for index in range(count)]
