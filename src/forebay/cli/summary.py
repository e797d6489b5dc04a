"""A capture in six lines, or in one: what a person looks for first. Pure."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from forebay.app.status_client import statuses
from forebay.text import counted
from forebay.times import to_ns

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from forebay.app.status_client import SystemStatus
    from forebay.ops.view import StreamReport, SystemReport

    Status = Mapping[str, Any]

WIDTH = 80
_LABEL = 14
SILENT_S = 60.0
"""A symbol that was never heard is told of once it is asked for so long."""
_NAMED = 10
"""Symbols that do not come, which are listed."""
_UNITS = ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s"))


def lines(told: SystemStatus | None, journal: Status | None, where: str) -> Iterator[str]:
    """Return what ``forebay status`` prints, no line wider than :data:`WIDTH`."""
    for label, text in _rows(told, journal, where):
        indent = " " * _LABEL
        yield from textwrap.wrap(
            text, WIDTH, initial_indent=f"{label:<{_LABEL}}", subsequent_indent=indent
        )


def _rows(
    told: SystemStatus | None, journal: Status | None, where: str
) -> Iterator[tuple[str, str]]:
    if told is None:
        yield "state", f"not running in {where}"
    else:
        yield "state", _state(told)
        found = statuses(told)
        if capture := found["capture"]:
            yield "connected", _connected(capture, told.report.streams())
        yield "events", _flow(found["capture"], found["deliver"])
        if deliver := found["deliver"]:
            yield "gaps", _gaps(deliver["gaps"])
            yield "dead letters", f"{deliver['dead_letters']:,} since the start"
    if journal is not None:
        yield "disk", _disk(journal)
    if told is not None:
        yield from _problems(told.report)
    if told is not None and told.no_http:
        yield "http", f"not served: {told.no_http}"
    if told is not None and told.report.restart_needed:
        yield "changed", f"{', '.join(told.report.restart_needed)}: waits for a restart"


def _state(told: SystemStatus) -> str:
    report = told.report
    since = (statuses(told).get("supervisor") or {}).get("since")
    text = str(report.health.state)
    if since:
        text += f" since {since} ({span((report.at_ns - to_ns(since)) / 1e9)})"
    reasons = [reason for reason in (report.health.reason, report.not_ready) if reason]
    return f"{text}: {'; '.join(reasons)}" if reasons else text


def _connected(capture: Status, streams: Sequence[StreamReport]) -> str:
    parts = [f"{capture['connected']} of {capture['wanted']}"]
    if asked := {(each.venue, each.market, each.symbol) for each in streams}:
        heard = {(e.venue, e.market, e.symbol) for e in streams if e.state == "heard"}
        parts.append(f"{counted(len(asked), 'symbol')} asked for, {len(heard):,} heard")
    if capture["reconnects"]:
        parts.append(counted(capture["reconnects"], "reconnect"))
    return ", ".join(parts)


def _problems(report: SystemReport) -> Iterator[tuple[str, str]]:
    """Return a line for each symbol that does not come, the first :data:`_NAMED` of them."""
    found: dict[tuple[str, str], None] = {}
    for stream in report.streams():
        asked_s = (report.at_ns - (stream.asked_ns or report.at_ns)) / 1e9
        if stream.state == "refused":
            found["refused", f"{stream.venue} {stream.symbol}: {stream.refused}"] = None
        elif stream.state == "silent" and asked_s > SILENT_S:
            found["silent", f"{stream.venue} {stream.symbol}: nothing was ever heard"] = None
    yield from list(found)[:_NAMED]
    if len(found) > _NAMED:
        yield "", f"and {len(found) - _NAMED:,} more"


def _flow(capture: Status | None, deliver: Status | None) -> str:
    if capture is None or deliver is None:
        away = [name for name, each in (("capture", capture), ("deliver", deliver)) if not each]
        return f"{' and '.join(away)} not answering"
    stored, captured = deliver.get("events_per_s"), capture.get("frames_per_s")
    rates = "rates not known yet"
    if stored is not None and captured is not None:
        rates = f"{stored:,.0f}/s stored, {captured:,.0f} frames/s captured"
    frames = lag(capture, deliver)
    # What is not read yet has no age: it is as many seconds old as it took to come.
    lag_s = max(deliver.get("lag_s") or 0.0, frames / captured if captured else 0.0)
    return f"{rates}, {lag_s:,.1f} s behind ({frames:,} frames)"


def lag(capture: Status, deliver: Status) -> int:
    """Return how many frames are captured and not stored."""
    return max(int(capture["next_seq"]) - int(deliver["seq"]), 0)


def _gaps(gaps: Status) -> str:
    return ", ".join(f"{gaps.get(state, 0):,} {state}" for state in ("open", "permanent", "filled"))


def _disk(journal: Status) -> str:
    text = f"journal {journal['bytes'] / 1e9:,.2f} GB"
    if journal["gb_per_day"] is None or journal["days_until_full"] is None:
        return f"{text}; how fast it grows is not known yet"
    days = journal["days_until_full"]
    return f"{text}, {journal['gb_per_day']:,.1f} GB a day, full in {days:,.0f} days"


def span(seconds: float) -> str:
    """Return a time as people say it: ``3 h 20 min``."""
    whole = max(0, round(seconds))
    for size, name, below, small in _UNITS:
        if whole >= size:
            return f"{whole // size} {name} {whole % size // below} {small}"
    return f"{whole} s"


def line(told: SystemStatus, width: int) -> str:
    """Return as many whole parts of a summary as fit, the most wanted first."""
    found = statuses(told)
    capture, deliver = found["capture"], found["deliver"]
    if capture is None or deliver is None:
        return "starting"
    stored, captured = deliver.get("events_per_s"), capture.get("frames_per_s")
    gaps = deliver["gaps"]
    parts = [
        str(told.report.health.state),
        f"{capture['connected']}/{capture['wanted']} connected",
        *([] if stored is None else [f"{stored:,.0f} events/s stored"]),
        f"lag {lag(capture, deliver):,}",
        f"{gaps.get('open', 0):,} gaps open",
        *([] if captured is None else [f"{captured:,.0f} frames/s"]),
        f"p99 {capture['p99_ms']:.1f} ms",
    ]
    return fitting(parts, width)


def fitting(parts: list[str], width: int) -> str:
    """Return parts from the left, none of them cut."""
    text = parts[0]
    for part in parts[1:]:
        if len(text) + len(part) + 3 > width:
            break
        text += f" · {part}"
    return text[:width]


def flat(found: Status, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Return keys and values as people write them; of what is within, ``outer.inner``."""
    for key, value in found.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from flat(value, f"{name}.")
        elif isinstance(value, bool):
            yield name, "yes" if value else "no"
        elif isinstance(value, float):
            yield name, f"{value:,.2f}"
        elif isinstance(value, (list, tuple)):
            yield name, ", ".join(map(str, value))
        else:
            yield name, "" if value is None else str(value)
