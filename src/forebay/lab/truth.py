"""Trades in closed form: event ``i`` of (seed, venue, symbol) without replaying any other.

Written from the specification of event identity and digests, and sharing no code with
the parsers and stores it is there to examine: a mistake made twice would cancel out.

Every property of an event is cut from one BLAKE2b of its index, keyed by seed, venue and
symbol. Prices swing in a triangle around a level of their own, so they are bounded for
any index.
"""

from __future__ import annotations

import functools
import hashlib
import re
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Self

import msgspec

from forebay.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DEFAULT_START_NS: Final = 1_767_225_600_000_000_000
"""2026-01-01T00:00:00Z, the venue time of event 0."""
DEFAULT_STEP_US: Final = 1_000
MARKET: Final = "spot"
CHANNEL: Final = "trade"

_BLOCK = 16  # events that may share one microsecond: real pages hold 13 identical times
_SWING = 40_000  # events from trough to trough of the price
_SCALE = 18  # decimals of the canonical form
_MASK_128 = (1 << 128) - 1
_KNOWN: Final = {"BTC-USD": (2, 6_400_000), "ETH-USD": (2, 315_000), "SOL-USD": (2, 14_200)}
# Decimals and level in units of the last one, so that a demonstration shows likely prices.
_SYMBOL = re.compile(r"[A-Z0-9]{2,12}-[A-Z0-9]{2,12}")
_LATEST_NS = 4_102_444_800_000_000_000  # 2100-01-01: far enough that a slip of unit stands out


class Trade(msgspec.Struct, frozen=True, kw_only=True):
    """One trade as it happened; ``price`` and ``size`` are exact decimal texts."""

    index: int
    event_id: int
    """The 128 bits of the UUID."""
    venue: str
    symbol: str
    trade_id: int
    price: str
    size: str
    side: str
    """The taker's: ``buy`` or ``sell``."""
    event_ts: int
    """Venue time, nanoseconds since the epoch, a whole number of microseconds."""
    sequence: int
    maker_order_id: str
    taker_order_id: str

    @property
    def time(self) -> str:
        """Venue time as the exchange writes it, with six decimals."""
        return iso_micros(self.event_ts)

    def row(self) -> str:
        """Canonical text that digests are made of."""
        return (
            f"{uuid_text(self.event_id)}|{self.venue}|{MARKET}|{self.symbol}|{self.event_ts}"
            f"|{self.trade_id}|{fixed(self.price)}|{fixed(self.size)}|{self.side}"
        )

    def document(self) -> dict[str, int | str]:
        """What ``forebay lab truth`` prints, one JSON object a line."""
        return {
            "index": self.index,
            "event_id": uuid_text(self.event_id),
            "venue": self.venue,
            "symbol": self.symbol,
            "trade_id": self.trade_id,
            "price": self.price,
            "size": self.size,
            "side": self.side,
            "event_ts": self.event_ts,
            "time": self.time,
        }


