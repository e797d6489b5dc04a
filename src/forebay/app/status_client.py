"""What a running system says of itself, asked through its data folder or through its HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

import msgspec

from forebay.app.processes.local_socket import ask
from forebay.errors import ConfigError, Unreachable
from forebay.ops.view import SystemReport
from forebay.sources.proxies import proxy_for

if TYPE_CHECKING:
    from forebay.app.wiring.data_folder import DataFolder

ANSWER_S = 5.0
_MOST = 8 << 20


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
    proxies: dict[str, str] | None = (
        {} if proxy_for(url) is None else None
    )  # None: as the environment says
    with build_opener(ProxyHandler(proxies)).open(url, timeout=ANSWER_S) as answer:
        body: bytes = answer.read(_MOST)
    return body


def statuses(told: SystemStatus) -> dict[str, dict[str, Any] | None]:
    """Return by process what it says of itself, None for one that does not answer."""
    found: dict[str, dict[str, Any] | None] = {"capture": None, "deliver": None}
    for each in told.report.processes:
        found[each.process] = {"pid": each.pid, **each.status}
    return found
