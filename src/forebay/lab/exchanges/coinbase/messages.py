"""What Coinbase Exchange says, as bytes, and what it makes of what it is told.

Shapes follow the exchange's published pages and recordings of its public feed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import msgspec

from forebay.lab.exchanges.commands import Request
from forebay.lab.truth.book import ASK, BID

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from forebay.lab.exchanges.model import Topic
    from forebay.lab.truth import Trade
    from forebay.lab.truth.book import Delta, SnapshotTruth
    from forebay.lab.truth.tickers import TickerTruth

MATCHES: Final = "matches"
HEARTBEAT: Final = "heartbeat"
TICKER: Final = "ticker"
LEVEL2: Final = "level2"
"""Only for those who sign their request."""
LEVEL2_50: Final = "level2_50"
"""What ``level2_batch`` is acknowledged as, which may also be asked for."""
CHANNELS: Final = (MATCHES, HEARTBEAT, TICKER, LEVEL2, LEVEL2_50)

_ALIASES: Final = MappingProxyType({"level2_batch": LEVEL2_50})
_SIGN: Final = (
    "level2, level3, and full channels now require authentication. "
    "https://docs.cloud.coinbase.com/exchange/docs/websocket-auth"
)
_SIDES: Final = MappingProxyType({BID: "buy", ASK: "sell"})
encode = msgspec.json.encode
_MAKER = {"buy": "sell", "sell": "buy"}  # the feed and the history give the maker's side


# The one account that the simulated exchange knows.
KEY: Final = "forebay-lab"
SECRET: Final = base64.b64encode(b"anybody may know this").decode()
PASSPHRASE: Final = "simulated"  # noqa: S105 - it guards nothing

_SIGNED_PATH = "GET/users/self/verify"


class CommandRefused(Exception):
    """A command that cannot be carried out: message and reason."""


def parse_request(raw: bytes, products: Collection[str]) -> Request:
    """Return what a client asks for.

    Raises :class:`CommandRefused`: no JSON, no command, no such channel or product, or not signed.
    """
    try:
        document = json.loads(raw)
    except ValueError:
        raise CommandRefused("Failed to parse message", "Malformed JSON") from None
    kind = document.get("type") if isinstance(document, dict) else None
    if kind not in ("subscribe", "unsubscribe"):
        raise CommandRefused("Failed to process message", f"{kind!r} is not a valid type")
    topics = _topics(document)
    failed = f"Failed to {kind}"
    if not topics:
        raise CommandRefused(failed, "channels and product_ids are required")
    for channel, product in topics:
        if channel not in CHANNELS:
            raise CommandRefused(failed, f"{channel} is not a valid channel")
        if product not in products:
            raise CommandRefused(failed, f"{product} is not a valid product")
    if kind == "subscribe" and any(channel == LEVEL2 for channel, _ in topics):
        _check_signed(document, failed)
    return Request(kind == "subscribe", topics)


def _check_signed(document: dict[str, object], failed: str) -> None:
    if "signature" not in document:
        raise CommandRefused(failed, _SIGN)
    wrong = _what_is_wrong(document)
    if wrong:
        raise CommandRefused("Authentication Failed", json.dumps({"message": wrong}))


def signature(timestamp: str) -> str:
    """What signs a subscription that is made at ``timestamp``."""
    message = f"{timestamp}{_SIGNED_PATH}".encode()
    digest = hmac.digest(base64.b64decode(SECRET), message, hashlib.sha256)
    return base64.b64encode(digest).decode()


def _what_is_wrong(document: dict[str, object]) -> str:
    """Why the signature of a subscription is not accepted, empty if it is.

    How old it is does not matter here.
    """
    if document.get("key") != KEY:
        return "Invalid API Key"
    if document.get("passphrase") != PASSPHRASE:
        return "Invalid Passphrase"
    right = signature(str(document.get("timestamp")))
    given = str(document.get("signature"))
    return "" if hmac.compare_digest(right.encode(), given.encode()) else "invalid signature"


def _topics(document: dict[str, object]) -> tuple[Topic, ...]:
    shared = _texts(document.get("product_ids"))
    channels = document.get("channels")
    topics: dict[Topic, None] = {}
    for channel in channels if isinstance(channels, list) else []:
        if isinstance(channel, dict):
            name = str(channel.get("name"))
            products = _texts(channel.get("product_ids")) or shared
        else:
            name, products = str(channel), shared
        name = _ALIASES.get(name, name)
        topics.update(((name, product), None) for product in products)
    return tuple(topics)


def _texts(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


def match(trade: Trade, kind: str = "match") -> bytes:
    """One trade as the feed sends it; ``kind`` is ``match`` or ``last_match``."""
    return (
        f'{{"type":"{kind}","trade_id":{trade.trade_id}'
        f',"maker_order_id":"{trade.maker_order_id}","taker_order_id":"{trade.taker_order_id}"'
        f',"side":"{_MAKER[trade.side]}","size":"{trade.size}","price":"{trade.price}"'
        f',"product_id":"{trade.symbol}","sequence":{trade.sequence},"time":"{trade.time}"}}'
    ).encode()


def ticker(told: TickerTruth, trade: Trade) -> bytes:
    """The ticker of a trade as the feed sends it, whose side is the taker's."""
    return (
        f'{{"type":"ticker","sequence":{trade.sequence},"product_id":"{told.symbol}"'
        f',"price":"{told.price}","open_24h":"{told.open_24h}","volume_24h":"{told.volume_24h}"'
        f',"low_24h":"{told.low_24h}","high_24h":"{told.high_24h}"'
        f',"volume_30d":"{30 * Decimal(told.volume_24h)}"'
        f',"best_bid":"{told.bid_price}","best_bid_size":"{told.bid_size}"'
        f',"best_ask":"{told.ask_price}","best_ask_size":"{told.ask_size}"'
        f',"side":"{trade.side}","time":"{told.time}","trade_id":{trade.trade_id}'
        f',"last_size":"{told.size}"}}'
    ).encode()


