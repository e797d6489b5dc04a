"""What a venue's history says exists, held against what is stored: by day, by count and digest.

The source's pages are read by the same parser as those that are captured, and go nowhere.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from forebay.domain.digest import Digest, cell_texts
from forebay.domain.frames import FrameBatch, FrameKind
from forebay.services.normalise import normalise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import pyarrow as pa

    from forebay.clock import Clock
    from forebay.domain.frames import Context, Control
    from forebay.domain.kinds import EventKind
    from forebay.ports import HistoryRequest, Parser, Source

DAY_NS = 86_400_000_000_000


class ToldRow(NamedTuple):
    """One event by its content: what a digest is made of."""

    event_id: str
    canonical: str


Rows = dict[int, ToldRow]
"""By ``event_ts``, UTC nanoseconds: of one stream there is one event at a time."""


@dataclass(slots=True)
class DayComparison:
    """What the source and the store have of one stream on one day, UTC."""

    source: Digest = field(default_factory=Digest)
    stored: Digest = field(default_factory=Digest)
    missing: list[int] = field(default_factory=list)
    """When events were that are not stored, as ``event_ts``."""
    differing: list[int] = field(default_factory=list)
    """Likewise of those that are stored with another content."""
    extra: list[int] = field(default_factory=list)
    """Likewise of those that are stored and that the source does not have."""

    @property
    def same(self) -> bool:
        """Whether there is no difference."""
        return self.source == self.stored


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
            day.missing.append(at_ns)
        elif theirs is None:
            day.extra.append(at_ns)
        elif ours.canonical != theirs.canonical:
            day.differing.append(at_ns)


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


@dataclass(slots=True)
class _Page:
    """What one page says; our own records are not kept."""

    pages: PagesInHand
    context: Context

    def frame(self, kind: FrameKind, payload: bytes) -> None:
        self.batch(kind, (payload,))

    def batch(self, kind: FrameKind, payloads: Sequence[bytes]) -> None:
        self.pages.take(self.context, kind, payloads)

    def control(self, control: Control) -> None:
        del control


class PagesInHand:
    """A :class:`~forebay.ports.FrameSink` that reads what it is given, and keeps nothing."""

    def __init__(self, parsers: Mapping[str, Parser], clock: Clock) -> None:
        self._parsers = parsers
        self._clock = clock
        self.tables: list[tuple[str, pa.Table]] = []
        """By table, events that the pages hold."""
        self.refused = 0
        """Rows and pages that are dead letters, where they are captured."""

    def open(self, context: Context) -> _Page:
        """See :class:`~forebay.ports.FrameSink`."""
        return _Page(self, context)

    def on_pressure(self, callback: Callable[[bool], None]) -> Callable[[], None]:
        """Nobody is ever told to pause."""
        del callback
        return lambda: None

    async def flushed(self) -> int:
        """There is nothing to wait for."""
        return 0

    def take(self, context: Context, kind: FrameKind, payloads: Sequence[bytes]) -> None:
        """Read the events of some payloads."""
        count = len(payloads)
        received_ns = np.full(count, self._clock.wall_ns(), dtype=np.int64)
        seqs = np.arange(count, dtype=np.int64)
        batch = FrameBatch(context, kind, payloads, received_ns, "", seqs)
        told = normalise(batch, self._parsers)
        self.refused += sum(told.reasons.values())
        self.tables += [(each.kind.table, each.finish()) for each in told.events]


async def verify(
    source: Source,
    requests: Iterable[HistoryRequest],
    parsers: Mapping[str, Parser],
    *,
    clock: Clock,
    told: Callable[[HistoryRequest, pa.Table], Rows],
    stored: Callable[[HistoryRequest], Rows],
    progress: Callable[[int], object] = lambda _: None,
) -> tuple[dict[int, DayComparison], int]:
    """Ask the source for some pages of one stream, and compare; return days and rows refused.

    ``told`` returns what a table of events says of a request, ``stored`` what the store has of it.
    Raises as :meth:`~forebay.ports.Source.fill`.
    """
    days: dict[int, DayComparison] = defaultdict(DayComparison)
    refused = 0
    for number, request in enumerate(requests, 1):
        pages = PagesInHand(parsers, clock)
        await source.fill(request, pages)
        rows: Rows = {}
        for _, table in pages.tables:
            rows |= told(request, table)
        compare(rows, stored(request), days)
        refused += pages.refused
        progress(number)
    return dict(sorted(days.items())), refused
