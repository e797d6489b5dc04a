"""What REST answers: pages of trades, and candles.

Candles are rows of JSON numbers, newest first, none where nothing traded.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from forebay.domain.parsed import Parsed, RawEvents
from forebay.sources.coinbase.messages import trade_columns
from forebay.sources.coinbase.protocol import BARS, MARKET, PERIODS_S, TRADES, taken
from forebay.sources.parsing import SKEW_NS, PageReader, bars

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from forebay.domain.frames import FrameBatch
    from forebay.sources.parsing import Placed

_ASKED = re.compile(r"GET /products/([^/?]+)/(trades|candles)(?:\?(.*))?")
Candle = tuple[int, Decimal, Decimal, Decimal, Decimal, Decimal]
"""Start in seconds, low, high, open, close, volume; the numbers exactly as they are written."""

TIMEFRAMES = {seconds: timeframe for timeframe, seconds in PERIODS_S.items()}
"""By granularity in seconds."""
_GRANULARITY = re.compile(r"(?:^|&)granularity=([0-9]{1,9})(?=&|$)")


class _Trade(msgspec.Struct):
    trade_id: int
    price: str
    size: str
    side: str
    time: str


_trade_pages = PageReader(_Trade)
_candle_pages = PageReader(Candle)


def read_pages(batch: FrameBatch) -> Parsed:
    """Account for answers to one question."""
    asked = _ASKED.fullmatch(batch.context.request)
    question, symbol = (asked[2], asked[1]) if asked else ("", "")
    period = _period_of(asked[3] or "") if asked and question == "candles" else None
    if question == "trades" and TRADES.kind in taken(batch):
        return _read(batch, _trade_pages, lambda rows: _trades(symbol, rows))
    if period is not None and BARS.kind in taken(batch):
        return _read(batch, _candle_pages, lambda rows: _bars(batch, symbol, period, rows))
    # An answer that holds no events, such as the list of products.
    parsed = Parsed(control=len(batch))
    if question != "trades" and period is None:
        parsed.unbuilt[batch.context.request.partition("?")[0]] = len(batch)
    return parsed


def _read(
    batch: FrameBatch, reader: PageReader, events: Callable[[Sequence[Placed]], RawEvents]
) -> Parsed:
    """Account for pages; ``events`` are made of their rows."""
    parsed = Parsed()
    told: list[Placed] = []
    for frame, payload in enumerate(batch.payloads):
        read = reader.read(frame, payload, parsed.dead)
        if read is not None:
            parsed.control += not read.page  # an empty page says that there is no more
            told += read.rows
    parsed.events = [events(told)] if told else []
    return parsed


def _trades(symbol: str, told: Sequence[Placed]) -> RawEvents:
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


def _bars(batch: FrameBatch, symbol: str, period: int, told: Sequence[Placed]) -> RawEvents:
    """Return the bars of ``period`` seconds that rows tell.

    The last one of a page may still be open, and says so nowhere: its end does.
    """
    symbols = [symbol] * len(told)
    begins, low, high, opened, close, volume = zip(*(row for *_, row in told), strict=True)
    return bars(
        batch,
        BARS,
        told,
        market=MARKET,
        symbol=symbols,
        venue_symbol=symbols,
        timeframe=TIMEFRAMES[period],
        of="trade",
        adjusted=False,
        begins=begins,
        ends=[begin + period for begin in begins],
        skew_ns=SKEW_NS,
        columns={"open": opened, "high": high, "low": low, "close": close, "volume": volume},
    )
