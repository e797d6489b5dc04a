"""The processes of one data folder as one system: asked each second, assessed, commanded."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
from collections import Counter, deque
from dataclasses import KW_ONLY, InitVar, dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from forebay.app.processes import samples
from forebay.app.processes.local_socket import ask
from forebay.app.processes.process_breakers import RuntimeSettings, reconciled
from forebay.app.processes.stream_news import StreamCounts, StreamsKnown
from forebay.app.wiring import bridges, logs
from forebay.app.wiring.config import BreakerLimits, token_of
from forebay.errors import ConfigError, ForebayError, Unreachable
from forebay.ops.view import Action, Check, Outcome, ProcessReport, SystemReport, UnknownName
from forebay.resilience import ServiceHealth, SystemState
from forebay.resilience.dependencies import near
from forebay.resilience.health import HealthMonitor
from forebay.services.clock_skew import skew_within
from forebay.telemetry import ConfigRefused, ConfigReloaded
from forebay.times import to_text

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from forebay.app.wiring.config import Config
    from forebay.clock import Clock
    from forebay.ops.view import Command, Sample
    from forebay.telemetry import Observer

SUPERVISOR = "supervisor"
POLL_S = 1.0
ANSWER_S = 2.0
"""How long a process is waited for."""
STALE_S = 10.0
"""An older report is none: asking may hang, for instance on a disk that is gone."""
AWAY_AFTER = 5
"""One that misses more polls in a row is down; after a kill, a new one misses fewer."""
STARTING = 30
"""Polls that one may miss before its first answer: it may wait for locks of a predecessor."""
COUNTED = {"capture": ("captured", "frames_per_s"), "publish": ("published", "events_per_s")}
"""By kind of role, a counter of its status (of others: rows), and a name for how fast it rises."""
LOOKS = 11
"""Looks at a counter that its rate is of."""


@dataclass(eq=False)
class RunningSystem:
    """Implements :class:`forebay.ops.view.System` for the processes that a supervisor runs."""

    config: Config
    """What holds now; a process that is started again is started with it."""
    sockets: InitVar[Mapping[str, Path]]
    _: KW_ONLY
    load: Callable[[], Config]
    """Reads the configuration again."""
    measure: Callable[[], Sequence[Sample]] = tuple
    """Returns samples of the supervisor's own, blocking."""
    clock: Clock
    observer: Observer
    last: SystemReport = field(init=False)
    """What was known after the last poll."""
    _samples: Sequence[Sample] = ()
    _since: tuple[SystemState | None, int] = (None, 0)
    _limits: dict[str, BreakerLimits] = field(default_factory=dict)
    _forced_open: dict[str, str] = field(default_factory=dict)
    _waiting: tuple[str, ...] = ()
    _streams: StreamCounts = field(default_factory=StreamCounts)
    _commanding: asyncio.Lock = field(default_factory=asyncio.Lock)
    _polling: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self, sockets: Mapping[str, Path]) -> None:
        """Know of no process anything yet."""
        self._seen = {role: PolledProcess(role, path) for role, path in sockets.items()}
        self._overview = HealthMonitor(
            lambda: services([*self._seen.values()], self.config.resilience.critical),
            recovery_hold=self.config.resilience.recovery_hold_s,
            clock=self.clock,
            listener=self.observer,
        )
        self._polled_ns = self.clock.monotonic_ns()
        self.last = self._assembled()

    @property
    def state(self) -> SystemState:
        """The state of the whole, as it was assessed last."""
        return self.last.health.state

    async def watch(self) -> None:
        """Ask each process once a second, until cancelled."""
        while True:
            await self.poll()
            await self.clock.sleep(POLL_S)

    async def poll(self) -> None:
        """Ask each process once and assess what they say."""
        async with self._polling:
            await asyncio.gather(*(self._ask(seen) for seen in self._seen.values()))
            self._samples = await asyncio.to_thread(self.measure)
            self.last = self._assembled()
            self._polled_ns = self.clock.monotonic_ns()

    async def report(self) -> SystemReport:
        """See :meth:`forebay.ops.view.System.report`; Unreachable if it is too old to be true."""
        silent_s = (self.clock.monotonic_ns() - self._polled_ns) / 1e9
        if silent_s > STALE_S:
            hint = "/health/live says whether this process answers at all; the log may say more."
            raise Unreachable(f"The processes were last asked {silent_s:.0f} s ago.", hint=hint)
        return self.last

    # --------------------------------------------------------------------- asking

    async def _ask(self, seen: PolledProcess) -> None:
        began, wall = self.clock.monotonic_ns(), self.clock.wall_ns()
        try:
            request = {"op": "report", "system": self.state, **seen.streams.asked(began)}
            told = await self._request(seen, request)
            report, answered_ns = msgspec.convert(told, ProcessReport), self.clock.wall_ns()
            report = seen.streams.added(report, self.clock.monotonic_ns())
            if report.wall_ns is not None:
                seen.skew_s = skew_within(report.wall_ns, wall, answered_ns)
            # One that was starting, or hung, while orders changed has not heard of it.
            if seen.obeys != (report.pid, self._orders()):
                await self._order(seen, report.pid)
        except (ForebayError, msgspec.MsgspecError, OSError, RuntimeError):
            seen.missed(wall, self.clock.monotonic_ns() - began)
        else:
            seen.answered(report, wall, self.clock.monotonic_ns() - began)

    async def _request(self, seen: PolledProcess, request: dict[str, Any]) -> dict[str, Any]:
        # Who hung until nobody waited any more must not carry it out afterwards.
        request = {**request, "until_ns": self.clock.monotonic_ns() + round(ANSWER_S * 1e9)}
        answer, _ = await asyncio.to_thread(ask, seen.socket, request, timeout_s=ANSWER_S)
        return answer

    def _orders(self) -> RuntimeSettings:
        config = self.config.for_children()
        return RuntimeSettings(config, dict(self._limits), dict(self._forced_open))

    async def _order(self, seen: PolledProcess, pid: int | None = None) -> None:
        orders = self._orders()
        await self._request(seen, {"op": "orders", "orders": msgspec.to_builtins(orders)})
        seen.obeys = (pid or seen.pid or 0, orders)

    # ------------------------------------------------------------------ assessing

    def _assembled(self) -> SystemReport:
        seen, health = list(self._seen.values()), self._overview.look()
        at_ns = self.clock.wall_ns()
        if self._since[0] is not health.state:
            self._since = health.state, at_ns
        since = {"since": to_text(self._since[1])}
        told = [each.report for each in seen if each.report is not None and each.fresh]
        skews = {e.role: e.skew_s for e in seen if e.fresh and e.skew_s is not None}
        measured = [*self._samples, *self._streams.samples(told), *samples.process_skews(skews)]
        own = ProcessReport(SUPERVISOR, os.getpid(), "", samples=measured, status=since)
        return SystemReport(
            at_ns=at_ns,
            health=health,
            not_ready=not_ready(seen, health.state),
            checks=checks(seen),
            processes=[own, *told],
            fallbacks=fallbacks(seen),
            restart_needed=self._waiting,
        )

    def risen(self, role: str, count: int) -> int:
        """Return how far the counter of ``role`` got in all, with where it ended."""
        rising = self._seen[role].rising
        rising.look(self.clock.wall_ns(), count)
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
            self.observer(ConfigRefused(str(error)))

    def _holders(self, target: str) -> list[PolledProcess]:
        """The process that has the breaker ``target``, or all for none."""
        if not target:
            return list(self._seen.values())
        told = ((seen, seen.report) for seen in self._seen.values() if seen.report is not None)
        known = {breaker.name: seen for seen, report in told for breaker in report.breakers}
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
        config, applied, waiting = reconciled(self.config, self.load())
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
        self.observer(ConfigReloaded(applied, waiting))
        words = [f"now: {', '.join(applied)}" if applied else "nothing changed at once"]
        words += [f"after a restart: {', '.join(waiting)}"] if waiting else []
        undone = ", ".join(sorted(kept[1]))
        words += [f"undone: what an operator changed of {undone}"] if undone else []
        await self.poll()
        return Outcome(applied, "; ".join(words) + ".")


