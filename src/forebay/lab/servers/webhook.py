"""A receiver of Alertmanager's webhook: who would otherwise be called at night."""

from __future__ import annotations

import contextlib
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from aiohttp import web

from forebay.lab.commands import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from forebay.clock import Clock

KEPT = 10_000
"""Deliveries remembered; the oldest go first."""
Status = Literal["firing", "resolved"]


@dataclass(frozen=True, slots=True)
class Delivery:
    """One alert as it was brought."""

    alert: str
    status: str
    severity: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    at_ns: int
    """When it came, wall clock."""


@dataclass(slots=True)
class Webhook:
    """What has come to ``url``, oldest first."""

    clock: Clock
    url: str = ""
    deliveries: deque[Delivery] = field(default_factory=lambda: deque(maxlen=KEPT))

    def seen(self, status: Status) -> set[str]:
        """Return the names of the alerts that came so."""
        return {each.alert for each in self.deliveries if each.status == status}

    async def wait(self, alert: str, status: Status, *, seconds: float) -> Delivery:
        """Return the first delivery of ``alert`` that came so; wait if there is none yet.

        Raises :class:`~forebay.errors.Transient` after ``seconds``.
        """

        async def look() -> Delivery | None:
            found = (e for e in self.deliveries if (e.alert, e.status) == (alert, status))
            return next(found, None)

        return await until(self.clock, look, f"{alert} to be delivered as {status}", seconds)

    async def take(self, request: web.Request) -> web.Response:
        """Take one call of Alertmanager, version 4 of its format."""
        told = await request.json()
        for each in told["alerts"]:
            labels = each["labels"]
            self.deliveries.append(
                Delivery(
                    labels["alertname"],
                    each["status"],
                    labels.get("severity", ""),
                    labels,
                    each["annotations"],
                    self.clock.wall_ns(),
                )
            )
        return web.Response()


@contextlib.asynccontextmanager
async def receiving(clock: Clock) -> AsyncIterator[Webhook]:
    """Receive on a free loopback port until the context is left."""
    hook = Webhook(clock)
    app = web.Application()
    app.router.add_post("/", hook.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        hook.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
        yield hook
    finally:
        await runner.cleanup()
