"""The HTTP routes: health, metrics, what ``forebay status`` prints, and administration.

| route | 200 | 503 |
|---|---|---|
| ``/health/live`` | the process answers | never |
| ``/health/ready`` | it can do its job | it cannot |
| ``/health`` | healthy, degraded | critical, emergency |
| all others | | the system did not report in time |
"""

from __future__ import annotations

import asyncio
import html
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from forebay.clock import Clock
from forebay.errors import ForebayError
from forebay.ops import openapi, schema
from forebay.ops.admin import Admin
from forebay.ops.calls import JSON, Call, RequestRefused, Response, clean
from forebay.ops.guard import Guard
from forebay.ops.openapi import Route
from forebay.ops.view import BreakerReport, System, SystemReport, moment
from forebay.resilience.dependencies import near
from forebay.resilience.health import SystemState
from forebay.telemetry import Observer

REPORT_S = 2.0
"""A report that is not there in this time is answered with 503."""
Metrics = Callable[[SystemReport, str], tuple[bytes, str]]
"""Returns the exposition and its content type, for an Accept header."""
_AILING = (SystemState.CRITICAL, SystemState.EMERGENCY)
_UNKNOWN_HOST = {421: "A name in the Host header, over loopback."}
_UNHEARD = {**_UNKNOWN_HOST, 503: "The system did not report in time."}
_UNKNOWN = {**_UNHEARD, 404: "There is no such breaker."}
_log = logging.getLogger("forebay.ops")


def build(
    system: System,
    *,
    service: str,
    version: str,
    token: Callable[[], str | None],
    metrics: Metrics,
    clock: Clock,
    observer: Observer,
) -> Guard:
    """Return all routes; ``token`` is asked at every admin call, so that it can change."""
    reading = Reading(system, service, version, metrics, clock)
    routes = [*reading.routes(), *Admin(system).routes()]

    async def described(_: Call) -> Response:
        return Response.json(await asyncio.to_thread(openapi.document, routes, version))

    described_route = Route("GET", "/openapi.json", described, JSON, {})
    return Guard([*routes, described_route], token=token, clock=clock, observer=observer)


