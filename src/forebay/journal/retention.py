"""Which segment is recorded, sealed or removed next: a plain decision.

A segment may be touched when it is not the last, every required cursor is past it, and those
cursors are durable. Then it is recorded in the ledger, sealed, and removed when it is too old
or the journal too large: oldest first and from the front, so that the journal never has a hole
in the middle.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Literal, NamedTuple

from forebay.journal.model import Position

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from forebay.journal.survey import Survey

Action = Literal["record", "seal", "remove"]


class Rules(NamedTuple):
    """How long segments are kept, ``journal.retain`` and ``journal.retain_gb``."""

    retain_ns: int
    """Age from which a segment goes; 0: as soon as it may."""
    cap_bytes: int | None = None
    """Bytes of all segments above which the oldest goes; None: no cap."""


class Floor(NamedTuple):
    """What must not be removed."""

    cursors: Sequence[Position]
    """Durable cursors of all required consumers; without any, nothing is touched."""
    reached: Position | None
    """Everything before it is durably recorded in the ledger."""


class HousekeepingStep(NamedTuple):
    """One thing to do with one segment."""

    action: Action
    first_seq: int
    end: Position
    """Where the following segment begins."""


def plan(
    segments: Sequence[Survey],
    now_ns: int,
    rules: Rules,
    floor: Floor,
    left: Container[int] = frozenset(),
) -> list[HousekeepingStep]:
    """Return what may be done now, most urgent first, at most one step of each action.

    ``segments`` are all there are, oldest first, and the first one's ``last_ns`` counts; ``left``
    are those that cannot be sealed.
    """
    done = min((_passed(segments, cursor) for cursor in floor.cursors), default=0)
    recorded = min(done, _passed(segments, floor.reached))
    steps = []
    if recorded and _is_due(segments, now_ns, rules):
        steps.append(_step("remove", segments, 0))
    if recorded < done:
        steps.append(_step("record", segments, recorded))
    raw = (
        index
        for index, segment in enumerate(segments[:recorded])
        if not segment.sealed and segment.first_seq not in left
    )
    steps += [_step("seal", segments, index) for index in [next(raw, None)] if index is not None]
    return steps


def _passed(segments: Sequence[Survey], position: Position | None) -> int:
    """Return how many segments from the front lie wholly before ``position``.

    0 if no segment is of its log. The last one of its log never does: as long as it is there,
    it tells a reader who comes with this position that the position is right.
    """
    if position is None:
        return 0
    last = max(
        (index for index, each in enumerate(segments) if each.log_id == position.log_id),
        default=0,
    )
    begins = [each.first_seq for each in segments[1 : last + 1]]
    return bisect_right(begins, position.seq)


def _is_due(segments: Sequence[Survey], now_ns: int, rules: Rules) -> bool:
    if rules.retain_ns == 0:
        return True
    if rules.cap_bytes is not None and sum(each.bytes for each in segments) > rules.cap_bytes:
        return True
    last_ns = segments[0].last_ns
    return last_ns is not None and now_ns - last_ns >= rules.retain_ns


def _step(action: Action, segments: Sequence[Survey], index: int) -> HousekeepingStep:
    following = segments[index + 1]
    log_id = following.log_id or segments[index].log_id
    return HousekeepingStep(
        action, segments[index].first_seq, Position(log_id, following.first_seq)
    )
