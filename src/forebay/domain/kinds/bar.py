"""Bars: what a market did in one period."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from forebay.domain.calendars.grid import open_at
from forebay.domain.kinds.checks import Checks, EventKind, true_where
from forebay.domain.schema import DECIMAL, TIME

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from forebay.domain.calendars import Calendar

TIMEFRAMES = ("1s", "1m", "5m", "15m", "1h", "4h", "1d", "1w")
SESSIONS = ("UTC", "NY17", "NY00")
"""What a day is: from midnight UTC, or from 17:00 or midnight in New York."""
OF = ("trade", "bid", "ask", "mid", "quote")
"""``quote`` where a venue makes them of quotes and does not say of which side."""
ORIGINS = ("venue", "aggregated", "backfill")
STATES = ("provisional", "final")
_PRICES = ("open", "high", "low", "close")


def check_bar(checks: Checks) -> None:
    """Reject bars unless ``low <= open, close <= high`` and they end after they begin."""
    for name, values in (
        ("timeframe", TIMEFRAMES),
        ("session", SESSIONS),
        ("of", OF),
        ("origin", ORIGINS),
        ("state", STATES),
    ):
        checks.choice(name, values)
    checks.truth("adjusted")
    begin, end = checks.time("open_ts"), checks.time("close_ts")
    prices = {name: checks.positive(name, "bad_price") for name in _PRICES}
    checks.not_negative("volume", "bad_size")
    checks.integer("trades", optional=True)
    checks.positive("vwap", "bad_price", optional=True)
    checks.integer("revision", least=1)
    for name in _PRICES:
        outside = pc.or_(
            pc.less(prices[name], prices["low"]), pc.greater(prices[name], prices["high"])
        )
        checks.reject_where(true_where(outside), "bad_price", prices[name])
    checks.reject_where(true_where(pc.greater_equal(begin, end)), "bad_time", end)


def fills_closed_hours(rows: pa.Table, calendar: Calendar) -> npt.NDArray[np.bool_]:
    """Return which bars are flat, without volume and wholly in closed hours; shape (n,)."""
    flat = pc.equal(rows["volume"], pa.scalar(0, DECIMAL))
    for name in _PRICES[1:]:
        flat = pc.and_(flat, pc.equal(rows[name], rows["open"]))
    found = true_where(flat)
    if found.any():
        ends = (rows[name].cast(pa.int64()).to_numpy()[found] for name in ("open_ts", "close_ts"))
        found[found] = ~open_at(calendar, *ends)
    return found


BAR = EventKind(
    channel="bar",
    table="bars",
    topic="aggregate_archive",
    columns=pa.schema(
        [
            ("timeframe", pa.string()),
            ("session", pa.string()),
            ("of", pa.string()),
            ("adjusted", pa.bool_()),
            ("open_ts", TIME),
            ("close_ts", TIME),
            *((name, DECIMAL) for name in (*_PRICES, "volume")),
            ("trades", pa.int64()),
            ("vwap", DECIMAL),
            ("origin", pa.string()),
            ("state", pa.string()),
            ("revision", pa.int64()),
        ]
    ),
    check=check_bar,
    fills_closed_hours=fills_closed_hours,
    idempotent=True,
    telling=(
        *("timeframe", "session", "of", "adjusted", "open_ts", "close_ts", *_PRICES, "volume"),
        *("trades", "vwap", "state", "revision"),
    ),
)
"""``close_ts`` is exclusive. How a bar came to us, ``origin``, is no content: the venue's and the
one that was filled in later are one bar."""
