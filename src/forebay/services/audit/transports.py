"""The stage of an audit for each transport: what its lanes hold, in words of the report."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from forebay.errors import ForebayError
from forebay.services.audit.report import MAX_EXAMPLES, Problem
from forebay.services.audit.transport_report import LaneAudit, TransportAudit
from forebay.services.readback import read_back
from forebay.services.readback.tellings import LETTERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from forebay.clock import Clock
    from forebay.services.audit.case import Case
    from forebay.services.readback import Findings, LaneFindings, TransportStage
    from forebay.services.readback.findings import EventSet

Reading = Callable[[str, int, int], object]
"""Is told the name of a transport, and how much of what there is of it has been read."""
REPAIR = "`forebay verify --transport {} --repair` publishes it"


def read_transport(
    case: Case,
    asked: TransportStage,
    folders: tuple[Path, Path | None],
    reading: Reading,
    clock: Clock,
) -> None:
    """Note what a transport holds, or why that cannot be said."""
    try:
        with asked.opened() as published:
            found = read_back(
                *(published, folders[0], case.parsers),
                ledger_folder=folders[1],
                span=case.span,
                progress=partial(reading, asked.name),
                clock=clock,
            )
    except ForebayError as error:
        if asked.insisted:
            raise
        case.unread[asked.name] = error
    else:
        case.published.append(found)


def transports_of(found: Iterable[Findings], unread: Iterable[str]) -> list[TransportAudit]:
    """Return the accounts of transports, of which some could not be asked."""
    accounts = [*map(_audited, found), *(TransportAudit(name=n, looked_at=False) for n in unread)]
    return sorted(accounts, key=lambda account: account.name)


def _audited(findings: Findings) -> TransportAudit:
    """Return the account of one transport."""
    streams = findings.streams.values()
    return TransportAudit(
        name=findings.name,
        looked_at=True,
        events=sum(digest.count for digest in findings.hours.values()),
        missing=sum(each.missing.count for each in streams),
        mutated=sum(each.mutated.count for each in streams),
        spurious=sum(each.spurious.count for each in streams),
        again=sum(each.again for each in streams),
        lanes=[
            LaneAudit(lane=each.lane, oldest=each.oldest, end=each.end, rows=each.rows)
            for each in findings.lanes
        ],
        took_ms=findings.took_ms,
    )


def problems_of_transport(findings: Findings) -> list[Problem]:
    """Say what is wrong with what a transport holds, a sentence a kind and stream."""
    problems: list[Problem] = []
    name, repair = findings.name, REPAIR.format(findings.name)
    for key, found in sorted(findings.streams.items()):
        stream = "" if key == LETTERS else key.name

        def say(kind: str, events: EventSet, what: str, told: Iterable[str]) -> None:
            if events.count:
                whose = "dead letters" if key == LETTERS else key.name  # noqa: B023 - called here
                text = f"{whose}: {events.count} {what}"
                problems.append(Problem(kind, stream, events.count, [*told][:MAX_EXAMPLES], text))  # noqa: B023

        text = f"acknowledged by {name} and not there; {repair}."
        say("unpublished", found.missing, text, found.missing.examples())
        text = f"on {name} with another content; {repair.removesuffix(' it')} the right one."
        say("published_otherwise", found.mutated, text, found.how)
        text = f"on {name} that the journal never received."
        say("published_only", found.spurious, text, found.spurious.examples())
    return [*problems, *(each for lane in findings.lanes for each in _of_lane(name, lane, repair))]


def _of_lane(name: str, lane: LaneFindings, repair: str) -> Iterator[Problem]:
    if lane.anew:
        text = (
            f"{name}: {lane.lane} was made anew since it was published to. "
            "Its publisher notices that by itself while it runs, and publishes all of it once more."
        )
        yield Problem("lane_anew", "", 1, [lane.lane], text)
    elif lane.steps:
        frames = [f"{a} to {b}" for a, b in lane.steps][:MAX_EXAMPLES]
        text = (
            f"{name}: of {lane.steps.count()} frames {lane.lane} does not have every message, "
            f"so whoever reads it takes them for lost; {repair}."
        )
        yield Problem("step_lacking", "", lane.steps.count(), frames, text)


def notes_of_transports(
    found: Iterable[Findings], unread: Mapping[str, ForebayError]
) -> Iterator[str]:
    """Say what could not be said of transports."""
    for name, error in unread.items():
        yield (
            f"{name} was not looked at: {error} When it is back, "
            f"`forebay audit --transport {name}` insists on it."
        )
    for findings in found:
        yield from _notes_of(findings)


def _notes_of(findings: Findings) -> Iterator[str]:
    name = findings.name
    if not findings.lanes:
        yield f"Nothing was published to {name} yet."
    if findings.unseen:
        yield (
            f"{findings.unseen} records of {name} were not compared: the journal does not hold "
            "their frames any more."
        )
    again = sum(each.again for each in findings.streams.values())
    if again:
        yield f"{again} records of {name} are of events that it has already: at least once."
    if unreadable := sum(lane.unreadable for lane in findings.lanes):
        yield f"{unreadable} messages of {name} cannot be read; they are passed over."
