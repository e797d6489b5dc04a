"""``forebay status``."""

from __future__ import annotations

import textwrap
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

import msgspec
import typer

from forebay.app.processes.local_socket import ask
from forebay.cli.output import (
    DEFAULT_DATA,
    DataOption,
    JsonOption,
    out,
    print_json,
    print_table,
)
from forebay.cli.status_flows import bridged, fed, listed
from forebay.errors import ConfigError, Unreachable
from forebay.ops.view import SystemReport
from forebay.sources.proxies import proxy_for
from forebay.text import counted
from forebay.times import to_ns

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from forebay.app.wiring.data_folder import DataFolder
    from forebay.ops.view import StreamReport

    Status = Mapping[str, Any]

NOT_RUNNING = 3
UrlOption = Annotated[
    str | None, typer.Option("--url", help="Ask the routes there instead: http://HOST:PORT.")
]
WIDTH = 80
_LABEL = 14
SILENT_S = 60.0
"""A symbol that was never heard is told of once it is asked for so long."""
_NAMED = 10
"""Symbols that do not come, which are listed."""
_UNITS = ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s"))
NAMED = 3
"""So many streams are named in one line."""
ANSWER_S = 5.0
_MOST = 8 << 20


def status(
    *,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print all details.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Say how a running capture is doing; exit code 3 if none runs.

    Example: forebay status --data DIR --json
    """
    told = asked(data, url)
    journal = None if url else _journal(data)
    if as_json:
        print_json(document(told, journal, data, url))
    else:
        for line in lines(told, journal, url or str(data)):
            out.print(line)
        if verbose:
            print_table("", ("part", "what", "value"), _details(told, journal))
    if told is None or not running(told):
        raise typer.Exit(NOT_RUNNING)


def asked(data: Path, url: str | None) -> SystemStatus | None:
    """Return what the capture in ``data``, or at ``url``, says; None if there runs none.

    Raises :class:`~forebay.errors.Unreachable` if nothing answers at ``url``.
    """
    from forebay.app.wiring.data_folder import DataFolder

    if url:
        return from_url(url)
    try:
        return from_socket(DataFolder(data).existing())
    except Unreachable:
        return None


def running(told: SystemStatus) -> bool:
    """Whether every process answers."""
    return all(statuses(told).values())


def document(
    told: SystemStatus | None, journal: dict[str, Any] | None, data: Path, url: str | None
) -> dict[str, Any]:
    """Return what ``--json`` prints."""
    from msgspec import to_builtins

    found: dict[str, Any] = {
        **({"url": url} if url else {"data": str(data)}),
        "running": told is not None and running(told),
        "capture": None,
        "deliver": None,
        "journal": journal,
    }
    if told is None:
        return found
    report = told.report
    return {
        **found,
        **statuses(told),
        "http": told.http or None,
        "health": to_builtins(report.health),
        "not_ready": report.not_ready,
        "breakers": to_builtins(report.breakers()),
        "restart_needed": list(report.restart_needed),
        "streams": to_builtins(report.streams()),
    }


def _journal(data: Path) -> dict[str, Any]:
    """Return how large the journal is and how fast it grows; rates are of recent segments."""
    from forebay.app.wiring.data_folder import DataFolder
    from forebay.journal.overview import overview
    from forebay.times import to_text

    seen = overview(DataFolder(data).existing().journal)
    days = seen.days_left
    return {
        "bytes": seen.bytes,
        "segments": seen.segments,
        "sealed": seen.sealed,
        "raw": seen.segments - seen.sealed,
        "oldest": None if seen.oldest_ns is None else to_text(seen.oldest_ns),
        "gb_per_day": _gigabytes(seen.raw_per_day),
        "gb_per_day_on_disk": _gigabytes(seen.disk_per_day),
        "days_until_full": None if days is None else round(days, 1),
    }


def _gigabytes(number: int | None) -> float | None:
    return None if number is None else round(number / 1e9, 3)


def _details(
    told: SystemStatus | None, journal: dict[str, Any] | None
) -> Iterator[tuple[str, str, str]]:
    found: dict[str, dict[str, Any] | None] = {"journal": journal}
    if told is not None:
        streams = summary(told.report.streams())
        whole = {"streams": streams, "http": told.http or "not served"}
        found |= {"system": whole, **statuses(told)}
        for breaker in told.report.breakers():
            found[f"breaker {breaker.name}"] = {
                "state": breaker.state,
                "cause": breaker.cause,
                "calls": breaker.requests,
                "failed": breaker.failures,
                "not permitted": breaker.not_permitted,
                "trips": breaker.trips,
            }
    for part, values in found.items():
        for what, value in flat(values or {}):
            yield part, what, value


def lines(told: SystemStatus | None, journal: Status | None, where: str) -> Iterator[str]:
    """Return what ``forebay status`` prints, no line wider than :data:`WIDTH`."""
    for label, text in _rows(told, journal, where):
        first, others = f"{label:<{_LABEL}}", " " * _LABEL
        yield from textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=others)


def _rows(
    told: SystemStatus | None, journal: Status | None, where: str
) -> Iterator[tuple[str, str]]:
    if told is None:
        yield "state", f"not running in {where}"
    else:
        yield "state", _state(told)
        found = statuses(told)
        if capture := found.get("capture"):
            yield "connected", _connected(capture, told.report.streams())
            yield from (("markets", text) for text in listed(capture))
        if "capture" in found:
            yield "events", _flow(found["capture"], found["deliver"])
        yield from (("mirrored", text) for text in fed(found, "mirror"))
        yield from (("published", text) for text in fed(found, "transport"))
        yield from (("bridge", text) for text in bridged(found))
        if deliver := found.get("deliver"):
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
    bridges = [*bridged(found)]
    if "capture" not in found:
        return fitting([str(told.report.health.state), *bridges], width) if bridges else "starting"
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
        *(f"{role} lag {s['backlog']:,}" for role, s in found.items() if s and "required" in s),
        *bridges,
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


def summary(streams: Sequence[StreamReport]) -> str:
    """Return one line: how many are heard, and which are not; nothing if nothing is asked for."""
    if not streams:
        return ""
    heard = Counter(each.state for each in streams)["heard"]
    wrong = [
        f"{each.venue}/{each.channel}/{each.symbol} {each.state}"
        + (f" ({each.refused.rstrip('.')})" if each.refused else "")
        for each in streams
        if each.state in ("refused", "silent")
    ]
    told = [*wrong[:NAMED], *([f"{len(wrong) - NAMED} more"] if len(wrong) > NAMED else [])]
    return f"{heard} of {len(streams)} heard" + "".join(f"; {each}" for each in told)


class SystemStatus(msgspec.Struct, frozen=True):
    """A report, and where HTTP is served, or why not; nothing of either if it is off."""

    report: SystemReport
    http: str = ""
    no_http: str = ""


def from_socket(folder: DataFolder) -> SystemStatus:
    """Ask the capture that runs on ``folder``.

    Raises :class:`~forebay.errors.Unreachable` if none does.
    """
    answer, _ = ask(folder.supervisor_socket, {"op": "report"}, timeout_s=ANSWER_S)
    return msgspec.convert(answer, SystemStatus)


def from_url(url: str) -> SystemStatus:
    """Ask the routes at ``url``, like ``http://127.0.0.1:8080``.

    Raises :class:`~forebay.errors.Unreachable` if nothing of ours answers there.
    """
    base = url.rstrip("/")
    if urlsplit(base).scheme not in ("http", "https"):
        raise ConfigError(f"{url!r} is no address.", hint="Write http://HOST:PORT.")
    try:
        told = msgspec.json.decode(_get(f"{base}/api/v1/status"), type=SystemStatus)
        return msgspec.structs.replace(told, http=base)
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        why = getattr(error, "reason", error)  # urllib wraps what the system says
        why = getattr(why, "strerror", None) or why or type(error).__name__
        message = f"No running Forebay answers at {base}: {why}."
        raise Unreachable(message, hint="See http.port in its configuration.") from error


def _get(url: str) -> bytes:
    none = proxy_for(url) is None  # else as the environment says
    proxies: dict[str, str] | None = {} if none else None
    with build_opener(ProxyHandler(proxies)).open(url, timeout=ANSWER_S) as answer:
        body: bytes = answer.read(_MOST)
    return body


def statuses(told: SystemStatus) -> dict[str, dict[str, Any] | None]:
    """Return by process what it says of itself, None for one that does not answer."""
    roles = [check.name for check in told.report.checks]
    usual = ("bridge",) if "bridge" in roles and "capture" not in roles else ("capture", "deliver")
    found: dict[str, dict[str, Any] | None] = dict.fromkeys(usual)
    for each in told.report.processes:
        found[each.process] = {"pid": each.pid, **each.status}
    return found
