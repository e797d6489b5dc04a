"""Order books in closed form: the book as of index ``i`` without its history.

Prices lie on a grid. A **middle** follows the trend of the trades, at most one line of the grid
in a block of events; the ``DEPTH`` lines below it are bids, those above it asks, and it is itself
empty. So a book is never crossed.

Line ``k`` changes at every ``PERIOD``-th index, each at its own turn. What it holds depends on
``k`` and on how often it has changed, and on nothing else, so that no line has to be followed:
every seventh of its changes empties it, and two in a row are never equal. Each index changes at
least one bid and one ask, and at most eight lines.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, ClassVar, Final

from forebay.lab.truth.event import TruthEvent
from forebay.lab.truth.texts import decimal_text, fixed
from forebay.lab.truth.trades import BLOCK, SWING, height

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from forebay.lab.truth.trades import Trades

DEPTH: Final = 24
"""Lines of the grid on each side; about six in seven hold something."""
PERIOD: Final = 16
"""Indices from one change of a line to its next. With twice as many bids and asks as a period
has indices no more than eight lines change at once."""

BID: Final = "bid"
ASK: Final = "ask"

_TURN = 5  # a step in which neighbours take their turns; coprime to the period
_EMPTY = 7
_SIZES = 1_000_000

Level = tuple[str, str]
"""Price and size."""
Change = tuple[str, str, str]
"""Side, price, and the size that is there now; 0 takes the level away."""


class Delta(TruthEvent, frozen=True):
    """What changed in the book at one index."""

    channel: ClassVar[str] = "book_delta"

    changes: tuple[Change, ...]

    def content(self) -> str:
        sides = (
            [(price, size) for at, price, size in self.changes if at == side] for side in (BID, ASK)
        )
        return "|".join(map(_lists, sides))


class SnapshotTruth(TruthEvent, frozen=True):
    """The whole book as of one index, best first."""

    channel: ClassVar[str] = "book_snapshot"

    bids: tuple[Level, ...]
    asks: tuple[Level, ...]

    def content(self) -> str:
        return f"{_lists(self.bids)}|{_lists(self.asks)}"


class BookTruth:
    """The book of one symbol at any index; holds nothing per event."""

    def __init__(self, trades: Trades) -> None:
        self.trades = trades
        name = f"{trades.seed}|{trades.venue}|{trades.symbol}|book|"
        self._dice = hashlib.blake2b(name.encode(), digest_size=8)
        swing, level = trades.level // 10, trades.level
        self._swing = swing
        self._low = level - swing // 2 + level // 1_000
        self._grid = -(-2 * BLOCK * swing // SWING)  # the trend of a block, rounded up

    def sides(self, index: int) -> tuple[tuple[Level, ...], tuple[Level, ...]]:
        """All bids and all asks as of ``index``, best first."""
        return tuple(self._levels(index, -1)), tuple(self._levels(index, 1))

    def delta(self, index: int) -> Delta:
        return Delta(*self.trades.head(index), self.changes(index))

    def snapshot(self, index: int) -> SnapshotTruth:
        """The whole book: what is told to somebody who subscribes then."""
        return SnapshotTruth(*self.trades.head(index), *self.sides(index))

    def best(self, index: int) -> tuple[Level, Level]:
        """Best bid and best ask as of ``index``."""
        return next(self._levels(index, -1)), next(self._levels(index, 1))

    def changes(self, index: int) -> tuple[Change, ...]:
        """What ``index`` changed; the first index makes the book from nothing."""
        middle, before = self._middle(index), self._middle(index - 1)
        if index:
            lines = self._touched(index, middle, before)
        else:
            lines, before = range(middle - DEPTH, middle + DEPTH + 1), -DEPTH
        found: list[Change] = []
        for line in lines:
            old = self._level(line, index - 1, before)
            new = self._level(line, index, middle)
            if old != new:
                found += self._told(line, old, new)
        return tuple(found)

    def _levels(self, index: int, step: int) -> Iterator[Level]:
        """Bids if ``step`` is -1, asks if it is 1, best first."""
        middle = self._middle(index)
        for line in range(middle + step, middle + step * (DEPTH + 1), step):
            if size := self._size(line, index):
                yield self._price(line), size

    def _middle(self, index: int) -> int:
        at = height(index - index % BLOCK)
        return (self._low * SWING + self._swing * at) // (self._grid * SWING)

    def _touched(self, index: int, middle: int, before: int) -> Iterable[int]:
        """Lines whose turn it is, and those that a move of the middle touches."""
        low, high = min(middle, before), max(middle, before)
        turn = index * pow(_TURN, -1, PERIOD) % PERIOD
        first = low - DEPTH + (turn - (low - DEPTH)) % PERIOD
        lines = set(range(first, high + DEPTH + 1, PERIOD))
        if middle != before:
            lines |= {low - DEPTH, low, high, high + DEPTH}
        return sorted(lines)

    def _level(self, line: int, index: int, middle: int) -> tuple[str, str]:
        """Side and size, both empty if nothing is there."""
        near = 0 < abs(line - middle) <= DEPTH
        size = self._size(line, index) if near else ""
        return (BID if line < middle else ASK, size) if size else ("", "")

    def _told(self, line: int, old: tuple[str, str], new: tuple[str, str]) -> Iterator[Change]:
        """How a change is told: what is there now, or that nothing is."""
        if old[0] and old[0] != new[0]:
            # Both spellings of nothing are heard of exchanges.
            yield old[0], self._price(line), "0" if line % 2 else "0.00000000"
        if new[0]:
            yield new[0], self._price(line), new[1]

    def _price(self, line: int) -> str:
        return decimal_text(line * self._grid, self.trades.price_decimals)

    def _size(self, line: int, index: int) -> str:
        """What a line holds while it is a bid or an ask, empty for nothing."""
        changed = (index - line * _TURN % PERIOD) // PERIOD  # how often, counted from anywhere
        if changed % _EMPTY == line % _EMPTY:
            return ""
        dice = self._dice.copy()
        dice.update(f"{line}|{changed}".encode())
        number = int.from_bytes(dice.digest(), "big") % _SIZES
        return decimal_text(2 * (1 + number) + changed % 2, line % 9)


def _lists(levels: Iterable[Level]) -> str:
    """Prices and sizes as canonical rows have lists."""
    prices, sizes = [], []
    for price, size in levels:
        prices.append(fixed(price))
        sizes.append(fixed(size))
    return f"{','.join(prices)}|{','.join(sizes)}"
