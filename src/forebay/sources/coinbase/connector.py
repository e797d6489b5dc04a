"""Coinbase Exchange, pure: what to say over a connection, and which pages to ask for.

Facts from the exchange's published pages ("Exchange WebSocket feed", "Exchange REST API").
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import msgspec

from forebay.sources.coinbase.protocol import KINDS_OF_TYPE, PERIODS_S
from forebay.sources.parsing import UNDECODABLE
from forebay.sources.venue import NOTHING, MessageVerdict, PlainSession
from forebay.times import to_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebay.ports import HistoryRequest
    from forebay.sources.venue import ConnectionPurpose, PollRound, Stream

TRADE_ROWS = 1000
"""Most rows of a page of trades ("Pagination")."""
CANDLE_ROWS = 300
"""Most candles of an answer, both ends of the range counted ("Get product candles")."""
MINUTE_S = 60
CANDLES_AGAIN = 5
"""So many closed candles are asked for each minute: one poll in five is enough."""
_WIRE = {
    "trade": "matches",
    "ticker": "ticker",
    "quote": "ticker",
    "book_snapshot": "level2_batch",
    "book_delta": "level2_batch",
}
"""The feed's channel for each kind of event; ``heartbeat`` goes with all of them."""
_LISTED_AS = {"level2_50": "level2_batch"}
"""Channels that an acknowledgement names otherwise than they were asked for."""
LEFT_OUT = "Coinbase's acknowledgement leaves it out."
_HINT = "List what there is with `forebay symbols --venue coinbase`."
_WORD = re.compile(r"[\w-]+")


class _TradeId(msgspec.Struct):
    """Paging needs no more: a row that is poison in another field must not stop a fill."""

    trade_id: int


_decode_ids = msgspec.json.Decoder(list[_TradeId]).decode
_decode_candles = msgspec.json.Decoder(list[list[Any]]).decode


class CoinbaseSession(PlainSession):
    """One subscription to everything, answered by a list of what is given."""

    marks = (b'"error"', b'"message"')
    quiet = tuple(
        f'{{"type":"{name}",'.encode() for name in ("match", "l2update", "ticker", "heartbeat")
    )

    def __init__(self, asked: ConnectionPurpose) -> None:
        super().__init__(asked)
        self._acknowledged = False
        self._by_data = False
        """Whether the list was empty, so that what comes must show what is given."""

    def opened(self, now_ns: int) -> Sequence[bytes]:
        """Subscribe; the venue closes a connection that has not done so within 5 s."""
        del now_ns
        wanted = {"heartbeat", *(_WIRE[kind] for kind in self.asked.channels if kind in _WIRE)}
        named = ("matches", "heartbeat", "ticker", "level2_batch")
        channels = [wire for wire in named if wire in wanted]
        message = {
            "type": "subscribe",
            "product_ids": list(self.asked.symbols),
            "channels": channels,
        }
        return [json.dumps(message, separators=(",", ":")).encode()]

    def received(self, payload: bytes, now_ns: int) -> MessageVerdict:
        """Tell what is given, what is left out of the list, and what the venue complains of."""
        del now_ns
        try:
            message = msgspec.json.decode(payload)
        except UNDECODABLE:
            return NOTHING
        kind = message.get("type") if isinstance(message, dict) else None
        if kind == "subscriptions":
            return self._listed(message.get("channels"))
        if kind == "error":
            said = (message.get("message"), message.get("reason"))
            return self._error(": ".join(str(part) for part in said if part))
        if kind is not None and isinstance(message.get("message"), str):
            return MessageVerdict(complaint=message["message"])
        if self._by_data:
            return MessageVerdict(accepted=self._told_by(kind, message.get("product_id")))
        return NOTHING

    def _listed(self, channels: object) -> MessageVerdict:
        """Compare an acknowledgement with what was asked for; a later one refuses nothing."""
        if not isinstance(channels, list):
            return MessageVerdict(accepted=self.asked.streams)
        given: set[tuple[str, str]] = set()
        for entry in channels:
            if isinstance(entry, dict) and isinstance(ids := entry.get("product_ids"), list):
                name = str(entry.get("name"))
                given.update((_LISTED_AS.get(name, name), product) for product in map(str, ids))
        accepted = frozenset(s for s in self.asked.streams if (_WIRE[s[0]], s[1]) in given)
        first, self._acknowledged = not self._acknowledged, True
        if not accepted:
            self._by_data = first
            return MessageVerdict(
                complaint="the acknowledgement lists nothing of what was asked for"
            )
        left_out = self.asked.streams - accepted if first else ()
        return MessageVerdict(accepted=accepted, refused=dict.fromkeys(left_out, LEFT_OUT))

    def _told_by(self, kind: object, product: object) -> frozenset[Stream]:
        """Return the streams that a message of data is of."""
        kinds = KINDS_OF_TYPE.get(str(kind).encode(), set())
        return frozenset(
            each for each in self.asked.streams if each[0] in kinds and each[1] == product
        )

    def _error(self, said: str) -> MessageVerdict:
        """Tell a refusal, which ends the connection, from another complaint."""
        said = said or "no reason given"
        words = {_LISTED_AS.get(word, word) for word in _WORD.findall(said)}
        products = words.intersection(self.asked.symbols)
        kinds = {kind for kind in self.asked.channels if _WIRE[kind] in words and not products}
        refusing = products or kinds or "subscri" in said.lower()
        if self._acknowledged and not refusing:
            return MessageVerdict(complaint=said)
        blamed = {s: said for s in self.asked.streams if s[0] in kinds or s[1] in products}
        some = len(blamed) < len(self.asked.streams) or len(self.asked.symbols) == 1
        return MessageVerdict(
            refused=blamed if some else {},
            refusal=f"Coinbase refused the subscription: {said}. {_HINT}",
            complaint=said if self._acknowledged else "",
        )


