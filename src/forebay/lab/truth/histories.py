"""Bars that were before the market began: read from a recording, or in closed form."""

from __future__ import annotations

import bisect
import csv
import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from forebay.errors import ConfigError
from forebay.lab.truth.texts import decimal_text, parse_start

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MINUTE_MS: Final = 60_000
BEGIN_MS: Final = 1_704_067_200_000
"""2024-01-01T00:00:00Z, when bars in closed form begin."""
_DECIMALS = 5
_SWING = 2_000


class BarLine(NamedTuple):
    """One bar; numbers are exact texts."""

    open_ms: int
    open: str
    high: str
    low: str
    close: str
    volume: str


class BarHistory(Protocol):
    """Bars of one symbol, rising."""

    step_ms: int
    """From one to the next, if none is left out."""

    def between(self, first_ms: int, last_ms: int) -> Iterator[BarLine]:
        """The bars that begin in a range, both ends included, one after the other."""
        ...


class MadeBars:
    """``count`` bars of a minute in closed form; nothing is kept of them.

    Some are left out, as where nothing is quoted: of a thousand, ``holes``.
    """

    def __init__(self, symbol: str, count: int, *, holes: int = 0, seed: int = 1) -> None:
        self.step_ms = MINUTE_MS
        self.count = count
        self._holes = holes
        self._dice = hashlib.blake2b(f"{seed}|bars|{symbol}|".encode(), digest_size=16)

    def between(self, first_ms: int, last_ms: int) -> Iterator[BarLine]:
        """See :class:`BarHistory`."""
        first = max(0, -(-(first_ms - BEGIN_MS) // MINUTE_MS))
        last = min(self.count - 1, (last_ms - BEGIN_MS) // MINUTE_MS)
        roll = self._roll(first)
        before = self._price(first, roll)
        for index in range(first, last + 1):
            following = self._roll(index + 1)
            after = self._price(index + 1, following)
            if int.from_bytes(roll[:4], "big") % 1_000 >= self._holes:
                high, low = max(before, after) + roll[4] % 8, min(before, after) - roll[5] % 8
                texts = [decimal_text(price, _DECIMALS) for price in (before, high, low, after)]
                opened, highest, lowest, close = texts
                begin_ms, volume = BEGIN_MS + index * MINUTE_MS, str(1 + roll[6])
                yield BarLine(begin_ms, opened, highest, lowest, close, volume)
            before, roll = after, following

    def _price(self, index: int, roll: bytes) -> int:
        phase = index % (2 * _SWING)
        return 108_000 + min(phase, 2 * _SWING - phase) + roll[8] % 16

    def _roll(self, index: int) -> bytes:
        dice = self._dice.copy()
        dice.update(index.to_bytes(8, "big"))
        return dice.digest()


class ReadBars:
    """Bars of a CSV file: a column of times, then open, high, low, close and perhaps volume.

    Times are ``DD.MM.YYYY HH:MM:SS.mmm`` in UTC or ISO 8601 with a zone. Where there is no volume
    it is 1. Raises :class:`~forebay.errors.ConfigError` if the file is none.
    """

    def __init__(self, path: Path) -> None:
        try:
            with path.open(encoding="utf-8", newline="") as file:
                self.lines = [_line(row) for row in list(csv.reader(file))[1:]]
        except (OSError, ValueError, IndexError, ConfigError) as error:
            message = f"{path} holds no bars: {error}."
            raise ConfigError(message, hint="Name a CSV file of bars.") from error
        self._opens = [line.open_ms for line in self.lines]
        steps = [after - at for at, after in zip(self._opens, self._opens[1:], strict=False)]
        if not steps or min(steps) <= 0:
            message = f"{path} holds no rising bars."
            raise ConfigError(message, hint="Sort it by time, each bar once.")
        self.step_ms = min(steps)

    def between(self, first_ms: int, last_ms: int) -> Iterator[BarLine]:
        """See :class:`BarHistory`."""
        first = bisect.bisect_left(self._opens, first_ms)
        last = bisect.bisect_right(self._opens, last_ms)
        return (self.lines[at] for at in range(first, last))


def _line(row: list[str]) -> BarLine:
    text, opened, high, low, close = row[:5]
    if "." in text[:3]:
        moment = datetime.strptime(text, "%d.%m.%Y %H:%M:%S.%f").replace(tzinfo=UTC)
        text = moment.isoformat()
    volume = row[5] if len(row) > 5 else "1"  # noqa: PLR2004 - the sixth column
    return BarLine(parse_start(text) // 1_000_000, opened, high, low, close, volume)


def parse_histories(text: str, seed: int = 1) -> Mapping[str, BarHistory]:
    """Histories by symbol from ``EUR-USD=FILE.csv,GBP-USD=1025720``: a file, or a count of bars.

    Raises :class:`~forebay.errors.ConfigError` if one is neither.
    """
    found: dict[str, BarHistory] = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        symbol, _, what = part.partition("=")
        if not symbol or not what:
            message = f"{part!r} names no history of bars."
            raise ConfigError(message, hint="Write EUR-USD=FILE.csv or EUR-USD=1025720.")
        is_count = what.isdecimal()
        found[symbol] = MadeBars(symbol, int(what), seed=seed) if is_count else ReadBars(Path(what))
    return found
