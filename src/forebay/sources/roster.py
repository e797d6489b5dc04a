"""What was asked for, stream by stream, and what became of it: asked, acknowledged, refused."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from forebay.domain.frames import StreamsRefused
from forebay.telemetry import StreamRefused
from forebay.visible import shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from forebay.clock import Clock
    from forebay.sources.venue import Stream
    from forebay.telemetry import Observer


class Place(NamedTuple):
    """One stream of one venue."""

    venue: str
    market: str
    channel: str
    symbol: str


@dataclass(slots=True)
class Standing:
    """How one stream stands; times are UTC nanoseconds."""

    asked_ns: int
    acknowledged_ns: int | None = None
    """Since when the venue gives it; None while it does not."""
    refused: str = ""
    """Why the venue does not give it, as far as anybody knows."""
    refusals: int = 0
    """How often that was said in a row."""
    retry_ns: int | None = None
    """When it is asked for again, if that is later than with the next connection."""


class Roster:
    """Every stream that the sources of a process ask for."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.standings: dict[Place, Standing] = {}
        self.changes = 0
        """Rises whenever one of these changes."""
        self.complaints: dict[str, int] = {}
        """By venue, how often it complained."""
        self.refusals: dict[str, int] = {}
        """By venue, how often it did not give a stream, whether anybody wants that still or not."""

    def of(self, venue: str, market: str, observer: Observer) -> Attendance:
        """Return the part of one venue and market; ``observer`` hears of refusals."""
        self.complaints.setdefault(venue, 0)
        self.refusals.setdefault(venue, 0)
        return Attendance(self, venue, market, observer)


class Attendance:
    """The streams of one venue and market, as its connections and polls see them."""

    def __init__(self, roster: Roster, venue: str, market: str, observer: Observer) -> None:
        self._roster = roster
        self._observe = observer
        self.record: Callable[[StreamsRefused], None] = lambda _: None
        """Puts a refusal on record."""
        self._venue = venue
        self._market = market

    def ask(self, streams: Iterable[Stream]) -> None:
        """Note that somebody wants ``streams``."""
        now_ns = self._roster.clock.wall_ns()
        self._roster.changes += 1
        for stream in streams:
            self._roster.standings.setdefault(self._place(stream), Standing(now_ns))

    def forget(self, streams: Iterable[Stream]) -> None:
        """Note that nobody wants ``streams`` any more."""
        self._roster.changes += 1
        for stream in streams:
            self._roster.standings.pop(self._place(stream), None)

    def acknowledge(self, streams: Iterable[Stream]) -> None:
        """Note that the venue gives ``streams`` from here on."""
        for standing in self._known(streams):
            standing.acknowledged_ns = standing.acknowledged_ns or self._roster.clock.wall_ns()
            standing.refused, standing.refusals, standing.retry_ns = "", 0, None

    def lose(self, streams: Iterable[Stream]) -> None:
        """Note that what gave ``streams`` is over."""
        for standing in self._known(streams):
            standing.acknowledged_ns = None

    def refuse(self, streams: Mapping[Stream, str], retry_s: float, *, told: bool = False) -> None:
        """Note that the venue does not give ``streams``; ``told``: the log says so already."""
        retry_ns = self._roster.clock.wall_ns() + round(retry_s * 1e9)
        alike: dict[str, list[Stream]] = defaultdict(list)
        for stream, words in sorted(streams.items()):
            reason = shortened(words)
            alike[reason].append(stream)
            for standing in self._known([stream]):
                standing.acknowledged_ns = None
                standing.refused, standing.retry_ns = reason, retry_ns
                standing.refusals += 1
                self._roster.refusals[self._venue] += 1
        for reason, some in alike.items():
            self.record(StreamsRefused(tuple(some), reason))
            for symbol in () if told else dict.fromkeys(symbol for _, symbol in some):
                kinds = ", ".join(kind for kind, each in some if each == symbol)
                self._observe(StreamRefused(self._venue, "", kinds, symbol, reason, retry_s))

    def complained(self) -> None:
        """Count a complaint of the venue."""
        self._roster.complaints[self._venue] += 1

    def _place(self, stream: Stream) -> Place:
        return Place(self._venue, self._market, *stream)

    def _known(self, streams: Iterable[Stream]) -> Iterable[Standing]:
        """Return how some streams stand, to be changed."""
        self._roster.changes += 1
        found = (self._roster.standings.get(self._place(stream)) for stream in streams)
        return [standing for standing in found if standing is not None]
