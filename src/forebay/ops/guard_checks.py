"""What a request must be to be served (Host, token, size), and what it is told if it is not."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import math
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope

from forebay.clock import Clock
from forebay.errors import ForebayError, Permanent
from forebay.ops.schema import ErrorBody

BODY_LIMIT = 16 << 10
"""Bytes of a request's body."""
FORGET_BYTES = 1 << 20
FORGET_S = 1.0
"""So much of a refused body is still read, and thrown away."""
GUESSES = 20
GUESS_WINDOW_S = 60
"""So many wrong tokens in so many seconds, and an address has to wait."""
_ADDRESSES = 1024
_DIGITS = 9
_TEXT_LIMIT = 300
_ANSWER_LIMIT = 2000


class Refusal(Permanent):
    """A request that is answered with an error; ``audit`` is what the audit log says of it."""

    def __init__(
        self,
        status: int,
        error: str,
        message: str,
        *,
        hint: str = "",
        headers: Mapping[str, str] | None = None,
        audit: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.error = error
        self.headers = headers
        self.audit = message if audit is None else audit

    def response(self) -> Response:
        """Answer it as JSON."""
        told = clean(self.message, _ANSWER_LIMIT), clean(self.hint, _ANSWER_LIMIT)
        body = ErrorBody(error=self.error, message=told[0], hint=told[1])
        return Response(
            body.model_dump_json(), self.status, self.headers, media_type="application/json"
        )


def clean(text: str, limit: int = _TEXT_LIMIT) -> str:
    """Answer text as one bounded line: what does not print, a new line first, becomes a space."""
    line = "".join(char if char.isprintable() else " " for char in text[: limit + 1])
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


# ------------------------------------------------------------------------- the Host


def in_origin_form(scope: Scope) -> Scope:
    """Return a request for ``http://HOST/PATH`` as the one for ``/PATH`` at that host that it is.

    Its Host header counts no more (RFC 9112, section 3.2.2).
    """
    scheme, separator, rest = scope["path"].partition("://")
    if not separator or scheme.lower() not in ("http", "https"):
        return scope
    host, slash, path = rest.partition("/")
    headers = [each for each in scope["headers"] if each[0] != b"host"]
    named = (b"host", host.rpartition("@")[2].encode("latin-1", "replace"))
    raw = scope.get("raw_path", b"").partition(b"://")[2].partition(b"/")[2]
    return {
        **scope,
        "path": slash + path or "/",
        "raw_path": b"/" + raw,
        "headers": [*headers, named],
    }


def check_host(scope: Scope) -> None:
    """Refuse a name in the Host header if the connection came over loopback.

    A page in a browser can have its own name resolve to 127.0.0.1 and then read our answers as
    its own. It cannot choose an address as its name, nor ``localhost``.

    Raises :class:`Refusal`.
    """
    server = scope.get("server")
    if server is None or not _is_loopback(server[0]):
        return
    for host in _header(scope, b"host"):
        name = _without_port(host.decode("latin-1"))
        if name.lower().rstrip(".") != "localhost" and not _is_address(name):
            raise Refusal(
                421,
                "unknown-host",
                "Over loopback only localhost and addresses are answered, not other names.",
                hint="Ask for http://127.0.0.1 or http://localhost; a proxy must set Host so.",
            )


def _header(scope: Scope, name: bytes) -> list[bytes]:
    return [value for key, value in scope["headers"] if key == name]


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

    def check(self, scope: Scope) -> None:
        """Refuse a call without the token. Raises :class:`Refusal`."""
        expected = self._expected()
        address = scope["client"][0] if scope.get("client") else ""
        if (wait_s := self._wait_s(address)) > 0:
            raise Refusal(
                429,
                "too-many-guesses",
                f"{GUESSES} wrong tokens came from this address.",
                hint=f"Try again in {wait_s} s.",
                headers={"retry-after": str(wait_s)},
            )
        given = bearer(_header(scope, b"authorization"))
        if given is None:
            raise Refusal(
                401,
                "no-token",
                "Administration needs a bearer token.",
                hint="Send the header Authorization: Bearer TOKEN, once.",
                headers={"www-authenticate": 'Bearer realm="forebay"'},
            )
        if not hmac.compare_digest(given, expected):
            self._wrong(address)
            raise Refusal(
                403, "wrong-token", "The token is wrong.", hint="Compare it with http.token_file."
            )

    def _expected(self) -> bytes:
        try:
            expected = self._token()
        except (ForebayError, OSError) as error:
            raise Refusal(
                503, "no-token-file", "The token cannot be read.", hint="Look at http.token_file."
            ) from error
        if not expected:
            raise Refusal(
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
    """Answer the token of the one Authorization header, None if there is none in it."""
    if len(values) != 1:
        return None
    scheme, _, given = values[0].partition(b" ")
    return given.strip() or None if scheme.lower() == b"bearer" else None


# ------------------------------------------------------------------------- the body


class Gone(Permanent):
    """The client hung up before it had sent its request."""


def _is_too_large(size: bytes) -> bool:
    # Python refuses to read a number of very many digits.
    return size.isdigit() and (len(size) > _DIGITS or int(size) > BODY_LIMIT)


class Incoming:
    """A request's body while it comes in."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.more = True
        """Whether there is something to wait for."""

    async def part(self) -> bytes:
        """Answer the next part. Raises :class:`Gone`."""
        message = await self._receive()
        self.more = message.get("more_body", False)
        if message["type"] == "http.disconnect":
            raise Gone("The client hung up.")
        body: bytes = message.get("body", b"")
        return body

    async def whole(self, scope: Scope) -> bytes:
        """Answer all of it, unless it is too large.

        Raises :class:`Refusal`, and :class:`Gone`.
        """
        fits = not any(_is_too_large(size) for size in _header(scope, b"content-length"))
        body = bytearray()
        while fits and self.more:
            body += await self.part()
            fits = len(body) <= BODY_LIMIT
        if fits:
            return bytes(body)
        raise Refusal(
            413, "too-large", f"The body has more than {BODY_LIMIT} bytes.", hint="Send less."
        )

    async def forget(self) -> None:
        """Read on for a while and keep nothing, after the answer.

        To close with unread bytes resets the connection, and a client that is still sending may
        then never see what it was answered.
        """
        read = 0
        with contextlib.suppress(Gone, TimeoutError):
            async with asyncio.timeout(FORGET_S):
                while self.more and read < FORGET_BYTES:
                    read += len(await self.part())
