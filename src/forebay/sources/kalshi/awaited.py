"""The books of one connection to Kalshi: which of them may lack something, and what to ask for.

``seq`` rises by one with each message of a subscription, over all its markets, so a hole may be of
any of them: all their books are asked for anew (``get_snapshot``). So is one that did not come with
the subscription. Of a message of books only the head is read; one that is no JSON has not come.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from forebay.sources.parsing import UNDECODABLE
from forebay.sources.websocket.refetch import Refetch

if TYPE_CHECKING:
    from collections.abc import Iterable

WITHIN_NS = 10_000_000_000
"""For so long the books of a new subscription may be on their way."""
BOOKS = b'{"type":"orderbook_'
"""How messages of books begin."""
_WHOLE = b'{"type":"orderbook_s'
_HEAD = re.compile(rb'\{"type":"orderbook_\w+","sid":([0-9]{1,15}),"seq":([0-9]{1,15}),"msg":')
_TICKER = re.compile(rb'\{"market_ticker":"([^"\\]{1,100})"')
BEHIND = 3
"""After so many numbers in a row that are not above the last one, that was none."""
_read_over = msgspec.json.Decoder(msgspec.Raw).decode


class AwaitedBooks:
    """Pure. Times are nanoseconds that never go back."""

    def __init__(self) -> None:
        self._markets: dict[int, dict[str, bool]] = {}
        """Of each subscription, the markets, and whether their books have come once."""
        self._last: dict[int, int] = {}
        """The last number of each of them."""
        self._behind: dict[int, int] = {}
        """How many numbers in a row were not above the last one."""
        self._refetch = Refetch()
        self.over = ""
        """Why the connection is to be ended, if it is."""

    def subscribed(self, sid: int, symbols: Iterable[str], now_ns: int) -> None:
        """Note a new subscription to books, which come with it."""
        self._markets[sid] = {}
        self._last.pop(sid, None)
        self.expect(sid, symbols, now_ns)

    def expect(self, sid: int, symbols: Iterable[str], now_ns: int) -> None:
        """Note that a subscription has more markets, if it is one to books."""
        markets = self._markets.get(sid)
        if markets is not None:
            new = [symbol for symbol in symbols if symbol not in markets]
            markets.update(dict.fromkeys(new, False))
            self._refetch.expected(new, now_ns + WITHIN_NS)

    def left(self, symbols: Iterable[str]) -> None:
        """Note that markets are not wanted any more."""
        gone = [*symbols]
        self._refetch.forget(gone)
        for markets in self._markets.values():
            for symbol in gone:
                markets.pop(symbol, None)

    def heard(self, payload: bytes, now_ns: int) -> bool | None:
        """Look at a message of books; return whether it shows that some are broken.

        None if it is not written as usual, or torn: then nothing is done.
        """
        head = _HEAD.match(payload)
        if head is None or not _is_json(payload):
            return None
        if not payload.startswith(_WHOLE):
            return self.counted(int(head[1]), int(head[2]), now_ns)
        ticker = _TICKER.match(payload, head.end())
        if ticker is None:
            return None
        return self.snapshot(int(head[1]), int(head[2]), ticker[1].decode(), now_ns)

    def counted(self, sid: int, seq: int, now_ns: int) -> bool:
        """Note the number of a message; return whether one before it is missing."""
        markets = self._markets.get(sid)
        if markets is None or seq < 0:
            return False
        last = self._last.get(sid, seq - 1)
        if seq <= last:  # what comes late or twice leaves no new hole
            self._behind[sid] = self._behind.get(sid, 0) + 1
            if self._behind[sid] >= BEHIND:
                self._last[sid] = seq
            return False
        self._last[sid], self._behind[sid] = seq, 0
        if seq == last + 1:
            return False
        self._refetch.broken(markets, now_ns)
        return True

    def snapshot(self, sid: int, seq: int, symbol: str, now_ns: int) -> bool:
        """Note a whole book; return whether one is to be asked for.

        One that comes late or twice says how the book was before changes that came already.
        """
        late = 0 <= seq <= self._last.get(sid, -1)
        broken = self.counted(sid, seq, now_ns)
        self.came(sid, symbol, now_ns)
        if late and symbol in self._markets.get(sid, ()):
            self._refetch.broken([symbol], now_ns)
            return True
        return broken

    def due(self, now_ns: int) -> dict[int, tuple[str, ...]]:
        """Return the markets whose books are to be asked for now, by subscription."""
        due = {*self._refetch.due(now_ns)}
        for symbol in self._refetch.exhausted:
            self._refetch.forget([symbol])
            if any(markets.get(symbol) for markets in self._markets.values()):
                self.over = f"the book of {symbol} could not be had again"
        asked = {
            sid: tuple(symbol for symbol in markets if symbol in due)
            for sid, markets in self._markets.items()
        }
        return {sid: symbols for sid, symbols in asked.items() if symbols}

    def came(self, sid: int, symbol: str, now_ns: int) -> None:
        """Note that the book of a market has come."""
        self._refetch.arrived(symbol, now_ns)
        if symbol in self._markets.get(sid, ()):
            self._markets[sid][symbol] = True


def _is_json(payload: bytes) -> bool:
    try:
        _read_over(payload)
    except UNDECODABLE:
        return False
    return True
