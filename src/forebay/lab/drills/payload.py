"""Frames that should not be: some can never become an event, some contradict another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.lab.troubles import RESTATE, TEAR

if TYPE_CHECKING:
    from forebay.lab.drills.stage import Stage


async def torn(stage: Stage) -> None:
    """Events arrive as JSON cut short: dead letters, whose holes are filled from history."""
    await stage.trouble(TEAR)
    try:
        await stage.captured(stage.drill.rate)
        await stage.last(stage.timing.fault_s)
    finally:
        await stage.trouble(TEAR, on=False)
    hits = len(await stage.hits(TEAR))
    stage.fault_over(hits)
    await stage.comes(
        lambda seen: bool(seen.deliver and seen.deliver["dead_letters"] >= hits),
        f"{hits} frames are dead letters",
    )


async def restated(stage: Stage) -> None:
    """Events come again with another price: the first stays, the other is a conflict."""
    await stage.trouble(RESTATE)
    try:
        await stage.captured(stage.drill.rate)
        await stage.last(stage.timing.fault_s)
    finally:
        await stage.trouble(RESTATE, on=False)
    hits = len(await stage.hits(RESTATE))
    stage.fault_over(hits)
    await stage.comes(
        lambda seen: bool(seen.deliver and seen.deliver["conflicts"] >= hits),
        f"{hits} events are conflicts",
    )
