"""Bars of any length from those of a minute, page by page; nothing is kept of them."""

from __future__ import annotations

from decimal import Decimal
from itertools import groupby
from typing import TYPE_CHECKING, Final

from forebay.lab.truth import Bars
from forebay.lab.truth.histories import MINUTE_MS, BarLine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forebay.lab.exchanges.market import Market
    from forebay.lab.truth.histories import BarHistory

_MS = 1_000_000
DAY_MS: Final = 86_400_000
SPANS: Final = {
    "second": 1_000,
    "minute": MINUTE_MS,
    "hour": 60 * MINUTE_MS,
    "day": DAY_MS,
    "week": 7 * DAY_MS,
}
_SUNDAY_MS = 3 * DAY_MS  # 1970-01-04


class LiveBars:
    """What the market's own trades made, up to now."""

    def __init__(self, market: Market, symbol: str, step_ms: int) -> None:
        self.step_ms = step_ms
        self._market = market
        self._bars = Bars(market.trades[symbol], step_ms * _MS)

    def between(self, first_ms: int, last_ms: int) -> Iterator[BarLine]:
        """See :class:`~forebay.lab.truth.histories.BarHistory`."""
        bars, trades = self._bars, self._bars.trades
        last = self._market.last(trades.symbol)
        step_ns = self.step_ms * _MS
        begin = max(first_ms * _MS, trades.time_ns(0) // step_ns * step_ns)
        end = min(last_ms * _MS, trades.time_ns(last))
        for open_ns in range(-(-begin // step_ns) * step_ns, end + 1, step_ns):
            made = bars.sum(open_ns, open_ns + step_ns, last)
            if made.volume:
                yield BarLine(open_ns // _MS, *bars.texts(made))


def groups(
    history: BarHistory, size_ms: int, first_ms: int, last_ms: int
) -> Iterator[tuple[BarLine, int]]:
    """Return bars of a length that begin in a range, and of how many each is made."""
    if size_ms == history.step_ms:
        yield from ((line, 1) for line in history.between(first_ms, last_ms))
        return
    if size_ms % history.step_ms:
        return
    shift = _SUNDAY_MS if size_ms % (7 * DAY_MS) == 0 else 0
    begin = -(-(first_ms - shift) // size_ms) * size_ms + shift
    end = (last_ms - shift) // size_ms * size_ms + shift + size_ms - 1

    def of(line: BarLine) -> int:
        return (line.open_ms - shift) // size_ms * size_ms + shift

    for open_ms, grouped in groupby(history.between(begin, end), of):
        made, *lines = grouped
        high, low, close, volume = made.high, made.low, made.close, made.volume
        for line in lines:
            high, low = max(high, line.high, key=Decimal), min(low, line.low, key=Decimal)
            close, volume = line.close, f"{Decimal(volume) + Decimal(line.volume):f}"
        yield BarLine(open_ms, made.open, high, low, close, volume), 1 + len(lines)
