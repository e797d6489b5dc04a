"""Coinbase Exchange, pure: what to say over a connection, and which pages to ask for.

Facts from the exchange's published pages ("Exchange WebSocket feed", "Exchange REST API").
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from forebay.sources.coinbase.protocol import UNDECODABLE
from forebay.sources.venue import NOTHING, PlainSession, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

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


class _TradeId(msgspec.Struct):
    """Paging needs no more: a row that is poison in another field must not stop a fill."""

    trade_id: int


_decode_ids = msgspec.json.Decoder(list[_TradeId]).decode


class CoinbaseSession(PlainSession):
    """One subscription to everything, answered as a whole."""

    def opened(self, now_ns: int) -> Sequence[bytes]:
        """Subscribe; the venue closes a connection that has not done so within 5 s."""
        del now_ns
        wanted = {wire for kind, wire in _WIRE.items() if kind in self.asked.channels}
        channels = [
            wire
            for wire in ("matches", "heartbeat", "ticker", "level2_batch")
            if wire in wanted or wire == "heartbeat"
        ]
        message = {
            "type": "subscribe",
            "product_ids": list(self.asked.symbols),
            "channels": channels,
        }
        return [json.dumps(message, separators=(",", ":")).encode()]

    def received(self, payload: bytes, now_ns: int) -> Verdict:
        """Tell an acceptance from a refusal; both are of the whole subscription."""
        del now_ns
        try:
            message = msgspec.json.decode(payload)
        except UNDECODABLE:
            return NOTHING
        kind = message.get("type") if isinstance(message, dict) else None
        if kind == "error":
            reason = message.get("reason") or message.get("message") or "no reason given"
            hint = "List what there is with `forebay symbols --venue coinbase`."
            return Verdict(refusal=f"Coinbase refused the subscription: {reason}. {hint}")
        return Verdict(accepted=self.asked.streams) if kind == "subscriptions" else NOTHING


def trades_path(symbol: str, after: int, limit: int = TRADE_ROWS) -> str:
    """Return path and query for the ``limit`` trades with ids just below ``after``."""
    return f"/products/{symbol}/trades?limit={limit}&after={after}"


def trade_ids(body: bytes) -> list[int]:
    """Return the ids of a page of history, newest first as they are listed.

    Raises ``ValueError`` when it is none.
    """
    try:
        page = _decode_ids(body)
    except RecursionError as error:
        raise ValueError(str(error)) from error
    return [row.trade_id for row in page]


def candles_path(symbol: str, begin_s: int, end_s: int) -> str:
    """Return path and query for the candles of a minute that open between two Unix times.

    Both are included; at most :data:`CANDLE_ROWS` minutes.
    """
    span = f"start={_iso(begin_s)}&end={_iso(end_s)}"
    return f"/products/{symbol}/candles?granularity={MINUTE_S}&{span}"


def latest_candles_path(symbol: str, now_ns: int) -> str:
    """Return path and query for the last candles that are closed, by the wall clock."""
    opened_s = now_ns // 1_000_000_000 // MINUTE_S * MINUTE_S
    return candles_path(symbol, opened_s - CANDLES_AGAIN * MINUTE_S, opened_s - MINUTE_S)


def probe_path(symbol: str) -> str:
    """Return path and query for next to nothing."""
    return trades_path(symbol, 2, 1)


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