def snapshot(book: SnapshotTruth) -> bytes:
    """The whole book, as somebody is told who subscribes."""
    return encode(
        {
            "type": "snapshot",
            "product_id": book.symbol,
            "asks": book.asks,
            "bids": book.bids,
            "time": book.time,
        }
    )


def l2update(delta: Delta) -> bytes:
    """What changed in the book."""
    changes = ",".join(
        f'["{_SIDES[side]}","{price}","{size}"]' for side, price, size in delta.changes
    )
    return (
        f'{{"type":"l2update","product_id":"{delta.symbol}","changes":[{changes}]'
        f',"time":"{delta.time}"}}'
    ).encode()


def book(told: SnapshotTruth, sequence: int, depth: int | None = None) -> dict[str, object]:
    """A book as REST gives it, ``depth`` levels of it; a level's third cell counts orders."""
    return {
        "bids": [[*level, 1] for level in told.bids[:depth]],
        "asks": [[*level, 1] for level in told.asks[:depth]],
        "sequence": sequence,
        "auction_mode": False,
        "auction": None,
        "time": told.time,
    }


def candle(begin_s: int, texts: tuple[str, str, str, str, str]) -> str:
    """One candle as REST gives it, from open, high, low, close and volume."""
    opened, high, low, close, volume = map(_number, texts)
    return f"[{begin_s},{low},{high},{opened},{close},{volume}]"


def _number(text: str) -> str:
    """A decimal as a JSON number; exact, which a binary float is not."""
    return text.rstrip("0").rstrip(".") if "." in text else text


def heartbeat(last: Trade) -> bytes:
    """What the market has come to, ``last`` being its latest trade."""
    return encode(
        {
            "type": "heartbeat",
            "sequence": last.sequence,
            "last_trade_id": last.trade_id,
            "product_id": last.symbol,
            "time": last.time,
        }
    )


def subscriptions(topics: Sequence[Topic]) -> bytes:
    """All that a connection is subscribed to."""
    by_channel: dict[str, list[str]] = {}
    for channel, product in topics:
        by_channel.setdefault(channel, []).append(product)
    channels = [{"name": name, "product_ids": ids} for name, ids in by_channel.items()]
    return encode({"type": "subscriptions", "channels": channels})


def error(refusal: CommandRefused) -> bytes:
    """A refused command."""
    message, reason = refusal.args
    return encode({"type": "error", "message": message, "reason": reason})


def history_row(trade: Trade) -> dict[str, int | str]:
    """One trade as REST gives it."""
    return {
        "trade_id": trade.trade_id,
        "side": _MAKER[trade.side],
        "size": trade.size,
        "price": trade.price,
        "time": trade.time,
    }


def product(symbol: str, price_decimals: int) -> dict[str, str | bool]:
    """One product as REST gives it."""
    base, quote = symbol.split("-")
    return {
        "id": symbol,
        "base_currency": base,
        "quote_currency": quote,
        "quote_increment": f"0.{'1'.rjust(price_decimals, '0')}",
        "base_increment": "0.00000001",
        "display_name": f"{base}-{quote}",
        "min_market_funds": "1",
        "margin_enabled": False,
        "post_only": False,
        "limit_only": False,
        "cancel_only": False,
        "status": "online",
        "status_message": "",
        "trading_disabled": False,
        "fx_stablecoin": False,
        "auction_mode": False,
    }
