"""How often a client may ask REST."""

from __future__ import annotations

from dataclasses import dataclass

_CLIENTS = 1_024
_SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class RestLimit:
    """Requests that a client's address may make."""

    per_second: int
    burst: int


@dataclass(slots=True)
class Bucket:
    """Tokens of one client, counted in nanoseconds so that no fraction is lost."""

    limit: RestLimit
    filled_ns: int

    def take(self, now_ns: int) -> bool:
        """Whether a request is within the limit; if so it counts."""
        cost = _SECOND_NS // self.limit.per_second
        filled = max(self.filled_ns, now_ns - self.limit.burst * cost)
        if now_ns - filled < cost:
            return False
        self.filled_ns = filled + cost
        return True


class Limiter:
    """Buckets by client address."""

    def __init__(self, limit: RestLimit) -> None:
        self._limit = limit
        self._buckets: dict[str, Bucket] = {}

    def take(self, client: str, now_ns: int) -> bool:
        """Whether ``client`` may ask now; if so it counts."""
        if client not in self._buckets:
            if len(self._buckets) >= _CLIENTS:
                self._buckets.pop(next(iter(self._buckets)))
            full_ns = now_ns - self._limit.burst * _SECOND_NS
            self._buckets[client] = Bucket(self._limit, full_ns)
        return self._buckets[client].take(now_ns)
