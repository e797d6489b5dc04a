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


class Limiter:
    """A bucket of tokens for each client address, counted in ns so that no fraction is lost."""

    def __init__(self, limit: RestLimit) -> None:
        self._limit = limit
        self._filled_ns: dict[str, int] = {}

    def take(self, client: str, now_ns: int) -> bool:
        """Whether ``client`` may ask now; if so it counts."""
        cost = _SECOND_NS // self._limit.per_second
        full_ns = now_ns - self._limit.burst * cost
        if client not in self._filled_ns and len(self._filled_ns) >= _CLIENTS:
            self._filled_ns.pop(next(iter(self._filled_ns)))
        filled_ns = max(self._filled_ns.get(client, full_ns), full_ns)
        within = now_ns - filled_ns >= cost
        self._filled_ns[client] = filled_ns + cost if within else filled_ns
        return within
