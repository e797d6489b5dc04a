"""Prometheus: scrapes targets, evaluates rules, tells an Alertmanager."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from forebay.lab.commands import until
from forebay.lab.servers.binaries import find
from forebay.lab.servers.process import Launch, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from forebay.clock import Clock
    from forebay.lab.servers.process import Server

SETTLE_S = 20.0
JOB = "forebay"
"""Name of the one scrape job; the rules that need one know it."""


@contextlib.asynccontextmanager
async def running(
    folder: Path,
    targets: Sequence[str],
    *,
    clock: Clock,
    rules: str = "",
    alertmanager: str = "",
    interval_s: float = 0.5,
) -> AsyncIterator[Server]:
    """Run Prometheus in ``folder`` until the context is left.

    It asks ``/metrics`` of every ``host:port`` in ``targets`` and evaluates ``rules`` (the text
    of a rule file) each ``interval_s`` seconds, and tells the Alertmanager at that ``host:port``,
    if one is named. Ready means that each target was asked once and the Alertmanager is known,
    which takes Prometheus 5 s. Raises :class:`~forebay.errors.Unreachable` if it is not installed
    or does not start.
    """
    program = find("prometheus")
    config = _configure(folder, rules, _config(targets, bool(rules), alertmanager, interval_s))

    def argv(address: str) -> list[str]:
        return [
            str(program),
            f"--config.file={config}",
            f"--storage.tsdb.path={config.parent / 'data'}",
            f"--web.listen-address={address}",
            # Told again and again, so that an Alertmanager that was away hears of it soon.
            f"--rules.alert.resend-delay={_duration(interval_s)}",
            "--log.level=warn",
        ]

    launch = Launch(
        "prometheus",
        config.parent,
        config.parent,
        argv,
        "/api/v1/status/buildinfo",
        lambda told: str(told["data"]["version"]),
    )
    async with serving(launch, clock) as server:
        what = "prometheus to know whom to ask and whom to tell"
        await until(clock, lambda: _settled(server, len(targets), alertmanager), what, SETTLE_S)
        yield server


async def _settled(server: Server, targets: int, alertmanager: str) -> bool | None:
    """Return True once every target was asked and the Alertmanager is known, else None."""
    known = (await server.ask("/api/v1/targets", state="active"))["data"]["activeTargets"]
    asked = sum(target["health"] != "unknown" for target in known)
    told = (await server.ask("/api/v1/alertmanagers"))["data"]["activeAlertmanagers"]
    return (asked == targets and bool(told) >= bool(alertmanager)) or None


async def query(server: Server, expression: str) -> dict[tuple[tuple[str, str], ...], float]:
    """Return an instant query: by sorted labels, the value."""
    told = await server.ask("/api/v1/query", query=expression)
    return {
        tuple(sorted(each["metric"].items())): float(each["value"][1])
        for each in told["data"]["result"]
    }


async def firing(server: Server) -> set[str]:
    """Return the names of the alerts that fire now."""
    told = await server.ask("/api/v1/alerts")
    return {
        each["labels"]["alertname"] for each in told["data"]["alerts"] if each["state"] == "firing"
    }


def _configure(folder: Path, rules: str, config: dict[str, Any]) -> Path:
    """Write the configuration; answer its file as an absolute path."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder.resolve() / "prometheus.yml"
    file.write_text(json.dumps(config, indent=1))  # JSON is YAML
    (folder / "rules.yml").write_text(rules, encoding="utf-8")
    return file


def _duration(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"


def _config(
    targets: Sequence[str], has_rules: bool, alertmanager: str, interval_s: float
) -> dict[str, Any]:
    every = _duration(interval_s)
    config: dict[str, Any] = {
        "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
        "scrape_configs": [{"job_name": JOB, "static_configs": [{"targets": [*targets]}]}],
    }
    if has_rules:
        config["rule_files"] = ["rules.yml"]
    if alertmanager:
        managers = [{"static_configs": [{"targets": [alertmanager]}]}]
        config["alerting"] = {"alertmanagers": managers}
    return config
