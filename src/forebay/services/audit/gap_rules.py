"""Which gaps may stand: declaring everything lost must turn the audit red."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.domain.intervals import IntervalSet
from forebay.services.audit.findings import clip, examples, members, name_of
from forebay.services.audit.report import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from forebay.domain.coverage import Gap, StreamKey
    from forebay.services.audit.accounts import Snapshot

_STATES = ("open", "permanent", "filled")


def _problem(kind: str, key: StreamKey, ids: IntervalSet, text: str) -> list[Problem]:
    if not ids:
        return []
    count, name = ids.count(), name_of(key)
    return [Problem(kind, name, count, examples(members(ids)), f"{name}: {count} {text}")]


def stays_open(key: StreamKey, snapshot: Snapshot, window: tuple[int, int]) -> list[Problem]:
    """A gap that is still open is a loss that may yet be mended."""
    ids = clip(snapshot.declared(key, ("open",)), window)
    return _problem("gap_open", key, ids, "in open gaps; run `forebay gaps fill`.")


def against_journal(
    key: StreamKey,
    snapshot: Snapshot,
    ours: Iterable[Gap],
    window: tuple[int, int],
) -> list[Problem]:
    """Gaps follow from the frames: every state must hold the ids that the journal says."""
    ours = list(ours)
    problems: list[Problem] = []
    for state in _STATES:
        declared = snapshot.declared(key, (state,))
        right = IntervalSet((gap.first, gap.last) for gap in ours if gap.state == state)
        unfounded, undeclared = clip(declared - right, window), clip(right - declared, window)
        text = f"declared as a gap, {state}, where the journal shows none of that."
        problems += _problem("gap_unfounded", key, unfounded, text)
        text = f"a gap in the journal, {state}, and not declared as that."
        problems += _problem("gap_undeclared", key, undeclared, text)
    return problems


def widened(ids: IntervalSet) -> IntervalSet:
    """A set with a neighbour either side of each interval."""
    return IntervalSet((max(0, first - 1), last + 1) for first, last in ids)


def against_withheld(
    key: StreamKey,
    snapshot: Snapshot,
    certain: IntervalSet,
    possible: IntervalSet,
    window: tuple[int, int],
) -> list[Problem]:
    """Declared gaps equal what was withheld, a neighbour either side at most.

    ``certain`` are ids that were surely withheld, ``possible`` those and the doubtful ones.
    """
    declared = snapshot.declared(key)
    silent = clip(certain - widened(declared), window)
    invented = clip(declared - widened(possible), window)
    return [
        *_problem("withheld_undeclared", key, silent, "withheld, and no gap says so."),
        *_problem("gap_unfounded", key, invented, "declared as a gap, and delivered all the same."),
    ]


def unfilled(
    key: StreamKey, snapshot: Snapshot, history: IntervalSet, window: tuple[int, int]
) -> list[Problem]:
    """No gap stays where the venue's history has the events."""
    ids = clip(snapshot.declared(key, ("open", "permanent")) & history, window)
    return _problem("gap_unfilled", key, ids, "lost, though the venue's history has them.")
