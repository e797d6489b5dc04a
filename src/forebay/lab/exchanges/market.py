"""The simulated market: which events have happened, and when the next ones are due."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from forebay.lab.exchanges.model import FEEDS, TRADE
from forebay.lab.truth import DEFAULT_START_NS, DEFAULT_STEP_US, Trade, Trades

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from forebay.lab.exchanges.model import Feed
    from forebay.lab.truth.histories import BarHistory

HISTORY: Final = 100
"""Events per symbol that happened before the clock starts: indices 0 to 99."""
_BURST = 2_000  # events at once, so that catching up cannot starve the sockets


@dataclass(frozen=True, slots=True)
class MarketConfig:
    """What a market is made from; with the same values it is the same market."""

    seed: int
    symbols: tuple[str, ...]
    rate: float = 1_000.0
    """Events per second over all symbols."""
    events: int | None = None
    """Events over all symbols, history not counted; None is without end."""
    start_ns: int = DEFAULT_START_NS
    step_us: int = DEFAULT_STEP_US
    now_ns: int | None = None
    """Monotonic time of ``start_ns``, for a market that is to keep pace with the wall clock: its
    history ends when somebody first subscribes, however late that is."""
    idle: tuple[str, ...] = ()
    """Symbols that there are besides, of which nothing ever happens."""
    bars: Mapping[str, BarHistory] = field(default_factory=dict)
    """By symbol, the bars that REST answers with instead of what the market's trades make."""

    def in_step(self) -> MarketConfig:
        """Return one like this whose venue time passes as fast as its events come.

        A step is whole microseconds, so the rate gives way by up to a hundredth.
        """
        step_us = step_of(self.rate, len(self.symbols))
        even = max(1, len(self.symbols)) * 1e6 / step_us
        rate = even if abs(even - self.rate) <= self.rate / 100 else self.rate
        return dataclasses.replace(self, rate=rate, step_us=step_us)


def step_of(rate: float, symbols: int) -> int:
    """Return the venue time from one event of a symbol to the next, µs."""
    return max(1, round(max(1, symbols) * 1e6 / rate))


class TradesOf(Protocol):
    """Makes all trades of a symbol."""

    def __call__(self, seed: int, symbol: str, *, start_ns: int, step_us: int) -> Trades: ...


def _trades(venue: str, seed: int, symbol: str, *, start_ns: int, step_us: int) -> Trades:
    return Trades(seed, venue, symbol, start_ns=start_ns, step_us=step_us)


