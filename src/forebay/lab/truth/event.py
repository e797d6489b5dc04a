"""What events of every channel have in common, and digests of them as the audit makes them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import msgspec

from forebay.lab.truth.texts import MARKET, content_bits, fixed, iso_micros, uuid_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_MASK_128 = (1 << 128) - 1


class TruthEvent(msgspec.Struct, frozen=True):
    """One event as it happened; decimals are exact texts.

    Its id is made of its content unless a channel has numbers; equal ones never share a time here.
    """

    channel: ClassVar[str]
    """Forebay's word for what this is."""

    index: int
    """Of the market's event that it belongs to."""
    venue: str
    symbol: str
    event_ts: int
    """Venue time, nanoseconds since the epoch, a whole number of microseconds."""

    def content(self) -> str:
        """Canonical text of what is its own."""
        return "|".join(fixed(text) for text in self._own().values())

    @property
    def event_id(self) -> int:
        """The 128 bits of the UUID."""
        return content_bits(self.venue, self.channel, self.symbol, self.event_ts, self.content())

    @property
    def time(self) -> str:
        """Venue time as an exchange writes it, with six decimals."""
        return iso_micros(self.event_ts)

    def row(self) -> str:
        """Canonical text that digests are made of."""
        head = f"{uuid_text(self.event_id)}|{self.venue}|{MARKET}|{self.symbol}|{self.event_ts}"
        return f"{head}|{self.content()}"

    def document(self) -> dict[str, Any]:
        """What ``forebay lab truth`` prints, one JSON object a line."""
        return {
            "index": self.index,
            "event_id": uuid_text(self.event_id),
            "venue": self.venue,
            "symbol": self.symbol,
            **self._own(),
            "event_ts": self.event_ts,
            "time": self.time,
        }

    def _own(self) -> dict[str, Any]:
        common = len(TruthEvent.__struct_fields__)
        return {name: getattr(self, name) for name in self.__struct_fields__[common:]}


Source = Callable[[int], TruthEvent | None]
"""All events of one channel of one symbol, by the market's index; most channels have few."""


def events(source: Source, first: int, end: int) -> Iterator[TruthEvent]:
    """What belongs to indices ``first`` to ``end - 1``, in order."""
    return (event for index in range(first, end) if (event := source(index)) is not None)


@dataclass(slots=True)
class TruthDigest:
    """Digest of a set of events; the order in which they are added does not matter."""

    count: int = 0
    ids: int = 0
    rows: int = 0

    def add(self, event: TruthEvent) -> None:
        """Count one event; the caller adds each id once."""
        row = hashlib.md5(event.row().encode(), usedforsecurity=False).digest()
        self.count += 1
        self.ids = (self.ids + event.event_id) & _MASK_128
        self.rows = (self.rows + int.from_bytes(row, "little")) & _MASK_128

    @classmethod
    def of(cls, events: Iterable[TruthEvent]) -> Self:
        """Digest of all ``events``."""
        digest = cls()
        for event in events:
            digest.add(event)
        return digest

    def document(self) -> dict[str, int | str]:
        """As printed: the sums are 32 hexadecimal digits."""
        return {"count": self.count, "ids": f"{self.ids:032x}", "rows": f"{self.rows:032x}"}
