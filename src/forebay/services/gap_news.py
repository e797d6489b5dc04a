"""Which holes of a stream are new, and which are over. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from forebay.domain.coverage.gaps import FAR
from forebay.domain.intervals import IntervalSet

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from forebay.domain.coverage import Gap

    Sort: TypeAlias = tuple[str, str, bool, str]


def gap_news(before: Collection[Gap], now: Collection[Gap]) -> Iterator[Gap]:
    """Return the holes that are open and were not before, and those that are over and were not.

    One that shrinks, splits or goes on is the same; so is what was closed of it before.
    """
    if before == now:
        return
    was, over, done = _parts(before), _over(before), _over(now)
    ended = _parts(over)
    for gap in sorted((set(now) - set(before)) | (done - over)):
        where, sort = (gap.first, gap.last), _sort(gap)
        if gap.state == "open":
            if not was.get(sort, IntervalSet()).within(*where):
                yield gap
        elif gap in done and ended.get(sort, IntervalSet()).holes(*where):
            yield gap


def _sort(gap: Gap, state: str = "") -> Sort:
    """Return what gaps have in common of which one can be a part of another."""
    return gap.unit, gap.epoch, gap.reason in FAR, state or gap.state


def _over(gaps: Iterable[Gap]) -> set[Gap]:
    """Return what is over: of a hole that is being filled, nothing until no open part adjoins."""
    goes_on = _parts(gap for gap in gaps if gap.state == "open")
    return {
        gap
        for gap in gaps
        if gap.state in ("permanent", "accepted")
        or (
            gap.state == "filled"
            and not goes_on.get(_sort(gap, "open"), IntervalSet()).within(
                gap.first - 1, gap.last + 1
            )
        )
    }


def _parts(gaps: Iterable[Gap]) -> dict[Sort, IntervalSet]:
    found: dict[Sort, IntervalSet] = {}
    for gap in gaps:
        found.setdefault(_sort(gap), IntervalSet()).add(gap.first, gap.last)
    return found
