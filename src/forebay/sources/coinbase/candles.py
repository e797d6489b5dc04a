"""Candles, which REST answers: rows of JSON numbers, newest first, none where nothing traded."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

from forebay.domain.parsed import Moments, RawEvents
from forebay.sources.coinbase.channels import BARS, MARKET, PERIODS_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebay.domain.frames import FrameBatch

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


def period_of(query: str) -> int | None:
    """Return the seconds of a bar that was asked for; None if it is none of ours."""
    asked = _GRANULARITY.findall(query)
    seconds = int(asked[-1]) if asked else 0
    return seconds if seconds in TIMEFRAMES else None


def bars(
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
        market=MARKET,
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
