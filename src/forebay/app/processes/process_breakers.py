"""What a supervised process does for its supervisor: breakers by configuration, reports, orders."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from forebay.app.processes import samples
from forebay.app.wiring import bridges, logs, stores
from forebay.app.wiring.complaints import Complaints
from forebay.app.wiring.config import BreakerLimits, Config, all_leaves
from forebay.app.wiring.transports import ROLE, name_of
from forebay.errors import ConfigError, Permanent, Transient
from forebay.ops.view import Action, BreakerReport, Command, ProcessReport, Sample, moment
from forebay.resilience import BreakerConfig, ResilienceManager, SystemState, presets
from forebay.resilience.dependencies import near
from forebay.telemetry import ServiceDown, ServiceUp, SystemMoved

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Awaitable, Callable

    from forebay.app.processes.local_socket import Handler, Request
    from forebay.app.processes.samples import Counts
    from forebay.app.processes.stream_news import StreamsTold
    from forebay.clock import Clock
    from forebay.resilience import CircuitBreaker, Snapshot
    from forebay.telemetry import Observer, TelemetryEvent

Section = Literal["store", "clickhouse", "clickhouse_bridge", "rest", "websocket", "transport"]
_NS = 1_000_000_000
_OF_THE_WHOLE = (ServiceDown, ServiceUp, SystemMoved)
"""What the supervisor tells, who sees all processes."""
PRESETS: dict[Section, BreakerConfig] = {
    "store": presets.CLICKHOUSE_BRIDGE,
    "clickhouse": presets.CLICKHOUSE,
    "clickhouse_bridge": presets.CLICKHOUSE_BRIDGE,
    "rest": presets.EXCHANGE_API,
    "websocket": presets.WEBSOCKET,
    "transport": presets.MESSAGING,
}
_THREADS = ("store", "clickhouse_bridge", "transport")
_THRESHOLDS = {
    "failure_threshold": "failure_threshold",
    "recovery_timeout_s": "recovery_timeout",
    "success_threshold": "success_threshold",
    "timeout_s": "timeout",
}
"""By key of the configuration and of a report, the field of a breaker's own configuration."""


_AS_SEEN = ("name", "state", "cause", "slow", "not_permitted", "stale", "trips", "latency_count")
LIVE = (
    "resilience.",
    "http.token",
    "http.token_file",
    "log_level",
    "journal.retain",
    "journal.retain_gb",
    "query.timeout_s",
)
"""Keys, or beginnings of keys that end in a point, that may change while it runs."""


class RuntimeSettings(msgspec.Struct, frozen=True):
    """What a supervisor wants to hold from now on, in a process that runs or has just begun."""

    config: Config
    limits: dict[str, BreakerLimits] = {}
    """By breaker, what an operator changed since."""
    forced_open: dict[str, str] = {}
    """By breaker that an operator holds open, why."""


