"""Real servers for drills and tests: found on this machine, started by us, stopped by process id.

Each is an async context on a free loopback port in a folder that the caller gives, ready when the
context is entered, and ended when it is left. What is not installed is told as
:class:`~forebay.errors.Unreachable`, with what to do; ``.ci/install-servers`` fetches all of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import sys
from collections import deque
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from aiohttp import web

from forebay.errors import ForebayError, Unreachable
from forebay.lab.commands import ask, stop, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from forebay.clock import Clock

FOLDER = "LAB_SERVERS"
"""Variable that names the folder which ``.ci/install-servers`` fills."""
_PLACES = (".", "bin", "usr/bin")
"""Where programs are below it; the last one is that of an unpacked Debian package."""
INTERVAL_S = 0.5
"""How often Prometheus scrapes and evaluates."""
READY_S = 30.0
STOP_S = 5.0
SETTLE_S = 20.0
TRIES = 3
"""Starts on another port each, should somebody take the free one before the server does."""
_LOG_TAIL = 2000
KEPT = 10_000
"""Deliveries remembered; the oldest go first."""
Status = Literal["firing", "resolved"]


# --------------------------------------------------------------------------- any server


def servers_folder() -> Path:
    """Return where servers are kept that are not installed on the machine."""
    if named := os.environ.get(FOLDER):
        return Path(named)
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "forebay" / "servers"


def find(*names: str) -> Path:
    """Return the program that has one of ``names``.

    It is looked for on PATH, beside our Python, where packages install theirs, and in
    :func:`servers_folder`. Raises :class:`~forebay.errors.Unreachable` if there is none.
    """
    below = servers_folder()
    beside = str(Path(sys.executable).parent)
    places = [os.environ.get("PATH", ""), beside, *(str(below / place) for place in _PLACES)]
    for name in names:
        if found := shutil.which(name, path=os.pathsep.join(places)):
            return Path(found)
    raise Unreachable(
        f"There is no {names[0]} on PATH or in {below}.",
        hint=f"Run .ci/install-servers, or name the folder that has it in {FOLDER}.",
    )


def free_port() -> int:
    """Return a loopback port that nobody has just now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def bound_to_us() -> list[str]:
    """Return what makes a program end with us, even if we are killed; nothing if not to be had."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL"] if setpriv else []


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers; ``pid`` is its process."""

    name: str
    address: str
    """Host and port."""
    pid: int
    version: str

    async def ask(self, path: str, **query: str) -> Any:  # noqa: ANN401 - JSON
        """Return the JSON at ``path``. Raises :class:`~forebay.errors.Unreachable`."""
        url = f"http://{self.address}{path}"
        status, document = await ask(url, query=query)
        if status >= HTTPStatus.BAD_REQUEST:
            raise Unreachable(f"{url} answered {status}.", hint=f"Is {self.name} well?")
        return document


@contextlib.asynccontextmanager
async def serving(
    name: str,
    folder: Path,
    argv: Callable[[str], Sequence[str]],
    status: str,
    version: Callable[[Any], str],
    *,
    clock: Clock,
    cwd: Path | None = None,
) -> AsyncIterator[Server]:
    """Run a server until the context is left: ``argv`` is its command, by the address to listen on.

    Once it is ready it answers JSON at the path ``status``, from which ``version`` reads its
    version. Its output goes to ``server.log`` in ``folder``, and it runs there or in ``cwd``.

    Raises :class:`~forebay.errors.Unreachable` if it ends at its start, and
    :class:`~forebay.errors.Transient` if it is not ready in :data:`READY_S`.
    """
    log = folder / "server.log"
    for _ in range(TRIES):
        address = f"127.0.0.1:{free_port()}"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *argv(address),
                cwd=cwd or folder,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            said = await _ready(process, name, f"http://{address}{status}", clock)
            if said is not None:
                yield Server(name, address, process.pid, version(said))
                return
        finally:
            await stop(process, STOP_S)
    text = await asyncio.to_thread(log.read_text, errors="replace")
    message = f"{name} ended at its start: {text[-_LOG_TAIL:].strip()}"
    raise Unreachable(message, hint=f"See {log}.")


async def _ready(
    process: asyncio.subprocess.Process, name: str, url: str, clock: Clock
) -> Any | None:  # noqa: ANN401 - JSON
    """Return what it says of itself once it is ready, None if it ended instead."""

    async def look() -> tuple[Any] | None:
        if process.returncode is not None:
            return (None,)
        try:
            status, document = await ask(url)
        except ForebayError:
            return None
        return (document,) if status < HTTPStatus.BAD_REQUEST else None

    return (await until(clock, look, f"{name} to be ready", READY_S))[0]


