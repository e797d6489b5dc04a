"""A venue without sockets: real message bytes, closed-form truth, a history that misbehaves."""

from __future__ import annotations

import functools
import json
import re
from bisect import bisect_right
from typing import TYPE_CHECKING, Protocol

from forebay.lab.exchanges.coinbase import messages
from forebay.lab.truth import Trade, Trades

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from tests.simulation.weather import Weather

VENUE = "coinbase"
SYMBOLS = ("BTC-USD", "ETH-USD")
HISTORY = 20
"""Events of each symbol before anything is captured: indices 0 to 19."""
_SILENT = 0.7
"""How often a connection is not told either what history never lists, or only later."""
_LATE = 0.03
_LATE_S = (0.5, 4.5)
"""How often history lists a trade only so much later: before it is believed to lack it."""
_PAGE = re.compile(r"/products/([^/]+)/trades\?limit=(\d+)&after=(\d+)$")
_MARKETS = {symbol: Trades(1, VENUE, symbol) for symbol in SYMBOLS}
_CHANNELS = (messages.MATCHES, messages.HEARTBEAT)


@functools.lru_cache(maxsize=4096)
def trade(symbol: str, index: int) -> Trade:
    """Event ``index`` of ``symbol``, the same in every world."""
    return _MARKETS[symbol].event(index)


@functools.lru_cache(maxsize=4096)
def truth_row(symbol: str, index: int) -> str:
    """The event as the text that digests are made of."""
    return trade(symbol, index).row()


@functools.lru_cache(maxsize=4096)
def match_bytes(symbol: str, index: int, kind: str = "match") -> bytes:
    """The event as the feed sends it."""
    return messages.match(trade(symbol, index), kind)


@functools.lru_cache(maxsize=4096)
def heartbeat_bytes(symbol: str, index: int) -> bytes:
    """What a heartbeat says when this event is the latest."""
    return messages.heartbeat(trade(symbol, index))


@functools.lru_cache(maxsize=4096)
def _row(symbol: str, index: int) -> bytes:
    return json.dumps(messages.history_row(trade(symbol, index)), separators=(",", ":")).encode()


class Line(Protocol):
    """One connection as the venue sees it."""

    symbols: tuple[str, ...]
    """What it is subscribed to."""

    def say(self, payload: bytes, late_s: float = 0.0) -> None:
        """Send a text message; a late one is held back first."""
        ...


class Venue:
    """Events happen when told; everybody subscribed is told of each, unless a fault strikes."""

    def __init__(self, rng: random.Random, weather: Weather, now: Callable[[], float]) -> None:
        self._rng = rng
        self._weather = weather
        self._now = now
        self._lines: dict[Line, None] = {}
        self._emptied: set[str] = set()
        self.times: dict[str, list[float]] = {symbol: [0.0] * HISTORY for symbol in SYMBOLS}
        self.withheld: dict[str, set[int]] = {symbol: set() for symbol in SYMBOLS}
        """Indices that history never lists."""
        self.late: dict[str, dict[int, float]] = {symbol: {} for symbol in SYMBOLS}
        """Indices that history lists only from a moment on."""
        self.sent: dict[Line, dict[str, int]] = {}
        """By connection and symbol, the last index that a heartbeat told."""

    def last(self, symbol: str) -> int:
        """Index of the latest event."""
        return len(self.times[symbol]) - 1

    def subscribed(self, line: Line) -> None:
        """Accept, and tell the latest event of each of its symbols."""
        self._lines[line] = None
        topics = [(channel, symbol) for channel in _CHANNELS for symbol in line.symbols]
        line.say(messages.subscriptions(topics))
        for symbol in line.symbols:
            line.say(match_bytes(symbol, self.last(symbol), "last_match"))

    def gone(self, line: Line) -> None:
        """The connection is over."""
        self._lines.pop(line, None)
        self.sent.pop(line, None)

    def happen(self, symbol: str) -> None:
        """Let the next event of ``symbol`` happen."""
        self.times[symbol].append(self._now())
        index = self.last(symbol)
        # Never two neighbours: filling asks for one id beyond a gap only, so that one below an id
        # that a connection told and history does not list would stay open.
        hidden = self._rng.random() < self._weather.withheld
        if hidden and not self._weather.calm and index - 1 not in self.withheld[symbol]:
            self.withheld[symbol].add(index)
            self._weather.told("withheld_from_history")
        elif not self._weather.calm and self._rng.random() < _LATE:
            self.late[symbol][index] = self._now() + self._rng.uniform(*_LATE_S)
            self._weather.told("late_in_history")
        for line in self._lines:
            if symbol in line.symbols:
                self._tell(line, symbol, index)

    def heartbeat(self) -> None:
        """Tell everybody how far each symbol is."""
        for line in self._lines:
            told = self.sent.setdefault(line, {})
            for symbol in line.symbols:
                line.say(heartbeat_bytes(symbol, self.last(symbol)))
                told[symbol] = self.last(symbol)

    def _tell(self, line: Line, symbol: str, index: int) -> None:
        weather, payload = self._weather, match_bytes(symbol, index)
        hidden = index in self.withheld[symbol] or index in self.late[symbol]
        if (hidden and self._rng.random() < _SILENT) or weather.strikes("drop"):
            return
        if weather.strikes("torn"):
            line.say(payload[: self._rng.randrange(1, len(payload))])
            return
        line.say(payload, self._rng.uniform(0.1, 3.0) if weather.strikes("late") else 0.0)
        if weather.strikes("duplicate"):
            line.say(payload)

    def page(self, target: str) -> bytes:
        """Return a request for history, as complete as the weather allows."""
        found = _PAGE.search(target)
        if found is None:
            return b"[]"
        symbol, limit, after = found[1], int(found[2]), int(found[3])
        origin = _MARKETS[symbol].first_trade_id
        lag = 0.0 if self._weather.calm else self._weather.history_lag_s
        times = self.times[symbol]
        visible = bisect_right(times, self._now() - lag) if lag else len(times)
        top = min(visible, after - origin)
        if self._empty(symbol):
            return b"[]"
        if limit > 1 and self._weather.strikes("short_page"):
            limit = self._rng.randint(1, limit)
        rows: list[bytes] = []
        for index in range(top - 1, -1, -1):
            if len(rows) == limit:
                break
            late = self.late[symbol].get(index, 0.0) > self._now()
            if index not in self.withheld[symbol] and not late:
                rows.append(_row(symbol, index))
        return b"[" + b",".join(rows) + b"]"

    def _empty(self, symbol: str) -> bool:
        """Whether to say wrongly that there is nothing; never twice in a row for a symbol."""
        if symbol in self._emptied:
            self._emptied.discard(symbol)
            return False
        if self._weather.strikes("empty_page"):
            self._emptied.add(symbol)
            return True
        return False
