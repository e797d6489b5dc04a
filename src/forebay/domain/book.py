"""An order book: what a snapshot and the changes since then amount to, exactly.

Prices and sizes are integers in units of 10**-18, as the columns of events have them
(:data:`~forebay.domain.schema.DECIMAL_PLACES`): of all exact numbers they are the quickest to
hash and to compare. A size is what a level has from now on, and 0 takes it away; or it is what is
added to the level, and one that has nothing left is gone.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from operator import neg
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from forebay.domain.schema import DECIMAL_PLACES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pyarrow as pa

Level = tuple[int, int]
"""Price and size."""

UNSORTED_AFTER = 256
"""So many levels may come and go between two looks at the best ones and be put in their place one
by one; where more do, sorting them all at the next look costs less."""
_UNIT = 10**DECIMAL_PLACES


class Levels(NamedTuple):
    """Levels of one side, prices beside sizes; ``n`` of each, in the order of their telling."""

    prices: Sequence[int] = ()
    sizes: Sequence[int] = ()


class Side:
    """One side of a book; ``sign`` is 1 where the highest price is the best, else -1."""

    __slots__ = ("_moved", "_order", "_sign", "_sizes")

    def __init__(self, sign: Literal[1, -1]) -> None:
        self._sign = sign
        self._sizes: dict[int, int] = {}
        """By price times sign, so that the greatest is the best. Without an order, some are 0."""
        self._order: list[int] | None = None
        """The same prices in order; None if nobody has looked since many have changed."""
        self._moved = 0

    def apply(self, levels: Levels) -> None:
        """Give levels their sizes, one after the other."""
        prices, told = levels
        if self._order is not None and len(prices) + self._moved > UNSORTED_AFTER:
            self._order = None
        order, sizes, sign = self._order, self._sizes, self._sign
        if order is None:
            keys: Iterable[int] = prices if sign > 0 else map(neg, prices)
            sizes.update(zip(keys, told, strict=True))
            return
        for at, size in enumerate(told):
            key = prices[at] if sign > 0 else -prices[at]
            if not size:
                if key in sizes:
                    del sizes[key], order[bisect_left(order, key)]
                    self._moved += 1
            elif key in sizes:
                sizes[key] = size
            else:
                sizes[key] = size
                insort(order, key)
                self._moved += 1

    def add(self, levels: Levels) -> bool:
        """Add to the sizes of levels, one after the other.

        Return False where more would be taken from one than it has; nothing behind it is done.
        """
        prices, told = levels
        if self._order is not None and len(prices) + self._moved > UNSORTED_AFTER:
            self._order = None
        order, sizes, sign = self._order, self._sizes, self._sign
        for at, change in enumerate(told):
            key = prices[at] if sign > 0 else -prices[at]
            before = sizes.get(key, 0)
            size = before + change
            if size < 0:
                return False
            if order is None:
                sizes[key] = size
            elif size:
                sizes[key] = size
                if not before:
                    insort(order, key)
                    self._moved += 1
            elif before:
                del sizes[key], order[bisect_left(order, key)]
                self._moved += 1
        return True

    def best(self, count: int | None = None) -> list[Level]:
        """Return the ``count`` best levels that there are, or all of them, best first."""
        order, sizes, sign = self._sorted(), self._sizes, self._sign
        first = 0 if count is None else max(len(order) - count, 0)
        return [(key * sign, sizes[key]) for key in reversed(order[first:])]

    @property
    def best_price(self) -> int | None:
        """The best price; None if the side is empty."""
        order = self._sorted()
        return order[-1] * self._sign if order else None

    def __len__(self) -> int:
        return len(self._sorted())

    def keep(self, depth: int) -> bool:
        """Forget all but the ``depth`` best levels; return whether there were more."""
        order = self._sorted()
        lost = order[: max(len(order) - depth, 0)]
        for key in lost:
            del self._sizes[key]
        del order[: len(lost)]
        return bool(lost)

    def _sorted(self) -> list[int]:
        self._moved = 0
        if self._order is None:
            self._sizes = {key: size for key, size in self._sizes.items() if size}
            self._order = sorted(self._sizes)
        return self._order


class Book:
    """A book of one market; nothing is known of it before its first snapshot.

    A venue that tells the ``depth`` best levels of each side alone says nothing when a level
    leaves them, so those behind are forgotten; None: it tells the whole book. Where it tells
    ``relative`` changes, one that takes more from a level than it has shows that something is
    missing: the book is unknown then, until its next snapshot.
    """

    def __init__(self, depth: int | None = None, *, relative: bool = False) -> None:
        self._depth = depth
        self._relative = relative
        self._partly = [False, False]
        self.state: Literal["known", "unknown"] = "unknown"
        self.bids, self.asks = Side(1), Side(-1)

    def replace(self, bids: Levels, asks: Levels) -> None:
        """Take a snapshot: nothing of what was before remains."""
        self.bids, self.asks, self.state = Side(1), Side(-1), "known"
        depth = self._depth
        self._partly = [depth is not None and len(side.prices) >= depth for side in (bids, asks)]
        self.bids.apply(bids)
        self.asks.apply(asks)
        self._keep_depth()

    def apply(self, bids: Levels, asks: Levels) -> None:
        """Take changes; before the first snapshot they say nothing of the book."""
        if self.state == "unknown":
            return
        if self._relative:
            told = not bids.prices or self.bids.add(bids)
            if not (told and (not asks.prices or self.asks.add(asks))):
                self.bids, self.asks, self.state = Side(1), Side(-1), "unknown"
        else:
            if bids.prices:
                self.bids.apply(bids)
            if asks.prices:
                self.asks.apply(asks)
        if self._depth is not None:
            self._keep_depth()

    def _keep_depth(self) -> None:
        if self._depth is not None:
            self._partly[0] |= self.bids.keep(self._depth)
            self._partly[1] |= self.asks.keep(self._depth)

    @property
    def crossed(self) -> bool:
        """Whether the best bid is not below the best ask."""
        bid, ask = self.bids.best_price, self.asks.best_price
        return bid is not None and ask is not None and bid >= ask

    @property
    def known_to(self) -> tuple[int | None, int | None]:
        """Down to which bid and up to which ask all levels are known; None: the whole side.

        A side of which only a part is known, and nothing is left, is known to no price: 0.
        """
        bid, ask = (
            (levels[-1][0] if (levels := side.best()) else 0) if partly else None
            for side, partly in zip((self.bids, self.asks), self._partly, strict=True)
        )
        return bid, ask


def scaled(values: pa.Array) -> list[int]:
    """Return decimals without nulls as integers in units of 10**-18."""
    raw = np.frombuffer(values.buffers()[1] or b"", dtype="<i8")
    halves = raw.reshape(-1, 2)[values.offset : values.offset + len(values)]
    low = halves[:, 0].view(np.uint64).tolist()
    if not halves[:, 1].any():
        return low  # type: ignore[no-any-return]
    return [high << 64 | part for high, part in zip(halves[:, 1].tolist(), low, strict=True)]


def levels_of(rows: pa.Table, side: Literal["bid", "ask"]) -> Levels:
    """Return all levels of one side in rows of snapshots or changes, in their order."""
    prices, sizes = (
        scaled(rows[name].combine_chunks().flatten())
        for name in (f"{side}_prices", f"{side}_sizes")
    )
    return Levels(prices, sizes)


def text_of(value: int) -> str:
    """Return a number in units of 10**-18 as a decimal without trailing zeros."""
    whole, part = divmod(value, _UNIT)
    return f"{whole}.{part:0{DECIMAL_PLACES}d}".rstrip("0").rstrip(".")
