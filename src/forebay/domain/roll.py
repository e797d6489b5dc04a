"""What collectors asked venues for, and what these do not give: kept beside coverage.

Coverage speaks of what was heard. A stream that nobody ever heard has none, and only what was asked
for tells that it is missing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from forebay.domain.coverage.gaps import StreamKey

if TYPE_CHECKING:
    from collections.abc import Iterable


class AskedFor(msgspec.Struct, frozen=True):
    """What one collector asks one venue for, since it began to capture last."""

    at_ns: int
    collector: str
    venue: str
    streams: tuple[tuple[str, str, str], ...]
    """Market, kind of event and symbol of each."""


class Answered(msgspec.Struct, frozen=True):
    """What a venue said of some streams at one moment."""

    at_ns: int
    venue: str
    market: str
    streams: tuple[tuple[str, str], ...]
    """Kind of event and symbol of each."""
    refused: str = ""
    """Why it does not give them; empty: it gives them."""


class StreamStanding(NamedTuple):
    """What a venue said last of one stream."""

    at_ns: int
    refused: str


@dataclass(slots=True)
class Roll:
    """What is asked for and what was answered; of two records the later one holds."""

    asked: dict[tuple[str, str], AskedFor] = field(default_factory=dict)
    """By collector and venue."""
    answers: dict[StreamKey, StreamStanding] = field(default_factory=dict)

    def ask(self, asked: AskedFor) -> None:
        place = asked.collector, asked.venue
        if place not in self.asked or self.asked[place].at_ns <= asked.at_ns:
            self.asked[place] = asked

    def answer(self, told: Answered) -> None:
        for channel, symbol in told.streams:
            key = StreamKey(told.venue, told.market, channel, symbol)
            before = self.answers.get(key)
            if before is None or before.at_ns <= told.at_ns:
                self.answers[key] = StreamStanding(told.at_ns, told.refused)

    def add(self, asked: Iterable[AskedFor], answered: Iterable[Answered]) -> None:
        for each in asked:
            self.ask(each)
        for told in answered:
            self.answer(told)

    def written(self) -> list[Answered]:
        """Return the answers as they are written down."""

        def alike(item: tuple[StreamKey, StreamStanding]) -> tuple[str, str, int, str]:
            return (*item[0][:2], *item[1])

        return [
            Answered(at_ns, venue, market, tuple(key[2:] for key, _ in group), refused)
            for (venue, market, at_ns, refused), group in groupby(
                sorted(self.answers.items(), key=lambda item: (alike(item), item[0])), alike
            )
        ]

    def streams(self) -> dict[StreamKey, int]:
        """Return every stream that is asked for, and since when."""
        found: dict[StreamKey, int] = {}
        for asked in self.asked.values():
            for stream in asked.streams:
                key = StreamKey(asked.venue, *stream)
                found[key] = min(asked.at_ns, found.get(key, asked.at_ns))
        return found

    def refusal(self, key: StreamKey) -> str:
        """Return why a venue does not give a stream; nothing if it does, or never said."""
        return self.answers[key].refused if key in self.answers else ""