def trades_path(symbol: str, after: int, limit: int = TRADE_ROWS) -> str:
    """Return path and query for the ``limit`` trades with ids just below ``after``."""
    return f"/products/{symbol}/trades?limit={limit}&after={after}"


def trade_ids(body: bytes) -> list[int]:
    """Return the ids of a page of history as they are listed; ``ValueError`` if it is none."""
    return [row.trade_id for row in _decode_ids(body)]


def candles_path(symbol: str, begin_s: int, end_s: int, period_s: int = MINUTE_S) -> str:
    """Return path and query for the candles that open between two Unix times.

    Both are included; at most :data:`CANDLE_ROWS` of them.
    """
    span = f"start={to_text(begin_s * 10**9)}&end={to_text(end_s * 10**9)}"
    return f"/products/{symbol}/candles?granularity={period_s}&{span}"


def bars_path(request: HistoryRequest, begin_ns: int, end_ns: int) -> str:
    """Return path and query for the candles of a series that open before ``end_ns``."""
    period_s = PERIODS_S[request.series]
    begin_s, last_s = -(-begin_ns // 10**9), (end_ns - 1) // 10**9 // period_s * period_s
    return candles_path(request.symbol, begin_s, last_s, period_s)


def bar_times(request: HistoryRequest, body: bytes) -> list[tuple[int, int]]:
    """Return when the candles of a page opened and closed; raises ``ValueError`` if it is none."""
    rows = _decode_candles(body)
    period_s = PERIODS_S[request.series]
    opened = [row[0] for row in rows if row and isinstance(row[0], int)]
    return [(begin * 10**9, (begin + period_s) * 10**9) for begin in opened]


def latest_candles_path(asked: PollRound) -> str:
    """Return path and query for the last candles that are closed, by the wall clock."""
    opened_s = asked.now_ns // 1_000_000_000 // MINUTE_S * MINUTE_S
    return candles_path(asked.symbols[0], opened_s - CANDLES_AGAIN * MINUTE_S, opened_s - MINUTE_S)


def probe_path(symbol: str) -> str:
    """Return path and query for next to nothing."""
    return trades_path(symbol, 2, 1)
