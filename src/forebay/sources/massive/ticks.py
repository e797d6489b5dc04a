"""Rows of pages of quotes and trades; their times are whole nanoseconds."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from forebay.domain.parsed import Moments, RawEvents
from forebay.sources.massive.bars import plain
from forebay.sources.massive.channels import QUOTES, TRADES

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from forebay.domain.channels import Channel

SELL, BUY = 1, 2
"""Conditions of a trade: which side took."""


class QuoteRow(msgspec.Struct):
    """A quote; there are no sizes of currencies."""

    participant_timestamp: int
    bid_price: Decimal
    ask_price: Decimal
    bid_size: Decimal | None = None
    ask_size: Decimal | None = None


class TradeRow(msgspec.Struct):
    """A trade; ``id`` names it on ``exchange``."""

    participant_timestamp: int
    id: str | int
    exchange: int
    price: Decimal
    size: Decimal
    conditions: list[int] | None = None


ROWS: Mapping[str, type[msgspec.Struct]] = {QUOTES.kind: QuoteRow, TRADES.kind: TradeRow}


def native(exchange: int, name: str) -> str:
    """Return what identifies a trade on every path; nothing if the venue names none."""
    return f"{exchange}:{name}" if name else ""


def side(conditions: Collection[int] | None) -> str:
    """Return which side took, if exactly one is said to have."""
    said = {SELL, BUY}.intersection(conditions or ())
    if len(said) != 1:
        return "unknown"
    return "buy" if BUY in said else "sell"


def events(
    channel: Channel, market: str, symbol: str, pair: str, rows: Sequence[tuple[int, int, Any]]
) -> RawEvents:
    """Return the events of some rows, each with frame and item."""
    told = [row for _, _, row in rows]
    natives = [native(row.exchange, str(row.id)) for row in told] if channel is TRADES else None
    return RawEvents(
        channel=channel,
        market=market,
        frame=[frame for frame, _, _ in rows],
        item=[item for _, item, _ in rows],
        venue_symbol=[pair] * len(rows),
        symbol=[symbol] * len(rows),
        native=natives,
        time=Moments([row.participant_timestamp for row in told], 1),
        columns=_trades(told) if channel is TRADES else _quotes(told),
    )


def _trades(rows: Sequence[TradeRow]) -> dict[str, Any]:
    return {
        "price": [plain(row.price) for row in rows],
        "size": [plain(row.size) for row in rows],
        "side": [side(row.conditions) for row in rows],
    }


def _quotes(rows: Sequence[QuoteRow]) -> dict[str, Any]:
    names = ("bid_price", "ask_price", "bid_size", "ask_size")
    columns: dict[str, Any] = {}
    for name in names:
        numbers = [getattr(row, name) for row in rows]
        columns[name] = [None if number is None else plain(number) for number in numbers]
    return columns
