"""What is wrong with what a transport holds; bounded, however much that is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from forebay.domain.intervals import IntervalSet

if TYPE_CHECKING:
    from forebay.domain.coverage import StreamKey
    from forebay.domain.digest import Digest, StreamHour

MAX_EXAMPLES = 20


@dataclass(slots=True)
class EventSet:
    """Some events: how many, and what they are called."""

    count: int = 0
    numbers: IntervalSet = field(default_factory=IntervalSet)
    ids: list[str] = field(default_factory=list)
    """Of the first few."""

    def add(self, event_id: str, number: int | None) -> None:
        self.count += 1
        if number is not None:
            self.numbers.add(number)
        elif len(self.ids) < MAX_EXAMPLES:
            self.ids.append(event_id)

    def examples(self) -> list[str]:
        """Return ranges of numbers where they have some, and ids of others."""
        ranges = (str(a) if a == b else f"{a} to {b}" for a, b in self.numbers)
        named = [text for text, _ in zip(ranges, range(MAX_EXAMPLES), strict=False)]
        return [*named, *self.ids][:MAX_EXAMPLES]


@dataclass(slots=True)
class StreamFindings:
    """What is wrong with the events of one stream."""

    missing: EventSet = field(default_factory=EventSet)
    mutated: EventSet = field(default_factory=EventSet)
    spurious: EventSet = field(default_factory=EventSet)
    how: list[str] = field(default_factory=list)
    """Of the first few mutated events, what differs."""
    again: int = 0
    """Records of a telling that is there already: at least once allows them."""


@dataclass(slots=True)
class LaneFindings:
    """What is there of one lane, and what is wrong with it as a whole."""

    lane: str
    oldest: int | None
    """The first frame of which all is kept; None: it holds nothing."""
    end: int
    """Before this frame it was told everything."""
    rows: int
    anew: bool
    """Whether it was made anew since it was told."""
    unreadable: int = 0
    steps: IntervalSet = field(default_factory=IntervalSet)
    """Frames whose steps are not there whole."""


@dataclass(slots=True)
class Findings:
    """What was found of one transport."""

    name: str
    hours: dict[StreamHour, Digest] = field(default_factory=dict)
    """Digests of the events that its lanes hold, each once."""
    streams: dict[StreamKey, StreamFindings] = field(default_factory=dict)
    lanes: list[LaneFindings] = field(default_factory=list)
    unseen: int = 0
    """Rows whose frames the journal does not have any more; nothing is wrong."""
    mended: int = 0
    """Rows that were published once more."""
    rows: int = 0
    took_ms: int = 0

    @property
    def ok(self) -> bool:
        """Whether nothing is lacking and nothing is otherwise than it was told."""
        wrong = any(
            found.missing.count or found.mutated.count or found.spurious.count
            for found in self.streams.values()
        )
        return not wrong and not any(lane.steps for lane in self.lanes)
