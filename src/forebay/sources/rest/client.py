"""A REST client that somebody waits for: paced, bounded in tries, time and size.

Errors of the network and of HTTP become ours here: :class:`~forebay.errors.Unreachable` if the
venue did not answer, :class:`~forebay.errors.Transient` if it asked us to come again,
:class:`~forebay.errors.Permanent` if asking again cannot help.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import aiohttp
from yarl import URL

from forebay.errors import ConfigError, Permanent, Transient, Unreachable
from forebay.resilience.backoff import parse_retry_after, retry_delay
from forebay.sources.rest.pace import TokenBucket
from forebay.telemetry import Observer, RestRetried, ignore

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

    from forebay.clock import Clock

_CHUNK = 64 << 10
_SHOWN = 200
"""How much of an error's body its message repeats."""
_RETRIED = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class RestPolicy:
    """How hard to try; times in seconds."""

    attempts: int = 5
    base_s: float = 2.0
    factor: float = 2.0
    cap_s: float = 30.0
    jitter: float = 0.1
    retry_after_cap_s: float = 60.0
    connect_s: float = 5.0
    total_s: float = 30.0
    max_body_bytes: int = 16 << 20
    rate: float = 10.0
    """Calls a second, in the long run."""
    burst: int = 15
    connections: int = 4


@dataclass(frozen=True, slots=True)
class RestAnswer:
    """A whole answer with a 2xx status; ``body`` is as sent, transfer coding removed."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _ComeAgain(Exception):
    """An attempt failed in a way that may pass."""

    def __init__(self, error: Transient, retry_after_s: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.retry_after_s = retry_after_s


class RestClient:
    """GET under one base URL through a pooled session; close it, or use ``async with``."""

    def __init__(
        self,
        base_url: str,
        *,
        clock: Clock,
        rng: random.Random,
        policy: RestPolicy | None = None,
        observer: Observer = ignore,
    ) -> None:
        self._base = _parse_base(base_url)
        self._clock = clock
        self._rng = rng
        self._policy = policy or RestPolicy()
        self._observe = observer
        self._bucket = TokenBucket(self._policy.rate, self._policy.burst)
        self._session: aiohttp.ClientSession | None = None

    async def get(self, target: str) -> RestAnswer:
        """Ask for ``target`` (path and query, encoded); tried again while that may help."""
        policy = self._policy
        attempt = 1
        while True:
            await self._clock.sleep(self._bucket.reserve(self._clock.monotonic_ns()))
            try:
                return await self._attempt(target)
            except _ComeAgain as failed:
                if attempt >= policy.attempts:
                    raise failed.error from failed
                delay_s = retry_delay(
                    attempt,
                    self._rng,
                    base=policy.base_s,
                    factor=policy.factor,
                    cap=policy.cap_s,
                    jitter=policy.jitter,
                )
                if failed.retry_after_s is not None:
                    delay_s = max(delay_s, min(failed.retry_after_s, policy.retry_after_cap_s))
                self._observe(RestRetried(target, str(failed), delay_s, attempt))
            attempt += 1
            await self._clock.sleep(delay_s)

    async def close(self) -> None:
        """Close the pool; a later :meth:`get` opens another."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _attempt(self, target: str) -> RestAnswer:
        url = URL(str(self._base) + target, encoded=True)
        try:
            async with self._pool().get(url, allow_redirects=False) as response:
                body = await self._read(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            message = f"GET {url} was not answered: {error or type(error).__name__}."
            hint = "Check the network and the venue's status page."
            raise _ComeAgain(Unreachable(message, hint=hint)) from error
        if response.status // 100 == 2:  # noqa: PLR2004
            return RestAnswer(response.status, dict(response.headers), body)
        said = body[:_SHOWN].decode("utf-8", "replace").strip()
        message = f"GET {url} was answered with HTTP {response.status}: {said}"
        if response.status in _RETRIED or response.status >= 500:  # noqa: PLR2004
            asked = parse_retry_after(response.headers.get("Retry-After"), self._clock.wall_ns())
            raise _ComeAgain(Transient(message), asked)
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
