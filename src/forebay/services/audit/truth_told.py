"""Events that are known by what they say, against the truth.

They have no numbers, so nothing is declared of single ones: what the simulator withheld, surely or
perhaps, may be missing, and nothing else.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import pyarrow.compute as pc

from forebay.domain.digest import HOUR_NS, MINUTE_NS, Digest
from forebay.services.audit.compare import by_id, paired, stretches
from forebay.services.audit.findings import difference

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from forebay.domain.coverage import StreamKey
    from forebay.domain.intervals import IntervalSet
    from forebay.services.audit.case import Case
    from forebay.services.audit.compare import Comparison
    from forebay.services.audit.truth import Bounds, Truth

FEEDS: Final[Mapping[str, str]] = MappingProxyType(
    {"ticker": "ticker", "quote": "ticker", "book_delta": "book"}
)
"""By channel, the messages that carry it. Whole books are told to new subscribers alone, and bars
to who asks, so that none is owed: they are not compared."""

_MINUTES = HOUR_NS // MINUTE_NS


def unlike(
    case: Case, key: StreamKey, minutes: Mapping[int, Digest], comparison: Comparison
) -> tuple[Digest, Iterator[tuple[int, int]]]:
    """Return the digest of the audited hours, and from which to which minute rows differ.

    ``minutes`` are the right digests of a stream by minute.
    """
    hours: dict[int, dict[int, Digest]] = defaultdict(dict)
    for minute, digest in minutes.items():
        if case.span.touches(minute // _MINUTES):
            hours[minute // _MINUTES][minute] = digest
    sums = {hour: sum(told.values(), Digest()) for hour, told in hours.items()}
    stored = case.stored.get(key, {})

    def differing() -> Iterator[tuple[int, int]]:
        for hour in sorted(hours.keys() | stored.keys()):
            if sums.get(hour, Digest()) != stored.get(hour, Digest()):
                yield from stretches(paired(comparison.minutes(key, hour), hours.get(hour, {})))

    return sum(sums.values(), Digest()), differing()


@dataclass(slots=True)
class ToldStream:
    """One stream of the market, of a channel whose events have no number."""

    truth: Truth
    case: Case
    key: StreamKey
    bounds: Bounds
    """What is owed."""
    last: int
    """The last index that can be there."""
    withheld: IntervalSet
    """Indices that subscribers were perhaps not given."""

    def compare(self, comparison: Comparison) -> Digest:
        """Compare hours, then minutes, then events; return the digest of the audited hours."""
        owed = self.bounds.first
        if owed is None:
            return Digest()
        symbol, channel = self.key.symbol, self.key.channel
        told = self.truth.digests(symbol, owed, self.last + 1, MINUTE_NS, channel)
        total, differing = unlike(self.case, self.key, told, comparison)
        for minutes in differing:
            self._compare_rows(comparison, minutes, owed)
        return total

    def _compare_rows(self, comparison: Comparison, minutes: tuple[int, int], owed: int) -> None:
        table = comparison.rows(self.key, minutes)
        rows = by_id(table.filter(pc.less(table["seq"], self.case.seq)), self.key.channel)
        since_ns, until_ns = minutes[0] * MINUTE_NS, (minutes[1] + 1) * MINUTE_NS
        events = self.truth.told(self.key.symbol, self.key.channel, since_ns, until_ns)
        # A new subscriber is told the latest event, before what is owed: it is right to have it.
        right = {event.event_id: event for event in events}
        found = self.case.found[self.key]
        for event_id, each in rows.items():
            event = right.get(event_id)
            for row in each:
                if event is None:
                    found.spurious[event_id] = None
                elif event.row != row.canonical:
                    how = difference(self.key.channel, row.canonical, event.row)
                    found.mutate(event_id, None, how)
        for event_id, event in right.items():
            is_owed = owed <= event.index <= self.bounds.last and event.index not in self.withheld
            if is_owed and event_id not in rows:
                found.missing[event_id] = None
