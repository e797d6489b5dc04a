"""The exchange's websocket flaps, or is open and silent, or refuses everybody."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.lab.drills.venue import WEBSOCKET
from forebay.lab.troubles import FLAP, NO_UPGRADE, SILENCE

if TYPE_CHECKING:
    from forebay.lab.drills.stage import Stage

BREAKER = WEBSOCKET


async def flap(stage: Stage) -> None:
    """Every connection is closed right after its subscription was accepted."""
    await _troubled(stage, FLAP)


async def half_open(stage: Stage) -> None:
    """Every connection stays open and is silent, pongs included."""
    await _troubled(stage, SILENCE)


async def refused(stage: Stage) -> None:
    """Nobody gets a websocket: no gatherer is healthy."""
    await _troubled(stage, NO_UPGRADE)


async def _troubled(stage: Stage, name: str) -> None:
    await stage.trouble(name)
    try:
        await stage.breaker(BREAKER, "open")
        await stage.comes(lambda seen: seen.state == "critical", "the system is critical")
        await stage.last(stage.timing.fault_s)
    finally:
        await stage.trouble(name, on=False)
        stage.fault_over(len(await stage.hits(name)))
