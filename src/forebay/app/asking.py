"""What a running system says of itself, asked through its data folder or through its HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import msgspec

from forebay.app.local_socket import ask
from forebay.errors import ConfigError, Unreachable
from forebay.ops.view import SystemReport

if TYPE_CHECKING:
    from forebay.app.data_folder import DataFolder

ANSWER_S = 5.0
STATUS = "/api/v1/status"
_MOST = 8 << 20


class Told(msgspec.Struct, frozen=True):
    """A report, and where HTTP is served (nothing if it is not)."""

    report: SystemReport
    http: str


def of_folder(folder: DataFolder) -> Told:
    """Ask the capture that runs on ``folder``.

    Raises :class:`~forebay.errors.Unreachable` if none does.
    """
    answer, _ = ask(folder.supervisor_socket, {"op": "report"}, timeout_s=ANSWER_S)
    return Told(msgspec.convert(answer, SystemReport), answer["http"])


def of_url(url: str) -> Told:
    """Ask the routes at ``url``, like ``http://127.0.0.1:8080``.

    Raises :class:`~forebay.errors.Unreachable` if nothing of ours answers there.
    """
    base = url.rstrip("/")
    if urlsplit(base).scheme not in ("http", "https"):
        raise ConfigError(f"{url!r} is no address.", hint="Write http://HOST:PORT.")
    try:
        with urlopen(Request(base + STATUS), timeout=ANSWER_S) as answer:  # noqa: S310 - checked
            report = msgspec.json.decode(answer.read(_MOST), type=SystemReport)
    except (OSError, msgspec.MsgspecError) as error:
        message = f"No running Forebay answers at {base}: {error}."
        raise Unreachable(message, hint="See http.port in its configuration.") from error
    return Told(report, base)


def statuses(told: Told) -> dict[str, dict[str, Any] | None]:
    """Answer by process what it says of itself, None for one that does not answer."""
    found: dict[str, dict[str, Any] | None] = {"capture": None, "deliver": None}
    for each in told.report.processes:
        found[each.process] = {"pid": each.pid, **each.status}
    return found
