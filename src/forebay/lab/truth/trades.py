"""Trades in closed form: event ``i`` of (seed, venue, symbol) without replaying any other.

Written from the specification of event identity and digests, and sharing no code with
the parsers and stores it is there to examine: a mistake made twice would cancel out.

Every property of an event is cut from one BLAKE2b of its index, keyed by seed, venue and
symbol. Prices swing in a triangle around a level of their own, so they are bounded for
any index.
"""

from __future__ import annotations

import hashlib
import zlib
from typing import TYPE_CHECKING, Any, ClassVar, Final

from forebay.lab.truth.event import TruthEvent
from forebay.lab.truth.texts import decimal_text, fixed, native_bits

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT_START_NS: Final = 1_767_225_600_000_000_000
"""2026-01-01T00:00:00Z, the venue time of event 0."""
DEFAULT_STEP_US: Final = 1_000
CHANNEL: Final = "trade"

BLOCK: Final = 16
"""Events that may share one microsecond: real pages hold 13 identical times."""
TOGETHER_US: Final = 20_000
"""They do so where steps are no longer than this: what has one time is told within a second."""
SWING: Final = 40_000
"""Events from trough to trough of the price."""
SIZE_DECIMALS: Final = 8
"""The most decimals that a size has."""

_KNOWN: Final = {"BTC-USD": (2, 6_400_000), "ETH-USD": (2, 315_000), "SOL-USD": (2, 14_200)}
# Decimals and level in units of the last one, so that a demonstration shows likely prices.


class Trade(TruthEvent, frozen=True):
    """One trade as it happened; its id is made of its number."""

    channel: ClassVar[str] = CHANNEL

    trade_id: int
    price: str
    size: str
    side: str
    """The taker's: ``buy`` or ``sell``."""
    sequence: int
    maker_order_id: str
    taker_order_id: str

    @property
    def event_id(self) -> int:
        return native_bits(self.venue, CHANNEL, self.symbol) | self.trade_id

    def content(self) -> str:
        return f"{self.trade_id}|{fixed(self.price)}|{fixed(self.size)}|{self.side}"

    def _own(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("trade_id", "price", "size", "side")}


class Trades:
    """All trades of one symbol; cheap to make, holds nothing per event.

    Another ``seed`` is another market. Event 0 has the venue time ``start_ns``, floored to
    microseconds, and each other one comes ``step_us`` microseconds after the one before.
    """

    def __init__(
        self,
        seed: int,
        venue: str,
        symbol: str,
        *,
        start_ns: int = DEFAULT_START_NS,
        step_us: int = DEFAULT_STEP_US,
    ) -> None:
        self.venue = venue
        self.symbol = symbol
        self._start_us = start_ns // 1_000
        self._step_us = step_us
        self._dice = hashlib.blake2b(f"{seed}|{venue}|{symbol}|".encode(), digest_size=64)
        character = zlib.crc32(symbol.encode())
        self.first_trade_id = 1_000_000 * (1 + character % 50)
        self.seed = seed
        self.price_decimals, self.level = _KNOWN.get(
            symbol, (2 + character % 7, 200_000 + character % 5_000_000)
        )
        self._block = (-1, False)  # the last one looked at: events mostly come in order
        self.halted_ns: int | None = None
        """Venue time since which nothing happens, None while something does."""
        self._never: list[tuple[int, int]] = []

    def event(self, index: int) -> Trade:
        """The trade with this index, 0 or more."""
        roll = self._roll(index)
        decimals, size = _size(roll)
        return Trade(
            *self.head(index),
            trade_id=self.first_trade_id + index,
            price=decimal_text(self._ticks(index, roll), self.price_decimals),
            size=decimal_text(size, decimals),
            side="buy" if roll[12] & 1 else "sell",
            sequence=5 * self.first_trade_id + index * 8 + roll[13] % 8,
            maker_order_id=_order_id(roll[16:32]),
            taker_order_id=_order_id(roll[32:48]),
        )

    def head(self, index: int) -> tuple[int, str, str, int]:
        """Index, venue, symbol and venue time of what belongs to an index."""
        return index, self.venue, self.symbol, self.time_ns(index)

    def skip(self, first: int, last: int) -> None:
        """Say that ``first`` to ``last`` never happened: their market was halted."""
        self._never.append((first, last))

    def happened(self, index: int) -> bool:
        """Whether an index that has passed was an event."""
        return not any(first <= index <= last for first, last in self._never)

    def begin_at(self, start_ns: int) -> None:
        """Have event 0 at another time, and all others as long after it as before."""
        self._start_us = start_ns // 1_000

    def events(self, first: int, end: int) -> Iterator[Trade]:
        """Trades ``first`` to ``end - 1``, in order."""
        return map(self.event, range(first, end))

    def time_ns(self, index: int) -> int:
        """Venue time of an event, without its other properties."""
        begin = index - index % BLOCK
        if self._block[0] != begin:
            alike = self._step_us <= TOGETHER_US and self._roll(begin)[14] % 4 == 0
            self._block = (begin, alike)
        if self._block[1]:
            index = begin
        return (self._start_us + index * self._step_us) * 1_000

    def index_at(self, ns: int) -> int:
        """Index of the last event that has happened by then, -1 if none has."""
        index = (ns // 1_000 - self._start_us) // self._step_us
        if index < 0:
            return -1
        begin = index - index % BLOCK
        together = self.time_ns(begin) == self.time_ns(begin + 1)
        return begin + BLOCK - 1 if together else index

    def units(self, index: int) -> tuple[int, int]:
        """Price and size of an event in units of ``price_decimals`` and ``SIZE_DECIMALS``."""
        roll = self._roll(index)
        decimals, size = _size(roll)
        return self._ticks(index, roll), size * 10 ** (SIZE_DECIMALS - decimals)

    def _roll(self, index: int) -> bytes:
        dice = self._dice.copy()
        dice.update(index.to_bytes(8, "big"))
        return dice.digest()

    def _ticks(self, index: int, roll: bytes) -> int:
        swing = self.level // 10
        jitter = int.from_bytes(roll[0:4], "big") % (self.level // 500)
        return self.level - swing // 2 + swing * height(index) // SWING + jitter


def height(index: int) -> int:
    """How high the price swings at this index, 0 to ``SWING``."""
    phase = index % SWING
    return min(phase, SWING - phase) * 2


def _size(roll: bytes) -> tuple[int, int]:
    """Decimals, and the size in units of the last one."""
    return roll[4] % (SIZE_DECIMALS + 1), 1 + int.from_bytes(roll[5:8], "big") % 2_000_000


def _order_id(roll: bytes) -> str:
    text = roll.hex()
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"
