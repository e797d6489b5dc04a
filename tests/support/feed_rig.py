"""A websocket feed against a scripted server, watched for what it leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING

from forebay.clock import ManualClock, SystemClock
from forebay.resilience import BreakerConfig, CircuitBreaker
from forebay.sources.venue import NOTHING, ConnectionPurpose, MessageVerdict, PlainSession
from forebay.sources.websocket import ConnectionPlan, Timeouts, WebSocketFeed
from tests.support.sinks import RecordingSink
from tests.support.ws_server import Peer, WsServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from forebay.clock import Clock
    from forebay.telemetry import TelemetryEvent

QUICK = Timeouts(backoff_base_s=0.001, backoff_cap_s=0.002)
NEVER = BreakerConfig(failure_threshold=1_000_000)
"""A breaker that lets every call through."""


ASKED = ConnectionPurpose(("A-B",), ("trade",))


class YesOrNo(PlainSession):
    """The venue answers a subscription as a whole, with a word."""

    def opened(self, now_ns: int) -> Sequence[bytes]:
        return (b"hello", b"subscribe")

    def received(self, payload: bytes, now_ns: int) -> MessageVerdict:
        if payload == b"no":
            return MessageVerdict(refusal="The venue said no.")
        return MessageVerdict(accepted=self.asked.streams) if payload == b"yes" else NOTHING


class Rig:
    """A feed against a scripted server, and everything that it said."""

    def __init__(self, url: str, *, clock: Clock | None = None, **settings: object) -> None:
        self.sink = RecordingSink()
        self.said: list[TelemetryEvent] = []
        self.clock = clock or SystemClock()
        timeouts = settings.pop("timeouts", QUICK)
        assert isinstance(timeouts, Timeouts)
        config = settings.pop("breaker", NEVER)
        assert isinstance(config, BreakerConfig)
        self.breaker = CircuitBreaker(
            "testex", config, clock=self.clock, rng=random.Random(7), listener=self.said.append
        )
        plan = {
            "venue": "testex",
            "collector": "c1",
            "asked": ASKED,
            "session": YesOrNo,
        }
        self.feed = WebSocketFeed(
            ConnectionPlan(url=url, **(plan | settings)),  # type: ignore[arg-type]
            clock=self.clock,
            rng=random.Random(7),
            timeouts=timeouts,
            breaker=self.breaker,
            observer=self.said.append,
        )

    def heard(self, kind: type[TelemetryEvent]) -> list[TelemetryEvent]:
        return [event for event in self.said if isinstance(event, kind)]


@contextlib.asynccontextmanager
async def running(
    script: Callable[[Peer], Awaitable[None]],
    refusal: Callable[[int], bytes | None] = lambda _: None,
    **settings: object,
) -> AsyncIterator[tuple[Rig, WsServer]]:
    """Run a feed against ``script``; at the end cancel it, and look for what it left behind."""
    before = asyncio.all_tasks()
    async with WsServer(script, refusal) as server:
        rig = Rig(server.url, **settings)  # type: ignore[arg-type]
        task = asyncio.create_task(rig.feed.run(rig.sink))
        try:
            yield rig, server
        finally:
            task.cancel()
            await asyncio.wait({task})
        assert task.cancelled(), task.exception()
        assert rig.sink.callbacks == []
        assert all(epoch.reason is not None for epoch in rig.sink.epochs)
        assert server.most_alive <= 1
        names = {task.get_name() for task in asyncio.all_tasks() - before}
        assert not [name for name in names if name.startswith("forebay")]


def sends(*chunks: bytes) -> Callable[[Peer], Awaitable[None]]:
    """Accept, send raw bytes, and wait for the client to go."""

    async def script(peer: Peer) -> None:
        await peer.text(b"yes")
        for chunk in chunks:
            await peer.send(chunk)
        await peer.gone()

    return script


async def pass_time(clock: ManualClock, seconds: float, step: float = 0.5) -> None:
    """Move the clock in steps, and let everybody notice each."""
    for _ in range(round(seconds / step)):
        clock.advance(step)
        for _ in range(8):
            await asyncio.sleep(0)
