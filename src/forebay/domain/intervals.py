"""Sets of integers kept as closed intervals: their size is that of the holes, not the members."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np
    import numpy.typing as npt
else:
    from forebay.lazy import numpy as np

Interval = tuple[int, int]
"""``(first, last)``, both included."""
FAR = 1_000_000
"""An id that is so far from all others is not believed at once."""


class IntervalSet:
    """A set of integers as sorted, disjoint, non-adjacent closed intervals."""

    __slots__ = ("_firsts", "_lasts")

    def __init__(self, intervals: Iterable[Interval] = ()) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in intervals:
            self.add(first, last)

    def add(self, first: int, last: int | None = None, *, reach: int = 1) -> None:
        """Put in ``first`` to ``last``; a no-op when ``last < first``.

        It becomes one with what is no more than ``reach`` away, and so does what lies between.
        """
        if last is None:
            last = first
        if last < first:
            return
        firsts, lasts = self._firsts, self._lasts
        if lasts and lasts[-1] + 1 == first:  # the common case: the stream goes on
            lasts[-1] = last
            return
        # Everything that touches or overlaps [first, last] becomes one interval.
        low = bisect_left(lasts, first - reach)
        high = bisect_right(firsts, last + reach)
        if low < high:
            first = min(first, firsts[low])
            last = max(last, lasts[high - 1])
        firsts[low:high] = [first]
        lasts[low:high] = [last]

    def copy(self) -> IntervalSet:
        clone = IntervalSet()
        clone._firsts = self._firsts.copy()
        clone._lasts = self._lasts.copy()
        return clone

    def __iter__(self) -> Iterator[Interval]:
        return zip(self._firsts, self._lasts, strict=True)

    def __len__(self) -> int:
        """Count the intervals, not the members: see :meth:`count`."""
        return len(self._firsts)

    def __bool__(self) -> bool:
        return bool(self._firsts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, IntervalSet):
            return NotImplemented
        return self._firsts == other._firsts and self._lasts == other._lasts

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"IntervalSet({list(self)})"

    def __contains__(self, value: int) -> bool:
        index = bisect_left(self._lasts, value)
        return index < len(self._firsts) and self._firsts[index] <= value

    def contains(self, values: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Return which of ``values`` are members; shape (n,), as theirs."""
        if not self:
            return np.zeros(len(values), dtype=np.bool_)
        firsts, lasts = np.array(self._firsts), np.array(self._lasts)
        place = np.searchsorted(lasts, values)
        held: npt.NDArray[np.bool_] = firsts[np.minimum(place, len(lasts) - 1)] <= values
        return held & (place < len(lasts))

    @property
    def first(self) -> int:
        """Smallest member; raises ``IndexError`` when empty."""
        return self._firsts[0]

    @property
    def last(self) -> int:
        """Greatest member; raises ``IndexError`` when empty."""
        return self._lasts[-1]

    def end_of(self, value: int) -> int:
        """Return the last member of the interval that holds ``value``, or ``value`` itself."""
        index = bisect_left(self._lasts, value)
        inside = index < len(self._firsts) and self._firsts[index] <= value
        return self._lasts[index] if inside else value

    def count(self) -> int:
        return sum(self._lasts) - sum(self._firsts) + len(self._firsts)

    def joined(self, reach: int) -> IntervalSet:
        """Return the same with what is no more than ``reach`` apart in one interval."""
        pairs = enumerate(zip(self._firsts[1:], self._lasts, strict=False), 1)
        begins = [at for at, (first, last) in pairs if first - last > reach]
        result = IntervalSet()
        if self:
            result._firsts = [self._firsts[at] for at in (0, *begins)]
            result._lasts = [self._lasts[at - 1] for at in (*begins, len(self))]
        return result

    def within(self, first: int, last: int) -> IntervalSet:
        """Return the members between ``first`` and ``last``, both included."""
        result = IntervalSet()
        if last < first:
            return result
        low = bisect_left(self._lasts, first)
        high = bisect_right(self._firsts, last)
        result._firsts = self._firsts[low:high]
        result._lasts = self._lasts[low:high]
        if result:
            result._firsts[0] = max(result._firsts[0], first)
            result._lasts[-1] = min(result._lasts[-1], last)
        return result

    def holes(self, first: int, last: int) -> IntervalSet:
        """Return what is not a member between ``first`` and ``last``, both included."""
        result = IntervalSet()
        at = first
        for low, high in self.within(first, last):
            result.add(at, low - 1)
            at = high + 1
        result.add(at, last)
        return result

    def __and__(self, other: IntervalSet) -> IntervalSet:
        small, large = (self, other) if len(self) <= len(other) else (other, self)
        result = IntervalSet()
        for first, last in small:
            for low, high in large.within(first, last):
                result.add(low, high)
        return result

    def __sub__(self, other: IntervalSet) -> IntervalSet:
        result = IntervalSet()
        for first, last in self:
            for low, high in other.holes(first, last):
                result.add(low, high)
        return result

    def __or__(self, other: IntervalSet) -> IntervalSet:
        small, large = (self, other) if len(self) <= len(other) else (other, self)
        result = large.copy()
        for first, last in small:
            result.add(first, last)
        return result
