"""The routes of administration: one command each, one at a time.

Whoever comes here has the token: see :mod:`forebay.ops.guard`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

from forebay.errors import ConfigError, ForebayError
from forebay.ops.calls import Call, RequestRefused, Response, clean
from forebay.ops.guard import BODY_LIMIT
from forebay.ops.openapi import Route
from forebay.ops.schema import ConfigureBody, RecoverBody, RequestBody
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
_NAMING = {**_REFUSED, 404: "There is no such breaker."}


@dataclass(frozen=True)
class Admin:
    """The routes below ``/admin``."""

    system: System
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def routes(self) -> Iterator[Route]:
        """Return them."""
        breaker = "/admin/circuit-breaker/{name}"
        recovery = "/admin/resilience/force-recovery"
        for method, path, handle, codes, takes in (
            ("POST", f"{breaker}/force-open", self.force_open, _NAMING, RequestBody),
            ("POST", f"{breaker}/reset", self.reset, _NAMING, RequestBody),
            ("PUT", f"{breaker}/config", self.configure, _NAMING, ConfigureBody),
            ("POST", recovery, self.force_recovery, _NAMING, RecoverBody),
            ("POST", "/admin/config/reload", self.reload, _REFUSED, RequestBody),
        ):
            required = takes is ConfigureBody
            yield Route(method, path, handle, Outcome, codes, takes=takes, required=required)

    async def force_open(self, call: Call, name: str, body: RequestBody | None) -> Response:
        """Open a breaker: every call is refused until it is reset or recovery is forced."""
        return await self._do(call, Action.FORCE_OPEN, name, body)

    async def reset(self, call: Call, name: str, body: RequestBody | None) -> Response:
        """Close a breaker and forget its failures."""
        return await self._do(call, Action.RESET, name, body)

    async def configure(self, call: Call, name: str, body: ConfigureBody) -> Response:
        """Change thresholds of one breaker until the next start or reload; what it knows stays."""
        settings = body.settings()
        if not settings:
            raise RequestRefused(
                422, "invalid-body", "No threshold is given.", hint="Name one at least."
            )
        return await self._do(call, Action.CONFIGURE, name, body, settings)

    async def force_recovery(self, call: Call, body: RecoverBody | None) -> Response:
        """Let probes through at once: of the breaker that is named, or of all that are open."""
        return await self._do(call, Action.FORCE_RECOVERY, body.name if body else "", body)

    async def reload(self, call: Call, body: RequestBody | None) -> Response:
        """Read the configuration again, as SIGHUP does."""
        return await self._do(call, Action.RELOAD, "", body)

    async def _do(
        self,
        call: Call,
        action: Action,
        target: str,
        body: RequestBody | None,
        settings: dict[str, float | int] | None = None,
    ) -> Response:
        if not call.admitted:  # if the guard were ever taken away, this would be closed, not open
            raise PermissionError
        call.target = target
        reason = clean(body.reason, 200).strip() if body else ""
        outcome = await self._outcome(Command(action, target, reason, settings or {}))
        given = [f"{key}={value}" for key, value in (settings or {}).items()]
        because = [f"Reason: {reason}"] if reason else []
        call.audit = " ".join([clean(outcome.detail, 150), *given, *because])
        return Response.json(outcome)

    async def _outcome(self, command: Command) -> Outcome:
        begun = False
        try:
            async with asyncio.timeout(COMMAND_S), self.lock:
                begun = True
                return await self.system.command(command)
        except UnknownName as error:
            raise RequestRefused(404, "unknown-name", error.message, hint=error.hint) from error
        except ConfigError as error:
            raise RequestRefused(422, "cannot-be", error.message, hint=error.hint) from error
        except TimeoutError as error:
            state = "It may have been carried out." if begun else "Nothing was changed."
            hint = "Look at /health/resilience." if begun else "Try again."
            message = f"The command did not end in {COMMAND_S:.0f} s. {state}"
            raise RequestRefused(503, "unavailable", message, hint=hint) from error
        except ForebayError as error:
            raise RequestRefused(503, "unavailable", error.message, hint=error.hint) from error
