"""What a capture lacks of what happened, held against the holes that it declares.

Where messages of a connection have numbers, nothing may be missing silently: what the venue's
history has is filled, everything else lies in a declared hole, and in every hole that is declared
for good something was withheld.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from forebay.app.reader import Data
from forebay.domain.digest import cell_texts
from forebay.domain.intervals import IntervalSet
from forebay.domain.kinds import KINDS
from forebay.lab.truth_client import TruthClient
from forebay.text import literal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from forebay.domain.coverage import Gap, StreamKey
    from forebay.services.audit.truth import TrueEvent

LATENCY_NS: Final = 2_500_000_000
"""So much later than it happened is anything received at most: the machine is busy in a drill."""
_EVER_NS = 1 << 62
_TIME = 4  # where a canonical row has it


class Lack(NamedTuple):
    """What is missing of one stream, and which holes it declares for good."""

    key: StreamKey
    missing: int
    """Events that are owed and not stored."""
    silent: int
    """Of those, that lie in no hole."""
    holes: int
    unfounded: int
    """Holes in which nothing was withheld."""


def lacks(root: Path, truth_url: str, gaps: Sequence[Gap]) -> list[Lack]:
    """Compare every stream that somebody subscribed to with the truth; the market has closed."""
    truth = TruthClient(truth_url)
    look = truth.look()
    found = []
    with Data(root) as data:
        for key, bounds in look.bounds.items():
            stored = _stored(data, key) if bounds.first is not None else None
            if not stored:
                continue
            every = truth.between(key, 0, _EVER_NS)
            owed = [each for each in every if (bounds.first or 0) <= each.index <= bounds.last]
            withheld = look.withheld[key].possible
            holes = [gap for gap in gaps if gap.key == key and gap.unit == "time"]
            spans = [(gap.first, gap.last) for gap in holes if gap.state == "permanent"]
            times = [_time_of(event) for event in owed if event.index in withheld]
            found.append(_lack(key, _missing(owed, stored), spans, sorted(times)))
    return found


def _lack(
    key: StreamKey, missing: list[int], spans: list[tuple[int, int]], withheld: list[int]
) -> Lack:
    declared = IntervalSet((first - LATENCY_NS, last) for first, last in spans)
    silent = sum(at not in declared for at in missing)
    unfounded = sum(
        bisect_right(withheld, last) == bisect_left(withheld, first - LATENCY_NS)
        for first, last in spans
    )
    return Lack(key, len(missing), silent, len(spans), unfounded)


def _missing(owed: list[TrueEvent], stored: Counter[str]) -> list[int]:
    """Return when what is not stored happened."""
    left, missing = stored.copy(), []
    for event in owed:
        said = _content(event.row)
        if left[said]:
            left[said] -= 1
        else:
            missing.append(_time_of(event))
    return missing


def _stored(data: Data, key: StreamKey) -> Counter[str]:
    """Return what is stored of a stream, by what it says."""
    kind = KINDS[key.channel]
    query = f"SELECT * FROM {kind.table} WHERE symbol = {literal(key.symbol)}"  # noqa: S608 - one of ours
    rows = data.sql(query)
    if not len(rows):
        return Counter()
    texts = [cell_texts(pa.concat_arrays(rows[name].chunks)) for name in kind.content]
    return Counter(pc.binary_join_element_wise(*texts, "|").to_pylist())


def _content(row: str) -> str:
    return row.partition("|")[2]


def _time_of(event: TrueEvent) -> int:
    return int(event.row.split("|")[_TIME])
