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
from collections.abc import Callable
from dataclasses import dataclass

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from forebay.clock import Clock
from forebay.errors import ForebayError
from forebay.ops import schema_shown
from forebay.ops.admin import Admin
from forebay.ops.guard import Guard, tell_audit
from forebay.ops.guard_checks import Refusal, clean
from forebay.ops.schema import (
    BreakerBody,
    BreakersBody,
    ErrorBody,
    HealthBody,
    LivenessBody,
    ReadinessBody,
    ResilienceBody,
    StatusBody,
    errors,
)
from forebay.ops.view import System, SystemReport
from forebay.resilience.dependencies import near
from forebay.resilience.health import SystemState
from forebay.telemetry import Observer

REPORT_S = 2.0
"""A report that is not there in this time is answered with 503."""
Metrics = Callable[[SystemReport, str], tuple[bytes, str]]
"""Returns the exposition and its content type, for an Accept header."""
_AILING = (SystemState.CRITICAL, SystemState.EMERGENCY)
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
) -> FastAPI:
    """Answer the application; ``token`` is asked at every admin call, so that it can change."""
    app = FastAPI(
        title="Forebay",
        summary="Health, metrics and administration of one system.",
        version=version,
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.add_middleware(Guard, token=token, clock=clock, observer=observer)
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _not_routed)
    app.add_exception_handler(RequestValidationError, _invalid)
    Reading(system, service, version, metrics, clock).add_to(app.router)
    Admin(system).add_to(app.router)
    return app


@dataclass(frozen=True)
class Reading:
    """The routes that change nothing."""

    system: System
    service: str
    version: str
    metrics: Metrics
    clock: Clock

    def add_to(self, router: APIRouter) -> None:
        """Add them; a router of their own would be put together twice."""
        quiet, unheard = errors(_UNKNOWN_HOST), errors(_UNHEARD)
        router.get("/", response_class=HTMLResponse, responses=quiet)(self.index)
        router.get("/metrics", response_class=PlainTextResponse, responses=unheard)(self.exposition)
        for path, route, model, responses in (
            ("/health", self.health, HealthBody, errors(_UNHEARD, ailing=HealthBody)),
            ("/health/live", self.live, LivenessBody, quiet),
            ("/health/ready", self.ready, ReadinessBody, errors(_UNHEARD, ailing=ReadinessBody)),
            ("/health/resilience", self.resilience, ResilienceBody, unheard),
            ("/api/v1/status", self.status, StatusBody, unheard),
            ("/api/v1/circuit-breakers", self.breakers, BreakersBody, unheard),
            (
                "/api/v1/circuit-breakers/{name}",
                self.breaker,
                BreakerBody,
                # This one names the model, so that the others can refer to it.
                {**errors({**_UNHEARD, **_UNKNOWN}), 404: _NOT_THERE},
            ),
        ):
            router.add_api_route(path, route, response_model=model, responses=responses)

    async def index(self) -> Response:
        """List the routes."""
        paths = [
            "/health", "/health/live", "/health/ready", "/health/resilience", "/metrics",
            "/api/v1/status", "/api/v1/circuit-breakers", "/openapi.json",
        ]  # fmt: skip
        links = "".join(f'<li><a href="{path}">{path}</a></li>' for path in paths)
        title = html.escape(f"{self.service} · Forebay {self.version}")
        return HTMLResponse(
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
            f"<h1>{title}</h1><ul>{links}</ul></html>"
        )

    async def live(self) -> Response:
        """Say that this process answers; it is asked by whoever would restart it."""
        return _json(
            LivenessBody(
                service=self.service,
                timestamp=schema_shown.moment(self.clock.wall_ns()),
                version=self.version,
            )
        )

    async def ready(self) -> Response:
        """Say whether the system can do its job: 503 if not, with the reason."""
        report = await self._report()
        body = schema_shown.readiness_body(report, self.service)
        return _json(body, 503 if report.not_ready else 200)

    async def health(self) -> Response:
        """Summarise: 200 if healthy or degraded, 503 if critical or emergency."""
        report = await self._report()
        body = schema_shown.health_body(report, self.service, self.version)
        return _json(body, 503 if report.health.state in _AILING else 200)

    async def resilience(self) -> Response:
        """Tell everything that is known of health, whatever it is."""
        return _json(schema_shown.resilience_body(await self._report(), self.service))

    async def exposition(self, request: Request) -> Response:
        """Answer the metrics in the text format of Prometheus, or as OpenMetrics if accepted."""
        wanted = ",".join(request.headers.getlist("accept"))
        body, kind = self.metrics(await self._report(), wanted)
        return Response(body, headers={"content-type": kind, "vary": "accept"})

    async def status(self) -> Response:
        """Tell what ``forebay status`` prints."""
        return _json(schema_shown.status_body(await self._report(), self.service, self.version))

    async def breakers(self) -> Response:
        """List all breakers by name."""
        report = await self._report()
        shown = [schema_shown.breaker_body(breaker) for breaker in report.breakers()]
        at = schema_shown.moment(report.at_ns)
        return _json(BreakersBody(service=self.service, timestamp=at, breakers=shown))

    async def breaker(self, name: str) -> Response:
        """Tell all of one breaker."""
        found = (await self._report()).breakers()
        for breaker in found:
            if breaker.name == name:
                return _json(schema_shown.breaker_body(breaker))
        hint = near(name[:200], [breaker.name for breaker in found])
        raise Refusal(404, "unknown-name", f"There is no breaker {clean(name, 100)!r}.", hint=hint)

    async def _report(self) -> SystemReport:
        try:
            async with asyncio.timeout(REPORT_S):
                return await self.system.report()
        except TimeoutError as error:
            message = f"The system did not report in {REPORT_S:.0f} s."
            hint = "/health/live says whether this process answers at all."
            raise Refusal(503, "unavailable", message, hint=hint) from error
        except ForebayError as error:
            raise Refusal(503, "unavailable", error.message, hint=error.hint) from error
        except Exception as error:
            # Whoever looks at health must be told that nothing is known, whatever the error is.
            _log.exception("The system could not report.")
            message = f"The system could not report: {type(error).__name__}."
            raise Refusal(503, "unavailable", message, hint="The log has more.") from error