class Market:
    """Events take turns: live event ``k`` is index ``HISTORY + k // S`` of symbol ``k % S``.

    The clock starts when somebody first subscribes, so that nobody misses the first events.
    """

    def __init__(self, venue: str, config: MarketConfig, make: TradesOf | None = None) -> None:
        """``make`` returns all trades of a symbol, where those of every venue will not do."""
        self.config = config
        self._make = make or functools.partial(_trades, venue)
        self.trades = {
            symbol: self._make(
                config.seed, symbol, start_ns=config.start_ns, step_us=config.step_us
            )
            for symbol in (*config.symbols, *config.idle)
        }
        self.start_ns = config.start_ns
        """Venue time of event 0."""
        self.owed: dict[Feed, dict[str, int]] = {feed: {} for feed in FEEDS}
        """By feed and symbol, the first index after the first accepted subscription."""
        self._started_ns: int | None = None
        self._happened = 0
        self._events = config.events
        self._last = dict.fromkeys(self.trades, HISTORY - 1)
        self._late: dict[str, int] = {}
        """By symbol that was added later, monotonic time of its index 0."""
        self.skipped: list[tuple[str, int, int]] = []
        """Symbols and indices that turned out not to have happened; whoever reads clears it."""
        self.alarm_ns = 0
        """Venue time at which something becomes due in the life of a symbol."""

    @property
    def clock_started(self) -> bool:
        return self._started_ns is not None

    @property
    def finished(self) -> bool:
        """Whether the last event has happened."""
        return self._happened == self._events

    def close(self) -> None:
        """Let no further event happen."""
        self._events = self._happened

    def moment_ns(self, now_ns: int) -> int:
        """Return the venue time of a moment: it passes as fast as events come."""
        config = self.config
        if self._started_ns is None:
            if config.now_ns is not None:
                return self.start_ns + now_ns - config.now_ns
            return self.start_ns + HISTORY * config.step_us * 1_000
        turns = (now_ns - self._started_ns) * config.rate / 1e9 / max(1, len(config.symbols))
        return self.start_ns + int((HISTORY + turns) * config.step_us) * 1_000

    def add(self, symbol: str, now_ns: int) -> Trades:
        """Return the trades of a new symbol, in which nothing happens yet."""
        begin_ns, config = self.moment_ns(now_ns), self.config
        made = self._make(config.seed, symbol, start_ns=begin_ns, step_us=config.step_us)
        made.halted_ns = begin_ns
        self.trades[symbol] = made
        self._last[symbol] = -1
        return made

    def begin(self, symbol: str, now_ns: int) -> None:
        """Let something happen in a symbol from now on, for the first time or again."""
        trades = self.trades[symbol]
        if self._last[symbol] < 0:
            trades.begin_at(self.moment_ns(now_ns))
            self._late[symbol] = now_ns
        trades.halted_ns = None

    def halt(self, symbol: str, now_ns: int) -> None:
        """Let nothing happen in a symbol from now on."""
        self.trades[symbol].halted_ns = self.moment_ns(now_ns)

    def subscribed(self, symbol: str, now_ns: int, feed: Feed = TRADE) -> None:
        """Somebody subscribed: the clock runs, and what ``feed`` tells is owed from here."""
        if self._started_ns is None:
            self._started_ns = now_ns
            if self.config.now_ns is not None:  # move everything: the first live event happens now
                passed_ns = now_ns - self.config.now_ns
                self.start_ns += passed_ns - HISTORY * self.config.step_us * 1_000
                for trades in self.trades.values():
                    trades.begin_at(self.start_ns)
            for late in self._late:  # as nobody was there to see them begin
                self.trades[late].begin_at(self.moment_ns(now_ns))
            self._late = dict.fromkeys(self._late, now_ns)
        self.owed[feed].setdefault(symbol, self._last[symbol] + 1)

    def advance(self, now_ns: int) -> Iterator[Trade]:
        """Let happen what is due, a bounded number at once; late is caught up next time."""
        if self._started_ns is None:
            return
        due = int((now_ns - self._started_ns) * self.config.rate / 1e9)
        due = min(due, self._happened + _BURST)
        if self._events is not None:
            due = min(due, self._events)
        symbols = self.config.symbols
        due = due if symbols else 0
        while self._happened < due:
            turn, at = divmod(self._happened, len(symbols))
            self._happened += 1
            yield from self._happens(symbols[at], HISTORY + turn)
        if not self.finished:
            yield from self._latecomers(now_ns)

    def _latecomers(self, now_ns: int) -> Iterator[Trade]:
        for symbol, began_ns in self._late.items():
            step_ns = max(1, len(self.config.symbols)) * 1e9 / self.config.rate
            last = self._last[symbol]
            due = min(int((now_ns - began_ns) / step_ns), last + _BURST)
            for index in range(last + 1, due):
                yield from self._happens(symbol, index)

    def _happens(self, symbol: str, index: int) -> Iterator[Trade]:
        """Let an index pass: in a market that is halted it never was an event."""
        trades, last = self.trades[symbol], self._last[symbol]
        if trades.halted_ns is not None:
            return
        if index > last + 1:
            trades.skip(last + 1, index - 1)
            self.skipped.append((symbol, last + 1, index - 1))
        self._last[symbol] = index
        yield trades.event(index)

    def last(self, symbol: str) -> int:
        return self._last[symbol]

    def last_trade(self, symbol: str) -> Trade:
        return self.trades[symbol].event(self._last[symbol])

    def page(
        self, symbol: str, *, before: int | None, after: int | None, limit: int
    ) -> list[Trade]:
        """Newest trades first, with ids above ``before`` and below ``after``."""
        trades = self.trades[symbol]
        origin = trades.first_trade_id
        newest = (
            self._last[symbol] if after is None else min(self._last[symbol], after - 1 - origin)
        )
        oldest = 0 if before is None else max(0, before + 1 - origin)
        oldest = max(oldest, newest - limit + 1)
        return [trades.event(index) for index in range(newest, oldest - 1, -1)]
