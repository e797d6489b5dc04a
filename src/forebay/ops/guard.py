"""What stands before every route: who may ask, how much they may send, and the audit log.

Every answer that is not what was asked for has one shape, :class:`~forebay.ops.schema.ErrorBody`.
A call of administration is admitted in this order: the Host header, the token, the size of its
body. Only then is a route looked for, so that without the token nothing can be learnt.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from forebay.clock import Clock
from forebay.ops.calls import Call, Gone, RequestRefused, Response, clean
from forebay.ops.guard_checks import Gate, check_host, decoded, whole_body
from forebay.ops.openapi import ADMIN, Route
from forebay.telemetry import AdminCalled, Observer

HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
    "x-content-type-options": "nosniff",
    # One request a connection: whoever holds one open longer than that is not waited for.
    "connection": "close",
}
_log = logging.getLogger("forebay.ops")


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Guard:
    """All routes, and the only way to them; it tells the observer of each admin call once."""

    def __init__(
        self,
        routes: Sequence[Route],
        *,
        token: Callable[[], str | None],
        clock: Clock,
        observer: Observer,
    ) -> None:
        self.routes = routes
        self._gate = Gate(token, clock)
        self._observer = observer

    async def __call__(self, call: Call) -> Response:
        """Return the answer to one request. Raises :class:`~forebay.ops.calls.Gone`."""
        admin = f"{call.path}/".startswith(ADMIN)
        status = 0
        try:
            answer = await self._answer(call, admin=admin)
            status = answer.status
        except Gone as gone:
            call.audit = gone.message
            raise
        finally:
            if admin:
                self._observer(self.audited(call, status))
        return replace(answer, headers={**answer.headers, **HEADERS})

    async def _answer(self, call: Call, *, admin: bool) -> Response:
        try:
            check_host(call)
            if admin:
                self._gate.check(call)
                call.admitted = True
                call.body = await whole_body(call)
            return await self._routed(call, admin=admin)
        except Gone:
            raise
        except RequestRefused as refusal:
            call.audit = refusal.audit
            return refusal.answer()
        except Exception:  # noqa: BLE001 - whoever asks must be answered, whatever it is
            _log.exception("A route raised.")
            call.audit = "An error of ours."
            hint = "The log has it: report it."
            return RequestRefused(500, "internal", call.audit, hint=hint).answer()

    def _found(self, path: str) -> dict[str, tuple[Route, dict[str, str]]]:
        """Return by method the routes of a path, with what the path names."""
        found = ((route, route.pattern.fullmatch(path)) for route in self.routes)
        return {route.method: (route, match.groupdict()) for route, match in found if match}

    async def _routed(self, call: Call, *, admin: bool) -> Response:
        # HEAD is asked by checks that want the status alone.
        method = "GET" if call.method == "HEAD" and not admin else call.method
        found = self._found(call.path)
        hint = "/openapi.json lists all routes."
        if not found:
            raise RequestRefused(404, "unknown-route", "There is nothing here.", hint=hint)
        if method not in found:
            allowed = {"allow": ", ".join([*found, *(["HEAD"] if "GET" in found else [])])}
            message = "This route has other methods."
            raise RequestRefused(405, "wrong-method", message, hint=hint, headers=allowed)
        route, named = found[method]
        if route.takes is None:
            return await route.handle(call, **named)
        kinds = call.header(b"content-type")
        body = decoded(call.body, kinds, route.takes, required=route.required)
        return await route.handle(call, **named, body=body)

    def audited(self, call: Call, status: int) -> AdminCalled:
        """Return a call as the audit log tells it; what no route is for is ``unknown``."""
        action, target = "unknown", call.path
        for route, named in self._found(call.path).values():
            action = route.handle.__name__.replace("_", "-")
            target = named.get("name", "") if call.target is None else call.target
        client = _address(*call.client) if call.client else "unknown"
        return AdminCalled(action, clean(target), client, status, clean(call.audit))
