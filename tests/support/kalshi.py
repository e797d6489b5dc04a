"""Builders of Kalshi's frames and answers, with one obvious default for everything."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from forebay.domain.events import build_events
from forebay.domain.frames import Context, FrameBatch, FrameKind
from forebay.sources.kalshi.protocol import KalshiParser
from tests.support.recordings import DATA

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from forebay.domain.frames import Purpose
    from forebay.domain.parsed import DeadLetter, Parsed

MARKET = "KXA-26AUG11-T1"
MILLISECOND = 1_000_000
SECOND = 1_000 * MILLISECOND
T0 = 1_786_407_333_000
"""2026-08-11T00:15:33Z, a second of the recordings, in milliseconds."""
DAYS = DATA / "kalshi" / "events"
ANSWERS = DATA / "kalshi-rest"
PARSER = KalshiParser()
CAREFUL = KalshiParser(fewest=10**9)
QUICK = KalshiParser(fewest=0)


def as_json(message: object) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()


def framed(kind: str, message: dict[str, Any], sid: int | None, seq: int | None) -> bytes:
    head = {"type": kind, "sid": sid, "seq": seq}
    told = {name: value for name, value in message.items() if value is not None}
    return as_json({**{name: value for name, value in head.items() if value is not None},
                    "msg": told})  # fmt: skip


def delta(seq: int | None = 3, /, sid: int | None = 1, **changed: object) -> bytes:
    """Build a change of a book; ``changed`` replaces or adds fields, None takes one out."""
    message = {
        "market_ticker": MARKET,
        "market_id": "2c0a84d8-9df7-4965-8be3-0a230f12c02e",
        "price_dollars": "0.4900",
        "delta_fp": "0.10",
        "side": "no",
        "ts": "2026-08-11T00:15:33.463921Z",
        "ts_ms": T0 + 463,
    } | changed
    return framed("orderbook_delta", message, sid, seq)


def trade(
    number: int = 7, /, sid: int | None = 2, seq: int | None = None, **changed: object
) -> bytes:
    """Build a trade likewise."""
    message = {
        "trade_id": f"e0689eae-74d2-776c-57f3-{number:012x}",
        "market_ticker": MARKET,
        "yes_price_dollars": "0.4800",
        "no_price_dollars": "0.5200",
        "count_fp": "21.74",
        "taker_side": "yes",
        "taker_outcome_side": "yes",
        "taker_book_side": "bid",
        "ts": T0 // 1000,
        "ts_ms": T0 + 623,
    } | changed
    return framed("trade", message, sid, number if seq is None else seq)


def snapshot(seq: int = 1, sid: int = 1, **sides: object) -> bytes:
    """Build a whole book, empty unless told otherwise."""
    return framed("orderbook_snapshot", {"market_ticker": MARKET, "market_id": "2c0a", **sides},
                  sid, seq)  # fmt: skip


def ticker(**changed: object) -> bytes:
    message = {
        "market_ticker": MARKET,
        "price_dollars": "0.4800",
        "yes_bid_dollars": "0.4800",
        "yes_ask_dollars": "0.4900",
        "yes_bid_size_fp": "41.20",
        "yes_ask_size_fp": "300.00",
        "last_trade_size_fp": "21.74",
        "volume_fp": "26315.87",
        "dollar_volume": 12000,
        "ts": T0 // 1000,
        "ts_ms": T0 + 623,
    } | changed
    return framed("ticker", message, 3, None)


def batch(
    payloads: Sequence[bytes],
    symbols: Sequence[str] = (),
    *,
    channels: Sequence[str] = (),
    request: str = "",
    purpose: Purpose = "live",
    received_ns: int = (T0 + 2000) * MILLISECOND,
) -> FrameBatch:
    """Put frames, or answers to ``request``, into a batch."""
    context = Context(
        venue="kalshi",
        source="rest" if request else "ws",
        purpose=purpose,
        collector="c1",
        epoch="e1",
        market="prediction",
        symbols=tuple(symbols),
        channels=tuple(channels),
        request=request and f"GET {request}",
    )
    count = len(payloads)
    kind = FrameKind.REST if request else FrameKind.TEXT
    received = np.full(count, received_ns)
    return FrameBatch(context, kind, payloads, received, "a" * 32, np.arange(1, count + 1))


def parsed(*payloads: bytes, **about: Any) -> Parsed:  # noqa: ANN401 - as of batch
    return PARSER.parse(batch(payloads, **about))


def told(
    *payloads: bytes,
    **about: Any,  # noqa: ANN401 - as of batch
) -> tuple[dict[str, list[dict[str, Any]]], list[DeadLetter]]:
    """Return the rows that frames become, by kind, and all dead letters."""
    given = batch(payloads, **about)
    found = PARSER.parse(given)
    rows: dict[str, list[dict[str, Any]]] = {}
    dead = list(found.dead)
    for raw in found.events:
        columns, letters = build_events(raw, given)
        rows.setdefault(raw.channel.kind, []).extend(columns.finish().to_pylist())
        dead += letters
    return {kind: several for kind, several in rows.items() if several}, dead


def answer(name: str) -> bytes | None:
    """Return a recorded answer, None where the recordings are not there."""
    path: Path = ANSWERS / f"{name}_response.json"
    return as_json(json.loads(path.read_bytes())["response"]) if path.exists() else None