@dataclass(slots=True)
class Rising:
    """A counter that begins at 0 again with its process, how far it got, and how fast."""

    total: int = 0
    _last: int = 0
    _looks: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=LOOKS))

    def look(self, at_ns: int, count: int) -> float | None:
        """Note where it stands, and return its rate a second; None if it cannot be told yet."""
        self.total += count if count < self._last else count - self._last
        self._last = count
        self._looks.append((at_ns, self.total))
        began_ns, first = self._looks[0]
        passed_ns = at_ns - began_ns
        return round((self.total - first) * 1e9 / passed_ns, 1) if passed_ns > 0 else None


@dataclass(slots=True)
class PolledProcess:
    """One process: its last answer, and how often it has not answered since."""

    role: str
    socket: Path
    report: ProcessReport | None = None
    failures: int = 0
    """Polls in a row without an answer."""
    checked_ns: int = 0
    took_ns: int = 0
    obeys: tuple[int, object] | None = None
    """The process id that acknowledged orders, and which."""
    down: Counter[str] = field(default_factory=Counter)
    """How many answers in a row said of a service that it is down."""
    rising: Rising = field(default_factory=Rising)
    """What it has done since the beginning, also before it was started again."""
    skew_s: float | None = None
    """How far its clock was ahead of ours when it answered last."""
    streams: StreamsKnown = field(default_factory=StreamsKnown)

    @property
    def fresh(self) -> bool:
        """Whether the last poll was answered."""
        return self.report is not None and not self.failures

    @property
    def away(self) -> bool:
        """Whether it counts as down."""
        return self.failures > (STARTING if self.report is None else AWAY_AFTER)

    @property
    def pid(self) -> int | None:
        """Its process id, as it said last."""
        return None if self.report is None else self.report.pid

    def answered(self, report: ProcessReport, wall_ns: int, took_ns: int) -> None:
        """It said how it is."""
        self.report, self.failures = self._with_rate(report, wall_ns), 0
        self.checked_ns, self.took_ns = wall_ns, took_ns
        self.down = Counter(
            {each.name: self.down[each.name] + 1 for each in report.services if not each.up}
        )

    def _with_rate(self, report: ProcessReport, wall_ns: int) -> ProcessReport:
        counter, name = COUNTED.get(self.role.partition("-")[0], ("rows", "events_per_s"))
        if not isinstance(count := report.status.get(counter), int):
            return report
        rate = self.rising.look(wall_ns, count)
        return dataclasses.replace(report, status={**report.status, name: rate})

    def missed(self, wall_ns: int, took_ns: int) -> None:
        """It did not answer."""
        self.failures += 1
        self.checked_ns, self.took_ns = wall_ns, took_ns


