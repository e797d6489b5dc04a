"""What is wrong, by stream, as sets of ids: said twice, it still counts once."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from forebay.domain.intervals import IntervalSet
from forebay.services.audit.report import MAX_EXAMPLES, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from forebay.domain.coverage import StreamKey


@dataclass(slots=True)
class Found:
    """What is wrong with the events of one stream."""

    missing: IntervalSet = field(default_factory=IntervalSet)
    mutated: IntervalSet = field(default_factory=IntervalSet)
    spurious: IntervalSet = field(default_factory=IntervalSet)
    uncovered: IntervalSet = field(default_factory=IntervalSet)
    unseen: IntervalSet = field(default_factory=IntervalSet)
    """Stored ids of which the journal does not have the frames any more; nothing is wrong."""
    doubled: int = 0
    twice: list[int] = field(default_factory=list)
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

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.missing or self.mutated or self.spurious or self.uncovered or self.doubled)


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
    if problems and problems[-1].kind == "mutated":
        last = problems[-1]
        told = [f"{each}: {found.how.get(int(each), 'event_ts differs')}" for each in last.examples]
        problems[-1] = Problem(last.kind, last.stream, last.count, told, last.text)
    say("spurious", found.spurious, "stored and never received.")
    say("uncovered", found.uncovered, "stored and in no coverage.")
    return problems


def difference(stored: str, right: str) -> str:
    """Say in which columns two canonical rows differ."""
    names = ("event_id", "venue", "symbol", "event_ts", "trade_id", "price", "size", "side")
    told = []
    ours, theirs = stored.split("|"), right.split("|")
    for name, mine, other in zip(names, ours, theirs, strict=False):
        if mine != other:
            told.append(f"{name} is {mine} and should be {other}")
    return ", ".join(told) or f"{stored} should be {right}"
