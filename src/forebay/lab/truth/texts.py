"""How a truth spells numbers, times and ids, and reads a start and symbols."""

from __future__ import annotations

import functools
import hashlib
import re
from datetime import UTC, datetime
from typing import Final

from forebay.errors import ConfigError

MARKET: Final = "spot"

_SCALE = 18  # decimals of the canonical form
_SYMBOL = re.compile(r"[A-Z0-9]{2,12}-[A-Z0-9]{2,12}")
_LATEST_NS = 4_102_444_800_000_000_000  # 2100-01-01: far enough that a slip of unit stands out
_LOW_62 = (1 << 62) - 1


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


@functools.lru_cache(maxsize=64)
def native_bits(venue: str, channel: str, symbol: str) -> int:
    """The bits of an id that do not depend on the venue's own number, which is added to them.

    key[0:48], version 8, key[48:60], variant 2, then 62 bits for the number.
    """
    digest = hashlib.sha256(f"{venue}|{MARKET}|{channel}|{symbol}".encode()).digest()
    key = int.from_bytes(digest[:8], "big") >> 4
    return (key >> 12) << 80 | 8 << 76 | (key & 0xFFF) << 64 | 0b10 << 62


def content_bits(venue: str, channel: str, symbol: str, event_ts: int, content: str) -> int:
    """The id of an event that is known by what it says, the first of those that say the same."""
    text = f"content|{venue}|{MARKET}|{channel}|{symbol}|{event_ts}|{content}"
    base = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big") >> 6
    high, low = base >> 62, base & _LOW_62
    return (high >> 12) << 80 | 8 << 76 | (high & 0xFFF) << 64 | 0b10 << 62 | low


def iso_micros(ns: int) -> str:
    """Nanoseconds since the epoch as ``2026-01-01T00:00:00.000000Z``."""
    seconds, rest = divmod(ns, 1_000_000_000)
    return f"{_iso_second(seconds)}.{rest // 1_000:06d}Z"


def parse_start(text: str) -> int:
    """Return nanoseconds since the epoch from ISO 8601 or a count of nanoseconds.

    Raises :class:`~forebay.errors.ConfigError` for one without a zone or outside 1970 to 2100.
    """
    ns = int(text) if text.isdecimal() else _iso_ns(text)
    if not 0 <= ns < _LATEST_NS:
        message = f"The start {text!r} is not between 1970 and 2100."
        raise ConfigError(message, hint="Give nanoseconds since 1970, or 2026-01-01T00:00:00Z.")
    return ns // 1_000 * 1_000


def parse_symbols(text: str) -> tuple[str, ...]:
    """Return symbols from a comma-separated list.

    Raises :class:`~forebay.errors.ConfigError` if one is not BASE-QUOTE in capitals or named twice.
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


@functools.lru_cache(maxsize=64)
def _iso_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
