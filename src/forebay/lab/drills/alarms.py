"""Real Prometheus and Alertmanager beside a drill: which alerts reached a person's webhook."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from forebay.errors import Transient, Unreachable
from forebay.lab import servers
from forebay.lab.commands import until
from forebay.lab.drills.report import AlertSeen, ServerUsed
from forebay.ops import alerts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from forebay.clock import Clock
    from forebay.lab.drills.stage import Stage
    from forebay.lab.servers import Webhook

FACTOR = 1 / 120
"""What the durations in the rules are shortened by: a minute is half a second."""
WINDOW_S = 5.0
"""No window is shorter: what happens once a second must be in each."""
INTERVAL_S = 0.5
"""How often Prometheus scrapes and evaluates."""


@dataclass(slots=True)
class Alarms:
    """The alerts of one run."""

    clock: Clock
    skipped: str = ""
    """Why nothing is looked at: the servers cannot be had."""
    servers: list[ServerUsed] = field(default_factory=list)
    _hook: Webhook | None = None

    @contextlib.asynccontextmanager
    async def watching(self, stage: Stage) -> AsyncIterator[None]:
        """Scrape the run of ``stage`` while the context is open."""
        async with contextlib.AsyncExitStack() as stack:
            try:
                await self._start(stage, stack)
            except Unreachable as error:
                self.skipped = str(error)
            yield

    async def _start(self, stage: Stage, stack: contextlib.AsyncExitStack) -> None:
        seen = await stage.until(lambda seen: bool(seen.url), "HTTP to be served")
        self._hook = await stack.enter_async_context(servers.webhook(self.clock))
        manager = await stack.enter_async_context(
            servers.alertmanager(stage.root / "alertmanager", self._hook.url, clock=self.clock)
        )
        server = await stack.enter_async_context(
            servers.prometheus(
                stage.root / "prometheus",
                [seen.url.removeprefix("http://")],
                clock=self.clock,
                rules=alerts.scaled(alerts.text(), FACTOR, least_window_s=WINDOW_S),
                alertmanager=manager.address,
                interval_s=INTERVAL_S,
            )
        )
        self.servers += [ServerUsed(each.name, each.version) for each in (manager, server)]

    async def cleared(self, stage: Stage) -> None:
        """Wait until every expected alert was delivered as firing and as resolved."""
        wanted = set(stage.drill.alerts)

        async def look() -> bool | None:
            seen = self.seen(stage.drill.alerts)
            return True if all(each.fired and each.cleared for each in seen) else None

        if self.skipped or not wanted:
            return
        stage.say("waiting for alerts to clear")
        with contextlib.suppress(Transient):  # the report says which did not
            await until(self.clock, look, "alerts to clear", stage.timing.patience_s)

    def seen(self, names: Sequence[str]) -> list[AlertSeen]:
        """Return what was delivered of each alert; nothing if none was looked at."""
        if self.skipped or self._hook is None:
            return []
        fired, resolved = self._hook.seen("firing"), self._hook.seen("resolved")
        return [AlertSeen(name, name in fired, name in resolved) for name in names]
