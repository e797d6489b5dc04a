"""Candlesticks: what was traded and quoted in a period that is over, named by its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from forebay.lab.exchanges.kalshi.documents import both
from forebay.lab.exchanges.kalshi.truth import (
    COUNT_DECIMALS,
    DECIMALS,
    KalshiBook,
    volume,
)
from forebay.lab.truth import Bars
from forebay.lab.truth.bars import Sum
from forebay.lab.truth.texts import decimal_text
from forebay.lab.truth.trades import SIZE_DECIMALS

if TYPE_CHECKING:
    from forebay.clock import Clock
    from forebay.lab.exchanges.kalshi.truth import KalshiTrades

MINUTES: Final = (1, 60, 1440)
MOST: Final = 10_000
"""Candlesticks of one answer."""
_S = 1_000_000_000
_LOOKS = 6
"""So often is the book looked at in a period."""


class Candles:
    """Those of one market."""

    def __init__(self, trades: KalshiTrades, clock: Clock) -> None:
        self._trades = trades
        self._clock = clock
        self._book = KalshiBook(trades)
        self._bars = Bars(trades)

    async def between(
        self, first_s: int, end_s: int, minutes: int, last: int, *, before: bool = False
    ) -> list[dict[str, Any]]:
        """Return those whose end lies in a range, both ends included, up to the index ``last``.

        With ``before``, what was before the first of them is told by one that begins where it does.
        """
        step_s, trades = minutes * 60, self._trades
        newest_s = (trades.time_ns(last) if last >= 0 else trades.life.open_ns) // _S
        open_s = trades.life.open_ns // _S
        begin = max(-(-first_s // step_s), open_s // step_s + 1)
        found = []
        for number in range(begin, min(end_s, newest_s) // step_s + 1):
            made = Sum()
            since_ns, until_ns = (number - 1) * step_s * _S, number * step_s * _S
            for part in self._bars.parts(since_ns, until_ns, last):
                made.add(part)
                await self._clock.sleep(0)
            found.append(self._candle(since_ns, until_ns, made))
        if before and found:
            at_ns = (begin - 1) * step_s * _S
            found.insert(0, {**self._candle(at_ns, at_ns, Sum()), "end_period_ts": first_s})
        return found

    def _candle(self, since_ns: int, until_ns: int, made: Sum) -> dict[str, Any]:
        first = max(0, self._trades.index_at(since_ns - 1))
        last = max(first, self._trades.index_at(until_ns - 1))
        step = max(1, (last - first) // _LOOKS)
        looks = [self._book.best(index) for index in (*range(first, last, step), last)]
        bids, asks = [bid for (bid, _), _ in looks], [ask for _, (ask, _) in looks]
        count = decimal_text(made.volume // 10 ** (SIZE_DECIMALS - COUNT_DECIMALS), COUNT_DECIMALS)
        return {
            "end_period_ts": until_ns // _S,
            "yes_bid": _quoted(bids),
            "yes_ask": _quoted(asks),
            "price": self._traded(made, first),
            **both(volume_fp=count, open_interest_fp=volume(last)),
        }

    def _traded(self, made: Sum, first: int) -> dict[str, Any]:
        """Prices of trades, all null where there was none."""
        before = self._trades.event(first).price
        if not made.volume:
            names = ("open", "high", "low", "close", "mean", "min", "max")
            return dict.fromkeys(names) | both(previous_dollars=before)
        units = (made.open, made.high, made.low, made.close)
        opened, high, low, close = (decimal_text(each, DECIMALS) for each in units)
        return both(
            open_dollars=opened,
            high_dollars=high,
            low_dollars=low,
            close_dollars=close,
            mean_dollars=close,
            min_dollars=low,
            max_dollars=high,
            previous_dollars=before,
        )


def _quoted(prices: list[str]) -> dict[str, Any]:
    return both(
        open_dollars=prices[0],
        high_dollars=max(prices),
        low_dollars=min(prices),
        close_dollars=prices[-1],
    )
