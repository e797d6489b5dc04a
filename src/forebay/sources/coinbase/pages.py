"""What REST answers: pages of trades, and candles."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from forebay.domain.parsed import DeadLetter, Parsed, RawEvents, Reason
from forebay.sources.coinbase import candles
from forebay.sources.coinbase.channels import BARS, MARKET, TRADES, taken
from forebay.sources.coinbase.feed import TAKER
from forebay.sources.coinbase.protocol import UNDECODABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from forebay.domain.frames import FrameBatch

_ASKED = re.compile(r"GET /products/([^/?]+)/(trades|candles)(?:\?(.*))?")


class _Trade(msgspec.Struct):
    trade_id: int
    price: str
    size: str
    side: str
    time: str


class _Rows:
    """Decodes the rows of a page together, and one by one where that cannot be."""

    def __init__(self, row: Any) -> None:  # noqa: ANN401 - a type as msgspec takes it
        self._page = msgspec.json.Decoder(list[row]).decode
        self._row = msgspec.json.Decoder(row).decode

    def of(self, index: int, payload: bytes, dead: list[DeadLetter]) -> list[Any] | None:
        """Return the rows of one page with their place; None when the page as a whole is dead."""
        try:
            return list(enumerate(self._page(payload)))
        except UNDECODABLE:
            pass
        try:
            raw_rows = _decode_rows(payload)
        except UNDECODABLE as error:
            invalid = isinstance(error, msgspec.ValidationError)
            reason: Reason = "wrong_type" if invalid else "not_json"
            dead.append(DeadLetter(index, 0, reason, str(error)))
            return None
        rows = []
        for item, raw in enumerate(raw_rows):
            try:
                rows.append((item, self._row(raw)))
            except UNDECODABLE as error:
                missing = "missing required field" in str(error)
                row_reason: Reason = "missing_field" if missing else "wrong_type"
                dead.append(DeadLetter(index, item, row_reason, str(error)))
        return rows or None


_decode_rows = msgspec.json.Decoder(list[msgspec.Raw]).decode
_trade_rows = _Rows(_Trade)
_candle_rows = _Rows(candles.Candle)


def read_pages(batch: FrameBatch) -> Parsed:
    """Account for answers to one question."""
    asked = _ASKED.fullmatch(batch.context.request)
    question, symbol = (asked[2], asked[1]) if asked else ("", "")
    period = candles.period_of(asked[3] or "") if asked and question == "candles" else None
    if question == "trades" and TRADES.kind in taken(batch):
        return _read(batch, _trade_rows, lambda told: _trades(symbol, told))
    if period is not None and BARS.kind in taken(batch):
        rows = _candle_rows
        return _read(batch, rows, lambda told: candles.bars(batch, symbol, period, told))
    # An answer that holds no events, such as the list of products.
    parsed = Parsed(control=len(batch))
    if question != "trades" and period is None:
        parsed.unbuilt[batch.context.request.partition("?")[0]] = len(batch)
    return parsed


def _read(
    batch: FrameBatch, rows: _Rows, events: Callable[[Sequence[tuple[int, int, Any]]], RawEvents]
) -> Parsed:
    """Account for pages; ``events`` are made of frame, item and row."""
    parsed = Parsed()
    told: list[tuple[int, int, Any]] = []
    for index, payload in enumerate(batch.payloads):
        page = rows.of(index, payload, parsed.dead)
        if page is None:
            continue
        if not page:
            parsed.control += 1  # an empty page says that there is no more
        told.extend((index, item, row) for item, row in page)
    parsed.events = [events(told)] if told else []
    return parsed


def _trades(symbol: str, told: Sequence[tuple[int, int, _Trade]]) -> RawEvents:
    symbols = [symbol] * len(told)
    return RawEvents(
        channel=TRADES,
        market=MARKET,
        frame=[index for index, _, _ in told],
        item=[item for _, item, _ in told],
        venue_symbol=symbols,
        symbol=symbols,
        native=[row.trade_id for _, _, row in told],
        time=[row.time for _, _, row in told],
        columns={
            "price": [row.price for _, _, row in told],
            "size": [row.size for _, _, row in told],
            "side": [TAKER.get(row.side, row.side + "?") for _, _, row in told],
        },
    )
