"""What REST answers: pages of trades, and candles.

Candles are rows of JSON numbers, newest first, none where nothing traded.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

import msgspec

from forebay.domain.parsed import DeadLetter, Moments, Parsed, RawEvents
from forebay.sources.coinbase.messages import trade_columns
from forebay.sources.coinbase.protocol import BARS, PERIODS_S, TRADES, UNDECODABLE, taken

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from forebay.domain.frames import FrameBatch
    from forebay.domain.parsed import Reason

_ASKED = re.compile(r"GET /products/([^/?]+)/(trades|candles)(?:\?(.*))?")
Candle = tuple[int, Decimal, Decimal, Decimal, Decimal, Decimal]
"""Start in seconds, low, high, open, close, volume; the numbers exactly as they are written."""

TIMEFRAMES = {seconds: timeframe for timeframe, seconds in PERIODS_S.items()}
"""By granularity in seconds."""
SKEW_NS = 2_000_000_000
"""A clock of ours that is so far ahead of the venue's makes no bar final while it is open."""
_GRANULARITY = re.compile(r"(?:^|&)granularity=([0-9]{1,9})(?=&|$)")
_SECOND = 1_000_000_000
_MOST_DIGITS = 40
"""A number with an exponent further from 0 has no place in any column."""


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
_candle_rows = _Rows(Candle)


def read_pages(batch: FrameBatch) -> Parsed:
    """Account for answers to one question."""
    asked = _ASKED.fullmatch(batch.context.request)
    question, symbol = (asked[2], asked[1]) if asked else ("", "")
    period = _period_of(asked[3] or "") if asked and question == "candles" else None
    if question == "trades" and TRADES.kind in taken(batch):
        return _read(batch, _trade_rows, lambda told: _trades(symbol, told))
    if period is not None and BARS.kind in taken(batch):
        rows = _candle_rows
        return _read(batch, rows, lambda told: _bars(batch, symbol, period, told))
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
    rows = [row for _, _, row in told]
    symbols = [symbol] * len(told)
    return RawEvents(
        channel=TRADES,
        frame=[index for index, _, _ in told],
        item=[item for _, item, _ in told],
        venue_symbol=symbols,
        symbol=symbols,
        native=[row.trade_id for row in rows],
        time=[row.time for row in rows],
        columns=trade_columns(rows),
    )


def _period_of(query: str) -> int | None:
    """Return the seconds of a bar that was asked for; None if it is none of ours."""
    asked = _GRANULARITY.findall(query)
    seconds = int(asked[-1]) if asked else 0
    return seconds if seconds in TIMEFRAMES else None


def _bars(
    batch: FrameBatch, symbol: str, period: int, told: Sequence[tuple[int, int, Candle]]
) -> RawEvents:
    """Return the bars of ``period`` seconds that rows tell, each with its frame and item.

    The last one of a page may still be open, and says so nowhere: its end does.
    """
    symbols, count = [symbol] * len(told), len(told)
    begins = [row[0] for _, _, row in told]
    ends = [begin + period for begin in begins]
    seen_ns = [int(batch.received_ns[index]) - SKEW_NS for index, _, _ in told]
    columns: dict[str, Any] = {
        "timeframe": [TIMEFRAMES[period]] * count,
        "session": ["UTC"] * count,
        "of": ["trade"] * count,
        "adjusted": ["false"] * count,
        "open_ts": Moments(begins, _SECOND),
        "close_ts": Moments(ends, _SECOND),
        "origin": ["backfill" if batch.context.purpose == "history" else "venue"] * count,
        "state": [
            "final" if end * _SECOND <= now else "provisional"
            for end, now in zip(ends, seen_ns, strict=True)
        ],
        "revision": [1] * count,
    }
    for place, name in enumerate(("low", "high", "open", "close", "volume"), 1):
        columns[name] = [_text(cast("Decimal", row[place])) for _, _, row in told]
    return RawEvents(
        channel=BARS,
        frame=[index for index, _, _ in told],
        item=[item for _, item, _ in told],
        venue_symbol=symbols,
        symbol=symbols,
        time=Moments(begins, _SECOND),
        columns=columns,
    )


def _text(number: Decimal) -> str:
    """Return an exact number as plain digits; one that is out of all bounds as it is."""
    within = number.is_finite() and abs(number.adjusted()) <= _MOST_DIGITS
    return format(number, "f") if within else str(number)