class Trades:
    """All trades of one symbol; cheap to make, holds nothing per event.

    Args:
        seed: whole number; another seed is another market.
        venue: venue name as in event ids, for example ``coinbase``.
        symbol: Forebay's spelling, for example ``BTC-USD``.
        start_ns: venue time of event 0, nanoseconds, floored to microseconds.
        step_us: venue time from one event to the next, microseconds.
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
        self.price_decimals, self._level = _KNOWN.get(
            symbol, (2 + character % 7, 200_000 + character % 5_000_000)
        )
        self._id_bits = _stream_bits(venue, symbol)
        self._block = (-1, False)  # the last one looked at: events mostly come in order

    def event(self, index: int) -> Trade:
        """The trade with this index, 0 or more."""
        roll = self._roll(index)
        return Trade(
            index=index,
            event_id=self._id_bits | (self.first_trade_id + index),
            venue=self.venue,
            symbol=self.symbol,
            trade_id=self.first_trade_id + index,
            price=self._price(index, roll),
            size=_size(roll),
            side="buy" if roll[12] & 1 else "sell",
            event_ts=self._time_us(index) * 1_000,
            sequence=5 * self.first_trade_id + index * 8 + roll[13] % 8,
            maker_order_id=_order_id(roll[16:32]),
            taker_order_id=_order_id(roll[32:48]),
        )

    def events(self, first: int, end: int) -> Iterator[Trade]:
        """Trades ``first`` to ``end - 1``, in order."""
        return map(self.event, range(first, end))

    def _roll(self, index: int) -> bytes:
        dice = self._dice.copy()
        dice.update(index.to_bytes(8, "big"))
        return dice.digest()

    def _price(self, index: int, roll: bytes) -> str:
        swing = self._level // 10
        phase = index % _SWING
        height = min(phase, _SWING - phase) * 2  # 0 .. _SWING
        jitter = int.from_bytes(roll[0:4], "big") % (self._level // 500)
        ticks = self._level - swing // 2 + swing * height // _SWING + jitter
        return decimal_text(ticks, self.price_decimals)

    def _time_us(self, index: int) -> int:
        begin = index - index % _BLOCK
        if self._block[0] != begin:
            self._block = (begin, self._roll(begin)[14] % 4 == 0)
        if self._block[1]:
            index = begin
        return self._start_us + index * self._step_us


@dataclass(slots=True)
class Digest:
    """Digest of a set of trades; the order in which they are added does not matter."""

    count: int = 0
    ids: int = 0
    rows: int = 0

    def add(self, trade: Trade) -> None:
        """Count one trade; the caller adds each id once."""
        row = hashlib.md5(trade.row().encode(), usedforsecurity=False).digest()
        self.count += 1
        self.ids = (self.ids + trade.event_id) & _MASK_128
        self.rows = (self.rows + int.from_bytes(row, "little")) & _MASK_128

    @classmethod
    def of(cls, trades: Iterable[Trade]) -> Self:
        """Digest of all ``trades``."""
        digest = cls()
        for trade in trades:
            digest.add(trade)
        return digest

    def document(self) -> dict[str, int | str]:
        """As printed: the sums are 32 hexadecimal digits."""
        return {"count": self.count, "ids": f"{self.ids:032x}", "rows": f"{self.rows:032x}"}


def decimal_text(units: int, decimals: int) -> str:
    """``units`` times ten to the minus ``decimals``, written out."""
    if not decimals:
        return str(units)
    digits = str(units).rjust(decimals + 1, "0")
    return f"{digits[:-decimals]}.{digits[-decimals:]}"


def fixed(text: str) -> str:
    """The same number with 18 decimals."""
    whole, _, fraction = text.partition(".")
    return f"{whole}.{fraction.ljust(_SCALE, '0')}"


def uuid_text(bits: int) -> str:
    """128 bits as a lower-case dashed UUID."""
    text = f"{bits:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def iso_micros(ns: int) -> str:
    """Nanoseconds since the epoch as ``2026-01-01T00:00:00.000000Z``."""
    seconds, rest = divmod(ns, 1_000_000_000)
    return f"{_iso_second(seconds)}.{rest // 1_000:06d}Z"


def parse_start(text: str) -> int:
    """Nanoseconds since the epoch from ISO 8601 or a count of nanoseconds.

    Raises:
        ConfigError: it is neither, has no time zone, or lies outside 1970 to 2100.
    """
    ns = int(text) if text.isdecimal() else _iso_ns(text)
    if not 0 <= ns < _LATEST_NS:
        message = f"The start {text!r} is not between 1970 and 2100."
        raise ConfigError(message, hint="Give nanoseconds since 1970, or 2026-01-01T00:00:00Z.")
    return ns // 1_000 * 1_000


def parse_symbols(text: str) -> tuple[str, ...]:
    """Symbols from a comma-separated list.

    Raises:
        ConfigError: a symbol is not BASE-QUOTE in capitals, or comes twice.
    """
    symbols = tuple(part.strip() for part in text.split(","))
    for symbol in symbols:
        if not _SYMBOL.fullmatch(symbol):
            message = f"{symbol!r} is not a symbol."
            raise ConfigError(message, hint="Write BASE-QUOTE in capitals: BTC-USD,ETH-USD.")
    if len(set(symbols)) < len(symbols):
        raise ConfigError(f"A symbol is named twice in {text!r}.", hint="Name each once.")
    return symbols


def _iso_ns(text: str) -> int:
    hint = "Give ISO 8601 with a zone, such as 2026-01-01T00:00:00Z."
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"The start {text!r} is not a time.", hint=hint) from error
    if moment.tzinfo is None:
        raise ConfigError(f"The start {text!r} has no time zone.", hint=hint)
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1_000_000_000 + delta.microseconds * 1_000


def _stream_bits(venue: str, symbol: str) -> int:
    """The bits of a version 8 UUID that do not depend on the native id.

    key[0:48], version 8, key[48:60], variant 2, then 62 bits for the id.
    """
    digest = hashlib.sha256(f"{venue}|{MARKET}|{CHANNEL}|{symbol}".encode()).digest()
    key = int.from_bytes(digest[:8], "big") >> 4
    return (key >> 12) << 80 | 8 << 76 | (key & 0xFFF) << 64 | 0b10 << 62


def _size(roll: bytes) -> str:
    decimals = roll[4] % 9
    return decimal_text(1 + int.from_bytes(roll[5:8], "big") % 2_000_000, decimals)


def _order_id(roll: bytes) -> str:
    text = roll.hex()
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"


@functools.lru_cache(maxsize=64)
def _iso_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
