"""A REST client that somebody waits for: tried again, paced, behind a breaker, bounded in size.

A call is retries around a rate limit around a breaker around one try. Errors of the network and
of HTTP become ours inside all of them: :class:`~forebay.errors.Unreachable` if the venue did not
answer, :class:`ComeAgain` if it asked us to, :class:`~forebay.errors.Permanent` if asking again
cannot help. The first two count against the venue; the third says nothing about it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Self

import aiohttp
from yarl import URL

from forebay.errors import ConfigError, Permanent, Transient, Unreachable
from forebay.resilience import (
    AttemptTimeout,
    CircuitBreaker,
    RateLimit,
    RateLimited,
    Retry,
    RetryBudget,
    RetryConfig,
    presets,
)
from forebay.resilience.backoff import parse_retry_after
from forebay.telemetry import CallRetried, Observer, RestRetried, ignore

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

    from forebay.clock import Clock
    from forebay.telemetry import Happening

_CHUNK = 64 << 10
_SHOWN = 200
"""How much of an error's body its message repeats."""
_RETRIED = frozenset({408, 425, 429})


class ComeAgain(Transient):
    """The venue cannot answer now, and asks to wait ``retry_after`` seconds if it says so."""

    def __init__(self, message: str, *, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


_AGAIN = (Unreachable, ComeAgain, RateLimited)
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
    rate: float = 10.0
    """Calls a second, in the long run."""
    burst: int = 15
    longest_queue_s: float = 30.0
    """A try that would wait longer for the rate fails, and is tried again as others are."""
    connections: int = 4


@dataclass(frozen=True, slots=True)
class RestAnswer:
    """A whole answer with a 2xx status; ``body`` is as sent, transfer coding removed."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class RestClient:
    """GET under one base URL through a pooled session; close it, or use ``async with``.

    ``breaker`` may be shared by several clients of one venue; without one, the client has one
    of its own by :data:`~forebay.resilience.presets.EXCHANGE_API`.
    """

    def __init__(
        self,
        base_url: str,
        *,
        clock: Clock,
        rng: random.Random,
        policy: RestPolicy | None = None,
        breaker: CircuitBreaker | None = None,
        observer: Observer = ignore,
    ) -> None:
        self._base = _parse_base(base_url)
        self._clock = clock
        self._rng = rng
        self._policy = policy or RestPolicy()
        self._retry = replace(self._policy.retry, on=_AGAIN)
        self._breaker = breaker or CircuitBreaker(
            "rest", presets.EXCHANGE_API, clock=clock, rng=rng, listener=observer
        )
        self._observe = observer
        self._budget = RetryBudget()
        self._limit = RateLimit(
            self._policy.rate,
            burst=self._policy.burst,
            longest_wait=self._policy.longest_queue_s,
            name=f"The rate of calls to {self._base.host}",
            clock=clock,
        )
        self._session: aiohttp.ClientSession | None = None

    async def get(self, target: str) -> RestAnswer:
        """Ask for ``target`` (path and query, encoded); tried again while that may help.

        Raises :class:`~forebay.errors.Transient` when it does not help any more (at once, as
        :class:`~forebay.resilience.CircuitOpen`, while the breaker is open), and
        :class:`~forebay.errors.Permanent`. ``retry_after`` of the error says when to come again,
        in seconds, if somebody knows.
        """
        failed: list[Transient] = []

        def told(happening: Happening) -> None:
            if isinstance(happening, CallRetried):
                reason, delay_s = str(failed[-1]), happening.delay_s
                happening = RestRetried(target, reason, delay_s, happening.attempt)
            self._observe(happening)

        async def once() -> RestAnswer:
            try:
                return await self._once(target)
            except Transient as error:
                failed[:] = [error]
                raise

        retry = Retry(
            self._retry,
            name=f"GET {target}",
            budget=self._budget,
            rng=self._rng,
            clock=self._clock,
            listener=told,
        )
        return await retry.acall(once)

    async def probe(self, target: str) -> None:
        """Ask once, past the breaker: for a recovery that holds the breaker's permit itself.

        Raises as :meth:`get` does.
        """
        await self._limit.atake()
        await self._attempt(self._url(target))

    async def close(self) -> None:
        """Close the pool; a later :meth:`get` opens another."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _once(self, target: str) -> RestAnswer:
        await self._limit.atake()
        url = self._url(target)
        try:
            return await self._breaker.acall(self._attempt, url)
        except AttemptTimeout as late:
            raise _unanswered(url, late.message.rstrip(".")) from late

    def _url(self, target: str) -> URL:
        return URL(str(self._base) + target, encoded=True)

    async def _attempt(self, url: URL) -> RestAnswer:
        try:
            async with self._pool().get(url, allow_redirects=False) as response:
                body = await self._read(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unanswered(url, str(error) or type(error).__name__) from error
        if response.status // 100 == 2:  # noqa: PLR2004
            return RestAnswer(response.status, dict(response.headers), body)
        said = body[:_SHOWN].decode("utf-8", "replace").strip()
        message = f"GET {url} was answered with HTTP {response.status}{said and ': ' + said}."
        if response.status in _RETRIED or response.status >= 500:  # noqa: PLR2004
            asked = parse_retry_after(response.headers.get("Retry-After"), self._clock.wall_ns())
            hint = "" if asked is None else f"It asks to come again in {asked:g} s."
            raise ComeAgain(message, hint=hint, retry_after=asked)
        raise Permanent(message, hint=_hint(response.status))

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        """Read the body, but no more than the policy allows."""
        limit = self._policy.max_body_bytes
        parts: list[bytes] = []
        size = 0
        async for part in response.content.iter_chunked(_CHUNK):
            size += len(part)
            if size > limit:
                response.close()
                message = f"GET {response.url} was answered with more than {limit} bytes."
                raise Permanent(message, hint="Ask for less, or raise the limit.")
            parts.append(part)
        return b"".join(parts)

    def _pool(self) -> aiohttp.ClientSession:
        if self._session is None:
            policy = self._policy
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=policy.connections),
                timeout=aiohttp.ClientTimeout(total=policy.total_s, sock_connect=policy.connect_s),
                headers={"User-Agent": "forebay", "Accept": "application/json"},
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


def _unanswered(url: URL, why: str) -> Unreachable:
    hint = "Check the network and the venue's status page."
    return Unreachable(f"GET {url} was not answered: {why}.", hint=hint)


def _parse_base(base_url: str) -> URL:
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
        404: "Check the symbol with `forebay symbols`.",
    }.get(status, "Check the address and the parameters.")
