"""What there is to see, put into the models of :mod:`forebay.ops.schema`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from forebay.ops.schema import (
    SETTINGS,
    BreakerBody,
    CheckBody,
    HealthBody,
    ProcessBody,
    ReadinessBody,
    ResilienceBody,
    ServiceBody,
    SettingsBody,
    StatusBody,
    StreamBody,
    TransitionBody,
)
from forebay.ops.view import BreakerReport, Check, StreamReport, SystemReport, moment
from forebay.resilience.health import ServiceHealth

DB_SERVICE = "store"
"""The service of which ``db`` in ``/health`` speaks."""


def check_body(check: Check) -> CheckBody:
    """Show a check."""
    return CheckBody(
        status="healthy" if check.ok else "unhealthy",
        last_check=moment(check.last_check_ns),
        duration=f"{max(0.0, check.duration_s) * 1000:.0f}ms",
        detail=check.detail,
        failures=check.failures,
    )


def health_body(report: SystemReport, service: str, version: str) -> HealthBody:
    """Show the summary of the whole system."""
    health = report.health
    return HealthBody(
        service=service,
        timestamp=moment(report.at_ns),
        status=health.state,
        version=version,
        reason=health.reason,
        ready=not report.not_ready,
        checks={check.name: check_body(check) for check in report.checks},
        dependencies={part.name: "UP" if part.up else "DOWN" for part in health.services},
        **_parts(report),
    )


def _parts(report: SystemReport) -> dict[str, Any]:
    """Answer the fields that are there only where such a part runs."""
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


def readiness_body(report: SystemReport, service: str) -> ReadinessBody:
    """Show whether the system can do its job."""
    return ReadinessBody(
        service=service,
        timestamp=moment(report.at_ns),
        status="not-ready" if report.not_ready else "ready",
        reason=report.not_ready,
    )


def resilience_body(report: SystemReport, service: str) -> ResilienceBody:
    """Show everything that is known of health."""
    health = report.health
    return ResilienceBody(
        service=service,
        timestamp=moment(report.at_ns),
        status=health.state,
        reason=health.reason,
        share=health.share,
        roots=list(health.roots),
        services=[_service(part, health.attributed.get(part.name)) for part in health.services],
        fallbacks=list(report.fallbacks),
        restart_needed=list(report.restart_needed),
        breakers=[breaker_body(breaker) for breaker in report.breakers()],
    )


def _service(part: ServiceHealth, root: str | None) -> ServiceBody:
    return ServiceBody(
        name=part.name,
        up=part.up,
        critical=part.critical,
        depends_on=list(part.depends_on),
        serving_fallback=part.serving_fallback,
        reason=part.reason,
        root=root,
    )


def status_body(report: SystemReport, service: str, version: str) -> StatusBody:
    """Show the processes."""
    return StatusBody(
        service=service,
        timestamp=moment(report.at_ns),
        status=report.health.state,
        version=version,
        reason=report.health.reason,
        not_ready=report.not_ready,
        processes={
            process.process: ProcessBody(
                pid=process.pid, not_ready=process.not_ready, status=dict(process.status)
            )
            for process in report.processes
        },
        streams=[stream_body(stream) for stream in report.streams()],
        report=msgspec.to_builtins(report),
    )


def stream_body(stream: StreamReport) -> StreamBody:
    """Show a stream."""
    return StreamBody(
        venue=stream.venue,
        market=stream.market,
        channel=stream.channel,
        symbol=stream.symbol,
        state=stream.state,
        asked=stream.asked,
        acknowledged=stream.acknowledged,
        last_heard=stream.last_heard,
        refused=stream.refused,
        refusals=stream.refusals,
        retry=stream.retry,
    )


_SAME = (
    "name", "process", "state", "failure_count", "cause", "retry_after_s", "requests",
    "successes", "failures", "slow", "not_permitted", "stale", "trips", "latency_sum_s",
    "latency_count",
)  # fmt: skip


def breaker_body(breaker: BreakerReport) -> BreakerBody:
    """Show a breaker."""
    return BreakerBody(
        **{key: getattr(breaker, key) for key in _SAME},
        last_failure=breaker.last_failure,
        opened=breaker.opened,
        transitions=dict(breaker.transitions),
        config=SettingsBody.model_validate({key: breaker.config.get(key) for key in SETTINGS}),
        history=[
            TransitionBody(
                was=str(move["was"]),
                now=str(move["now"]),
                reason=str(move["reason"]),
                at=moment(int(move["at_ns"])),
            )
            for move in breaker.history
        ],
    )