class ProcessBreakers:
    """The breakers of one process; they are made here, so that none is forgotten."""

    def __init__(
        self,
        process: str,
        config: Config,
        *,
        clock: Clock,
        rng: random.Random,
        observer: Observer,
        critical: bool = True,
    ) -> None:
        """``critical`` is whether the process itself is."""
        self.process = process
        self.config = config
        self._clock = clock
        said = config.resilience

        def listener(happening: TelemetryEvent) -> None:
            if not isinstance(happening, _OF_THE_WHOLE):
                observer(happening)

        self.manager = ResilienceManager(
            process=process,
            clock=clock,
            rng=rng,
            listener=listener,
            recovery_hold=said.recovery_hold_s,
            check_interval=said.check_interval_s,
            auto_recovery=said.auto_recovery,
        )
        self.manager.watch(process, lambda: "", critical=critical)
        self._sections: dict[str, Section] = {}
        self._limits: dict[str, BreakerLimits] = {}

    def breaker(
        self,
        name: str,
        section: Section,
        *,
        critical: bool = False,
        probe: Callable[[], Awaitable[object]] | None = None,
    ) -> CircuitBreaker:
        """Make and register the breaker of a service of this process."""
        self._sections[name] = section
        return self.manager.register(
            name,
            configured(section, self.config, self._limits.get(name)),
            critical=critical,
            depends_on=(self.process,),
            probe=probe,
        )

    def sheds(self) -> str:
        """Why work that can wait has to: the state of the system, nothing while it is well."""
        state = self.manager.state
        return state.value if state in (SystemState.CRITICAL, SystemState.EMERGENCY) else ""

    @contextlib.asynccontextmanager
    async def recovering(self) -> AsyncIterator[None]:
        """Probe what nobody calls, while the block runs."""
        task = asyncio.create_task(self.manager.run(), name="forebay-recovery")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                task.result()  # what ended it, if it was not us

    # ------------------------------------------------------------------ orders

    def obey(self, orders: RuntimeSettings) -> None:
        """Let another configuration hold; the breakers keep their state and what they know.

        Raises :class:`~forebay.errors.ConfigError`, with nothing changed, if it cannot be.
        """
        wanted = {
            name: configured(section, orders.config, orders.limits.get(name))
            for name, section in self._sections.items()
        }
        self.config, self._limits = orders.config, orders.limits
        said = orders.config.resilience
        self.manager.recovery_hold = said.recovery_hold_s
        self.manager.check_interval = said.check_interval_s
        self.manager.set_auto_recovery(said.auto_recovery)
        for name, config in wanted.items():
            self.manager.reconfigure(name, config)
        for name, reason in orders.forced_open.items():
            if name in self._sections:
                self.manager.force_open(name, reason)
        logs.configure(orders.config.log_level, process=self.process)

    def command(self, command: Command) -> tuple[str, ...]:
        """Carry out what concerns breakers; return the names of those that moved."""
        manager, target, reason = self.manager, command.target, command.reason
        if command.action is Action.FORCE_RECOVERY:
            return manager.force_recovery(target or None, reason)
        act = {Action.FORCE_OPEN: manager.force_open, Action.RESET: manager.reset}
        if command.action not in act:
            raise Permanent(f"A process cannot {command.action}.", hint="Its supervisor can.")
        return (target,) if act[command.action](target, reason) else ()

    # ----------------------------------------------------------------- reports

    def handlers(
        self,
        tell: Callable[[], Awaitable[ProcessReport]],
        changed: Callable[[Config], None] = lambda _: None,
        streams: StreamsTold | None = None,
    ) -> dict[str, Handler]:
        """Return the handlers of this process's socket; ``changed`` hears of configurations."""

        async def report(request: Request) -> dict[str, Any]:
            self.manager.heed(SystemState(request.get("system", SystemState.HEALTHY)))
            report = await tell()
            report = streams.added(report, request) if streams else report
            told: dict[str, Any] = msgspec.to_builtins(report)
            return told

        async def order(request: Request) -> dict[str, Any]:
            self._require_in_time(request)
            orders = msgspec.convert(request["orders"], RuntimeSettings)
            self.obey(orders)
            changed(orders.config)
            return {}

        async def command(request: Request) -> dict[str, Any]:
            self._require_in_time(request)
            wanted = msgspec.convert(request["command"], Command)
            return {"changed": list(self.command(wanted))}

        return {"report": report, "orders": order, "command": command}

    def _require_in_time(self, request: Request) -> None:
        """Both processes are on one machine, whose monotonic clock they share."""
        until_ns = request.get("until_ns")
        if until_ns is not None and self._clock.monotonic_ns() > until_ns:
            raise Transient("Nobody waits for this any more.", hint="Say it again.")

    def report(self, **parts: Any) -> ProcessReport:  # noqa: ANN401 - the fields of a report
        """Return a report with this process's services and breakers."""
        return ProcessReport(
            process=self.process,
            pid=os.getpid(),
            services=self.manager.services(),
            breakers=[
                breaker_report(self.process, breaker.snapshot(), breaker.config)
                for breaker in self.manager.breakers.values()
            ],
            fallbacks=self.manager.fallbacks_serving(),
            wall_ns=self._clock.wall_ns(),
            **parts,
        )

    def samples(self, counts: Counts) -> list[Sample]:
        """Return what every process measures of itself."""
        return [
            *samples.tallied(self.process, counts, logs.LOST.total),
            *samples.labelled(
                "forebay_recovery_attempts", "breaker", self.manager.recovery_attempts
            ),
            *samples.process(self.process, samples.OsReader()),
        ]


