"""What there is to look at and to command, as types; the application fills them in.

A process says of itself what a :class:`ProcessReport` holds, when it is asked. The routes and the
metrics know the :class:`System` and nothing behind it. The same types go over sockets, into the
routes' answers and into ``forebay status --json``: msgspec encodes and decodes them as they are, so
moments are there twice, as numbers and, under the same name without ``_ns``, as texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal, Protocol

from forebay.domain.frames import EVERY_SYMBOL
from forebay.errors import Permanent
from forebay.resilience.health import ServiceHealth, SystemHealth
from forebay.times import to_text


def moment(wall_ns: int) -> str:
    """Return wall-clock nanoseconds as ISO 8601 in UTC, to the millisecond."""
    return f"{to_text(wall_ns, exact=True)[: -len('456789Z')]}Z"


def _set_moments(report: object, **wall_ns: int | None) -> None:
    for name, at_ns in wall_ns.items():
        object.__setattr__(report, name, None if at_ns is None else moment(at_ns))


@dataclass(frozen=True, slots=True)
class BreakerReport:
    """One breaker at one moment; times are wall-clock nanoseconds, durations seconds."""

    name: str
    process: str
    state: str
    """One of :class:`forebay.resilience.State`."""
    failure_count: int
    """Consecutive failures."""
    cause: str
    retry_after_s: float | None
    last_failure_ns: int | None
    opened_ns: int | None
    """When it went to OPEN or FORCED_OPEN last, if it is not CLOSED since."""
    requests: int
    successes: int
    failures: int
    slow: int
    not_permitted: int
    stale: int
    trips: int
    transitions: Mapping[str, int]
    """How often it went to each state."""
    latency_sum_s: float
    latency_count: int
    config: Mapping[str, float | int | None]
    """``failure_threshold``, ``recovery_timeout_s``, ``success_threshold``, ``timeout_s``."""
    history: Sequence[Mapping[str, str | int]] = ()
    """The last transitions, oldest first: ``was``, ``now``, ``reason``, ``at_ns``, ``at``."""
    last_failure: str | None = field(init=False, default=None)
    opened: str | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        """Set the texts."""
        _set_moments(self, last_failure=self.last_failure_ns, opened=self.opened_ns)


@dataclass(frozen=True, slots=True)
class Sample:
    """One number under one name of :data:`forebay.ops.catalogue.CATALOGUE`."""

    name: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Buckets:
    """A histogram: counts up to and including each upper edge in seconds, and their sum."""

    name: str
    edges_s: Sequence[float]
    counts: Sequence[int]
    """Cumulative, one for each edge and one more for all."""
    sum_s: float
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at; ``duration_s`` is how long looking took."""

    name: str
    ok: bool
    detail: str
    last_check_ns: int
    duration_s: float
    failures: int = 0
    """How often in a row it was not ok."""
    status: Literal["healthy", "unhealthy"] = field(init=False, default="healthy")
    last_check: str | None = field(init=False, default=None)
    duration: str = field(init=False, default="")
    """As the systems before Forebay wrote it: ``15ms``."""

    def __post_init__(self) -> None:
        """Set the texts."""
        object.__setattr__(self, "status", "healthy" if self.ok else "unhealthy")
        object.__setattr__(self, "duration", f"{max(0.0, self.duration_s) * 1000:.0f}ms")
        _set_moments(self, last_check=self.last_check_ns)


