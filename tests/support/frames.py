"""Builders of Coinbase frames, batches and event rows, with one obvious default for everything."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

import numpy as np

from forebay.domain.channels import Channel
from forebay.domain.events import build_events
from forebay.domain.frames import Context, FrameBatch, FrameKind
from forebay.domain.parsed import RawEvents

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from forebay.domain.frames import Purpose

SECOND = 1_000_000_000
HOUR = 3600 * SECOND
T0 = 1_618_677_817 * SECOND
"""2021-04-17T16:43:37Z, a second of the recording."""
LOG = "a" * 32
PRODUCT = "BTC-USD"

TRADES = Channel("trade", identity="native", unit="id", time_unit_ns=1000, history=True)
"""The channel of :func:`raw_trades`, unless told otherwise."""

Source = Literal["ws", "rest", "file"]
PURPOSES: dict[Source, Purpose] = {"ws": "live", "rest": "history", "file": "recording"}
"""Why frames of each source are asked for, unless told otherwise."""


def rfc3339(time_ns: int) -> str:
    """Spell a time as the venue does: microseconds, Z."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_ns // 1000)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def as_json(message: object) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()


def match(trade_id: int, product: str = PRODUCT, /, **changed: object) -> bytes:
    """Build a match; ``changed`` replaces or adds fields, None takes one out."""
    message = {
        "type": "match",
        "trade_id": trade_id,
        "maker_order_id": "2a0da34e-61f7-4c36-88e5-c9dd15927b16",
        "taker_order_id": "3c82abaa-c01e-4608-be59-6a1e69742891",
        "side": "sell" if trade_id % 2 else "buy",
        "size": f"0.{trade_id % 997 + 1:04d}",
        "price": f"{10_000 + trade_id % 89}.{trade_id % 100:02d}",
        "product_id": product,
        "sequence": trade_id * 3,
        "time": rfc3339(T0 + trade_id * 1_000_000),
    } | changed
    return as_json({name: value for name, value in message.items() if value is not None})


def heartbeat(last_trade_id: object, product: object = PRODUCT) -> bytes:
    message = {"type": "heartbeat", "sequence": 90, "last_trade_id": last_trade_id}
    return as_json({**message, "product_id": product, "time": rfc3339(T0)})


def l2update(*changes: Sequence[str], product: str = PRODUCT, **changed: object) -> bytes:
    """Build an update of a book; ``changed`` replaces or adds fields, None takes one out."""
    message: dict[str, object] = {"type": "l2update", "product_id": product}
    message |= {"changes": list(map(list, changes)), "time": rfc3339(T0), **changed}
    return as_json({name: value for name, value in message.items() if value is not None})


def snapshot(
    bids: Sequence[Sequence[str]] | None,
    asks: Sequence[Sequence[str]] | None,
    product: str = PRODUCT,
    **changed: object,
) -> bytes:
    """Build a whole book."""
    message = {"type": "snapshot", "product_id": product, "asks": asks, "bids": bids}
    return as_json(message | changed)


def ticker(product: str = PRODUCT, /, **changed: object) -> bytes:
    """Build a ticker; ``changed`` replaces or adds fields, None takes one out."""
    message = {
        "type": "ticker",
        "sequence": 27883326,
        "product_id": product,
        "price": "100.5",
        "open_24h": "99",
        "volume_24h": "3479861.10000000",
        "low_24h": "98",
        "high_24h": "102",
        "volume_30d": "76123674.1",
        "best_bid": "100.4",
        "best_bid_size": "3",
        "best_ask": "100.6",
        "best_ask_size": "4",
        "side": "sell",
        "time": rfc3339(T0),
        "trade_id": 82007,
        "last_size": "1008.2",
    } | changed
    return as_json({name: value for name, value in message.items() if value is not None})


def rest_row(trade_id: int, /, **changed: object) -> dict[str, object]:
    """Build a trade of a page of history: the same facts as :func:`match` gives."""
    fields = json.loads(match(trade_id))
    row = {name: fields[name] for name in ("trade_id", "side", "size", "price", "time")} | changed
    return {name: value for name, value in row.items() if value is not None}


def context(source: Source = "ws", epoch: str = "e1", **changed: object) -> Context:
    """Build a context; one of history asked for trades of :data:`PRODUCT`."""
    request = f"GET /products/{PRODUCT}/trades?limit=1000&after=500" if source == "rest" else ""
    fields: dict[str, object] = {"venue": "coinbase", "collector": "c1", "request": request}
    fields |= {"source": source, "purpose": PURPOSES[source], "epoch": epoch, **changed}
    return Context(**fields)  # type: ignore[arg-type]  # names are those of the fields


def batch(
    payloads: Sequence[bytes],
    origin: Context | None = None,
    *,
    kind: FrameKind | None = None,
    received_ns: Sequence[int] | None = None,
    first_seq: int = 1,
) -> FrameBatch:
    """Put payloads into a batch, received a millisecond apart unless told otherwise."""
    origin = origin or context()
    if kind is None:
        kind = FrameKind.REST if origin.source == "rest" else FrameKind.TEXT
    if received_ns is None:
        received_ns = [T0 + 2 * SECOND + index * 1_000_000 for index in range(len(payloads))]
    received = np.array(received_ns, dtype=np.int64)
    seqs = np.arange(first_seq, first_seq + len(payloads), dtype=np.int64)
    return FrameBatch(origin, kind, payloads, received, LOG, seqs)


@dataclass(frozen=True, slots=True)
class Told:
    """One trade as somebody tells it."""

    trade_id: int
    price: str = "10000.01"
    size: str = "0.5"
    side: str = "buy"
    time_ns: int = T0
    """Rounded down to microseconds by the spelling, unless ``time`` is given."""
    symbol: str = PRODUCT
    received_ns: int = T0 + SECOND
    time: str | None = None

    def but(self, **changed: object) -> Told:
        return replace(self, **changed)  # type: ignore[arg-type]  # names are those of the fields


def raw_trades(
    trades: Sequence[Told], channel: Channel = TRADES, *, market: str = "spot"
) -> RawEvents:
    """Build what a parser makes of one frame a trade."""
    return RawEvents(
        channel=channel,
        market=market,
        frame=list(range(len(trades))),
        item=[0] * len(trades),
        venue_symbol=[told.symbol for told in trades],
        symbol=[told.symbol for told in trades],
        native=[told.trade_id for told in trades],
        time=[rfc3339(told.time_ns) if told.time is None else told.time for told in trades],
        columns={
            "price": [told.price for told in trades],
            "size": [told.size for told in trades],
            "side": [told.side for told in trades],
        },
    )


def told_batch(
    trades: Sequence[Told], origin: Context | None = None, *, first_seq: int = 1
) -> FrameBatch:
    """Build the batch that ``trades`` came in, one frame each."""
    received = [told.received_ns for told in trades]
    return batch([b"frame"] * len(trades), origin, received_ns=received, first_seq=first_seq)


def rows_of(*trades: Told, first_seq: int = 1, market: str = "spot") -> pa.Table:
    """Build rows of ``trades``, a frame each from ``first_seq`` on; all must be acceptable."""
    batch = told_batch(trades, first_seq=first_seq)
    columns, dead = build_events(raw_trades(trades, market=market), batch)
    assert not dead, dead
    return columns.finish()