def _configured(folder: Path, name: str, config: Mapping[str, Any]) -> Path:
    """Write a configuration as JSON, which is YAML; return its file as an absolute path."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder.resolve() / name
    file.write_text(json.dumps(config, indent=1), encoding="utf-8")
    return file


# --------------------------------------------------------------------------- Prometheus


@contextlib.asynccontextmanager
async def prometheus(
    folder: Path,
    targets: Sequence[str],
    *,
    clock: Clock,
    rules: str = "",
    alertmanager: str = "",
) -> AsyncIterator[Server]:
    """Run Prometheus in ``folder`` until the context is left.

    It asks ``/metrics`` of every ``host:port`` in ``targets`` and evaluates ``rules`` (the text
    of a rule file) each :data:`INTERVAL_S`, and tells the Alertmanager at that ``host:port``, if
    one is named. Ready means that each target was asked once and the Alertmanager is known,
    which takes Prometheus 5 s. Raises :class:`~forebay.errors.Unreachable` if it is not installed
    or does not start.
    """
    program = find("prometheus")
    every = f"{round(INTERVAL_S * 1000)}ms"
    config = _prometheus_config(targets, every, alertmanager, has_rules=bool(rules))
    file = _configured(folder, "prometheus.yml", config)
    (folder / "rules.yml").write_text(rules, encoding="utf-8")

    def argv(address: str) -> list[str]:
        return [
            str(program),
            f"--config.file={file}",
            f"--storage.tsdb.path={file.parent / 'data'}",
            f"--web.listen-address={address}",
            # Told again and again, so that an Alertmanager that was away hears of it soon.
            f"--rules.alert.resend-delay={every}",
            "--log.level=warn",
        ]

    async def settled() -> bool | None:
        known = (await server.ask("/api/v1/targets", state="active"))["data"]["activeTargets"]
        asked = sum(target["health"] != "unknown" for target in known)
        managers = (await server.ask("/api/v1/alertmanagers"))["data"]["activeAlertmanagers"]
        return (asked == len(targets) and bool(managers) >= bool(alertmanager)) or None

    async with serving(
        "prometheus",
        file.parent,
        argv,
        "/api/v1/status/buildinfo",
        lambda said: str(said["data"]["version"]),
        clock=clock,
    ) as server:
        what = "prometheus to know whom to ask and whom to tell"
        await until(clock, settled, what, SETTLE_S)
        yield server


def _prometheus_config(
    targets: Sequence[str], every: str, alertmanager: str, *, has_rules: bool
) -> dict[str, Any]:
    config: dict[str, Any] = {
        "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
        "scrape_configs": [{"job_name": "forebay", "static_configs": [{"targets": [*targets]}]}],
    }
    if has_rules:
        config["rule_files"] = ["rules.yml"]
    if alertmanager:
        managers = [{"static_configs": [{"targets": [alertmanager]}]}]
        config["alerting"] = {"alertmanagers": managers}
    return config


# --------------------------------------------------------------------------- Alertmanager


@contextlib.asynccontextmanager
async def alertmanager(folder: Path, webhook_url: str, *, clock: Clock) -> AsyncIterator[Server]:
    """Run an Alertmanager in ``folder`` that tells ``webhook_url``, until the context is left.

    Raises :class:`~forebay.errors.Unreachable` if it is not installed or does not start.
    """
    program = find("alertmanager", "prometheus-alertmanager")
    file = _configured(folder, "alertmanager.yml", _alertmanager_config(webhook_url))

    def argv(address: str) -> list[str]:
        return [
            str(program),
            f"--config.file={file}",
            f"--storage.path={file.parent / 'data'}",
            f"--web.listen-address={address}",
            "--cluster.listen-address=",  # alone
            "--log.level=warn",
        ]

    async with serving(
        "alertmanager",
        file.parent,
        argv,
        "/api/v2/status",
        lambda said: str(said["versionInfo"]["version"]),
        clock=clock,
        cwd=program.parent.parent,  # a copy by .ci/install-servers finds its templates from here
    ) as server:
        yield server


def _alertmanager_config(webhook_url: str) -> dict[str, Any]:
    hook = {"url": webhook_url, "send_resolved": True}
    return {
        "route": {
            "receiver": "webhook",
            # Each alert is told by itself and at once: a drill waits for it.
            "group_by": ["..."],
            "group_wait": "100ms",
            "group_interval": "500ms",
            "repeat_interval": "1h",
        },
        "receivers": [{"name": "webhook", "webhook_configs": [hook]}],
    }


@dataclass(frozen=True, slots=True)
class Delivery:
    """One alert as it was brought."""

    alert: str
    status: str
    severity: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Webhook:
    """Who would otherwise be called at night: what Alertmanager brought, oldest first."""

    url: str = ""
    deliveries: deque[Delivery] = field(default_factory=lambda: deque(maxlen=KEPT))

    def seen(self, status: Status) -> set[str]:
        """Return the names of the alerts that came so."""
        return {each.alert for each in self.deliveries if each.status == status}

    async def take(self, request: web.Request) -> web.Response:
        """Take one call of Alertmanager, version 4 of its format."""
        for alert in (await request.json())["alerts"]:
            labels = alert["labels"]
            name, severity = labels["alertname"], labels.get("severity", "")
            self.deliveries.append(Delivery(name, alert["status"], severity, alert["annotations"]))
        return web.Response()


@contextlib.asynccontextmanager
async def webhook() -> AsyncIterator[Webhook]:
    """Receive on a free loopback port until the context is left."""
    hook = Webhook()
    app = web.Application()
    app.router.add_post("/", hook.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        hook.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
        yield hook
    finally:
        await runner.cleanup()
