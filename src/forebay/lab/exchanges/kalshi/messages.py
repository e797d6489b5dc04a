"""What Kalshi says over its websocket, as bytes, as its published AsyncAPI description has it.

A frame is made without ``sid`` and ``seq``, which are a connection's: :func:`counted` puts them in.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

from forebay.lab.exchanges.kalshi.truth import complement
from forebay.lab.truth.book import ASK
from forebay.lab.truth.texts import iso_micros

if TYPE_CHECKING:
    from collections.abc import Iterable

    from forebay.lab.exchanges.kalshi.truth import (
        KalshiDelta,
        KalshiSnapshot,
        KalshiTicker,
        KalshiTrade,
    )

BOOK: Final = "orderbook_delta"
TRADES: Final = "trade"
TICKER: Final = "ticker"
LIFECYCLE: Final = "market_lifecycle_v2"
COMBINED: Final = "multivariate_market_lifecycle"
PRIVATE: Final = (
    "fill",
    "market_positions",
    "user_orders",
    "order_group_updates",
    "communications",
)
"""Channels of the account, on which nothing ever happens here."""
CHANNELS: Final = (BOOK, TRADES, TICKER, LIFECYCLE, COMBINED, *PRIVATE)

_MESSAGE = b',"msg":'
_SNAPSHOT = b'{"type":"orderbook_snapshot"'
_MS = 1_000_000
_S = 1_000_000_000


def counted(frame: bytes, sid: int, seq: int | None) -> bytes:
    """Return a frame with the numbers of its subscription; None: its channel has no ``seq``."""
    head, found, message = frame.partition(_MESSAGE)
    number = b"" if seq is None else b',"seq":%d' % seq
    return b'%b,"sid":%d%b%b%b' % (head, sid, number, found, message)


def market_id(ticker: str) -> str:
    """A market's UUID."""
    text = hashlib.blake2b(ticker.encode(), digest_size=16).hexdigest()
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"


def trade(told: KalshiTrade) -> bytes:
    """One trade; the side is the taker's."""
    outcome, side = ("yes", "bid") if told.side == "buy" else ("no", "ask")
    ms = told.event_ts // _MS
    return (
        f'{{"type":"trade","msg":{{"trade_id":"{told.trade_id}","market_ticker":"{told.symbol}"'
        f',"yes_price_dollars":"{told.price}","no_price_dollars":"{complement(told.price)}"'
        f',"count_fp":"{told.size}","taker_side":"{outcome}","taker_outcome_side":"{outcome}"'
        f',"taker_book_side":"{side}","is_block_trade":false,"ts":{ms // 1_000},"ts_ms":{ms}}}}}'
    ).encode()


def delta(told: KalshiDelta) -> bytes:
    """What one level has more or less: a level of NO by its price of NO."""
    ((side, price, size),) = told.changes
    outcome = "no" if side == ASK else "yes"
    price = complement(price) if side == ASK else price
    return (
        f'{{"type":"orderbook_delta","msg":{{"market_ticker":"{told.symbol}"'
        f',"market_id":"{market_id(told.symbol)}","price_dollars":"{price}","delta_fp":"{size}"'
        f',"side":"{outcome}","ts":"{iso_micros(told.event_ts)}"'
        f',"ts_ms":{told.event_ts // _MS}}}}}'
    ).encode()


def levels(told: KalshiSnapshot) -> tuple[list[list[str]], list[list[str]]]:
    """Bids of YES and bids of NO, each from worst to best."""
    yes = [[price, size] for price, size in reversed(told.bids)]
    no = [[complement(price), size] for price, size in reversed(told.asks)]
    return yes, no


def snapshot(ticker: str, yes: list[list[str]], no: list[list[str]]) -> bytes:
    """A whole book, of which an empty side is left out."""
    sides = {"yes_dollars_fp": yes, "no_dollars_fp": no}
    told = {"market_ticker": ticker, "market_id": market_id(ticker)}
    filled = {name: side for name, side in sides.items() if side}
    return encode({"type": "orderbook_snapshot", "msg": {**told, **filled}})


def is_snapshot(frame: bytes) -> bool:
    """Whether a frame tells a whole book."""
    return frame.startswith(_SNAPSHOT)


def without_no(frame: bytes) -> bytes:
    """Return a snapshot without the side of NO."""
    document = json.loads(frame)
    document["msg"].pop("no_dollars_fp", None)
    return encode(document)


def ticker(told: KalshiTicker) -> bytes:
    """What a market has come to."""
    ms = told.event_ts // _MS
    worth = int(float(told.volume) // 2)  # of a summary, that nobody computes with
    return (
        f'{{"type":"ticker","msg":{{"market_ticker":"{told.symbol}"'
        f',"market_id":"{market_id(told.symbol)}","price_dollars":"{told.price}"'
        f',"yes_bid_dollars":"{told.bid_price}","yes_ask_dollars":"{told.ask_price}"'
        f',"volume_fp":"{told.volume}","open_interest_fp":"{told.volume}"'
        f',"dollar_volume":{worth},"dollar_open_interest":{worth}'
        f',"yes_bid_size_fp":"{told.bid_size}","yes_ask_size_fp":"{told.ask_size}"'
        f',"last_trade_size_fp":"{told.size}","ts":{ms // 1_000},"ts_ms":{ms}'
        f',"time":"{iso_micros(told.event_ts)}"}}}}'
    ).encode()


def in_yes_prices(frame: bytes) -> bytes:
    """Return a frame of the book with the prices of NO as those of YES."""
    document = json.loads(frame)
    told = document["msg"]
    if told.get("side") == "no":
        told["price_dollars"] = complement(told["price_dollars"])
    if "no_dollars_fp" in told:
        told["no_dollars_fp"] = [[complement(price), size] for price, size in told["no_dollars_fp"]]
    return encode(document)


# ------------------------------------------------------------------------------- replies

ERRORS: Final = {
    1: "Unable to process message",
    2: "Params required",
    3: "Channels required",
    4: "Subscription IDs required",
    5: "Unknown command",
    7: "Unknown subscription ID",
    8: "Unknown channel name",
    9: "Authentication required",
    10: "Channel error",
    11: "Invalid parameter",
    12: "Exactly one subscription ID is required",
    13: "Unsupported action",
    14: "Market Ticker required",
    15: "Action required",
    18: "Command timeout",
    25: "Subscription buffer overflow",
    26: "Subscription market limit exceeded",
    27: "Too many requests",
}
"""By code, what is wrong."""


def error(code: int, identifier: object = None, **more: object) -> bytes:
    """A command that fails, or what goes wrong of itself."""
    head = {} if identifier is None else {"id": identifier}
    return encode({**head, "type": "error", **more, "msg": {"code": code, "msg": ERRORS[code]}})


def subscribed(identifier: object, channel: str, sid: int) -> bytes:
    """The answer for each channel of a subscription."""
    return reply(identifier, {"type": "subscribed", "msg": {"channel": channel, "sid": sid}})


def reply(identifier: object, document: dict[str, Any]) -> bytes:
    """An answer to a command, which names the command's id if it had one."""
    return encode(document if identifier is None else {"id": identifier, **document})


def encode(document: object) -> bytes:
    """Compact JSON."""
    return json.dumps(document, separators=(",", ":")).encode()


def texts(value: object) -> Iterable[str]:
    """Return the texts of a parameter that is one, or a list of some."""
    if isinstance(value, str):
        return (value,)
    return tuple(map(str, value)) if isinstance(value, list) else ()
