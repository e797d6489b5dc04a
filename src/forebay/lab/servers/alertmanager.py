"""Alertmanager: groups alerts and brings them, and their end, to a webhook."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

from forebay.lab.servers.binaries import find
from forebay.lab.servers.process import Launch, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from forebay.clock import Clock
    from forebay.lab.servers.process import Server

_CONFIG = {
    "route": {
        "receiver": "webhook",
        # Each alert is told by itself and at once: a drill waits for it.
        "group_by": ["..."],
        "group_wait": "100ms",
        "group_interval": "500ms",
        "repeat_interval": "1h",
    },
}


@contextlib.asynccontextmanager
async def running(folder: Path, webhook_url: str, *, clock: Clock) -> AsyncIterator[Server]:
    """Run an Alertmanager in ``folder`` that tells ``webhook_url``, until the context is left.

    Raises :class:`~forebay.errors.Unreachable` if it is not installed or does not start.
    """
    program = find("alertmanager", "prometheus-alertmanager")
    config = _configure(folder, webhook_url)

    def argv(address: str) -> list[str]:
        return [
            str(program),
            f"--config.file={config}",
            f"--storage.path={config.parent / 'data'}",
            f"--web.listen-address={address}",
            "--cluster.listen-address=",  # alone
            "--log.level=warn",
        ]

    launch = Launch(
        "alertmanager",
        config.parent,
        program.parent.parent,  # a copy by .ci/install-servers finds its templates from here
        argv,
        "/api/v2/status",
        lambda told: str(told["versionInfo"]["version"]),
    )
    async with serving(launch, clock) as server:
        yield server


def _configure(folder: Path, webhook_url: str) -> Path:
    """Write the configuration; answer its file as an absolute path."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder.resolve() / "alertmanager.yml"
    hook = {"url": webhook_url, "send_resolved": True}
    receivers = [{"name": "webhook", "webhook_configs": [hook]}]
    config.write_text(json.dumps({**_CONFIG, "receivers": receivers}, indent=1))  # JSON is YAML
    return config
