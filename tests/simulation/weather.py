"""What goes wrong in one simulated world, and when: drawn from its seed before it begins."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

CHAOS_S = 6.0
"""Virtual seconds during which things go wrong."""

FRAME_FAULTS = ("drop", "duplicate", "late", "torn")
"""Each as a probability per frame and connection."""
REST_FAULTS = ("rate_limited", "server_error", "rest_timeout", "short_page", "empty_page")
"""Each as a probability per request."""
DIAL_FAULTS = ("refused", "unanswered")
STORE_FAULTS = ("store_refuses", "answer_lost")
_OFTEN = {"bit_rot": 0.25, "rot_and_power_cut": 0.2}
"""Of worlds in which a kind may happen; half of them unless said here. Rot loosens what can be
judged, so that most worlds are without."""


@dataclass
class Weather:
    """The faults of one world. After :meth:`clear` nothing goes wrong any more."""

    rng: random.Random
    rates: dict[str, float]
    moments: list[tuple[float, str]]
    history_lag_s: float
    withheld: float
    """Of trades, those that the venue's history never lists."""
    feeds: int
    """Connections to the feed, each with all symbols."""
    told: Callable[[str], None]
    calm: bool = False
    until: dict[str, float] = field(default_factory=dict)
    """When something that lasts is over, by kind."""
    failing: dict[str, int] = field(default_factory=dict)
    """Disk operations that are still to fail with EIO, by operation."""

    def strikes(self, kind: str) -> bool:
        """Whether ``kind`` happens now."""
        rate = self.rates.get(kind, 0.0)
        if self.calm or not rate or self.rng.random() >= rate:
            return False
        self.told(kind)
        return True

    def lasts(self, kind: str, now_s: float) -> bool:
        """Whether ``kind`` goes on."""
        return not self.calm and now_s < self.until.get(kind, 0.0)

    def disk_fault(self, operation: str) -> None:
        """For :class:`~tests.support.sim_disk.SimDisk`: raise EIO if it is due."""
        left = self.failing.get(operation, 0)
        if left and not self.calm:
            self.failing[operation] = left - 1
            self.told(f"eio_{operation}")
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def clear(self) -> None:
        """Everything works from now on."""
        self.calm = True


def forecast(rng: random.Random, told: Callable[[str], None], kinds: Sequence[str]) -> Weather:
    """Draw a world's weather, with moments of some of ``kinds``.

    Each kind of fault is there or not, so that worlds differ in kind.
    """
    rates = {
        kind: rng.uniform(0.01, 0.15)
        for kind in (*FRAME_FAULTS, *STORE_FAULTS)
        if rng.random() < _likely(kind)
    }
    rates |= {kind: rng.uniform(0.1, 0.8) for kind in REST_FAULTS if rng.random() < _likely(kind)}
    rates |= {kind: rng.uniform(0.1, 0.5) for kind in DIAL_FAULTS if rng.random() < _likely(kind)}
    chosen = [kind for kind in kinds if rng.random() < _likely(kind)]
    many = rng.randint(1, 8) if chosen else 0
    moments = sorted((rng.uniform(0.2, CHAOS_S), rng.choice(chosen)) for _ in range(many))
    return Weather(
        rng,
        rates,
        moments,
        history_lag_s=rng.choice([0.0, 0.0, 0.5, 3.0]),
        withheld=rng.choice([0.0, 0.02, 0.1]),
        feeds=rng.choice([1, 1, 2]),
        told=told,
    )


def _likely(kind: str) -> float:
    return _OFTEN.get(kind, 0.4)
