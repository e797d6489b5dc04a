"""Bars: the rows of a page of aggregates, and those that the stream tells."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from forebay.domain.parsed import DeadLetter, Moments, RawEvents
from forebay.sources.massive.channels import BARS, FOREX, MILLISECOND, SECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebay.domain.frames import FrameBatch
    from forebay.sources.massive.paths import AskedBars

SKEW_NS = 2_000_000_000
"""A clock of ours that is so far ahead of the venue's makes no bar final while it is open."""
_MOST_DIGITS = 40
"""A number with an exponent further from 0 has no place in any column."""
_DAY_MS, _SUNDAY, _MONDAY = 86_400_000, 3, 4


class BarRow(msgspec.Struct):
    """One row of a page; what is told of it but ``vw`` and ``n`` is never left out."""

    t: int
    """Its start, in milliseconds."""
    o: Decimal
    h: Decimal
    l: Decimal  # noqa: E741 - the venue's name
    c: Decimal
    v: Decimal
    vw: Decimal | None = None
    n: int | None = None


Told: TypeAlias = tuple[int, int, BarRow]
"""Frame, item and row."""


def on_grid(begin_ms: int, timeframe: str) -> bool:
    """Return whether a bar can begin then; a week begins with its Sunday or its Monday, UTC."""
    if timeframe == "1w":
        return begin_ms % _DAY_MS == 0 and begin_ms // _DAY_MS % 7 in (_SUNDAY, _MONDAY)
    return begin_ms % (SECONDS[timeframe] * 1000) == 0


def possible(row: BarRow) -> bool:
    """Return whether prices and volume can be those of a bar."""
    numbers = (row.o, row.h, row.l, row.c, row.v)
    if not all(number.is_finite() for number in numbers):
        return False
    return 0 < row.l <= min(row.o, row.c) and max(row.o, row.c) <= row.h and row.v >= 0


def sifted(page: Sequence[Told], asked: AskedBars, dead: list[DeadLetter]) -> list[Told]:
    """Return the rows of one page that can be what was asked for; the others go to ``dead``.

    Answers have held rows outside their window, off the grid, and several with one start. Of
    equal ones the first is the bar; of different ones nobody knows which is.
    """
    times = Counter(row.t for _, _, row in page)
    several = {begin for begin, count in times.items() if count > 1}
    first: dict[int, BarRow] = {}
    differing = set()
    for _, _, row in page if several else ():
        if row.t in several and first.setdefault(row.t, row) != row:
            differing.add(row.t)
    kept: list[Told] = []
    for frame, item, row in page:
        error = ""
        if not on_grid(row.t, asked.timeframe):
            error = f"{row.t} begins no bar of {asked.timeframe}"
        elif not asked.within(row.t):
            error = f"{row.t} is outside of {asked.first_ms} to {asked.last_ms}"
        if error:
            dead.append(DeadLetter(frame, item, "bad_time", error))
        elif row.t in differing:
            error = f"{times[row.t]} different bars of one page begin at {row.t}"
            dead.append(DeadLetter(frame, item, "bad_value", error))
        elif row.t in several and first[row.t] is not row:
            dead.append(DeadLetter(frame, item, "bad_value", f"bar {row.t} is told twice"))
        else:
            kept.append((frame, item, row))
    return kept


def bars(
    batch: FrameBatch,
    rows: Sequence[Told],
    *,
    market: str,
    symbols: Sequence[str],
    venue_symbols: Sequence[str],
    timeframes: Sequence[str],
    ends_ms: Sequence[int],
    adjusted: Sequence[bool],
    skew_ns: int = 0,
) -> RawEvents:
    """Return the bars of rows; one is final once it was over ``skew_ns`` before its receipt."""
    seen_ns = [int(batch.received_ns[frame]) - skew_ns for frame, _, _ in rows]
    count = len(rows)
    begins = Moments([row.t for _, _, row in rows], MILLISECOND)
    columns: dict[str, Any] = {
        "timeframe": timeframes,
        "session": ["UTC"] * count,
        "of": ["quote" if market == FOREX else "trade"] * count,
        "adjusted": ["true" if each else "false" for each in adjusted],
        "open_ts": begins,
        "close_ts": Moments(ends_ms, MILLISECOND),
        "open": [plain(row.o) for _, _, row in rows],
        "high": [plain(row.h) for _, _, row in rows],
        "low": [plain(row.l) for _, _, row in rows],
        "close": [plain(row.c) for _, _, row in rows],
        "volume": [plain(row.v) for _, _, row in rows],
        "trades": [row.n for _, _, row in rows],
        "vwap": [None if row.vw is None else plain(row.vw) for _, _, row in rows],
        "origin": ["backfill" if batch.context.purpose == "history" else "venue"] * count,
        "state": [
            "final" if end * MILLISECOND <= now else "provisional"
            for end, now in zip(ends_ms, seen_ns, strict=True)
        ],
        "revision": [1] * count,
    }
    return RawEvents(
        channel=BARS,
        market=market,
        frame=[frame for frame, _, _ in rows],
        item=[item for _, item, _ in rows],
        venue_symbol=venue_symbols,
        symbol=symbols,
        time=begins,
        columns=columns,
    )


def plain(number: Decimal) -> str:
    """Return an exact number as plain digits; one that is out of all bounds as it is."""
    within = number.is_finite() and abs(number.adjusted()) <= _MOST_DIGITS
    return format(number, "f") if within else str(number)
