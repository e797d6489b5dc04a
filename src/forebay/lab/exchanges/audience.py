"""Who is connected to a simulated exchange, and who of them is told what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.lab.exchanges.line import Line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from forebay.lab.exchanges.model import Feed, VenueModel

Listener = tuple[Line, str]
"""A connection, and the lane of it that carries an event."""


class Audience:
    """All connections that have not ended."""

    def __init__(self, venue: VenueModel) -> None:
        self._venue = venue
        self._lines: list[Line] = []
        self._listeners: Mapping[tuple[Feed, str], Sequence[Listener]] | None = None
        """None while they have to be found again."""

    def __iter__(self) -> Iterator[Line]:
        """Go through the connections there are now, whatever becomes of them meanwhile."""
        return iter(tuple(self._lines))

    def __len__(self) -> int:
        return len(self._lines)

    def add(self, line: Line) -> None:
        self._lines.append(line)

    def remove(self, line: Line) -> None:
        """Forget a connection, if it is not forgotten yet."""
        if line in self._lines:
            self._lines.remove(line)
            self._listeners = None

    def forget_ended(self) -> None:
        """Forget every connection that has ended."""
        if any(line.ended for line in self._lines):
            self._lines = [line for line in self._lines if not line.ended]
            self._listeners = None

    def subscriptions_changed(self) -> None:
        """Find out again who is told what."""
        self._listeners = None

    def speaking(self) -> list[Line]:
        """Return those that are not half-open."""
        return [line for line in self._lines if not line.muted]

    def listening(self, feed: Feed, symbol: str) -> Sequence[Listener]:
        """Return who is told a feed of a symbol."""
        if self._listeners is None:
            found: dict[tuple[Feed, str], dict[Listener, None]] = {}
            for line in self._lines:
                for channel, at in line.topics:
                    carried = self._venue.feed(channel)
                    if carried is not None:
                        listener = line, line.dialogue.lane(channel)
                        found.setdefault((carried, at), {})[listener] = None
            self._listeners = {key: tuple(each) for key, each in found.items()}
        return self._listeners.get((feed, symbol), ())
