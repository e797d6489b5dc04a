"""A REST client that somebody waits for: tried again, paced, behind a breaker, bounded in size.

A call is retries around the address's budget around a breaker around one try. Errors of the network
and of HTTP become ours inside all of them: :class:`~forebay.errors.Unreachable` if the venue did
not answer, :class:`RetryLater` if it asked us to, :class:`~forebay.errors.Permanent` if asking
again cannot help. The first two count against the venue; the third says nothing about it.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Self

import aiohttp
from yarl import URL

from forebay.errors import ConfigError, Permanent, Transient, Unreachable
from forebay.resilience import (
    AttemptTimeout,
    CircuitBreaker,
    RateLimited,
    Retry,
    RetryBudget,
    RetryConfig,
    presets,
)
from forebay.resilience.backoff import parse_retry_after
from forebay.sources.proxies import proxy_for
from forebay.sources.rest.budget import Budget
from forebay.sources.venue import Limits
from forebay.telemetry import CallRetried, Observer, RestRetried, ignore

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping

    from forebay.clock import Clock
    from forebay.telemetry import TelemetryEvent

_CHUNK = 64 << 10
_PROXY_ASKS = 407
_SHOWN = 200
"""How much of an error's body its message repeats."""
_RETRIED = frozenset({408, 425})
"""Beside those of :attr:`~forebay.sources.venue.Limits.silencing`."""


