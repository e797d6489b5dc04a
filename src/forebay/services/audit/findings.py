"""What is wrong, by stream, as sets of ids: said twice, it still counts once."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from forebay.domain.digest import HOUR_NS, Digest
from forebay.domain.intervals import IntervalSet
from forebay.services.audit.report import MAX_EXAMPLES, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from forebay.domain.coverage import StreamKey

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND_NS = 1_000_000_000


class Unlike(NamedTuple):
    """An hour that differs from the ledger, and of which the frames are gone."""

    hour: int
    """Since the Unix epoch."""
    stored: Digest
    ledger: Digest


@dataclass(slots=True)
class Found:
    """What is wrong with the events of one stream."""

    missing: IntervalSet = field(default_factory=IntervalSet)
    mutated: IntervalSet = field(default_factory=IntervalSet)
    spurious: IntervalSet = field(default_factory=IntervalSet)
    uncovered: IntervalSet = field(default_factory=IntervalSet)
    unseen: IntervalSet = field(default_factory=IntervalSet)
    """Stored ids of which the journal does not have the frames any more; nothing is wrong."""
    unproved: int = 0
    """Events of hours that are partly lost, and partly in a ledger without frames."""
    doubled: int = 0
    twice: list[int] = field(default_factory=list)
    unlike: list[Unlike] = field(default_factory=list)
    how: dict[int, str] = field(default_factory=dict)
    """Of some mutated ids, what differs."""

    def mutate(self, native: int, how: str) -> None:
        """Note that an event is not what it should be."""
        self.mutated.add(native)
        if len(self.how) < MAX_EXAMPLES:
            self.how.setdefault(native, how)

    def settle(self) -> None:
        """An event that is there but different is not missing as well."""
        self.missing -= self.mutated


def members(ids: IntervalSet) -> Iterator[int]:
    """Every id of a set, in order."""
    for first, last in ids:
        yield from range(first, last + 1)


def examples(ids: Iterable[int]) -> list[str]:
    """The first few, as texts."""
    return [str(native) for native in islice(ids, MAX_EXAMPLES)]


def clip(ids: IntervalSet, window: tuple[int, int]) -> IntervalSet:
    """The members in a window, both ends included."""
    return ids.within(*window)


def name_of(key: StreamKey) -> str:
    """A stream as one word."""
    return "/".join(key)


def problems_of(key: StreamKey, found: Found) -> list[Problem]:
    """Say what is wrong with one stream, a sentence a kind."""
    name, problems = name_of(key), []

    def say(kind: str, ids: IntervalSet, text: str) -> None:
        if ids:
            count = ids.count()
            problems.append(
                Problem(
                    kind, name, count, examples(members(ids)), f"{name}: {kind} {count}, {text}"
                )
            )

    say("missing", found.missing, "to be stored and not there.")
    if found.doubled:
        text = f"{name}: doubled {found.doubled}, rows with an event id that is stored already."
        problems.append(Problem("doubled", name, found.doubled, examples(found.twice), text))
    say("mutated", found.mutated, "stored with another content.")
    if found.mutated:
        told = [f"{native}: {how}" for native, how in sorted(found.how.items())]
        problems[-1] = msgspec.structs.replace(problems[-1], examples=told)
    say("spurious", found.spurious, "stored and never received.")
    say("uncovered", found.uncovered, "stored and in no coverage.")
    return problems + [_unlike(name, each) for each in found.unlike]


def _unlike(name: str, each: Unlike) -> Problem:
    """Say what can be said of an hour without its frames."""
    stored, ledger = each.stored, each.ledger
    what = "other ids" if stored.ids != ledger.ids else "the same ids with other content"
    text = (
        f"{name}: the hour from {iso(each.hour * HOUR_NS)} has {stored.count} events stored and "
        f"{ledger.count} in the ledger, {what} (ids {stored.ids:032x} and {ledger.ids:032x}, rows "
        f"{stored.rows:032x} and {ledger.rows:032x}); its frames are gone, so which ones cannot "
        "be said any more."
    )
    count = max(1, abs(stored.count - ledger.count))
    return Problem("unlike_ledger", name, count, [], text)


def iso(ns: int) -> str:
    """UTC nanoseconds as ISO 8601 with nine decimals."""
    seconds, rest = divmod(ns, _SECOND_NS)
    return f"{_EPOCH + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def difference(stored: str, right: str) -> str:
    """Say in which columns two canonical rows differ."""
    names = ("event_id", "venue", "symbol", "event_ts", "trade_id", "price", "size", "side")
    told = []
    ours, theirs = stored.split("|"), right.split("|")
    for name, mine, other in zip(names, ours, theirs, strict=False):
        if mine != other:
            told.append(f"{name} is {mine} and should be {other}")
    return ", ".join(told) or f"{stored} should be {right}"
