"""The store against the truth: bounds and events come from the simulator, never from rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from forebay.domain.coverage import StreamKey
from forebay.domain.digest import Digest
from forebay.domain.intervals import IntervalSet
from forebay.services.audit import gap_rules, sql
from forebay.services.audit.accounts import LOST, StreamAccount
from forebay.services.audit.findings import clip, difference
from forebay.services.audit.report import Problem
from forebay.services.audit.scratch import dictionaries

if TYPE_CHECKING:
    from forebay.services.audit.accounts import Snapshot
    from forebay.services.audit.findings import Found
    from forebay.services.audit.store_stage import Rows
    from forebay.services.audit.truth import Bounds, Status, Truth, Withheld


@dataclass(frozen=True, slots=True)
class Look:
    """What the truth server says at one moment."""

    status: Status
    withheld: dict[str, Withheld]

    @classmethod
    def at(cls, truth: Truth) -> Look:
        """Ask for both, bounds first: what is withheld later is then not held against anybody."""
        return cls(truth.status(), truth.withheld())

    def bounds(self, symbol: str) -> Bounds | None:
        """Bounds of a symbol, None if it is not in this market."""
        return self.status.symbols.get(symbol)


@dataclass(slots=True)
class TruthStage:
    """Compares one store with one truth, which may both be moving.

    ``before`` was seen before the store and bounds what must be there; ``after`` was seen
    after it and bounds what can be there.
    """

    truth: Truth
    before: Look
    after: Look
    digests: dict[StreamKey, Digest] = field(default_factory=dict)

    def streams(self) -> list[StreamKey]:
        """Streams of the market that somebody subscribed to."""
        venue = self.before.status.venue
        return [
            StreamKey(venue, "trade", symbol)
            for symbol, bounds in self.before.status.symbols.items()
            if bounds.first is not None
        ]

    def judge(
        self,
        key: StreamKey,
        snapshot: Snapshot,
        window: tuple[int, int],
        rows: Rows,
        found: Found,
    ) -> list[Problem]:
        """Find what the store of this stream has not as it happened; answer the wrong gaps."""
        bounds, later = self.before.bounds(key.symbol), self.after.bounds(key.symbol)
        account = snapshot.accounts.get(key, StreamAccount())
        stored = clip(account.ids, window)
        if bounds is None or later is None:
            found.spurious |= stored
            return []
        base = self.truth.base(key.symbol)
        history = IntervalSet([(base, base + later.last)])
        owed = IntervalSet()
        if bounds.first is not None:
            owed.add(base + bounds.first, base + bounds.last)
        owed = clip(owed, window)
        found.spurious |= stored - history
        found.missing |= owed - stored - snapshot.declared(key, LOST)
        reach = (stored & history) | owed
        if reach:
            ends = (reach.first, reach.last)
            self._chunks(key, base=base, reach=ends, account=account, rows=rows, found=found)
        wrong = gap_rules.unfilled(key, snapshot, history, window)
        return wrong + self._gaps(key, snapshot, base, window)

    def _gaps(
        self, key: StreamKey, snapshot: Snapshot, base: int, window: tuple[int, int]
    ) -> list[Problem]:
        before, after = (look.withheld.get(key.symbol) for look in (self.before, self.after))
        certain = _ids(base, before.certain if before else [])
        possible = IntervalSet()
        for report in (before, after):
            if report is not None:
                possible |= _ids(base, report.certain) | _ids(base, report.in_doubt)
        return gap_rules.against_withheld(key, snapshot, certain, possible, window)

    def _chunks(
        self,
        key: StreamKey,
        *,
        base: int,
        reach: tuple[int, int],
        account: StreamAccount,
        rows: Rows,
        found: Found,
    ) -> None:
        total = Digest()
        for chunk in range(reach[0] // sql.CHUNK, reach[1] // sql.CHUNK + 1):
            first = max(reach[0], chunk * sql.CHUNK)
            last = min(reach[1], (chunk + 1) * sql.CHUNK - 1)
            digest = self.truth.digest(key.symbol, first - base, last - base + 1)
            total += digest
            if digest != account.chunk(chunk):
                self._rows(key, base, (first, last), rows, found)
        self.digests[key] = total

    def _rows(
        self, key: StreamKey, base: int, ids: tuple[int, int], rows: Rows, found: Found
    ) -> None:
        """Compare the events of a chunk one by one."""
        events = self.truth.events(key.symbol, ids[0] - base, ids[1] - base + 1)
        right = {event.event_id: event for event in events}
        stored = rows.beside_journal(sql.rows(sql.chunk_where(key.venue, key.symbol, *ids)))
        stored = stored.filter(pc.is_valid(stored.column("id")))
        for row in dictionaries(stored.select(["id", "native", "canonical"])):
            native, event = row["native"], right.get(str(row["id"]))
            if not isinstance(native, int):
                continue
            if event is None:
                found.spurious.add(native)
            elif (canonical := event.canonical()) != row["canonical"]:
                found.mutate(native, difference(str(row["canonical"]), canonical))

    def poison(self, letters: int) -> list[Problem]:
        """Dead letters equal the injected poison."""
        reports = self.before.withheld.values()
        least = sum(len(report.poison) for report in reports)
        later = self.after.withheld.values()
        most = sum(len(report.poison) + len(report.poison_in_doubt) for report in later)
        if least <= letters <= max(least, most):
            return []
        text = f"{letters} dead letters, but {least} to {max(least, most)} poison frames were sent."
        return [Problem("dead_letters", "", abs(letters - least), [], text)]


def _ids(base: int, intervals: list[tuple[int, int, str]]) -> IntervalSet:
    return IntervalSet((base + first, base + last) for first, last, _ in intervals)