def services(seen: Sequence[PolledProcess], critical: Collection[str]) -> list[ServiceHealth]:
    """Return every service; those of a process that is away are down with it.

    A process that has not answered yet is starting, and in nobody's count.
    """
    found: list[ServiceHealth] = []
    for each in seen:
        told = () if each.report is None else each.report.services
        if not each.away:
            found += told
            continue
        needed, reason = bridges.needed(each.role, len(seen)), f"{each.role} does not answer"
        found.append(ServiceHealth(each.role, up=False, critical=needed, reason="does not answer"))
        found += [
            dataclasses.replace(service, up=False, reason=service.reason or reason)
            for service in told
            if service.name != each.role
        ]
    return [
        dataclasses.replace(service, critical=service.critical or service.name in critical)
        for service in found
    ]


def not_ready(seen: Sequence[PolledProcess], state: SystemState) -> str:
    """Return why the system cannot do its job now; nothing if it can."""
    reasons = [f"{each.role} does not answer" for each in seen if not each.fresh]
    reasons += [each.report.not_ready for each in seen if each.fresh and each.report]
    if state is SystemState.EMERGENCY:
        reasons.append("the system is in EMERGENCY")
    return "; ".join(filter(None, reasons))


def checks(seen: Sequence[PolledProcess]) -> list[Check]:
    """Return what was looked at: each process, and each service as its process sees it."""
    found: list[Check] = []
    for each in seen:
        looked = each.checked_ns, each.took_ns / 1e9
        detail = "answers" if each.fresh else "does not answer"
        found.append(Check(each.role, each.fresh, detail, *looked, each.failures))
        told = each.report.services if each.fresh and each.report else ()
        found += [
            Check(one.name, one.up, one.reason or "up", *looked, each.down[one.name])
            for one in told
            if one.name != each.role
        ]
    return found


def fallbacks(seen: Sequence[PolledProcess]) -> list[str]:
    """Return the services whose callers get substitutes."""
    return [name for each in seen if each.report is not None for name in each.report.fallbacks]
