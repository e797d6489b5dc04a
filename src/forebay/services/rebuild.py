"""A store anew from the journal, and what the journal does not hold any more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from forebay.domain.coverage import StreamCoverage
from forebay.services.deliver import Deliverer
from forebay.telemetry import Observer, ignore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from forebay.domain.coverage import StreamKey
    from forebay.domain.intervals import IntervalSet
    from forebay.ports import Parser, Store
    from forebay.services.deliver import Delivered


@dataclass(frozen=True, slots=True)
class Absence:
    """Ids of a stream that a store had and the journal has not, all in ``first`` to ``last``."""

    venue: str
    channel: str
    symbol: str
    ids: int
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
    """Deliver all that is durable in ``journal`` to ``store``, which is empty; answer the account.

    ``progress`` is told the sequence number that has been reached. Raises as
    :meth:`~forebay.services.deliver.Deliverer.step`.
    """
    deliverer = Deliverer(journal, store, parsers, observer=observer)
    while deliverer.step():
        if deliverer.position:
            progress(deliverer.position.seq)
    return deliverer.delivered


def absences(
    before: Mapping[StreamKey, StreamCoverage], after: Mapping[StreamKey, StreamCoverage]
) -> list[Absence]:
    """Answer what coverage had ``before`` and has not ``after``, stream by stream."""
    found = []
    for key, stream in sorted(before.items()):
        missing: IntervalSet = stream.covered() - after.get(key, StreamCoverage()).covered()
        if missing:
            found.append(Absence(*key, missing.count(), missing.first, missing.last))
    return found