def configured(
    section: Section, config: Config, limits: BreakerLimits | None = None
) -> BreakerConfig:
    """Return a preset with what configuration, and ``limits``, change. Raises ConfigError."""
    found = PRESETS[section]
    for said in (getattr(config.resilience, section), limits or BreakerLimits()):
        numbers = {name: getattr(said, key) for key, name in _THRESHOLDS.items()}
        changes: dict[str, Any] = {name: value for name, value in numbers.items() if value}
        if section in _THREADS and "timeout" in changes:
            message = f"A call of the {section} runs in a thread, which no time-out can end."
            raise ConfigError(message, hint="Leave timeout_s out.")
        found = dataclasses.replace(found, **changes)
    return found


def thresholds(config: BreakerConfig) -> dict[str, Any]:
    """Return what a breaker is configured to, by the keys that people write."""
    return {key: getattr(config, name) for key, name in _THRESHOLDS.items()}


def in_force(config: Config) -> Config:
    """Return the same with the preset's number for each that it does not change."""
    limits = {each: BreakerLimits(**thresholds(configured(each, config))) for each in PRESETS}
    resilience = msgspec.structs.replace(config.resilience, **limits)
    return msgspec.structs.replace(config, resilience=resilience)


def validate(config: Config) -> None:
    """Raise :class:`~forebay.errors.ConfigError`, of all that is said of resilience wrongly."""
    complaints = Complaints()
    for section in PRESETS:
        try:
            configured(section, config)
        except ConfigError as error:
            message = f"The table [resilience.{section}] cannot be: {error.message}"
            complaints.errors.append(ConfigError(message, hint=error.hint))
    known = ["capture", "deliver", "journal", "store"]
    for place in stores.stores_of(config):
        known += [place.role, place.name, f"{place.name}-bridge"]
    known += [f"{venue.name}-{part}" for venue in config.venues for part in ("rest", "websocket")]
    for transport in config.transports:
        name = name_of(transport)
        known += [name, ROLE + name, f"{name}-buffer"]
    if bridges.runs_bridge(config):
        reading = f"{config.bridge.transport}-bridge-reading"
        known += [bridges.ROLE, bridges.breaker_of(config), reading]
    for name in config.resilience.critical:
        if config.venues and name not in known:
            message = f"resilience.critical names {name!r}, and there is no such service."
            complaints.errors.append(ConfigError(message, hint=near(name, known)))
    complaints.tell()


def served_by_journal(report: ProcessReport) -> ProcessReport:
    """Return the report of a process whose work waits in the journal for whatever is down."""
    services = [dataclasses.replace(each, serving_fallback=not each.up) for each in report.services]
    fallbacks = [each.name for each in services if each.serving_fallback]
    return dataclasses.replace(report, services=services, fallbacks=fallbacks)


def breaker_report(process: str, seen: Snapshot, config: BreakerConfig) -> BreakerReport:
    """Return a snapshot as people and metrics read it."""
    ended = seen.ok + seen.failed + seen.slow + seen.neutral
    same = {name: getattr(seen, name) for name in _AS_SEEN}
    return BreakerReport(
        **same,
        process=process,
        failure_count=seen.streak,
        retry_after_s=seen.retry_after,
        last_failure_ns=seen.last_failure_wall_ns,
        opened_ns=seen.opened_wall_ns,
        requests=ended + seen.not_permitted + seen.stale,
        successes=seen.ok,
        failures=seen.failed,
        transitions=dict(seen.transitions),
        latency_sum_s=seen.latency_sum_ns / _NS,
        config=thresholds(config),
        history=[
            {
                "was": moved.was,
                "now": moved.now,
                "reason": moved.reason,
                "at_ns": moved.wall_ns,
                "at": moment(moved.wall_ns),
            }
            for moved in seen.history
        ],
    )


def reconciled(running: Config, wanted: Config) -> tuple[Config, tuple[str, ...], tuple[str, ...]]:
    """Return what holds from now on, the keys that changed, and those that need a restart."""
    old, new = dict(all_leaves(running)), dict(all_leaves(wanted))
    changed = [key for key in new if old.get(key) != new[key]]
    live = tuple(
        key
        for key in changed
        if any(key.startswith(some) if some.endswith(".") else key == some for some in LIVE)
    )
    tree: dict[str, Any] = msgspec.to_builtins(running)
    for key in live:
        *sections, last = key.split(".")
        table = tree
        for section in sections:
            table = table[section]
        table[last] = new[key]
    return msgspec.convert(tree, Config), live, tuple(key for key in changed if key not in live)
