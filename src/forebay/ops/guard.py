"""What stands before every route: who may ask, how much they may send, and the audit log.

Every answer that is not what was asked for has one shape, :class:`~forebay.ops.schema.ErrorBody`.
A call of administration is admitted in this order: the Host header, the token, the size of its
body. Only then is a route looked for, so that without the token nothing can be learnt.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from forebay.clock import Clock
from forebay.ops.guard_checks import (
    Gate,
    Gone,
    Incoming,
    Refusal,
    check_host,
    clean,
    in_origin_form,
)
from forebay.telemetry import AdminCalled, Observer

_CALL = "forebay.admin_call"
_ROUTE = re.compile(
    r"/admin/(?:circuit-breaker/(?P<name>[^/]+)/(?P<breaker>force-open|reset|config)"
    r"|resilience/(?P<all>force-recovery)|config/(?P<reload>reload))",
    re.DOTALL,
)
_HEADERS = [
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'"),
    (b"x-content-type-options", b"nosniff"),
    # One request a connection: whoever holds one open longer than that is not waited for.
    (b"connection", b"close"),
]
_log = logging.getLogger("forebay.ops")


# ------------------------------------------------------------------- the audit log


@dataclass
class AdminCall:
    """One call of administration, as the audit log will tell it."""

    action: str
    target: str
    client: str
    status: int = 0
    detail: str = ""

    @classmethod
    def of(cls, scope: Scope) -> AdminCall:
        """Begin one; what no route is for has the action ``unknown``."""
        client = scope.get("client")
        found = _ROUTE.fullmatch(scope["path"])
        named = found.groupdict() if found else {}
        action = named.get("breaker") or named.get("all") or named.get("reload") or "unknown"
        return cls(
            action="configure" if action == "config" else action,
            target=clean(named.get("name") or ("" if found else scope["path"])),
            client=_address(*client) if client else "unknown",
        )

    def happening(self) -> AdminCalled:
        """Answer it as what is told to the observer."""
        return AdminCalled(
            self.action, clean(self.target), self.client, self.status, clean(self.detail)
        )


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def admin_call(scope: Scope) -> AdminCall:
    """Answer the call that a route serves; KeyError if it did not come through the guard."""
    call: AdminCall = scope[_CALL]
    return call


def tell_audit(scope: Scope, detail: str) -> None:
    """Say in the audit log what came of a call; other routes have no such log."""
    if _CALL in scope:
        scope[_CALL].detail = detail


# --------------------------------------------------------------------- all of it


class Guard:
    """Middleware before all routes; it tells the observer of each admin call exactly once."""

    def __init__(
        self, app: ASGIApp, *, token: Callable[[], str | None], clock: Clock, observer: Observer
    ) -> None:
        self._app = app
        self._gate = Gate(token, clock)
        self._observer = observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http":
            scope = in_origin_form(scope)
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["path"] == "/admin" or scope["path"].startswith("/admin/"):
            await self._admin(scope, receive, _Answer(send))
        else:
            head = scope["method"] == "HEAD"  # asked by checks that want the status alone
            asked = {**scope, "method": "GET"} if head else scope
            await self._routed(asked, receive, _Answer(send, silent=head))

    async def _admin(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        call = AdminCall.of(scope)
        try:
            await self._routed({**scope, _CALL: call}, receive, answer)
        except Gone as gone:
            call.detail = gone.message
        finally:
            call.status = answer.status
            self._observer(call.happening())

    async def _routed(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        incoming = Incoming(receive)
        try:
            check_host(scope)
            if _CALL in scope:
                self._gate.check(scope)
                receive = _once(await incoming.whole(scope), receive)
            await self._app(scope, receive, answer)
        except Refusal as refusal:
            tell_audit(scope, refusal.audit)
            answer.open = incoming.more
            await refusal.response()(scope, receive, answer)
            await incoming.forget()
            await answer.end()
        except Gone:
            raise
        except Exception:
            if answer.status:
                raise
            _log.exception("A route raised.")
            tell_audit(scope, "An error of ours.")
            ours = Refusal(500, "internal", "An error of ours.", hint="The log has it: report it.")
            await ours.response()(scope, receive, answer)


class _Answer:
    """Sends an answer with the headers that all have, and remembers its status."""

    def __init__(self, send: Send, *, silent: bool = False) -> None:
        self._send = send
        self._silent = silent
        self.status = 0
        """0 until something is answered."""
        self.open = False
        """Whether the end of the answer waits for :meth:`end`."""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": [*message.get("headers", []), *_HEADERS]}
        elif self._silent:
            message = {**message, "body": b""}
        if self.open and message["type"] == "http.response.body":
            message = {**message, "more_body": True}
        await self._send(message)

    async def end(self) -> None:
        """End an answer that was kept open; it is whole already."""
        if self.open:
            self.open = False
            await self({"type": "http.response.body", "body": b""})


def _once(body: bytes, receive: Receive) -> Receive:
    """Answer a ``receive`` that gives a body which was read already, and then goes on."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
