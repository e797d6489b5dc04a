"""What a drill is: a market, a configuration, a fault and what must come of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from forebay.lab.exchanges import NAMES

if TYPE_CHECKING:
    from forebay.lab.drills.stage import Stage

VENUE: Final = NAMES[0]
"""The simulated venue that drills capture."""
REST: Final = f"{VENUE}-rest"
"""The breaker around its REST."""
WEBSOCKET: Final = f"{VENUE}-websocket"
"""The breaker around its websocket."""

Value = str | int | float | bool | list[str]
Act = Callable[["Stage"], Awaitable[None]]
"""Brings the fault about, watches what must happen meanwhile, and takes the fault away."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long each part of a drill lasts, in seconds."""

    healthy_s: float = 2.0
    """Before the fault, and again after the recovery."""
    fault_s: float = 3.0
    """How long the fault goes on after the breaker has tripped."""
    patience_s: float = 60.0
    """How long anything that must happen is waited for."""


@dataclass(frozen=True, slots=True)
class Drill:
    """One drill."""

    name: str
    about: str
    """One sentence."""
    act: Act
    breakers: tuple[str, ...] = ()
    """Those that must trip, and be CLOSED again at the end."""
    alerts: tuple[str, ...] = ()
    """Those that must fire and clear."""
    requirements: str = ""
    """Identifiers of the failures that this is the drill of."""
    rate: int = 2000
    """Events a second over all symbols."""
    symbols: tuple[str, ...] = ("BTC-USD", "ETH-USD")
    events: int = 0
    """Events over all symbols, then the market closes; 0 is without end."""
    faults: str = ""
    """As ``forebay lab serve --faults`` takes them; they go on all the time."""
    config: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    """Tables of ``forebay.toml`` beside those that every drill has."""
    venue: Mapping[str, Value] = field(default_factory=dict)
    """Keys of the venue."""
    disk_mb: int = 0
    """Size of a disk of the data folder's own, in MiB; 0 for none."""
    least_s: float = 0.0
    """The fault goes on for so long at least, whatever :attr:`Timing.fault_s` says."""
    gaps: bool = False
    """Whether the fault makes holes that must be declared, and filled from history."""
