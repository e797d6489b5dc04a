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

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NotRequired, TypedDict

from forebay.lab.intervals import TruthIntervals

if TYPE_CHECKING:
    from collections.abc import Iterable

SETTLE_NS: Final = 250_000_000
"""Time that a peer is granted, after it answered a ping, to make durable what it had read."""

OUTAGE: Final = "outage"
"""Withheld because nobody was subscribed."""

_WINDOWS = 600  # kept apart per connection; beyond it the oldest two become one


class Withheld(TypedDict):
    """What the ledger says of one symbol; intervals are ``(first, last, reasons)``."""

    certain: list[tuple[int, int, str]]
    in_doubt: list[tuple[int, int, str]]
    poison: list[int]
    poison_in_doubt: list[int]
    late_or_duplicate: NotRequired[dict[str, int]]


@dataclass(slots=True)
class Sent:
    """Indices by symbol: whole frames, and frames cut short (poison)."""

    whole: dict[str, TruthIntervals] = field(default_factory=dict)
    poison: dict[str, TruthIntervals] = field(default_factory=dict)

    def update(self, other: Sent) -> None:
        """Add all of ``other``."""
        for mine, theirs in ((self.whole, other.whole), (self.poison, other.poison)):
            for symbol, indices in theirs.items():
                mine.setdefault(symbol, TruthIntervals()).update(indices)

    def __bool__(self) -> bool:
        return bool(self.whole or self.poison)


@dataclass(slots=True)
class _Window:
    """What was sent before ping ``number`` and after the window before it."""

    number: int
    sent: Sent


class Account:
    """What one connection was sent, until it is confirmed."""

    def __init__(self, confirmed: Sent) -> None:
        self._confirmed = confirmed
        self._current = Sent()
        self._windows: deque[_Window] = deque()
        self._pings: deque[tuple[int, int]] = deque(maxlen=_WINDOWS)  # number, settled by then
        self._answers: deque[tuple[int, int]] = deque(maxlen=_WINDOWS)  # number, when
        self._last_ping = 0
        self._settled = 0

    def wrote(self, symbol: str, index: int) -> None:
        """A whole frame went into the socket."""
        whole = self._current.whole.get(symbol)
        if whole is None:
            whole = self._current.whole[symbol] = TruthIntervals()
        whole.add(index)

    def wrote_poison(self, symbol: str, index: int) -> None:
        """A frame cut short went into the socket."""
        self._current.poison.setdefault(symbol, TruthIntervals()).add(index)

    def ping(self, now_ns: int) -> int:
        """Number of the ping to be sent now."""
        self._last_ping += 1
        while self._answers and self._answers[0][1] <= now_ns - SETTLE_NS:
            self._settled = self._answers.popleft()[0]
        self._pings.append((self._last_ping, self._settled))
        if self._current:
            self._windows.append(_Window(self._last_ping, self._current))
            self._current = Sent()
        if len(self._windows) > _WINDOWS:
            oldest = self._windows.popleft().sent
            oldest.update(self._windows[0].sent)
            self._windows[0].sent = oldest
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
        while self._windows and self._windows[0].number <= settled:
            self._confirmed.update(self._windows.popleft().sent)

    def unconfirmed(self) -> Sent:
        """What is not confirmed yet."""
        sent = Sent()
        for window in self._windows:
            sent.update(window.sent)
        sent.update(self._current)
        return sent


class DeliveryLedger:
    """What happened to every index, over all connections."""

    def __init__(self) -> None:
        self._confirmed = Sent()
        self._doubtful: dict[str, Sent] = {}  # by reason
        self._reasons: dict[str, dict[str, TruthIntervals]] = {}  # symbol, then reason
        self._counts: dict[str, Counter[str]] = {}
        self._open: set[Account] = set()

    def open_account(self) -> Account:
        """Account of a new connection."""
        account = Account(self._confirmed)
        self._open.add(account)
        return account

    def close_account(self, account: Account, reason: str) -> None:
        """The connection is over: what it did not confirm stays in doubt. Idempotent."""
        if account in self._open:
            self._open.remove(account)
            self._doubtful.setdefault(reason, Sent()).update(account.unconfirmed())

    def note(self, symbol: str, index: int, reason: str) -> None:
        """Why this index was withheld, if it turns out that it was."""
        reasons = self._reasons.setdefault(symbol, {})
        reasons.setdefault(reason, TruthIntervals()).add(index)

    def count(self, symbol: str, fault: str) -> None:
        """Count a fault that struck."""
        self._counts.setdefault(symbol, Counter())[fault] += 1

    def nothing(self, symbol: str, index: int) -> None:
        """There is nothing to be told at this index, so that nothing of it can be withheld."""
        self._confirmed.whole.setdefault(symbol, TruthIntervals()).add(index)

    def settled(self) -> bool:
        """Whether no open connection has anything unconfirmed."""
        return not any(account.unconfirmed() for account in self._open)

    def report(self, symbol: str, first: int, last: int, held: Iterable[int] = ()) -> Withheld:
        """What was withheld of ``first`` to ``last``.

        Args:
            symbol: whose indices these are.
            first: first index owed.
            last: last index that happened.
            held: indices that are kept back now and may still be sent; they are in doubt.
        """
        doubts = self._doubts(symbol)
        doubts["held"] = TruthIntervals((i, i) for i in held)
        doubtful = _union(doubts.values())
        confirmed = self._confirmed.whole.get(symbol, TruthIntervals())
        bounds = TruthIntervals([(first, last)] if first <= last else [])
        certain = bounds.minus(confirmed).minus(doubtful)
        in_doubt = _within(doubtful, first, last).minus(confirmed)
        poison, poison_in_doubt = self._poison(symbol)
        return {
            "certain": _labelled(certain, self._reasons.get(symbol, {})),
            "in_doubt": _labelled(in_doubt, doubts),
            "poison": _within(poison, first, last).members(),
            "poison_in_doubt": _within(poison_in_doubt, first, last).members(),
            "late_or_duplicate": {
                fault: self._counts.get(symbol, Counter())[fault]
                for fault in ("late", "duplicate", "reorder")
            },
        }

    def _doubts(self, symbol: str) -> dict[str, TruthIntervals]:
        doubts = {
            reason: _union([sent.whole[symbol]])
            for reason, sent in self._doubtful.items()
            if symbol in sent.whole
        }
        live = (account.unconfirmed().whole.get(symbol) for account in self._open)
        doubts["unconfirmed"] = _union(sent for sent in live if sent is not None)
        return doubts

    def _poison(self, symbol: str) -> tuple[TruthIntervals, TruthIntervals]:
        """Poison that certainly arrived, and poison that may have."""
        parts = [*self._doubtful.values(), *(account.unconfirmed() for account in self._open)]
        doubtful = _union(sent.poison[symbol] for sent in parts if symbol in sent.poison)
        confirmed = self._confirmed.poison.get(symbol, TruthIntervals())
        return confirmed, doubtful.minus(confirmed)


def _union(sets: Iterable[TruthIntervals]) -> TruthIntervals:
    union = TruthIntervals()
    for each in sets:
        union.update(each)
    return union


def _within(indices: TruthIntervals, first: int, last: int) -> TruthIntervals:
    return TruthIntervals(indices.within(first, last))


def _labelled(
    indices: TruthIntervals, reasons: dict[str, TruthIntervals]
) -> list[tuple[int, int, str]]:
    """Maximal intervals with all the reasons that touch them, such as ``drop+outage``."""
    return [
        (first, last, "+".join(sorted(r for r, s in reasons.items() if s.touches(first, last))))
        for first, last in indices
    ]
