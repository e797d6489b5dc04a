"""Bars: exactly what the trades of a period make, computed from those trades alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from forebay.lab.truth.event import TruthEvent
from forebay.lab.truth.texts import decimal_text, fixed
from forebay.lab.truth.trades import SIZE_DECIMALS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forebay.lab.truth.trades import Trades

MINUTE_NS: Final = 60_000_000_000

_SLICE = 2_000  # trades looked at before somebody else gets a turn
_KEPT = 4_096  # minutes that are remembered


class Bar(TruthEvent, frozen=True):
    """One minute that is over; it belongs to the index of its last trade."""

    channel: ClassVar[str] = "bar"
    of: ClassVar[str] = "trade"
    """What it is made of."""

    close_ts: int
    open: str
    high: str
    low: str
    close: str
    volume: str

    def content(self) -> str:
        prices = "|".join(map(fixed, (self.open, self.high, self.low, self.close, self.volume)))
        head = f"1m|UTC|{self.of}|false|{self.event_ts}|{self.close_ts}"
        return f"{head}|{prices}||{self.mean()}|final|1"  # no count of trades is told

    def mean(self) -> str:
        """The weighted mean as it is told; nothing if it is not."""
        return ""


@dataclass(slots=True)
class Sum:
    """What some trades make; prices and volume in units of the last decimal."""

    open: int = 0
    high: int = 0
    low: int = 0
    close: int = 0
    volume: int = 0

    def add(self, other: Sum) -> None:
        """Add trades that come later."""
        if not other.volume:
            return
        if not self.volume:
            self.open, self.high, self.low = other.open, other.high, other.low
        self.high, self.low = max(self.high, other.high), min(self.low, other.low)
        self.close = other.close
        self.volume += other.volume


class Bars:
    """Bars of one symbol, of a minute or another length; those that are over are remembered."""

    def __init__(self, trades: Trades, step_ns: int = MINUTE_NS) -> None:
        self.trades = trades
        self.step_ns = step_ns
        self._minutes: dict[tuple[int, int], Sum] = {}
        # By indices, which tell the same whenever the market began.

    def event(self, index: int) -> Bar | None:
        """The bar that ends with this index."""
        trades = self.trades
        at, after = trades.time_ns(index), trades.time_ns(index + 1)
        if at // self.step_ns == after // self.step_ns:
            return None
        open_ns = at - at % self.step_ns
        made = self.sum(open_ns, open_ns + self.step_ns, index)
        close_ns = open_ns + self.step_ns
        return Bar(index, trades.venue, trades.symbol, open_ns, close_ns, *self.texts(made))

    def texts(self, made: Sum) -> tuple[str, str, str, str, str]:
        """Open, high, low, close and volume as decimals."""
        prices = (made.open, made.high, made.low, made.close)
        opened, high, low, close = (decimal_text(p, self.trades.price_decimals) for p in prices)
        return opened, high, low, close, decimal_text(made.volume, SIZE_DECIMALS)

    def sum(self, begin_ns: int, end_ns: int, last: int) -> Sum:
        """What the trades of a period make, of those up to index ``last``."""
        made = Sum()
        for part in self.parts(begin_ns, end_ns, last):
            made.add(part)
        return made

    def parts(self, begin_ns: int, end_ns: int, last: int) -> Iterator[Sum]:
        """The same in parts, one after the other, each of which takes little time to make.

        Both ends are whole steps.
        """
        for open_ns in range(begin_ns, end_ns, self.step_ns):
            yield from self._minute(open_ns, last)

    def _minute(self, open_ns: int, last: int) -> Iterator[Sum]:
        trades = self.trades
        first = trades.index_at(open_ns - 1) + 1
        end = trades.index_at(open_ns + self.step_ns - 1) + 1
        if (first, end) in self._minutes and end <= last + 1:
            yield self._minutes[first, end]
            return
        made, stop = Sum(), min(end, last + 1)
        for low in range(first, stop, _SLICE):
            part = Sum()
            for index in range(low, min(low + _SLICE, stop)):
                price, size = trades.units(index)
                part.add(Sum(price, price, price, price, size))
            made.add(part)
            yield part
        if end <= last + 1:
            if len(self._minutes) >= _KEPT:
                self._minutes.pop(next(iter(self._minutes)))
            self._minutes[first, end] = made
