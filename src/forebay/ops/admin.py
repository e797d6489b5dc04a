"""The routes of administration: one command each, one at a time.

Whoever comes here has the token: see :mod:`forebay.ops.guard`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from fastapi import APIRouter, Depends, Request
from fastapi.security import HTTPBearer
from starlette.responses import Response

from forebay.errors import ConfigError, ForebayError
from forebay.ops.guard import admin_call
from forebay.ops.guard_checks import BODY_LIMIT, Refusal, clean
from forebay.ops.schema import Asked, ConfigureBody, DoneBody, RecoverBody, errors
from forebay.ops.view import Action, Command, Outcome, System, UnknownName

COMMAND_S = 10.0
"""A command that is not carried out in this time is answered with 503."""

_REFUSED = {
    401: "No token.",
    403: "The token is wrong, or administration is off.",
    413: f"The body has more than {BODY_LIMIT} bytes.",
    421: "A name in the Host header, over loopback.",
    422: "The body is not what it must be, or cannot be carried out.",
    429: "Too many wrong tokens.",
    503: "A process does not answer.",
}
_UNKNOWN = {404: "There is no such breaker."}


@dataclass(frozen=True)
class Admin:
    """The routes below ``/admin``."""

    system: System
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def add_to(self, router: APIRouter) -> None:
        """Add them."""
        token = HTTPBearer(auto_error=False, description="The text in http.token_file.")
        breaker = "/admin/circuit-breaker/{name}"
        for method, path, route, codes in (
            ("POST", f"{breaker}/force-open", self.force_open, _REFUSED | _UNKNOWN),
            ("POST", f"{breaker}/reset", self.reset, _REFUSED | _UNKNOWN),
            ("PUT", f"{breaker}/config", self.configure, _REFUSED | _UNKNOWN),
            ("POST", "/admin/resilience/force-recovery", self.force_recovery, _REFUSED | _UNKNOWN),
            ("POST", "/admin/config/reload", self.reload, _REFUSED),
        ):
            router.add_api_route(
                path,
                route,
                methods=[method],
                tags=["admin"],
                dependencies=[Depends(token)],
                response_model=DoneBody,
                responses=errors(codes),
            )

    async def force_open(self, request: Request, name: str, body: Asked | None = None) -> Response:
        """Open a breaker: every call is refused until it is reset or recovery is forced."""
        return await self._do(request, Action.FORCE_OPEN, name, body)

    async def reset(self, request: Request, name: str, body: Asked | None = None) -> Response:
        """Close a breaker and forget its failures."""
        return await self._do(request, Action.RESET, name, body)

    async def configure(self, request: Request, name: str, body: ConfigureBody) -> Response:
        """Change thresholds of one breaker until the next start or reload; what it knows stays."""
        settings = body.settings()
        if not settings:
            raise Refusal(422, "invalid-body", "No threshold is given.", hint="Name one at least.")
        return await self._do(request, Action.CONFIGURE, name, body, settings)

    async def force_recovery(self, request: Request, body: RecoverBody | None = None) -> Response:
        """Let probes through at once: of the breaker that is named, or of all that are open."""
        return await self._do(request, Action.FORCE_RECOVERY, body.name if body else "", body)

    async def reload(self, request: Request, body: Asked | None = None) -> Response:
        """Read the configuration again, as SIGHUP does."""
        return await self._do(request, Action.RELOAD, "", body)

    async def _do(
        self,
        request: Request,
        action: Action,
        target: str,
        body: Asked | None,
        settings: dict[str, float | int] | None = None,
    ) -> Response:
        call = admin_call(request.scope)
        call.target = target
        reason = clean(body.reason, 200).strip() if body else ""
        outcome = await self._outcome(Command(action, target, reason, settings or {}))
        given = [f"{key}={value}" for key, value in (settings or {}).items()]
        because = [f"Reason: {reason}"] if reason else []
        call.detail = " ".join([clean(outcome.detail, 150), *given, *because])
        done = DoneBody(changed=list(outcome.changed), detail=outcome.detail)
        return Response(done.model_dump_json(), media_type="application/json")

    async def _outcome(self, command: Command) -> Outcome:
        begun = False
        try:
            async with asyncio.timeout(COMMAND_S), self.lock:
                begun = True
                return await self.system.command(command)
        except UnknownName as error:
            raise Refusal(404, "unknown-name", error.message, hint=error.hint) from error
        except ConfigError as error:
            raise Refusal(422, "cannot-be", error.message, hint=error.hint) from error
        except TimeoutError as error:
            state = "It may have been carried out." if begun else "Nothing was changed."
            hint = "Look at /health/resilience." if begun else "Try again."
            message = f"The command did not end in {COMMAND_S:.0f} s. {state}"
            raise Refusal(503, "unavailable", message, hint=hint) from error
        except ForebayError as error:
            raise Refusal(503, "unavailable", error.message, hint=error.hint) from error
