"""A request as it comes in, and what it is answered with; nothing here knows who carries them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote

import msgspec

from forebay.errors import Permanent
from forebay.ops.schema import ErrorBody

_TEXT_LIMIT = 300
_ANSWER_LIMIT = 2000
JSON = "application/json"


class Gone(Permanent):
    """The client hung up before it had sent its request."""


@dataclass(frozen=True)
class Response:
    """What is sent back."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, body: object, status: int = 200, **headers: str) -> Response:
        """Return one of a type that msgspec encodes."""
        return cls(msgspec.json.encode(body), status, {"content-type": JSON, **headers})


@dataclass
class Call:
    """One request."""

    method: str
    path: str
    """Decoded, and without the query."""
    headers: Sequence[tuple[bytes, bytes]]
    """Names in lower case."""
    client: tuple[str, int] | None
    server: str | None
    """The address to which it came."""
    read: Callable[[], Awaitable[bytes]]
    """Returns the next part of the body, nothing at its end. Raises :class:`Gone`."""
    body: bytes = b""
    """All of it, once it was let in."""
    admitted: bool = False
    """Whether it has shown the token of administration."""
    audit: str = ""
    """What came of it, for the audit log."""
    target: str | None = None
    """What is commanded, if the path does not say it."""

    def header(self, name: bytes) -> list[bytes]:
        """Return every value of a header; ``name`` is in lower case."""
        return [value for key, value in self.headers if key == name]


def address(host: str, port: int) -> str:
    """Return a host and a port as a URL has them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def in_origin_form(
    target: str, headers: Sequence[tuple[bytes, bytes]]
) -> tuple[str, Sequence[tuple[bytes, bytes]]]:
    """Return the path of a request's target, decoded, and the headers that count.

    A request for ``http://HOST/PATH`` is the one for ``/PATH`` at that host, whatever its Host
    header says (RFC 9112, section 3.2.2).
    """
    path = target.partition("?")[0]
    scheme, separator, rest = path.partition("://")
    if separator and scheme.lower() in ("http", "https"):
        host, slash, path = rest.partition("/")
        path = slash + path or "/"
        named = (b"host", host.rpartition("@")[2].encode("latin-1", "replace"))
        headers = [*(each for each in headers if each[0] != b"host"), named]
    return unquote(path), headers


class RequestRefused(Permanent):
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
        self.headers = headers or {}
        self.audit = message if audit is None else audit

    def answer(self) -> Response:
        """Return it as JSON."""
        message, hint = clean(self.message, _ANSWER_LIMIT), clean(self.hint, _ANSWER_LIMIT)
        body = ErrorBody(error=self.error, message=message, hint=hint)
        return Response.json(body, self.status, **self.headers)


def clean(text: str, limit: int = _TEXT_LIMIT) -> str:
    """Return text as one bounded line: what does not print, a new line first, becomes a space."""
    line = "".join(char if char.isprintable() else " " for char in text[: limit + 1])
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