def _json(body: BaseModel, status: int = 200) -> Response:
    # A field that is not there is left out only where it is optional: see HealthBody.
    left_out = isinstance(body, HealthBody)
    return Response(
        body.model_dump_json(exclude_none=left_out), status, media_type="application/json"
    )


_UNKNOWN_HOST = {421: "A name in the Host header, over loopback."}
_UNHEARD = {**_UNKNOWN_HOST, 503: "The system did not report in time."}
_UNKNOWN = {422: "The path is not what it must be."}
_NOT_THERE = {"model": ErrorBody, "description": "There is no such breaker."}


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)  # noqa: S101 - registered for these
    tell_audit(request.scope, error.audit)
    return error.response()


async def _not_routed(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    hint = "/openapi.json lists all routes."
    known = {
        404: ("unknown-route", "There is nothing here."),
        405: ("wrong-method", "This route has other methods."),
    }
    if error.status_code in known:
        word, message = known[error.status_code]
        allowed = {each.strip() for each in (error.headers or {}).get("Allow", "").split(",")}
        allowed |= {"HEAD"} if "GET" in allowed else set()  # see the guard
        headers = {"Allow": ", ".join(sorted(allowed))} if error.headers else None
        refusal = Refusal(error.status_code, word, message, hint=hint, headers=headers)
    else:  # a body that is no JSON in a way that no JSON reader names
        refusal = Refusal(422, "invalid-body", "The body is no JSON.", hint=hint)
    return await _refused(request, refusal)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    found = []
    for problem in error.errors()[:5]:
        where = ".".join(step for step in problem["loc"][1:] if isinstance(step, str))
        found.append(f"{clean(where, 60)}: {problem['msg']}" if where else problem["msg"])
    hint = "Send JSON with Content-Type: application/json, as /openapi.json says."
    # What was sent is for whoever sent it, not for the log.
    message, audit = "; ".join(found), "The body is not what it must be."
    return await _refused(request, Refusal(422, "invalid-body", message, hint=hint, audit=audit))
