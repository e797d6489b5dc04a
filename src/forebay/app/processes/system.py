"""The processes of one data folder as one system: asked each second, assessed, commanded."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Any

import msgspec

from forebay.app.processes import samples
from forebay.app.processes.http_endpoint import token_of
from forebay.app.processes.local_socket import ask
from forebay.app.processes.polled import PolledProcess, checks, fallbacks, not_ready, services
from forebay.app.processes.process_breakers import RuntimeSettings
from forebay.app.processes.reload import reconciled
from forebay.app.wiring import logs
from forebay.app.wiring.config import BreakerLimits
from forebay.errors import ConfigError, ForebayError, Unreachable
from forebay.ops.view import (
    Action,
    Outcome,
    ProcessReport,
    SystemReport,
    UnknownName,
    merged,
)
from forebay.resilience.dependencies import near
from forebay.resilience.health import HealthMonitor
from forebay.telemetry import ConfigRefused, ConfigReloaded
from forebay.times import to_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from forebay.app.wiring.config import Config
    from forebay.clock import Clock
    from forebay.ops.view import Command, Sample
    from forebay.resilience import ServiceHealth, SystemState
    from forebay.telemetry import Observer

SUPERVISOR = "supervisor"
POLL_S = 1.0
ANSWER_S = 2.0
"""How long a process is waited for."""
STALE_S = 10.0
"""An older report is none: asking may hang, for instance on a disk that is gone."""


class RunningSystem:
    """Implements :class:`forebay.ops.view.System` for the processes that a supervisor runs.

    ``config`` is what holds now; a process that is started again is started with it. ``load``
    reads the configuration again; ``measure`` answers samples of the supervisor's own, blocking.
    """

    def __init__(
        self,
        config: Config,
        sockets: Mapping[str, Path],
        *,
        load: Callable[[], Config],
        measure: Callable[[], Sequence[Sample]] = tuple,
        clock: Clock,
        observer: Observer,
    ) -> None:
        self.config = config
        self._load = load
        self._measure = measure
        self._clock = clock
        self._samples: Sequence[Sample] = ()
        self._since: tuple[SystemState | None, int] = None, 0
        self._observe = observer
        self._seen = {role: PolledProcess(role, path) for role, path in sockets.items()}
        self._overview = HealthMonitor(
            self._services,
            recovery_hold=config.resilience.recovery_hold_s,
            clock=clock,
            listener=observer,
        )
        self._limits: dict[str, BreakerLimits] = {}
        self._forced_open: dict[str, str] = {}
        self._waiting: tuple[str, ...] = ()
        self._commanding = asyncio.Lock()
        self._polling = asyncio.Lock()
        self._polled_ns = clock.monotonic_ns()
        self.last = self._assembled()
        """What was known after the last poll."""

    @property
    def state(self) -> SystemState:
        """The state of the whole, as it was assessed last."""
        return self.last.health.state

    async def watch(self) -> None:
        """Ask each process once a second, until cancelled."""
        while True:
            await self.poll()
            await self._clock.sleep(POLL_S)

    async def poll(self) -> None:
        """Ask each process once and assess what they say."""
        async with self._polling:
            await asyncio.gather(*(self._ask(seen) for seen in self._seen.values()))
            self._samples = await asyncio.to_thread(self._measure)
            self.last = self._assembled()
            self._polled_ns = self._clock.monotonic_ns()

    async def report(self) -> SystemReport:
        """See :meth:`forebay.ops.view.System.report`; Unreachable if it is too old to be true."""
        silent_s = (self._clock.monotonic_ns() - self._polled_ns) / 1e9
        if silent_s > STALE_S:
            message = f"The processes were last asked {silent_s:.0f} s ago."
            hint = "/health/live says whether this process answers at all; the log may say more."
            raise Unreachable(message, hint=hint)
        return self.last

    # --------------------------------------------------------------------- asking

    async def _ask(self, seen: PolledProcess) -> None:
        began, wall = self._clock.monotonic_ns(), self._clock.wall_ns()
        try:
            told = await self._request(seen, {"op": "report", "system": self.state})
            report = msgspec.convert(told, ProcessReport)
            # One that was starting, or hung, while orders changed has not heard of it.
            if seen.obeys != (report.pid, self._orders()):
                await self._order(seen, report.pid)
        except (ForebayError, msgspec.MsgspecError, OSError, RuntimeError):
            seen.missed(wall, self._clock.monotonic_ns() - began)
        else:
            seen.answered(report, wall, self._clock.monotonic_ns() - began)

    async def _request(self, seen: PolledProcess, request: dict[str, Any]) -> dict[str, Any]:
        # Who hung until nobody waited any more must not carry it out afterwards.
        request = {**request, "until_ns": self._clock.monotonic_ns() + round(ANSWER_S * 1e9)}
        answer, _ = await asyncio.to_thread(ask, seen.socket, request, timeout_s=ANSWER_S)
        return answer

    def _orders(self) -> RuntimeSettings:
        return RuntimeSettings(
            self.config.for_children(), dict(self._limits), dict(self._forced_open)
        )

    async def _order(self, seen: PolledProcess, pid: int | None = None) -> None:
        orders = self._orders()
        await self._request(seen, {"op": "orders", "orders": msgspec.to_builtins(orders)})
        seen.obeys = (pid or seen.pid or 0, orders)

    # ------------------------------------------------------------------ assessing

    def _services(self) -> list[ServiceHealth]:
        return services(list(self._seen.values()), self.config.resilience.critical)

    def _assembled(self) -> SystemReport:
        seen, health = list(self._seen.values()), self._overview.look()
        at_ns = self._clock.wall_ns()
        if self._since[0] is not health.state:
            self._since = health.state, at_ns
        since = {"since": to_text(self._since[1])}
        told = [each.report for each in seen if each.report is not None and each.fresh]
        return SystemReport(
            at_ns=at_ns,
            health=health,
            not_ready=not_ready(seen, health.state),
            checks=checks(seen),
            processes=[
                ProcessReport(
                    SUPERVISOR,
                    os.getpid(),
                    "",
                    samples=[*self._samples, *samples.streams(merged(told))],
                    status=since,
                ),
                *told,
            ],
            fallbacks=fallbacks(seen),
            restart_needed=self._waiting,
        )

    def risen(self, role: str, count: int) -> int:
        """Return how far the counter of ``role`` got in all, with where it ended."""
        rising = self._seen[role].rising
        rising.look(self._clock.wall_ns(), count)
        return rising.total

    # ----------------------------------------------------------------- commanding

    async def command(self, command: Command) -> Outcome:
        """See :meth:`forebay.ops.view.System.command`."""
        async with self._commanding:
            if command.action is Action.RELOAD:
                return await self._reload()
            named = self._holders(command.target)
            if command.action is Action.CONFIGURE:
                return await self._configure(named, command)
            return await self._move(named, command)

    async def reload(self) -> None:
        """Read the configuration again, as SIGHUP asks; what is wrong with it is told."""
        try:
            async with self._commanding:
                await self._reload()
        except ForebayError as error:
            self._observe(ConfigRefused(str(error)))

    def _holders(self, target: str) -> list[PolledProcess]:
        """The process that has the breaker ``target``, or all for none."""
        if not target:
            return list(self._seen.values())
        known = {
            breaker.name: seen
            for seen in self._seen.values()
            if seen.report is not None
            for breaker in seen.report.breakers
        }
        if target in known:
            return [known[target]]
        raise UnknownName(f"There is no breaker {target[:100]!r}.", hint=near(target[:100], known))

    async def _move(self, holders: Iterable[PolledProcess], command: Command) -> Outcome:
        changed: list[str] = []
        wanted = msgspec.to_builtins(command)
        for seen in holders:
            answer = await self._request(seen, {"op": "command", "command": wanted})
            changed += answer["changed"]
        # An order to hold a breaker open outlives the process that has the breaker.
        if command.action is Action.FORCE_OPEN:
            self._forced_open[command.target] = command.reason
        else:
            self._forced_open.pop(command.target, None)
        await self.poll()  # so that whoever looks next sees it
        states = {breaker.name: breaker.state for breaker in self.last.breakers()}
        moved = ", ".join(f"{name}: {states.get(name, 'unknown')}" for name in changed)
        return Outcome(changed, f"{moved}." if moved else "Nothing had to move.")

    async def _configure(self, holders: list[PolledProcess], command: Command) -> Outcome:
        before = self._limits.get(command.target, BreakerLimits())
        try:
            settings = {**msgspec.to_builtins(before), **command.settings}
            said = msgspec.convert(settings, BreakerLimits)
        except msgspec.ValidationError as error:
            raise ConfigError(f"These settings cannot be: {error}.") from error
        kept, self._limits = self._limits, {**self._limits, command.target: said}
        try:
            for seen in holders:
                await self._order(seen)
        except ForebayError:
            self._limits = kept
            raise
        await self.poll()
        return Outcome([command.target], f"{command.target} has its new thresholds.")

    async def _reload(self) -> Outcome:
        config, applied, waiting = reconciled(self.config, self._load())
        token_of(config.http)
        kept = self.config, self._limits
        self.config, self._limits = config, {}
        try:
            for seen in self._seen.values():
                # One that is away is started again with this configuration.
                with contextlib.suppress(Unreachable):
                    await self._order(seen)
        except ForebayError:
            self.config, self._limits = kept
            raise
        logs.configure(config.log_level, process=SUPERVISOR)
        self._overview.hysteresis.hold_s = config.resilience.recovery_hold_s
        self._waiting = waiting
        self._observe(ConfigReloaded(applied, waiting))
        words = [f"now: {', '.join(applied)}" if applied else "nothing changed at once"]
        words += [f"after a restart: {', '.join(waiting)}"] if waiting else []
        undone = ", ".join(sorted(kept[1]))
        words += [f"undone: what an operator changed of {undone}"] if undone else []
        await self.poll()
        return Outcome(applied, "; ".join(words) + ".")