StreamState = Literal["asked", "heard", "refused", "silent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamReport:
    """One kind of event of one symbol, as a process sees it; moments are UTC nanoseconds."""

    venue: str
    market: str
    channel: str
    symbol: str
    asked_ns: int | None = None
    """Since when it is asked for."""
    acknowledged_ns: int | None = None
    """Since when the venue says that it gives it; None while it does not."""
    heard_ns: int | None = None
    """When its last event was received, if one was since the processes started."""
    ever: bool | None = None
    """Whether anything of it was ever heard; None if nobody knows."""
    refused: str = ""
    """Why the venue does not give it."""
    refusals: int = 0
    """How often in a row it said so."""
    retry_ns: int | None = None
    """When it is asked again."""

    state: StreamState = field(init=False, default="asked")
    """silent: it should come and never did; asked: nobody knows yet."""
    asked: str | None = field(init=False, default=None)
    acknowledged: str | None = field(init=False, default=None)
    last_heard: str | None = field(init=False, default=None)
    retry: str | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        """Set the state and the texts."""
        known: dict[bool | None, StreamState] = {None: "asked", True: "heard", False: "silent"}
        object.__setattr__(self, "state", "refused" if self.refused else known[self.ever])
        _set_moments(
            self,
            asked=self.asked_ns,
            acknowledged=self.acknowledged_ns,
            last_heard=self.heard_ns,
            retry=self.retry_ns,
        )


@dataclass(frozen=True, slots=True)
class ProcessReport:
    """What one process says of itself."""

    process: str
    pid: int
    not_ready: str
    """Why it cannot do its job now; nothing if it can."""
    services: Sequence[ServiceHealth] = ()
    breakers: Sequence[BreakerReport] = ()
    samples: Sequence[Sample] = ()
    buckets: Sequence[Buckets] = ()
    fallbacks: Sequence[str] = ()
    """Services whose callers get substitutes now."""
    status: Mapping[str, Any] = field(default_factory=dict)
    """What ``forebay status`` prints of it."""
    streams: Sequence[StreamReport] = ()
    """What it knows of streams: one process of asking, another of hearing."""
    streams_mark: str = ""
    """Names what these are, between processes: who knows the mark is not told them again."""
    hears: bool = False
    """Whether :attr:`streams` are all that was ever heard."""
    wall_ns: int | None = None
    """What its clock said then, UTC nanoseconds."""


@dataclass(frozen=True, slots=True)
class SystemReport:
    """The whole system at ``at_ns``; a process that did not answer is not in ``processes``."""

    at_ns: int
    health: SystemHealth
    not_ready: str
    checks: Sequence[Check]
    processes: Sequence[ProcessReport]
    fallbacks: Sequence[str] = ()
    """Services whose callers get substitutes now."""
    restart_needed: Sequence[str] = ()
    """Keys of the configuration that were changed and wait for a restart."""

    def breakers(self) -> list[BreakerReport]:
        """Return the breakers of all processes by name."""
        found = [breaker for process in self.processes for breaker in process.breakers]
        return sorted(found, key=lambda breaker: breaker.name)

    def streams(self) -> list[StreamReport]:
        """Return every stream that is asked for, with what all processes know of it."""
        return merged(self.processes)


def merged(processes: Sequence[ProcessReport]) -> list[StreamReport]:
    """Return every stream that one of ``processes`` asks for, with what the others heard of it."""
    told = [stream for process in processes for stream in process.streams]
    heard = {_name(stream): stream for stream in told if stream.asked_ns is None}
    last = sorted(heard.values(), key=lambda stream: stream.heard_ns or 0)
    every = {_name(stream)[:3]: stream for stream in last}
    hearing = any(process.hears for process in processes)
    found = []
    for stream in sorted((each for each in told if each.asked_ns is not None), key=_name):
        if stream.ever is not None:
            found.append(stream)
            continue
        other = heard.get(_name(stream))
        if other is None and stream.symbol == EVERY_SYMBOL:  # whatever it tells of
            other = every.get(_name(stream)[:3])
        found.append(
            replace(
                stream,
                heard_ns=other.heard_ns if other else None,
                ever=other is not None if hearing else None,
            )
        )
    return found


def _name(stream: StreamReport) -> tuple[str, str, str, str]:
    return stream.venue, stream.market, stream.channel, stream.symbol


class Action(StrEnum):
    """What an operator can command."""

    FORCE_OPEN = "force-open"
    RESET = "reset"
    FORCE_RECOVERY = "force-recovery"
    CONFIGURE = "configure"
    """Change the thresholds of one breaker until the next start or reload."""
    RELOAD = "reload"
    """Read the configuration again, as SIGHUP does."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command; ``target`` is a breaker's name, or nothing for all or none."""

    action: Action
    target: str = ""
    reason: str = ""
    settings: Mapping[str, float | int] = field(default_factory=dict)
    """For CONFIGURE: some of the keys of :attr:`BreakerReport.config`."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a command: the breakers that moved or changed, and words for a person."""

    changed: Sequence[str]
    detail: str


class UnknownName(Permanent):
    """There is no breaker of that name; the hint lists those that there are."""


class System(Protocol):
    """What the routes show and command."""

    async def report(self) -> SystemReport:
        """Return what is known, not older than a poll."""
        ...

    async def command(self, command: Command) -> Outcome:
        """Carry a command out.

        Raises :class:`UnknownName` if there is no such breaker,
        :class:`~forebay.errors.ConfigError` if the settings cannot be, and
        :class:`~forebay.errors.Unreachable` if its process does not answer.
        """
        ...
