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
_MARKET = "KXGOLD15M-26AUG102030-30"


def matches(count: int) -> Iterator[bytes]:
    """Matches of three symbols in turn, each with ids that follow one another."""
    markets = [Trades(1, "coinbase", symbol) for symbol in SYMBOLS]
    for index in range(count):
        turn, at = divmod(index, len(markets))
        yield messages.match(markets[at].event(turn))


def kalshi_trades(count: int) -> Iterator[bytes]:
    """Trades of a market as Kalshi writes them, with ids of their own."""
    for number in range(1, count + 1):
        at_ms = 1_767_225_600_000 + number
        yield (
            f'{{"type":"trade","sid":2,"seq":{number},"msg":{{"trade_id"'
            f':"e0689eae-74d2-776c-57f3-{number:012x}","market_ticker":"{_MARKET}"'
            ',"yes_price_dollars":"0.4800","no_price_dollars":"0.5200"'
            f',"count_fp":"{number % 97 + 1}.74","taker_side":"yes"'
            ',"taker_outcome_side":"yes","taker_book_side":"bid"'
            f',"ts":{at_ms // 1000},"ts_ms":{at_ms}}}}}'
        ).encode()


def kalshi_changes(count: int) -> Iterator[bytes]:
    """Changes of a market's book likewise, on both sides in turn."""
    for number in range(1, count + 1):
        yield (
            f'{{"type":"orderbook_delta","sid":1,"seq":{number},"msg":{{"market_ticker"'
            f':"{_MARKET}","market_id":"2c0a84d8-9df7-4965-8be3-0a230f12c02e"'
            f',"price_dollars":"0.{number % 99 * 100 + 100:04d}"'
            f',"delta_fp":"-{number % 97 + 1}.25","side":"{("no", "yes")[number % 2]}"'
            f',"ts":"2026-01-01T00:00:{number % 60:02d}.463921Z"'
            f',"ts_ms":{1_767_225_600_000 + number}}}}}'
        ).encode()


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
