"""A publish process: journal to one transport."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebay.app.offline.reading_back import REPUBLISH
from forebay.app.processes import samples
from forebay.app.processes.local_socket import LocalServer
from forebay.app.processes.maintenance import DeliveryPace, rules
from forebay.app.processes.process_breakers import ProcessBreakers, served_by_journal
from forebay.app.processes.republishing import Republishing
from forebay.app.processes.samples import CountingObserver
from forebay.app.processes.worker import StopSignal
from forebay.app.wiring import transports, venues
from forebay.app.wiring.data_folder import DataFolder
from forebay.clock import SystemClock
from forebay.errors import ForebayError
from forebay.journal import CursorFile, StateFile
from forebay.resilience import State
from forebay.services.deliver import REST_S
from forebay.services.guarded_publishing import (
    NEARLY_FULL,
    OFTENER,
    GuardedPublishing,
    waiting_share,
)
from forebay.services.publisher import Publisher
from forebay.services.readback import SharedTransport
from forebay.times import span_ns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from forebay.app.wiring.config import Config
    from forebay.clock import Clock
    from forebay.ops.view import ProcessReport
    from forebay.telemetry import Observer
    from forebay.transports.kind import TransportConfig, TransportKind

PUBLISH_NICENESS = 5
"""Capture comes first, as with delivery."""
LOOK_S = 5.0
"""How often it is looked how full the journal is."""


async def run(config: Config, observer: Observer, name: str) -> dict[str, Any]:
    """Publish to the transport ``name`` until told to stop; return where it stands then."""
    os.nice(PUBLISH_NICENESS)
    clock, rng = SystemClock(), random.Random()
    life = StopSignal(asyncio.get_running_loop())
    (said,) = (each for each in config.transports if transports.name_of(each) == name)
    kind, role = transports.kind_of(said), transports.ROLE + name
    folder, tally = DataFolder(Path(config.data)), CountingObserver(observer)
    guarding = ProcessBreakers(role, config, clock=clock, rng=rng, observer=tally, critical=False)
    republishing = Republishing(folder, said, tally)
    opened = await asyncio.to_thread(kind.open, said, tally)
    transport = SharedTransport(opened, republishing.alone)
    cursor = folder.cursor(role)
    publisher = await asyncio.to_thread(
        Publisher,
        *(folder.journal, transport, venues.parsers(), StateFile(cursor.with_suffix(".state"))),
        clock=clock,
        cursor=CursorFile(cursor),
        observer=tally,
    )

    async def probe() -> None:
        await asyncio.to_thread(kind.probe, said)

    breaker = guarding.breaker(name, "transport", probe=probe)
    publishing = GuardedPublishing(
        publisher,
        folder.journal,
        clock=clock,
        rng=random.Random(),
        breaker=breaker,
        observer=tally,
        rest_s=REST_S,
    )
    running = PublisherRun(said, kind, publisher, publishing, guarding, folder, clock, tally)
    guarding.manager.watch(f"{name}-buffer", running.nearly_full, depends_on=(role,))
    async with contextlib.AsyncExitStack() as beside:
        handlers = {**guarding.handlers(running.tell), REPUBLISH: republishing.take}
        await beside.enter_async_context(LocalServer(folder.socket(role), handlers).serving())
        await beside.enter_async_context(guarding.recovering())
        await beside.enter_async_context(running.draining())
        beside.callback(republishing.stop)
        await publishing.run(life, DeliveryPace())
    last = await running.status()
    await asyncio.to_thread(transport.close)
    return last


@dataclass(slots=True)
class PublisherRun:
    """One publisher that runs, and what is told of it."""

    said: TransportConfig
    kind: TransportKind
    publisher: Publisher
    publishing: GuardedPublishing
    guarding: ProcessBreakers
    folder: DataFolder
    clock: Clock
    tally: CountingObserver
    share: float = 0.0
    """Of the journal's bound, what waits for this transport."""

    @property
    def name(self) -> str:
        return transports.name_of(self.said)

    def nearly_full(self) -> str:
        """Return why it is degraded; nothing if it is not."""
        if self.share < NEARLY_FULL:
            return ""
        return f"what waits for {self.name} takes {self.share:.0%} of the journal's bound"

    @contextlib.asynccontextmanager
    async def draining(self) -> AsyncIterator[None]:
        """See to it that the journal is emptied, while the block runs."""
        task = asyncio.create_task(self._drain(), name="forebay-draining")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _drain(self) -> None:
        """Let an open breaker try again on the interval, and oftener when little room is left."""
        every_s, passed_s = span_ns(self.said.drain_every) / 1e9, 0.0
        while True:
            with contextlib.suppress(ForebayError):  # who writes to the disk will tell
                self.share = await asyncio.to_thread(self._share)
            await self.clock.sleep(LOOK_S)
            passed_s += LOOK_S
            hurry = OFTENER if self.nearly_full() else 1
            if passed_s >= every_s / hurry:
                passed_s = 0.0
                self._try_again()

    def _share(self) -> float:
        cap = rules(self.guarding.config.journal).cap_bytes
        return waiting_share(self.folder.journal, self.publisher.position, cap)

    def _try_again(self) -> None:
        breaker = self.guarding.manager.breakers[self.name]
        if breaker.state is State.OPEN and self.guarding.config.resilience.auto_recovery:
            self.guarding.manager.force_recovery(self.name, "transports.drain_every has passed")

    async def status(self) -> dict[str, Any]:
        """Return what ``forebay status`` prints of it."""
        seen, position = await self.publishing.measure(), self.publisher.position
        return {
            "transport": self.name,
            "kind": self.kind.name,
            "required": transports.required(self.said),
            "durable": self.kind.durable(self.said),
            "published": self.publisher.published.total(),
            "kinds": dict(self.publisher.published),
            "seq": position.seq if position else 1,
            "backlog": seen.backlog,
            "lag_s": round(seen.lag_s, 3),
            "waited": seen.waited,
            "flushed": seen.flushed,
            "failed": seen.database_errors,
            "waiting_share": round(self.share, 4),
        }

    async def tell(self) -> ProcessReport:
        """Report on this process, which is ready also while its transport is away.

        Then the journal stands in for one that is required, and the system is degraded.
        """
        status = await self.status()
        report = self.guarding.report(
            not_ready="",
            samples=[
                *samples.publish(status),
                *self.guarding.samples(self.tally.counts()),
            ],
            status=status,
        )
        return served_by_journal(report) if status["required"] else report
