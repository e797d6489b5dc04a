"""Digests of sets of events, as the audit makes them of what is stored."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Iterable

_MASK_128 = (1 << 128) - 1


class Event(Protocol):
    """One event of any channel, as it happened."""

    @property
    def index(self) -> int:
        """Index of the market's event that it belongs to."""
        ...

    @property
    def event_id(self) -> int:
        """The 128 bits of the UUID."""
        ...

    @property
    def event_ts(self) -> int:
        """Venue time, nanoseconds since the epoch, a whole number of microseconds."""
        ...

    def row(self) -> str:
        """Canonical text that digests are made of."""
        ...

    def document(self) -> dict[str, Any]:
        """What ``forebay lab truth`` prints, one JSON object a line."""
        ...


class TruthStream(Protocol):
    """All events of one channel of one symbol."""

    def event(self, index: int) -> Event | None:
        """The event that belongs to this index of the market, None if there is none."""
        ...


@dataclass(slots=True)
class TruthDigest:
    """Digest of a set of events; the order in which they are added does not matter."""

    count: int = 0
    ids: int = 0
    rows: int = 0

    def add(self, event: Event) -> None:
        """Count one event; the caller adds each id once."""
        row = hashlib.md5(event.row().encode(), usedforsecurity=False).digest()
        self.count += 1
        self.ids = (self.ids + event.event_id) & _MASK_128
        self.rows = (self.rows + int.from_bytes(row, "little")) & _MASK_128

    @classmethod
    def of(cls, events: Iterable[Event]) -> Self:
        """Digest of all ``events``."""
        digest = cls()
        for event in events:
            digest.add(event)
        return digest

    def document(self) -> dict[str, int | str]:
        """As printed: the sums are 32 hexadecimal digits."""
        return {"count": self.count, "ids": f"{self.ids:032x}", "rows": f"{self.rows:032x}"}
