"""A store anew from the journal, and what the journal does not hold any more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from forebay.domain.intervals import IntervalSet
from forebay.services.deliver import Delivered, Deliverer
from forebay.telemetry import Observer, ignore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from forebay.domain.channels import Unit
    from forebay.domain.coverage import Coverage, StreamKey
    from forebay.ports import Parser, Store


class Counted(NamedTuple):
    """What is counted of a stream: ids, times, or the numbers of one connection."""

    stream: StreamKey
    unit: Unit
    epoch: str
    """The connection that numbers of the unit ``seq`` are of, otherwise empty."""


@dataclass(frozen=True, slots=True)
class Absence:
    """What of a stream a store had and the journal has not, all in ``first`` to ``last``."""

    venue: str
    market: str
    channel: str
    symbol: str
    unit: Unit
    epoch: str
    """See :class:`Counted`."""
    count: int
    """How many ids, numbers, or nanoseconds."""
    first: int
    last: int


def rebuild(
    journal: Path,
    store: Store,
    parsers: Mapping[str, Parser],
    *,
    observer: Observer = ignore,
    progress: Callable[[int], None] = lambda _: None,
) -> Delivered:
    """Deliver all that is durable in ``journal`` to ``store``, which is empty; return the account.

    ``progress`` is told the sequence number that has been reached. Raises as
    :meth:`~forebay.services.deliver.Deliverer.step`.
    """
    deliverer = Deliverer(journal, store, parsers, observer=observer)
    while deliverer.step():
        if deliverer.position:
            progress(deliverer.position.seq)
    return deliverer.delivered


def arrived(coverage: Mapping[StreamKey, Coverage]) -> dict[Counted, IntervalSet]:
    """Return what arrived of each stream, by whatever way; a stream without coverage has none."""
    return {
        Counted(key, unit, epoch): members
        for key, stream in coverage.items()
        for (unit, epoch), members in stream.arrived().items()
    }


def absences(
    before: Mapping[Counted, IntervalSet], after: Mapping[Counted, IntervalSet]
) -> list[Absence]:
    """Return what had arrived ``before`` and has not ``after``, stream by stream."""
    found = []
    for counted, numbers in sorted(before.items()):
        missing = numbers - after.get(counted, IntervalSet())
        if missing:
            named = *counted.stream, counted.unit, counted.epoch
            found.append(Absence(*named, missing.count(), missing.first, missing.last))
    return found
