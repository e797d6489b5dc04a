"""How a system is, from how its services are. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence  # noqa: TC003 - read at run time, to encode
from dataclasses import dataclass
from enum import StrEnum


class SystemState(StrEnum):
    """The whole, from good to bad."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    CRITICAL = "critical"
    EMERGENCY = "emergency"


@dataclass(frozen=True, slots=True)
class ServiceHealth:
    """What one service says of itself; ``reason`` is why it is not up."""

    name: str
    up: bool
    critical: bool = False
    depends_on: tuple[str, ...] = ()
    serving_fallback: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class SystemHealth:
    """The whole: ``share`` of services that have not failed themselves, 0 to 1."""

    state: SystemState
    share: float
    roots: tuple[str, ...]
    """Services that failed themselves: all that they depend on is up."""
    attributed: Mapping[str, str]
    """Each service that is down, and the root that is why; a root's is itself."""
    services: Sequence[ServiceHealth]
    reason: str