class RetryLater(Transient):
    """The venue cannot answer now, and asks to wait ``retry_after`` seconds if it says so."""

    def __init__(self, message: str, *, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


_AGAIN = (Unreachable, RetryLater, RateLimited)
"""What is tried again. A breaker that refuses is not among them: who called knows better what
to do with a venue that is down than to wait here."""


_TRIES: Final = replace(presets.WAITED_FOR_EXCHANGE, longest_asked=60.0)


@dataclass(frozen=True, slots=True)
class RestPolicy:
    """How hard to try; times in seconds."""

    retry: RetryConfig = _TRIES
    """Its ``on`` is not looked at: what is tried again is known here."""
    connect_s: float = 5.0
    total_s: float = 30.0
    """Of one try; the breaker's ``timeout`` may shorten it."""
    max_body_bytes: int = 16 << 20
    connections: int = 4
    receive_bytes: int = 0
    """What a connection may have under way; 0: as the system has it. A small one leaves a line that
    is full to others, since nothing more is sent than that in each round trip."""


@dataclass(frozen=True, slots=True)
class _Call:
    """One call, tried once or more."""

    method: str
    target: str
    body: bytes
    cost: int
    bulk: bool = False

    def __str__(self) -> str:
        return f"{self.method} {self.target}"


@dataclass(frozen=True, slots=True)
class RestAnswer:
    """A whole answer with a 2xx status; ``body`` is as sent, transfer coding removed."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class RestClient:
    """Calls under one base URL through a pooled session; close it, or use ``async with``.

    ``breaker`` may be shared by several clients of one venue, ``budget`` by all of one address;
    without them the client has its own, by :data:`~forebay.resilience.presets.EXCHANGE_API` and by
    ``limits``. ``sign`` makes headers of method, path with query, body and wall clock, anew for
    each try.
    """

    def __init__(
        self,
        base_url: str,
        *,
        clock: Clock,
        rng: random.Random,
        policy: RestPolicy | None = None,
        limits: Limits | None = None,
        budget: Budget | None = None,
        sign: Callable[[str, str, bytes, int], Mapping[str, str]] | None = None,
        breaker: CircuitBreaker | None = None,
        observer: Observer = ignore,
    ) -> None:
        self._base = parse_base(base_url)
        self._proxy = proxy_for(base_url)
        self._clock = clock
        self._rng = rng
        self._policy = policy or RestPolicy()
        self._retry = replace(self._policy.retry, on=_AGAIN)
        self._breaker = breaker or CircuitBreaker(
            "rest", presets.EXCHANGE_API, clock=clock, rng=rng, listener=observer
        )
        self._observe = observer
        self._retries = RetryBudget()
        self._limits = limits or Limits()
        self._budget = budget or Budget(self._base.authority, self._limits.rest, clock=clock)
        self._sign = sign
        self._session: aiohttp.ClientSession | None = None

    async def get(self, target: str, *, cost: int = 1, bulk: bool = False) -> RestAnswer:
        """Ask for ``target``; see :meth:`call`."""
        return await self.call("GET", target, cost=cost, bulk=bulk)

    async def call(
        self, method: str, target: str, *, body: bytes = b"", cost: int = 1, bulk: bool = False
    ) -> RestAnswer:
        """Call ``target`` (path and query, encoded); tried again while that may help.

        ``cost`` is its weight; ``bulk`` gives way to all other calls of the address. Raises
        :class:`~forebay.errors.Transient` when it does not help any more (at once, as
        :class:`~forebay.resilience.CircuitOpen`, while the breaker is open), and
        :class:`~forebay.errors.Permanent`. ``retry_after`` of the error says when to come again,
        in seconds, if somebody knows.
        """
        call = _Call(method, target, body, cost, bulk)
        failed: list[Transient] = []

        def told(event: TelemetryEvent) -> None:
            if isinstance(event, CallRetried):
                reason, delay_s = str(failed[-1]), event.delay_s
                event = RestRetried(target, reason, delay_s, event.attempt)
            self._observe(event)

        async def once() -> RestAnswer:
            try:
                return await self._once(call)
            except Transient as error:
                failed[:] = [error]
                raise

        retry = Retry(
            self._retry,
            name=str(call),
            budget=self._retries,
            rng=self._rng,
            clock=self._clock,
            listener=told,
        )
        return await retry.acall(once)

    async def probe(self, target: str) -> None:
        """Ask once, past the breaker: for a recovery that holds the breaker's permit itself.

        Raises as :meth:`get` does.
        """
        await self._budget.take()
        await self._attempt(_Call("GET", target, b"", 1))

    async def close(self) -> None:
        """Close the pool; a later :meth:`get` opens another."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _once(self, call: _Call) -> RestAnswer:
        await self._budget.take(call.cost, bulk=call.bulk)
        try:
            return await self._breaker.acall(self._attempt, call)
        except AttemptTimeout as late:
            raise _unanswered(call.method, self._url(call), late.message.rstrip(".")) from late

    def _url(self, call: _Call) -> URL:
        return URL(str(self._base) + call.target, encoded=True)

    async def _attempt(self, call: _Call) -> RestAnswer:
        url, wall_ns = self._url(call), self._clock.wall_ns()
        signed = self._sign(call.method, url.raw_path_qs, call.body, wall_ns) if self._sign else {}
        proxy = self._proxy
        to_proxy = dict(proxy.headers) if proxy else {}
        plain = to_proxy if url.scheme == "http" else {}  # there is no CONNECT that has them
        try:
            async with self._pool().request(
                call.method,
                url,
                data=call.body or None,
                headers={**signed, **plain},
                allow_redirects=False,
                proxy=str(proxy) if proxy else None,
                proxy_headers=to_proxy,
            ) as response:
                body = await self._read(response)
        except aiohttp.ClientHttpProxyError as error:
            raise self._barred(call, error.status) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            why = str(error) or type(error).__name__
            why = f"through the proxy {proxy}, {why}" if proxy else why
            raise _unanswered(call.method, url, why) from error
        if proxy and response.status == _PROXY_ASKS:
            raise self._barred(call, response.status)
        page = response.content_type == "text/html"
        if response.status // 100 == 2 and not page:  # noqa: PLR2004
            return RestAnswer(response.status, dict(response.headers), body)
        said = body[:_SHOWN].decode("utf-8", "replace").strip()
        what = f"HTTP {response.status}{said and ': ' + said}"
        message = f"{call.method} {url} was answered with {what}."
        if page and response.status not in self._limits.silencing:
            hint = "That is a page for people, of something before the venue."
            raise RetryLater(message, hint=hint)
        raise self._refusal(response.status, response.headers, body, message)

    def _barred(self, call: _Call, status: int) -> Unreachable:
        """Return what it means that the proxy, and not the venue, has answered."""
        proxy, url = self._proxy, self._url(call)
        message = f"{call.method} {url} was not answered: the proxy {proxy} said HTTP {status}."
        return Unreachable(message, hint=proxy.hint(status) if proxy else "")

    def _refusal(
        self, status: int, headers: Mapping[str, str], body: bytes, message: str
    ) -> RetryLater | Permanent:
        """Return what a status that is no success means; a wait may hold for all at the address."""
        limits, now_ns = self._limits, self._clock.wall_ns()
        silencing = status in limits.silencing
        if not (silencing or status in _RETRIED or status >= 500):  # noqa: PLR2004
            return Permanent(message, hint=_hint(status))
        asked = limits.wait(status, headers, body, now_ns) if limits.wait else None
        if asked is None:
            asked = parse_retry_after(headers.get("Retry-After"), now_ns, headers.get("Date"))
        if asked is not None and silencing:
            self._budget.silence(asked)
        hint = "" if asked is None else f"It asks to come again in {asked:g} s."
        return RetryLater(message, hint=hint, retry_after=asked)

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        """Read the body, but no more than the policy allows."""
        limit = self._policy.max_body_bytes
        parts: list[bytes] = []
        size = 0
        async for part in response.content.iter_chunked(_CHUNK):
            size += len(part)
            if size > limit:
                response.close()
                url = response.url
                message = f"{response.method} {url} was answered with more than {limit} bytes."
                raise Permanent(message, hint="Ask for less, or raise the limit.")
            parts.append(part)
        return b"".join(parts)

    def _socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, _ = address
        made = socket.socket(family, kind, protocol)
        if size := self._policy.receive_bytes:  # before it connects: the window follows from it
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
        return made

    def _pool(self) -> aiohttp.ClientSession:
        if self._session is None:
            policy = self._policy
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=policy.connections, socket_factory=self._socket
                ),
                timeout=aiohttp.ClientTimeout(total=policy.total_s, sock_connect=policy.connect_s),
                headers={"User-Agent": "forebay", "Accept": "application/json"},
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


def _unanswered(method: str, url: URL, why: str) -> Unreachable:
    hint = "Check the network and the venue's status page."
    return Unreachable(f"{method} {url} was not answered: {why}.", hint=hint)


def parse_base(base_url: str) -> URL:
    """Return an address as a URL; raises :class:`~forebay.errors.ConfigError` if it is none."""
    try:
        url = URL(base_url.rstrip("/"))
    except ValueError:
        url = URL()
    if url.scheme not in ("http", "https") or not url.host:
        message = f"{base_url!r} is not an HTTP address."
        raise ConfigError(message, hint="Write https://HOST or http://HOST:PORT.")
    return url


def _hint(status: int) -> str:
    return {
        401: "The venue wants credentials for this call.",
        403: "The venue refuses this address; a proxy or another region may be needed.",
        404: "Check the symbol with `forebay symbols`, and the path of rest_url.",
    }.get(status, "Check the address and the parameters.")
