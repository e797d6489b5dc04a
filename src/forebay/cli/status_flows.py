"""What ``forebay status`` says of events on their way: published, and stored behind a transport."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from forebay.text import counted

Statuses = Mapping[str, Mapping[str, Any] | None]
"""By process, what it says of itself; None for one that does not answer."""
_NAMED = 3
"""Lanes that wait, which are listed."""


def fed(found: Statuses, what: str) -> Iterator[str]:
    """Return a line for each ``mirror`` or ``transport`` that the journal feeds."""
    for each in found.values():
        if each and what in each:
            behind = f"{each['lag_s']:,.1f} s behind ({each['backlog']:,} frames)"
            yield f"{each[what]}: {each.get('events_per_s') or 0:,.0f}/s, {behind}"


def listed(capture: Mapping[str, Any]) -> Iterator[str]:
    """Return a line for each venue where markets come and go."""
    for venue, counts in capture.get("markets", {}).items():
        known = ", ".join(f"{counts[state]:,} {state}" for state in ("open", "coming", "ended"))
        yield f"{venue}: {known}; {counts['wanted']:,} captured"


def bridged(found: Statuses) -> Iterator[str]:
    """Return a line for a bridge, and one for each lane that waits, the first of them."""
    for each in found.values():
        if each and "reads" in each:
            way = f"{each['reads']} to {each['store']}"
            rate = f"{each.get('events_per_s') or 0:,.0f}/s stored"
            yield f"{way}: {rate}, {each['lag_s']:,.1f} s behind, {counted(each['lanes'], 'lane')}"
            for lane, reason in sorted(each["waiting"].items())[:_NAMED]:
                yield f"{lane} waits: {reason}"
