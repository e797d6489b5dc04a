"""What stands before every route: who may ask, how much they may send, and the audit log.

Every answer that is not what was asked for has one shape, :class:`~forebay.ops.schema.ErrorBody`.
A call of administration is admitted in this order: the Host header, the token, the size of its
body. Only then is a route looked for, so that without the token nothing can be learnt.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
import math
import re
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec

from forebay.clock import Clock
from forebay.errors import ForebayError
from forebay.ops.calls import Call, Gone, RequestRefused, Response, address, clean
from forebay.ops.openapi import ADMIN, Route
from forebay.ops.schema import RequestBody
from forebay.telemetry import AdminCalled, Observer

HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
    "x-content-type-options": "nosniff",
    # One request a connection: whoever holds one open longer than that is not waited for.
    "connection": "close",
}
BODY_LIMIT = 16 << 10
"""Bytes of a request's body."""
GUESSES = 20
GUESS_WINDOW_S = 60
"""So many wrong tokens in so many seconds, and an address has to wait."""
_ADDRESSES = 1024
_DIGITS = 9
_JSON = re.compile(rb"\s*application/(\S+\+)?json\s*(;.*)?", re.IGNORECASE | re.DOTALL)
_log = logging.getLogger("forebay.ops")


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
        client = address(*call.client) if call.client else "unknown"
        return AdminCalled(action, clean(target), client, status, clean(call.audit))


# ------------------------------------------------------------------------- the Host


def check_host(call: Call) -> None:
    """Refuse a name in the Host header if the connection came over loopback.

    A page in a browser can have its own name resolve to 127.0.0.1 and then read our answers as
    its own. It cannot choose an address as its name, nor ``localhost``.

    Raises :class:`RequestRefused`.
    """
    if call.server is None or not _is_loopback(call.server):
        return
    for host in call.header(b"host"):
        name = _without_port(host.decode("latin-1"))
        if name.lower().rstrip(".") != "localhost" and not _is_address(name):
            raise RequestRefused(
                421,
                "unknown-host",
                "Over loopback only localhost and addresses are answered, not other names.",
                hint="Ask for http://127.0.0.1 or http://localhost; a proxy must set Host so.",
            )


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(name: str) -> bool:
    return _is_address(name) and ipaddress.ip_address(name).is_loopback


# ------------------------------------------------------------------------ the token


class Gate:
    """Whether a call has the token; ``token`` answers the one that holds now, None is off."""

    def __init__(self, token: Callable[[], str | None], clock: Clock) -> None:
        self._token = token
        self._clock = clock
        self._guesses: OrderedDict[str, deque[int]] = OrderedDict()

    def check(self, call: Call) -> None:
        """Refuse a call without the token. Raises :class:`RequestRefused`."""
        expected = self._expected()
        address = call.client[0] if call.client else ""
        if (wait_s := self._wait_s(address)) > 0:
            raise RequestRefused(
                429,
                "too-many-guesses",
                f"{GUESSES} wrong tokens came from this address.",
                hint=f"Try again in {wait_s} s.",
                headers={"retry-after": str(wait_s)},
            )
        given = bearer(call.header(b"authorization"))
        if given is None:
            raise RequestRefused(
                401,
                "no-token",
                "Administration needs a bearer token.",
                hint="Send the header Authorization: Bearer TOKEN, once.",
                headers={"www-authenticate": 'Bearer realm="forebay"'},
            )
        if not hmac.compare_digest(given, expected):
            self._wrong(address)
            raise RequestRefused(
                403, "wrong-token", "The token is wrong.", hint="Compare it with http.token_file."
            )

    def _expected(self) -> bytes:
        try:
            expected = self._token()
        except (ForebayError, OSError) as error:
            raise RequestRefused(
                503, "no-token-file", "The token cannot be read.", hint="Look at http.token_file."
            ) from error
        if not expected:
            raise RequestRefused(
                403,
                "admin-off",
                "Administration is off: no token is configured.",
                hint="Set http.token_file to a file with a long random text, and reload.",
            )
        return expected.encode("utf-8", "surrogateescape")

    def _wait_s(self, address: str) -> int:
        guesses = self._guesses.get(address)
        if guesses is None or len(guesses) < GUESSES:
            return 0
        passed_s = (self._clock.monotonic_ns() - guesses[0]) / 1e9
        return max(0, math.ceil(GUESS_WINDOW_S - passed_s))

    def _wrong(self, address: str) -> None:
        guesses = self._guesses.setdefault(address, deque(maxlen=GUESSES))
        guesses.append(self._clock.monotonic_ns())
        self._guesses.move_to_end(address)
        while len(self._guesses) > _ADDRESSES:
            self._guesses.popitem(last=False)


def bearer(values: list[bytes]) -> bytes | None:
    """Return the token of the one Authorization header, None if there is none in it."""
    if len(values) != 1:
        return None
    scheme, _, given = values[0].partition(b" ")
    return given.strip() or None if scheme.lower() == b"bearer" else None


# ------------------------------------------------------------------------- the body


def _is_too_large(size: bytes) -> bool:
    # Python refuses to read a number of very many digits.
    return size.isdigit() and (len(size) > _DIGITS or int(size) > BODY_LIMIT)


async def whole_body(call: Call) -> bytes:
    """Return all of a body, unless it is too large.

    Raises :class:`RequestRefused`, and :class:`~forebay.ops.calls.Gone`.
    """
    fits = not any(_is_too_large(size) for size in call.header(b"content-length"))
    body = bytearray()
    while fits and (part := await call.read()):
        body += part
        fits = len(body) <= BODY_LIMIT
    if fits:
        return bytes(body)
    raise RequestRefused(
        413, "too-large", f"The body has more than {BODY_LIMIT} bytes.", hint="Send less."
    )


def decoded(
    body: bytes, kinds: list[bytes], wanted: type[RequestBody], *, required: bool
) -> RequestBody | None:
    """Return a request's body of one ``Content-Type`` as what the route takes, None for nothing.

    Raises :class:`RequestRefused`.
    """
    message = "The body is no JSON."
    if not body and not required:
        return None
    if kinds and _JSON.fullmatch(kinds[0]):
        try:
            return msgspec.json.decode(body, type=wanted if required else wanted | None)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            message = str(error)
    # What was sent is for whoever sent it, not for the log.
    raise RequestRefused(
        422,
        "invalid-body",
        message,
        hint="Send JSON with Content-Type: application/json, as /openapi.json says.",
        audit="The body is not what it must be.",
    )
