"""The log of what each fault and outage withheld, and of how sure that is.

An index is **certainly withheld** if no connection was ever sent its whole frame. What
was sent may still have been lost in the peer if the peer was killed, so it is **in doubt**
until the peer has proved that it read, and had time to keep, what came before.

The proof is websocket ping and pong. A pong shows that everything before its ping was
read; what was read may still wait for the peer's group commit. Therefore a pong confirms
only what had been *answered* at least :data:`SETTLE_NS` before its own ping was sent.

Sets of indices are intervals, so the ledger grows with holes and not with events.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict, deque
from collections.abc import Hashable
from itertools import chain
from typing import TYPE_CHECKING, Final, NotRequired, TypedDict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SETTLE_NS: Final = 250_000_000
"""Time that a peer is granted, after it answered a ping, to make durable what it had read."""

OUTAGE: Final = "outage"
"""Withheld because nobody was subscribed."""

_WINDOWS = 600  # kept apart per connection; beyond it the oldest two become one


class Withheld(TypedDict):
    """What the ledger says of one stream; intervals are ``(first, last, reasons)``."""

    certain: list[tuple[int, int, str]]
    in_doubt: list[tuple[int, int, str]]
    poison: list[int]
    poison_in_doubt: list[int]
    late_or_duplicate: NotRequired[dict[str, int]]


class TruthIntervals:
    """A set of integers kept as maximal, disjoint, ascending intervals, ends included."""

    __slots__ = ("_firsts", "_lasts")

    def __init__(self, intervals: Iterable[tuple[int, int]] = ()) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        self.update(intervals)

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

    def update(self, intervals: Iterable[tuple[int, int]]) -> None:
        for first, last in intervals:
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

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(list(zip(self._firsts, self._lasts, strict=True)))


class IndexSets(defaultdict[Hashable, TruthIntervals]):
    """Sets of indices by stream, reason or whatever they are kept apart by."""

    def __init__(self) -> None:
        super().__init__(TruthIntervals)

    def merge(self, other: IndexSets) -> None:
        for key, indices in other.items():
            self[key].update(indices)

    def union(self) -> TruthIntervals:
        """A new set: all of them together."""
        return TruthIntervals(chain.from_iterable(self.values()))


class Account:
    """What one connection was sent, until it is confirmed: by stream, and whether it was torn."""

    def __init__(self, confirmed: IndexSets) -> None:
        self._confirmed = confirmed
        self._current = IndexSets()
        self._windows: deque[tuple[int, IndexSets]] = deque()
        # What was sent before a ping, by its number, and after the window before it.
        self._pings: deque[tuple[int, int]] = deque(maxlen=_WINDOWS)  # number, settled by then
        self._answers: deque[tuple[int, int]] = deque(maxlen=_WINDOWS)  # number, when
        self._last_ping = 0
        self._settled = 0

    def wrote(self, stream: str, index: int, *, torn: bool = False) -> None:
        """A frame went into the socket, whole or ``torn``, which is poison."""
        self._current[stream, torn].add(index)

    def ping(self, now_ns: int) -> int:
        """Number of the ping to be sent now."""
        self._last_ping += 1
        while self._answers and self._answers[0][1] <= now_ns - SETTLE_NS:
            self._settled = self._answers.popleft()[0]
        self._pings.append((self._last_ping, self._settled))
        if self._current:
            self._windows.append((self._last_ping, self._current))
            self._current = IndexSets()
        if len(self._windows) > _WINDOWS:
            _, oldest = self._windows.popleft()
            self._windows[0][1].merge(oldest)
        return self._last_ping

    def pong(self, number: int, now_ns: int) -> None:
        """The peer answered ping ``number``; an answer to no ping of ours means nothing."""
        settled = None
        while self._pings and self._pings[0][0] <= number <= self._last_ping:
            answered, settled = self._pings.popleft()
            if answered == number:
                self._answers.append((number, now_ns))
        if settled is None:
            return
        while self._windows and self._windows[0][0] <= settled:
            self._confirmed.merge(self._windows.popleft()[1])

    @property
    def confirmed(self) -> bool:
        """Whether nothing that was sent waits to be confirmed."""
        return not (self._windows or self._current)

    def unconfirmed(self) -> IndexSets:
        sent = IndexSets()
        for each in (*(window for _, window in self._windows), self._current):
            sent.merge(each)
        return sent


class DeliveryLedger:
    """What happened to every index of every stream, over all connections."""

    def __init__(self) -> None:
        self._confirmed = IndexSets()
        self._doubtful: defaultdict[str, IndexSets] = defaultdict(IndexSets)  # by reason
        self._reasons: defaultdict[str, IndexSets] = defaultdict(IndexSets)  # stream, then reason
        self._counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._open: set[Account] = set()

    def open_account(self) -> Account:
        account = Account(self._confirmed)
        self._open.add(account)
        return account

    def close_account(self, account: Account, reason: str) -> None:
        """The connection is over: what it did not confirm stays in doubt. Idempotent."""
        if account in self._open:
            self._open.remove(account)
            self._doubtful[reason].merge(account.unconfirmed())

    def note(self, stream: str, index: int, reason: str) -> None:
        """Why this index was withheld, if it turns out that it was."""
        self._reasons[stream][reason].add(index)

    def count(self, stream: str, fault: str) -> None:
        self._counts[stream][fault] += 1

    def nothing(self, stream: str, index: int, last: int | None = None) -> None:
        """There is nothing to be told at this index, so that nothing of it can be withheld.

        The same of all up to ``last``, if that is given.
        """
        self._confirmed[stream, False].add(index, last)

    def settled(self) -> bool:
        """Whether no open connection has anything unconfirmed."""
        return not any(account.unconfirmed() for account in self._open)

    def report(self, stream: str, first: int, last: int, held: Iterable[int] = ()) -> Withheld:
        """What was withheld from the first index owed to the last one that happened.

        Those in ``held`` are kept back now and may still be sent, so they are in doubt.
        """
        doubts = self._doubts(stream, torn=False)
        doubts["held"].update((index, index) for index in held)
        doubtful = TruthIntervals(doubts.union().within(first, last))
        confirmed = self._confirmed[stream, False]
        owed = TruthIntervals([(first, last)] if first <= last else [])
        poison = TruthIntervals(self._confirmed[stream, True].within(first, last))
        poison_in_doubt = TruthIntervals(
            self._doubts(stream, torn=True).union().within(first, last)
        )
        return {
            "certain": _labelled(owed.minus(confirmed).minus(doubtful), self._reasons[stream]),
            "in_doubt": _labelled(doubtful.minus(confirmed), doubts),
            "poison": _members(poison),
            "poison_in_doubt": _members(poison_in_doubt.minus(poison)),
            "late_or_duplicate": {
                fault: self._counts[stream][fault] for fault in ("late", "duplicate", "reorder")
            },
        }

    def _doubts(self, stream: str, *, torn: bool) -> IndexSets:
        """Indices that may have arrived, by why that is not known."""
        doubts = IndexSets()
        unconfirmed = (("unconfirmed", account.unconfirmed()) for account in self._open)
        for reason, sent in (*self._doubtful.items(), *unconfirmed):
            doubts[reason].update(sent[stream, torn])
        return doubts


def _members(indices: TruthIntervals) -> list[int]:
    return [index for first, last in indices for index in range(first, last + 1)]


def _labelled(indices: TruthIntervals, reasons: IndexSets) -> list[tuple[int, int, str]]:
    """Maximal intervals with all the reasons that touch them, such as ``drop+outage``."""
    return [
        (
            first,
            last,
            "+".join(sorted(str(r) for r, s in reasons.items() if any(s.within(first, last)))),
        )
        for first, last in indices
    ]
