"""What a venue's history says exists, held against what is stored: by day, by count and digest.

The source's pages are read by the same parser as those that are captured, and go nowhere.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from forebay.domain.digest import Digest, cell_texts
from forebay.domain.frames import FrameBatch
from forebay.services.normalise import normalise
from forebay.services.pages_in_hand import PagesInHand

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import pyarrow as pa

    from forebay.clock import Clock
    from forebay.domain.kinds import EventKind
    from forebay.ports import HistoryRequest, Parser
    from forebay.services.pages_in_hand import PageInHand

DAY_NS = 86_400_000_000_000
SHOWN = 5
"""Events of a day that are named of each difference."""


class ToldRow(NamedTuple):
    """One event by its content: what a digest is made of."""

    event_id: str
    canonical: str


Tables = list["pa.Table"]
Fill = Callable[["HistoryRequest", PagesInHand], Awaitable[object]]
"""Asks for a page; see :meth:`~forebay.ports.Source.fill`."""
Rows = dict[int, ToldRow]
"""By ``event_ts``, UTC nanoseconds: of one stream there is one event at a time."""


@dataclass(slots=True)
class EventTimes:
    """When events were, as ``event_ts``: how many, and the first few."""

    count: int = 0
    first: list[int] = field(default_factory=list)

    def add(self, at_ns: int) -> None:
        """Count one; they come in order."""
        self.count += 1
        if len(self.first) < SHOWN:
            self.first.append(at_ns)


@dataclass(slots=True)
class DayComparison:
    """What the source and the store have of one stream on one day, UTC."""

    source: Digest = field(default_factory=Digest)
    stored: Digest = field(default_factory=Digest)
    missing: EventTimes = field(default_factory=EventTimes)
    """Events that are not stored."""
    differing: EventTimes = field(default_factory=EventTimes)
    """Those that are stored with another content."""
    extra: EventTimes = field(default_factory=EventTimes)
    """Those that are stored and that the source does not have."""

    @property
    def same(self) -> bool:
        """Whether there is no difference."""
        return self.source == self.stored

    @property
    def wants_repair(self) -> bool:
        """Whether the source has what the store has not."""
        return bool(self.missing.count or self.differing.count)


def compare(source: Rows, stored: Rows, days: dict[int, DayComparison]) -> None:
    """Add to ``days``, which are by their number since the Unix epoch, what two sides have."""
    for at_ns in sorted(source.keys() | stored.keys()):
        day = days[at_ns // DAY_NS]
        ours, theirs = stored.get(at_ns), source.get(at_ns)
        if theirs is not None:
            day.source += Digest.of_event(*theirs)
        if ours is not None:
            day.stored += Digest.of_event(*ours)
        if ours is None:
            day.missing.add(at_ns)
        elif theirs is None:
            day.extra.add(at_ns)
        elif ours.canonical != theirs.canonical:
            day.differing.add(at_ns)


def told_rows(
    events: pa.Table, kind: EventKind, ids: Sequence[str]
) -> Iterator[tuple[int, ToldRow]]:
    """Return each of ``events`` with its time; of several of one time the caller keeps one."""
    texts = [cell_texts(_whole(events[name])).to_pylist() for name in kind.content]
    times = _whole(events["event_ts"]).cast("int64").to_pylist()
    for at_ns, event_id, *cells in zip(times, ids, *texts, strict=True):
        yield at_ns, ToldRow(event_id, "|".join((event_id, *cells)))


def _whole(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    return column.combine_chunks() if hasattr(column, "combine_chunks") else column


def _events(page: PageInHand, parsers: Mapping[str, Parser], clock: Clock) -> tuple[Tables, int]:
    """Return the events of a page, and how many rows would be dead letters if it were captured."""
    count = len(page.payloads)
    received_ns = np.full(count, clock.wall_ns(), dtype=np.int64)
    seqs = np.arange(count, dtype=np.int64)
    batch = FrameBatch(page.context, page.kind, page.payloads, received_ns, "", seqs)
    told = normalise(batch, parsers)
    return [each.finish() for each in told.events], sum(told.reasons.values())


@dataclass(slots=True)
class StreamComparison:
    """What two sides have of one stream."""

    days: dict[int, DayComparison] = field(default_factory=lambda: defaultdict(DayComparison))
    """By their number since the Unix epoch."""
    refused: int = 0
    """Rows of the source that are no events: captured, they would be dead letters."""


async def verify(
    fill: Fill,
    requests: Iterable[HistoryRequest],
    parsers: Mapping[str, Parser],
    *,
    clock: Clock,
    told: Callable[[HistoryRequest, pa.Table], Rows],
    stored: Callable[[HistoryRequest], Rows],
    progress: Callable[[int], object] = lambda _: None,
) -> StreamComparison:
    """Ask the source for some pages of one stream, and compare them with the store.

    ``told`` returns what a table of events says of a request, ``stored`` what the store has of it;
    both are called in a thread. One page is held at a time. Raises as
    :meth:`~forebay.ports.Source.fill`.
    """
    found = StreamComparison()

    def look(request: HistoryRequest, pages: Sequence[PageInHand]) -> None:
        rows: Rows = {}
        for page in pages:
            tables, refused = _events(page, parsers, clock)
            found.refused += refused
            for table in tables:
                rows |= told(request, table)
        compare(rows, stored(request), found.days)

    for number, request in enumerate(requests, 1):
        hand = PagesInHand()
        await fill(request, hand)
        await asyncio.to_thread(look, request, hand.pages)
        progress(number)
    found.days = dict(sorted(found.days.items()))
    return found
