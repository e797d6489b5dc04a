"""What the routes answer with beside the types of :mod:`forebay.ops.view`, and what they are sent.

The OpenAPI document is made from these types. Moments are ISO 8601 in UTC, durations have their
unit in their name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from forebay.ops.view import BreakerReport, Check, StreamReport, SystemReport
from forebay.resilience.health import ServiceHealth, SystemState

DB_SERVICE = "store"
"""The service of which ``db`` in ``/health`` speaks."""
Moment = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]


class ErrorBody(msgspec.Struct, frozen=True):
    """What went wrong, for a program, for a person, and what to do about it."""

    error: str
    """A word that stays the same, such as ``unknown-name``."""
    message: str
    hint: str


class Stamped(msgspec.Struct, frozen=True):
    """Who answers, and of when the answer is."""

    service: str
    timestamp: Moment


class LivenessBody(Stamped, frozen=True):
    """The process answers; nothing else is looked at."""

    version: str
    status: Literal["alive"] = "alive"


class ReadinessBody(Stamped, frozen=True):
    """Whether the service can do its job; ``reason`` is why not."""

    status: Literal["ready", "not-ready"]
    reason: str


class HealthBody(Stamped, frozen=True):
    """The summary. What is below ``dependencies`` is there where such a part runs."""

    status: SystemState
    version: str
    reason: str
    ready: bool
    checks: dict[str, Check]
    dependencies: dict[str, Literal["UP", "DOWN"]]
    ws_connections: int | UnsetType = UNSET
    """Subscribed websocket connections."""
    db: Literal["connected", "disconnected"] | UnsetType = UNSET
    gatherers: dict[str, str] | UnsetType = UNSET
    rds: str | UnsetType = UNSET


def parts(report: SystemReport) -> dict[str, Any]:
    """Return the fields of :class:`HealthBody` that are there only where such a part runs."""
    found: dict[str, Any] = {}
    for part in report.health.services:
        if part.name == DB_SERVICE:
            found["db"] = "connected" if part.up else "disconnected"
    for process in report.processes:
        status = process.status
        if isinstance(connected := status.get("connected"), int):
            found["ws_connections"] = found.get("ws_connections", 0) + connected
        if isinstance(gatherers := status.get("gatherers"), Mapping):
            found["gatherers"] = {str(name): str(state) for name, state in gatherers.items()}
        if isinstance(rds := status.get("rds"), str):
            found["rds"] = rds
    return found


@dataclass(frozen=True, slots=True)
class ServiceBody(ServiceHealth):
    """One service; ``root`` is the service whose failure keeps it down, maybe itself."""

    root: str | None = None

    @classmethod
    def of(cls, part: ServiceHealth, root: str | None) -> ServiceBody:
        """Return a service as it is shown."""
        return cls(**asdict(part), root=root)


class BreakersBody(Stamped, frozen=True):
    """All breakers by name."""

    breakers: Sequence[BreakerReport]


class ResilienceBody(BreakersBody, frozen=True):
    """Everything that is known of health; ``share`` is of services that are no root, 0 to 1."""

    status: SystemState
    reason: str
    share: float
    roots: Sequence[str]
    services: Sequence[ServiceBody]
    fallbacks: Sequence[str]
    """Services whose callers get substitutes now."""
    restart_needed: Sequence[str]
    """Keys of the configuration that were changed and wait for a restart."""


class ProcessBody(msgspec.Struct, frozen=True):
    """One process; ``status`` is what ``forebay status`` prints of it."""

    pid: int
    not_ready: str
    status: Mapping[str, Any]


class StatusBody(Stamped, frozen=True):
    """The system and its processes; a process that does not answer is not there."""

    status: SystemState
    version: str
    reason: str
    not_ready: str
    """Why the system cannot do its job now; nothing if it can."""
    processes: dict[str, ProcessBody]
    streams: Sequence[StreamReport]
    """Everything that is asked for."""
    report: SystemReport
    """All of it, as the processes tell it to one another."""


# ----------------------------------------------------------------- what is sent to us


class RequestBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request's body: keys that are not listed are refused, and so is a number in quotes."""

    reason: Annotated[str, Meta(max_length=1000)] = ""
    """Why, for the audit log and the breaker's history."""


class RecoverBody(RequestBody, frozen=True):
    """Which breaker to let probes through; nothing is all of them."""

    name: Annotated[str, Meta(max_length=200)] = ""


class ConfigureBody(RequestBody, frozen=True):
    """The thresholds to change, one at least; the others stay."""

    failure_threshold: Annotated[int, Meta(ge=1, le=1_000_000)] | UnsetType = UNSET
    recovery_timeout_s: Annotated[float, Meta(gt=0, le=600)] | UnsetType = UNSET
    """Seconds that OPEN lasts; no longer than the longest wait of a breaker."""
    success_threshold: Annotated[int, Meta(ge=1, le=1000)] | UnsetType = UNSET
    timeout_s: Annotated[float, Meta(gt=0, le=3600)] | UnsetType = UNSET
    """Seconds that one call may take."""

    def settings(self) -> dict[str, float | int]:
        """Return what was given of the thresholds."""
        given: dict[str, Any] = msgspec.to_builtins(self)
        del given["reason"]
        return given
