"""A recording that a test makes: holes, a repetition, a conflict, poison and a reconnect.

Each step is a second in which both symbols trade once. The second connection begins at
:data:`RECONNECT`, and ids that happened while nothing was connected are missing.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

STEPS = range(1, 240)
RECONNECT = 150
FIRST = {"BTC-USD": 0, "ETH-USD": 500}
AWAY = {"BTC-USD": 5, "ETH-USD": 3}
"""So many trades of each symbol happened between the connections."""
LEFT_OUT = {"BTC-USD": {41, 42, 43, 200, 201}, "ETH-USD": {60}}
"""Steps whose trade the venue left out."""
BAD_PRICE = 70
"""The step whose ETH-USD trade has no price that is a number."""
GAPS = [
    ("BTC-USD", 41, 43, "in_connection"),
    ("BTC-USD", 150, 154, "between_connections"),
    ("BTC-USD", 205, 206, "in_connection"),
    ("ETH-USD", 560, 560, "in_connection"),
    ("ETH-USD", 570, 570, "in_connection"),
    ("ETH-USD", 650, 652, "between_connections"),
]
DEAD = ["bad_price", "not_json", "unknown_type"]
UNKNOWN = {"received": 1, "status": 1}
"""Types of channels that are not captured, and how many frames of each there are."""
OTHER_EVENTS = {"book_deltas": 1, "quotes": 1, "tickers": 1}
"""Rows of what are no trades."""
_HEAD = b"wss://feed.example <-> %d.000000"
_ASKED = b'wss://feed.example <- %d.001000: {"type": "subscribe"}'
_WALL = 1_700_000_000
_TICKER = {"type": "ticker", "product_id": "BTC-USD", "trade_id": 87, "price": "20087.087"}


def trade_id(symbol: str, step: int) -> int:
    """The id of the trade that happens at a step."""
    return FIRST[symbol] + step + (AWAY[symbol] if step >= RECONNECT else 0)


def ids(symbol: str) -> list[int]:
    """Ids of the good trades that the recording tells."""
    gone = LEFT_OUT[symbol] | ({BAD_PRICE} if symbol == "ETH-USD" else set())
    return [trade_id(symbol, step) for step in STEPS if step not in gone]


def match(symbol: str, step: int, **changes: object) -> dict[str, object]:
    """A trade as the feed says it; ``changes`` spoil it."""
    native = trade_id(symbol, step)
    return {
        "type": "last_match" if step in (STEPS[0], RECONNECT) else "match",
        "trade_id": native,
        "product_id": symbol,
        "price": f"{20_000 + native}.{step:03d}",
        "size": f"0.{native:08d}",
        "side": "buy" if native % 2 else "sell",
        "time": f"2023-11-14T22:{13 + (20 + step) // 60}:{(20 + step) % 60:02d}.{native:06d}Z",
        **changes,
    }


def _frames(step: int) -> Iterator[bytes]:
    """What arrives at a step."""
    for symbol in FIRST:
        if step not in LEFT_OUT[symbol]:
            spoilt = {"price": "NaN"} if (symbol, step) == ("ETH-USD", BAD_PRICE) else {}
            yield json.dumps(match(symbol, step, **spoilt)).encode()
    extras: dict[int, bytes | dict[str, object]] = {
        30: match("BTC-USD", 28),  # told again
        35: match("BTC-USD", 33, price="1.5"),  # told again, and not the same
        50: b'{"type": "match", "trade_id": 9',
        80: {"type": "surprise", "product_id": "BTC-USD"},
        85: {"type": "received", "order_id": "1"},
        86: {"type": "status", "products": []},
        87: {**_TICKER, "best_bid": "20086.9", "best_ask": "20087.1"},
        88: {"type": "l2update", "product_id": "BTC-USD", "changes": [["buy", "20087", "0"]]},
        90: {"type": "heartbeat", "product_id": "BTC-USD", "last_trade_id": 90},
    }
    if step in extras:
        extra = extras[step]
        yield extra if isinstance(extra, bytes) else json.dumps(extra).encode()


def lines(first: int = STEPS.start, end: int = STEPS.stop) -> list[bytes]:
    """Return the recording's lines of some steps, after the lines at its head."""
    made = _connection(0)
    for step in range(first, end):
        if step == RECONNECT:
            made += _connection(step)
        made += [_received(step, frame) for frame in _frames(step)]
    return made


def _connection(step: int) -> list[bytes]:
    at = _WALL + 20 + step
    return [_HEAD % at, _ASKED % at, _received(step, b'{"type": "subscriptions", "channels": []}')]


def _received(step: int, frame: bytes) -> bytes:
    return b"%d.250000: %s" % (_WALL + 20 + step, frame)


def frames() -> list[tuple[int, bytes]]:
    """Return receipt times in milliseconds and payloads of all received frames."""
    found = []
    for line in lines():
        head, separator, payload = line.partition(b": ")
        if separator and head.replace(b".", b"").isdigit():
            found.append((int(head.replace(b".", b"")[:-3]), payload))
    return found


def rec(first: int = STEPS.start, end: int = STEPS.stop) -> bytes:
    """Return the recording, or some steps of it, as a ``.rec`` file."""
    return b"\n".join(lines(first, end)) + b"\n"
