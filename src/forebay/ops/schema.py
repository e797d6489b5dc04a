"""What the routes answer with, as models; the OpenAPI document is made from them.

Moments are ISO 8601 in UTC, durations have their unit in their name or, where the systems before
Forebay wrote them so, in their text (``15ms``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from forebay.ops.view import StreamState
from forebay.resilience.health import SystemState

_AWAY = 503
SETTINGS = ("failure_threshold", "recovery_timeout_s", "success_threshold", "timeout_s")
Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Counts = dict[str, Annotated[int, Field(ge=0)]]


class Body(BaseModel):
    """Has the keys that are listed and no others."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ErrorBody(Body):
    """What went wrong, for a program, for a person, and what to do about it."""

    error: str
    """A word that stays the same, such as ``unknown-name``."""
    message: str
    hint: str


def errors(codes: Mapping[int, str], *, ailing: type[Body] | None = None) -> dict[Any, Any]:
    """Document errors and what they mean; with 503 the body may be ``ailing`` as well.

    They refer to :class:`ErrorBody` instead of naming it, or each would be compiled anew: that
    took most of the time until the routes could be served.
    """
    told = {"$ref": f"#/components/schemas/{ErrorBody.__name__}"}
    either = (
        {"anyOf": [{"$ref": f"#/components/schemas/{ailing.__name__}"}, told]} if ailing else told
    )
    return {
        code: {
            "description": meaning,
            "content": {"application/json": {"schema": either if code == _AWAY else told}},
        }
        for code, meaning in sorted(codes.items())
    }


class Stamped(Body):
    """Who answers, and of when the answer is."""

    service: str
    timestamp: Moment


class LivenessBody(Stamped):
    """The process answers; nothing else is looked at."""

    status: Literal["alive"] = "alive"
    version: str


class ReadinessBody(Stamped):
    """Whether the service can do its job; ``reason`` is why not."""

    status: Literal["ready", "not-ready"]
    reason: str


class CheckBody(Body):
    """One thing looked at: how it was, when, and how long looking took."""

    status: Literal["healthy", "unhealthy"]
    last_check: Moment
    duration: Annotated[str, Field(pattern=r"^\d+(\.\d+)?ms$", examples=["15ms"])]
    detail: str
    failures: int
    """How often in a row it was not healthy."""


class HealthBody(Stamped):
    """The summary. What is below ``dependencies`` is there where such a part runs."""

    status: SystemState
    version: str
    reason: str
    ready: bool
    checks: dict[str, CheckBody]
    dependencies: dict[str, Literal["UP", "DOWN"]]
    ws_connections: int | None = None
    """Subscribed websocket connections."""
    db: Literal["connected", "disconnected"] | None = None
    gatherers: dict[str, str] | None = None
    rds: str | None = None


class ServiceBody(Body):
    """One service; ``root`` is the service whose failure keeps it down, maybe itself."""

    name: str
    up: bool
    critical: bool
    depends_on: list[str]
    serving_fallback: bool
    reason: str
    root: str | None = None


class TransitionBody(Body):
    """One transition of a breaker."""

    was: str
    now: str
    reason: str
    at: Moment


class SettingsBody(Body):
    """The thresholds of a breaker; null is none."""

    failure_threshold: int | None = None
    recovery_timeout_s: float | None = None
    success_threshold: int | None = None
    timeout_s: float | None = None


class BreakerBody(Body):
    """One breaker at one moment."""

    name: str
    process: str
    state: str
    failure_count: int
    """Consecutive failures."""
    cause: str
    retry_after_s: float | None
    last_failure: Moment | None
    opened: Moment | None
    requests: int
    successes: int
    failures: int
    slow: int
    not_permitted: int
    stale: int
    trips: int
    transitions: Counts
    latency_sum_s: float
    latency_count: int
    config: SettingsBody
    history: list[TransitionBody]
    """The last transitions, oldest first."""


class BreakersBody(Stamped):
    """All breakers by name."""

    breakers: list[BreakerBody]


class ResilienceBody(Stamped):
    """Everything that is known of health; ``share`` is of services that are no root, 0 to 1."""

    status: SystemState
    reason: str
    share: float
    roots: list[str]
    services: list[ServiceBody]
    fallbacks: list[str]
    """Services whose callers get substitutes now."""
    restart_needed: list[str]
    """Keys of the configuration that were changed and wait for a restart."""
    breakers: list[BreakerBody]


class ProcessBody(Body):
    """One process; ``status`` is what ``forebay status`` prints of it."""

    pid: int
    not_ready: str
    status: dict[str, Any]


class StreamBody(Body):
    """One kind of event of one symbol that is asked for."""

    venue: str
    market: str
    channel: str
    symbol: str
    state: StreamState
    """silent: it should come and never did; asked: nobody knows yet."""
    asked: str | None
    """Since when it is asked for."""
    acknowledged: str | None
    """Since when the venue says that it gives it."""
    last_heard: str | None
    """When its last event was received, since the processes started."""
    refused: str
    """Why the venue does not give it; nothing if it does."""
    refusals: int
    """How often in a row it said so."""
    retry: str | None
    """When it is asked again."""


class StatusBody(Stamped):
    """The system and its processes; a process that does not answer is not there."""

    status: SystemState
    version: str
    reason: str
    not_ready: str
    """Why the system cannot do its job now; nothing if it can."""
    processes: dict[str, ProcessBody]
    streams: list[StreamBody]
    """Everything that is asked for."""
    report: dict[str, Any]
    """All of it, as the processes tell it to one another."""


class DoneBody(Body):
    """What came of a command: the breakers that moved or changed, and words for a person."""

    changed: list[str]
    detail: str


# ----------------------------------------------------------------- what is sent to us


class Asked(BaseModel):
    """A request's body: keys that are not listed are refused, and so is a number in quotes."""

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)

    reason: Annotated[str, Field(max_length=1000)] = ""
    """Why, for the audit log and the breaker's history."""


class RecoverBody(Asked):
    """Which breaker to let probes through; nothing is all of them."""

    name: Annotated[str, Field(max_length=200)] = ""


class ConfigureBody(Asked):
    """The thresholds to change, one at least; the others stay."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": [key]} for key in SETTINGS]}
    )

    failure_threshold: Annotated[int, Field(ge=1, le=1_000_000)] = 0
    recovery_timeout_s: Annotated[float, Field(gt=0, le=600)] = 0.0
    """Seconds that OPEN lasts; no longer than the longest wait of a breaker."""
    success_threshold: Annotated[int, Field(ge=1, le=1000)] = 0
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 0.0
    """Seconds that one call may take."""

    def settings(self) -> dict[str, float | int]:
        """Answer what was given of the thresholds."""
        return self.model_dump(exclude_unset=True, exclude={"reason"})
