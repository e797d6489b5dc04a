"""What a running system says of itself, asked through its data folder or through its HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

import msgspec

from forebay.app.local_socket import ask
from forebay.errors import ConfigError, Unreachable
from forebay.ops.view import BreakerReport, ProcessReport, StreamReport, SystemReport
from forebay.resilience import SystemHealth
from forebay.sources.proxies import proxy_for
from forebay.times import to_ns

if TYPE_CHECKING:
    from forebay.app.data_folder import DataFolder

ANSWER_S = 5.0
_MOST = 8 << 20


class Told(msgspec.Struct, frozen=True):
    """A report, and where HTTP is served, or why not; nothing of either if it is off."""

    report: SystemReport
    http: str
    no_http: str = ""


def of_folder(folder: DataFolder) -> Told:
    """Ask the capture that runs on ``folder``.

    Raises :class:`~forebay.errors.Unreachable` if none does.
    """
    answer, _ = ask(folder.supervisor_socket, {"op": "report"}, timeout_s=ANSWER_S)
    return Told(msgspec.convert(answer, SystemReport), answer["http"], answer["no_http"])


def of_url(url: str) -> Told:
    """Ask the routes at ``url``, like ``http://127.0.0.1:8080``.

    Raises :class:`~forebay.errors.Unreachable` if nothing of ours answers there.
    """
    base = url.rstrip("/")
    if urlsplit(base).scheme not in ("http", "https"):
        raise ConfigError(f"{url!r} is no address.", hint="Write http://HOST:PORT.")
    try:
        documents = [_get(base + path) for path in ("/api/v1/status", "/health/resilience")]
        return Told(_report(*documents), base)
    except (OSError, ValueError, KeyError, TypeError, msgspec.MsgspecError) as error:
        why = getattr(error, "reason", error)  # urllib wraps what the system says
        why = getattr(why, "strerror", None) or why or type(error).__name__
        message = f"No running Forebay answers at {base}: {why}."
        raise Unreachable(message, hint="See http.port in its configuration.") from error


def _get(url: str) -> dict[str, Any]:
    proxies: dict[str, str] | None = (
        {} if proxy_for(url) is None else None
    )  # None: as the environment says
    with build_opener(ProxyHandler(proxies)).open(url, timeout=ANSWER_S) as answer:
        found: dict[str, Any] = msgspec.json.decode(answer.read(_MOST), type=dict)
    return found


def _report(status: dict[str, Any], resilience: dict[str, Any]) -> SystemReport:
    """Answer as a report what the two routes say; moments are to the millisecond."""
    breakers = [
        msgspec.convert(
            {
                **told,
                "last_failure_ns": _ns(told["last_failure"]),
                "opened_ns": _ns(told["opened"]),
                "history": [
                    {"was": m["was"], "now": m["now"], "reason": m["reason"], "at_ns": _ns(m["at"])}
                    for m in told["history"]
                ],
            },
            BreakerReport,
        )
        for told in resilience["breakers"]
    ]
    told = {
        **resilience,
        "state": resilience["status"],
        "attributed": {
            each["name"]: each["root"] for each in resilience["services"] if each["root"]
        },
    }
    streams = [_stream(each) for each in status["streams"]]
    return SystemReport(
        at_ns=to_ns(status["timestamp"]),
        health=msgspec.convert(told, SystemHealth),
        not_ready=status["not_ready"],
        checks=(),
        processes=[
            ProcessReport(
                process=name,
                pid=each["pid"],
                not_ready=each["not_ready"],
                breakers=[breaker for breaker in breakers if breaker.process == name],
                status=each["status"],
                streams=streams if name == "capture" else (),
            )
            for name, each in status["processes"].items()
        ],
        fallbacks=resilience["fallbacks"],
        restart_needed=resilience["restart_needed"],
    )


def _stream(told: dict[str, Any]) -> StreamReport:
    moments = {"asked": "asked_ns", "acknowledged": "acknowledged_ns"}
    moments |= {"last_heard": "heard_ns", "retry": "retry_ns"}
    ever = {"heard": True, "silent": False}.get(told["state"])
    known = {name: _ns(told[key]) for key, name in moments.items()}
    return msgspec.convert({**told, **known, "ever": ever}, StreamReport)


def _ns(moment: str | None) -> int | None:
    return None if moment is None else to_ns(moment)


def statuses(told: Told) -> dict[str, dict[str, Any] | None]:
    """Answer by process what it says of itself, None for one that does not answer."""
    found: dict[str, dict[str, Any] | None] = {"capture": None, "deliver": None}
    for each in told.report.processes:
        found[each.process] = {"pid": each.pid, **each.status}
    return found
