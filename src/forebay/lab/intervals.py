"""Sets of whole numbers as intervals: memory grows with holes, not with members."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class TruthIntervals:
    """A set of integers kept as maximal, disjoint, ascending intervals, ends included."""

    __slots__ = ("_firsts", "_lasts")

    def __init__(self, intervals: Iterable[tuple[int, int]] = ()) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in intervals:
            self.add(first, last)

    def add(self, first: int, last: int | None = None) -> None:
        """Add ``first`` to ``last`` (or ``first`` alone); what is there already stays."""
        last = first if last is None else last
        lasts = self._lasts
        if lasts and first == lasts[-1] + 1:  # the common case: the next index
            lasts[-1] = last
            return
        low = bisect_left(lasts, first - 1)
        high = bisect_right(self._firsts, last + 1)
        if low < high:
            first = min(first, self._firsts[low])
            last = max(last, lasts[high - 1])
        self._firsts[low:high] = [first]
        lasts[low:high] = [last]

    def update(self, other: TruthIntervals) -> None:
        """Add all of ``other``."""
        for first, last in other:
            self.add(first, last)

    def minus(self, other: TruthIntervals) -> TruthIntervals:
        """A new set: these without those of ``other``."""
        left = TruthIntervals()
        for first, last in self:
            for a, b in other.within(first, last):
                if first < a:
                    left.add(first, a - 1)
                first = b + 1  # noqa: PLW2901 - the part before it is dealt with
            if first <= last:
                left.add(first, last)
        return left

    def within(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """The parts that lie in ``first`` to ``last``, ascending; none if that is empty."""
        if last < first:
            return
        for at in range(bisect_left(self._lasts, first), len(self._lasts)):
            if self._firsts[at] > last:
                return
            yield max(first, self._firsts[at]), min(last, self._lasts[at])

    def touches(self, first: int, last: int) -> bool:
        """Whether any member lies in ``first`` to ``last``."""
        return next(self.within(first, last), None) is not None

    def members(self) -> list[int]:
        """Every member; only for sets known to be small."""
        return [i for first, last in self for i in range(first, last + 1)]

    def __contains__(self, member: int) -> bool:
        at = bisect_left(self._lasts, member)
        return at < len(self._lasts) and self._firsts[at] <= member

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(list(zip(self._firsts, self._lasts, strict=True)))

    def __bool__(self) -> bool:
        return bool(self._firsts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TruthIntervals):
            return NotImplemented
        return self._firsts == other._firsts and self._lasts == other._lasts

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"TruthIntervals({list(self)})"
