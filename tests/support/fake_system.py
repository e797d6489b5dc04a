"""A system that answers what a test says, and remembers what it was commanded."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import httpx

from forebay.clock import ManualClock
from forebay.errors import ConfigError
from forebay.ops import api
from forebay.ops.calls import Call, Gone
from forebay.ops.view import (
    Action,
    BreakerReport,
    Check,
    Command,
    Outcome,
    ProcessReport,
    SystemReport,
    UnknownName,
)
from forebay.resilience.health import ServiceHealth, SystemHealth, SystemState
from forebay.telemetry import AdminCalled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from forebay.ops.guard import Guard
    from forebay.telemetry import TelemetryEvent

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AT = 1_700_000_000_123_456_789
AT_TEXT = "2023-11-14T22:13:20.123Z"
TOKEN = "correct horse battery staple"
BEARER = {"authorization": f"Bearer {TOKEN}"}
MOVED: dict[str, str | int] = {
    "was": "closed",
    "now": "open",
    "reason": "Unreachable",
    "at_ns": AT,
    "at": AT_TEXT,
}


def breaker(name: str, process: str, state: str = "closed") -> BreakerReport:
    """Answer a breaker that has seen something of everything."""
    return BreakerReport(
        name=name,
        process=process,
        state=state,
        failure_count=2,
        cause="Unreachable",
        retry_after_s=None if state == "half_open" else 1.5,
        last_failure_ns=AT,
        opened_ns=None,
        requests=10,
        successes=7,
        failures=2,
        slow=1,
        not_permitted=0,
        stale=0,
        trips=1,
        transitions={"open": 1, "half_open": 1, "closed": 1},
        latency_sum_s=0.25,
        latency_count=10,
        config={
            "failure_threshold": 5,
            "recovery_timeout_s": 60.0,
            "success_threshold": 1,
            "timeout_s": None,
        },
        history=(MOVED,),
    )


def report(state: SystemState = SystemState.HEALTHY, not_ready: str = "") -> SystemReport:
    """Answer a report of two processes; the store is down unless the system is healthy."""
    up = state is SystemState.HEALTHY
    return SystemReport(
        at_ns=AT,
        health=SystemHealth(
            state=state,
            share=1.0 if up else 0.75,
            roots=() if up else ("store",),
            attributed={} if up else {"store": "store"},
            services=(
                ServiceHealth("capture", up=True, critical=True),
                ServiceHealth("deliver", up=True, critical=True),
                ServiceHealth("coinbase-rest", up=True, depends_on=("capture",)),
                ServiceHealth(
                    "store", up=up, critical=True, depends_on=("deliver",),
                    serving_fallback=not up, reason="" if up else "its breaker is open",
                ),
            ),
            reason="" if up else "store is down",
        ),
        not_ready=not_ready,
        checks=(
            Check("capture", True, "", AT, 0.0151),
            Check("disk", False, "9 % are free", AT, 0.0, failures=4),
        ),
        processes=(
            ProcessReport(
                "capture", 11, "",
                breakers=[breaker(f"coinbase-{way}", "capture") for way in ("websocket", "rest")],
                status={"connected": 3, "received": 100},
            ),
            ProcessReport(
                "deliver", 12, "",
                breakers=(breaker("store", "deliver", "closed" if up else "open"),),
                status={"seq": 7},
            ),
        ),
        fallbacks=() if up else ("store",),
        restart_needed=("http.port",),
    )  # fmt: skip


@dataclass
class FakeSystem:
    """Answers ``now``; a hook may do something else first, such as hang or raise."""

    now: SystemReport = field(default_factory=report)
    before_report: Callable[[], Awaitable[None]] | None = None
    before_command: Callable[[], Awaitable[None]] | None = None
    commands: list[Command] = field(default_factory=list)
    running: int = 0
    most_running: int = 0

    async def report(self) -> SystemReport:
        if self.before_report is not None:
            await self.before_report()
        return self.now

    async def command(self, command: Command) -> Outcome:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await asyncio.sleep(0)  # so that a second one could come between
            if self.before_command is not None:
                await self.before_command()
            return self._done(command)
        finally:
            self.running -= 1

    def _done(self, command: Command) -> Outcome:
        names = [breaker.name for breaker in self.now.breakers()]
        if command.target and command.target not in names:
            hint = f"There are: {', '.join(names)}."
            raise UnknownName(f"There is no breaker {command.target}.", hint=hint)
        if command.settings.get("timeout_s") == 13:
            raise ConfigError("timeout_s is 13.", hint="Not here.")
        self.commands.append(command)
        changed = () if command.action is Action.RELOAD else (command.target or "store",)
        return Outcome(changed, f"{command.action} done.")


async def hang() -> None:
    """Never end; cancelled by whoever has waited enough."""
    await asyncio.Event().wait()


@dataclass
class Site:
    """The routes over a fake system, and what was told to the observer."""

    system: FakeSystem = field(default_factory=FakeSystem)
    token: str | None = TOKEN
    clock: ManualClock = field(default_factory=lambda: ManualClock(AT))
    told: list[TelemetryEvent] = field(default_factory=list)

    @cached_property
    def routes(self) -> Guard:
        """The routes."""
        return api.build(
            self.system,
            service="forebay",
            version="1.2.3",
            token=lambda: self.token,
            metrics=lambda seen, accept: (
                f"forebay_up {len(seen.processes)} # {accept}\n".encode(),
                METRICS_TYPE,
            ),
            clock=self.clock,
            observer=self.told.append,
        )

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The routes as an ASGI application, for clients that call one without a socket."""
        more = True

        async def read() -> bytes:
            nonlocal more
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Gone("The client hung up.")
                more = message.get("more_body", False)
                if message.get("body"):
                    return bytes(message["body"])
            return b""

        headers = [(name.lower(), value) for name, value in scope["headers"]]
        server = scope["server"][0] if scope["server"] else None
        call = Call(scope["method"], scope["path"], headers, scope["client"], server, read)
        with contextlib.suppress(Gone):
            answer = await self.routes(call)
            length = str(len(answer.body))
            sent = {**answer.headers, "content-length": length}
            await send(
                {
                    "type": "http.response.start",
                    "status": answer.status,
                    "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
                }
            )
            body = b"" if scope["method"] == "HEAD" else answer.body
            await send({"type": "http.response.body", "body": body})

    @contextlib.asynccontextmanager
    async def client(
        self, base: str = "http://127.0.0.1:8080", peer: str = "127.0.0.1"
    ) -> AsyncIterator[httpx.AsyncClient]:
        """Answer a client that calls the application without a socket, over loopback."""
        transport = httpx.ASGITransport(self.app, client=(peer, 4711))
        async with httpx.AsyncClient(transport=transport, base_url=base, trust_env=False) as client:
            yield client

    def audit(self) -> list[AdminCalled]:
        """Answer what the audit log has; nothing else may have been told."""
        calls = [happening for happening in self.told if isinstance(happening, AdminCalled)]
        assert len(calls) == len(self.told), self.told
        return calls

    def fall(self, state: SystemState, not_ready: str = "") -> None:
        """Let the system be in another state."""
        self.system.now = report(state, not_ready)


METRICS_TYPE = "text/plain; version=1.0.0; charset=utf-8"
