"""The exchange's REST does not answer as it should, while the websocket drops events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.lab.drills.venue import REST
from forebay.lab.troubles import BROKEN, HANG, TOO_MANY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from forebay.lab.drills.stage import Stage

BREAKER = REST
RETRY_AFTER_S = 3
FILLS_AT_ONCE = 2
"""Callers of REST at a time, see :class:`forebay.services.capture.CaptureSettings`."""
_EARLY = 0.9
"""The exchange sees a request a little earlier or later after its answer than it was asked."""


async def too_many(stage: Stage) -> None:
    """REST answers 429 and says when to come again; nobody may come sooner."""
    await _troubled(stage, TOO_MANY, {"retry_after_s": RETRY_AFTER_S})
    moments = await stage.hits(TOO_MANY)
    later = zip(moments, moments[FILLS_AT_ONCE:], strict=False)
    waits_s = [(after - before) / 1e9 for before, after in later]
    honoured = all(wait_s >= RETRY_AFTER_S * _EARLY for wait_s in waits_s)
    stage.check(f"Retry-After is honoured by {len(moments)} requests", honoured)


async def broken(stage: Stage) -> None:
    """REST answers 500."""
    await _troubled(stage, BROKEN)


async def timeouts(stage: Stage) -> None:
    """REST takes requests and never answers: time-outs one after another, with long pauses."""
    await _troubled(stage, HANG)


async def _troubled(stage: Stage, name: str, settings: Mapping[str, int] | None = None) -> None:
    await stage.trouble(name, settings)
    try:
        await stage.breaker(BREAKER, "open")
        await stage.comes(lambda seen: seen.down.get(BREAKER) == BREAKER, "REST is a root")
        await stage.comes(lambda seen: seen.state != "critical", "and no critical one")
        await stage.captured(stage.drill.rate)
        await stage.last(stage.timing.fault_s)
        stage.check("gaps stay open meanwhile", bool((await stage.seen()).gaps_open))
    finally:
        await stage.trouble(name, on=False)
        stage.fault_over(len(await stage.hits(name)))