@dataclass(frozen=True)
class Reading:
    """The routes that change nothing."""

    system: System
    service: str
    version: str
    metrics: Metrics
    clock: Clock

    def routes(self) -> Iterator[Route]:
        """Return them."""
        breakers = "/api/v1/circuit-breakers"
        for path, handle, returns, codes in (
            ("/", self.index, "text/html", _UNKNOWN_HOST),
            ("/metrics", self.exposition, "text/plain", _UNHEARD),
            ("/health", self.health, schema.HealthBody, _UNHEARD),
            ("/health/live", self.live, schema.LivenessBody, _UNKNOWN_HOST),
            ("/health/ready", self.ready, schema.ReadinessBody, _UNHEARD),
            ("/health/resilience", self.resilience, schema.ResilienceBody, _UNHEARD),
            ("/api/v1/status", self.status, schema.StatusBody, _UNHEARD),
            (breakers, self.breakers, schema.BreakersBody, _UNHEARD),
            (f"{breakers}/{{name}}", self.breaker, BreakerReport, _UNKNOWN),
        ):
            ailing = returns in (schema.HealthBody, schema.ReadinessBody)
            yield Route("GET", path, handle, returns, codes, ailing=ailing)

    async def index(self, _: Call) -> Response:
        """List the routes."""
        paths = [route.path for route in self.routes() if "{" not in route.path]
        paths = [*paths[1:], "/openapi.json"]
        links = "".join(f'<li><a href="{path}">{path}</a></li>' for path in paths)
        title = html.escape(f"{self.service} · Forebay {self.version}")
        text = (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
            f"<h1>{title}</h1><ul>{links}</ul></html>"
        )
        return Response(text.encode(), headers={"content-type": "text/html; charset=utf-8"})

    async def live(self, _: Call) -> Response:
        """Say that this process answers; it is asked by whoever would restart it."""
        now = self._stamp(self.clock.wall_ns())
        return Response.json(schema.LivenessBody(**now, version=self.version))

    async def ready(self, _: Call) -> Response:
        """Say whether the system can do its job: 503 if not, with the reason."""
        report = await self._report()
        body = schema.ReadinessBody(
            **self._stamp(report.at_ns),
            status="not-ready" if report.not_ready else "ready",
            reason=report.not_ready,
        )
        return Response.json(body, 503 if report.not_ready else 200)

    async def health(self, _: Call) -> Response:
        """Summarise: 200 if healthy or degraded, 503 if critical or emergency."""
        report = await self._report()
        health = report.health
        body = schema.HealthBody(
            **self._stamp(report.at_ns),
            status=health.state,
            version=self.version,
            reason=health.reason,
            ready=not report.not_ready,
            checks={check.name: check for check in report.checks},
            dependencies={part.name: "UP" if part.up else "DOWN" for part in health.services},
            **schema.parts(report),
        )
        return Response.json(body, 503 if health.state in _AILING else 200)

    async def resilience(self, _: Call) -> Response:
        """Tell everything that is known of health, whatever it is."""
        report = await self._report()
        health = report.health
        root_of = health.attributed.get
        body = schema.ResilienceBody(
            **self._stamp(report.at_ns),
            status=health.state,
            reason=health.reason,
            share=health.share,
            roots=health.roots,
            services=[schema.ServiceBody.of(part, root_of(part.name)) for part in health.services],
            fallbacks=report.fallbacks,
            restart_needed=report.restart_needed,
            breakers=report.breakers(),
        )
        return Response.json(body)

    async def exposition(self, call: Call) -> Response:
        """Return the metrics in the text format of Prometheus, or as OpenMetrics if accepted."""
        wanted = b",".join(call.header(b"accept")).decode("latin-1")
        body, kind = self.metrics(await self._report(), wanted)
        return Response(body, headers={"content-type": kind, "vary": "accept"})

    async def status(self, _: Call) -> Response:
        """Tell what ``forebay status`` prints."""
        report = await self._report()
        body = schema.StatusBody(
            **self._stamp(report.at_ns),
            status=report.health.state,
            version=self.version,
            reason=report.health.reason,
            not_ready=report.not_ready,
            processes={
                each.process: schema.ProcessBody(
                    pid=each.pid, not_ready=each.not_ready, status=each.status
                )
                for each in report.processes
            },
            streams=report.streams(),
            report=report,
        )
        return Response.json(body)

    async def breakers(self, _: Call) -> Response:
        """List all breakers by name."""
        report = await self._report()
        now = self._stamp(report.at_ns)
        return Response.json(schema.BreakersBody(**now, breakers=report.breakers()))

    async def breaker(self, _: Call, name: str) -> Response:
        """Tell all of one breaker."""
        found = {breaker.name: breaker for breaker in (await self._report()).breakers()}
        if name in found:
            return Response.json(found[name])
        message = f"There is no breaker {clean(name, 100)!r}."
        raise RequestRefused(404, "unknown-name", message, hint=near(name[:200], [*found]))

    def _stamp(self, at_ns: int) -> dict[str, Any]:
        return {"service": self.service, "timestamp": moment(at_ns)}

    async def _report(self) -> SystemReport:
        try:
            async with asyncio.timeout(REPORT_S):
                return await self.system.report()
        except TimeoutError as error:
            message = f"The system did not report in {REPORT_S:.0f} s."
            hint = "/health/live says whether this process answers at all."
            raise RequestRefused(503, "unavailable", message, hint=hint) from error
        except ForebayError as error:
            raise RequestRefused(503, "unavailable", error.message, hint=error.hint) from error
        except Exception as error:
            # Whoever looks at health must be told that nothing is known, whatever the error is.
            _log.exception("The system could not report.")
            message = f"The system could not report: {type(error).__name__}."
            raise RequestRefused(503, "unavailable", message, hint="The log has more.") from error
