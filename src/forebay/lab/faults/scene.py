"""What a fault gets to see and to do."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


class Ending(enum.Enum):
    """How the server ends a connection; the value is the websocket close code."""

    GOING_AWAY = 1001
    CUT = 1006
    """In the middle of a frame, without a close frame."""
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012


def stream_of(feed: str, symbol: str) -> str:
    """What the ledger knows the events of a feed by: a trade by its symbol alone."""
    return symbol if feed == "trade" else f"{feed}|{symbol}"


@dataclass(frozen=True, slots=True)
class Emission:
    """One event on its way to those who subscribed to it."""

    symbol: str
    index: int
    frame: bytes
    feed: str = "trade"

    @property
    def stream(self) -> str:
        """What the ledger knows it by."""
        return stream_of(self.feed, self.symbol)


class Line(Protocol):
    """One connection as a fault sees it."""

    def send(self, emission: Emission) -> None:
        """Send the whole frame now."""
        ...

    def send_torn(self, emission: Emission, length: int) -> None:
        """Send only the first ``length`` bytes, as a complete websocket message."""
        ...

    def swap(self, emission: Emission) -> None:
        """Send the frame after the next one."""
        ...

    def hold(self, emission: Emission, until_ns: int) -> None:
        """Send the frame when the monotonic clock has reached ``until_ns``."""
        ...

    def mute(self) -> None:
        """Never send anything again, and stay open."""
        ...

    def end(self, ending: Ending, emission: Emission) -> None:
        """Close; :attr:`Ending.CUT` leaves part of the frame on the wire."""
        ...


@dataclass(frozen=True, slots=True)
class Scene:
    """Where and when a fault strikes."""

    emission: Emission
    listeners: Sequence[Line]
    """Connections that would get the frame; never empty."""
    everyone: Sequence[Line]
    """All connections that are alive; a half-open one is not."""
    roll: int
    """Chooses details; closed form like the decision itself."""
    now_ns: int
