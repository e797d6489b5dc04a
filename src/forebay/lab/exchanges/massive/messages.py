"""What Massive says over its streams, as bytes, and what it makes of what it is told.

Shapes follow the venue's published pages and the mock server of its official client. Every frame
is an array.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from forebay.lab.exchanges.commands import Login, Request
from forebay.lab.exchanges.massive.truth import CRYPTO, EXCHANGE, FOREX, market_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from forebay.lab.exchanges.model import Topic
    from forebay.lab.truth import Trade

KEY: Final = "forebay-lab"
"""The key of the one account; anybody may know it."""
WORDS: Final = {
    FOREX: {"C": "ticker", "CA": "bar", "CAS": "second"},
    CRYPTO: {"XT": "trade", "XQ": "ticker", "XA": "bar", "XAS": "second"},
}
"""By market, what each of the stream's words carries."""
_MS = 1_000_000


def status(word: str, *messages: str) -> bytes:
    """Return a frame of statuses."""
    return encode([{"ev": "status", "status": word, "message": each} for each in messages])


def encode(document: object) -> bytes:
    """Compact JSON."""
    return json.dumps(document, separators=(",", ":")).encode()


def understand(raw: bytes, symbols: Collection[str]) -> Request | Login | bytes:
    """What a client asks for, or how it is told that it cannot be."""
    try:
        command = json.loads(raw)
    except ValueError:
        command = None
    action = command.get("action") if isinstance(command, dict) else None
    if action == "auth":
        right = command.get("params") == KEY
        word = ("auth_success", "authenticated") if right else ("auth_failed", "Unknown API Key")
        return Login(right, status(*word))
    if action not in ("subscribe", "unsubscribe"):
        return status("error", "unknown action")
    topics: list[Topic] = []
    wrong: list[str] = []
    for name in str(command.get("params") or "").split(","):
        found = list(_topics(name.strip(), symbols))
        topics.extend(found)
        wrong += [] if found else [f"not authorized: {name.strip()}"]
    refused = status("error", *wrong) if wrong else b""
    if not topics:
        return refused
    return Request(action == "subscribe", tuple(dict.fromkeys(topics)), refused)


def _topics(name: str, symbols: Collection[str]) -> Iterable[Topic]:
    word, _, pair = name.partition(".")
    market = next((each for each, words in WORDS.items() if word in words), "")
    wanted = pair.replace("/", "-")
    for symbol in symbols:
        if market_of(symbol) == market and wanted in ("*", symbol):
            yield word, symbol


def topic(word: str, symbol: str) -> str:
    """Return a topic as the venue spells it."""
    return f"{word}.{pair(symbol)}"


def pair(symbol: str) -> str:
    """Return a symbol as the stream of its market spells it."""
    return symbol.replace("-", "/") if market_of(symbol) == FOREX else symbol


def number(text: str) -> str:
    """A decimal as a JSON number; exact, which a binary float is not."""
    return text.rstrip("0").rstrip(".") if "." in text else text


def trade(told: Trade) -> bytes:
    """One trade; 1 is a sell of the taker, 2 a buy."""
    ms, condition = told.event_ts // _MS, 2 if told.side == "buy" else 1
    return (
        f'[{{"ev":"XT","pair":"{told.symbol}","p":{number(told.price)},"t":{ms}'
        f',"s":{number(told.size)},"c":[{condition}],"i":"{told.trade_id}","x":{EXCHANGE}'
        f',"r":{ms + 1}}}]'
    ).encode()


def quote(symbol: str, ns: int, bid: tuple[str, str], ask: tuple[str, str]) -> bytes:
    """Best bid and ask, each a price and a size."""
    ms = ns // _MS
    if market_of(symbol) == FOREX:
        return (
            f'[{{"ev":"C","p":"{pair(symbol)}","x":48,"a":{number(ask[0])}'
            f',"b":{number(bid[0])},"t":{ms}}}]'
        ).encode()
    return (
        f'[{{"ev":"XQ","pair":"{symbol}","bp":{number(bid[0])},"bs":{number(bid[1])}'
        f',"ap":{number(ask[0])},"as":{number(ask[1])},"t":{ms},"x":{EXCHANGE},"r":{ms + 1}}}]'
    ).encode()


def bar(word: str, symbol: str, begin_ns: int, end_ns: int, texts: tuple[str, ...]) -> bytes:
    """A bar that is over, from open, high, low, close and volume."""
    opened, high, low, close, volume = map(number, texts)
    more = f',"vw":{close},"z":0' if market_of(symbol) == CRYPTO else ""
    return (
        f'[{{"ev":"{word}","pair":"{pair(symbol)}","o":{opened},"c":{close},"h":{high},"l":{low}'
        f',"v":{volume}{more},"s":{begin_ns // _MS},"e":{end_ns // _MS}}}]'
    ).encode()
