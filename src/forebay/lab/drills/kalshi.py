"""Drills of a venue that numbers its messages, and of which hundreds of connections are open."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Final

from forebay.lab import faults
from forebay.lab.drills.acts import trouble
from forebay.lab.drills.lacking import lacks
from forebay.lab.exchanges.kalshi import troubles

if TYPE_CHECKING:
    from collections.abc import Mapping

    from forebay.lab.drills.stage import Stage
    from forebay.services.audit import AuditReport

KILLS: Final = 5
SHARE: Final = 0.1
"""Of all connections, that may come back within any second."""
_S = 1_000_000_000
_EVERY = 80
_ROUNDS: Final[tuple[Mapping[str, Mapping[str, int]], ...]] = (
    {troubles.HOLE: {"every": 300}, troubles.AGAIN: {"every": 200}, troubles.UNANSWERED: {}},
    {troubles.NEW_SIDS: {}, troubles.OVERFLOW: {}, faults.TOO_MANY: {}},
    {troubles.NO_SNAPSHOT: {}, troubles.HOLE: {"every": 250}},
    {
        troubles.ERRORS: {"every": 150},
        troubles.ROW_AGAIN: {},
        troubles.HISTORICAL: {"after_s": 5},
        troubles.NEWER: {},
        faults.TEAR: {"every": 350},
    },
    {troubles.FAILED: {}, faults.BROKEN: {}},
    {
        faults.AGEING: {"ms_per_s": 300, "most_ms": 900},
        troubles.ONE_SIDED: {},
        troubles.HOLE: {"every": 200},
    },
    {troubles.MAINTENANCE: {}},
)
"""What goes wrong at the same time, one round after the other."""


async def sequence_holes(stage: Stage) -> None:
    """The venue leaves messages out, whose numbers are then missing.

    Trades come from its history, and books are asked for again.
    """
    async with trouble(stage, troubles.HOLE, {"every": _EVERY}):
        await stage.goes_on()


async def all_faults(stage: Stage) -> None:
    """Everything goes wrong that can, and capture is killed five times meanwhile."""
    struck = 0
    for number, wrong in enumerate(_ROUNDS):
        for name, settings in wrong.items():
            await stage.trouble(name, settings)
        await stage.clock.sleep(stage.timing.fault_s)
        if number < KILLS:
            await _kill_capture(stage)
            await stage.clock.sleep(stage.timing.fault_s / 2)
        for name in wrong:
            await stage.trouble(name, on=False)
            hits = len(await stage.hits(name))
            struck += hits
            stage.check(f"{name} struck {hits} times", hits > 0)
        await stage.until(lambda seen: seen.connected, "a connection")
    stage.fault_over(struck)


async def _kill_capture(stage: Stage) -> None:
    seen = await stage.until(lambda seen: seen.pid("capture") is not None, "capture to answer")
    pid = seen.pid("capture") or 0
    os.kill(pid, signal.SIGKILL)
    stage.say("killed capture")
    await stage.until(lambda seen: seen.pid("capture") not in (None, pid), "capture to be back")


async def venue_down(stage: Stage) -> None:
    """The venue is under maintenance: every connection ends, and comes back unaided."""
    wanted = int(str(stage.drill.venue["connections"]))
    await stage.came_back(wanted)
    async with trouble(stage, troubles.MAINTENANCE):
        stage.check("nobody is connected", ok=(await stage.truth())["connections"] == 0)
        await stage.last()
    await stage.came_back(wanted)
    moments = sorted((await stage.opened())[-wanted:])
    most = max(
        sum(moment <= each < moment + _S for each in moments[at:])
        for at, moment in enumerate(moments)
    )
    said = f"of {wanted} connections at most {most} came back within one second"
    stage.check(said, ok=len(moments) == wanted and most <= SHARE * wanted)


# ------------------------------------------------------------------------- at the end


async def hold_against_truth(stage: Stage, audit: AuditReport) -> None:
    """Check that nothing is missing silently, and nothing that history has."""
    found = await asyncio.to_thread(lacks, stage.data.root, stage.truth_url, audit.gaps)
    for channel in sorted({each.key.channel for each in found}):
        of = [each for each in found if each.key.channel == channel]
        missing, silent, holes, unfounded = (
            sum(getattr(each, name) for each in of)
            for name in ("missing", "silent", "holes", "unfounded")
        )
        said = f"{channel}: {missing} missing, {silent} of them silently; {holes} lasting holes"
        right = not silent and (channel != "trade" or not (missing or holes))
        stage.check(f"{said}, {unfounded} of them with nothing withheld", right and not unfounded)
    stage.check(f"{len(found)} streams were compared", ok=bool(found))


async def hold_numbers(stage: Stage, audit: AuditReport) -> None:
    """Check besides that exactly the numbers are declared that the venue left out."""
    await hold_against_truth(stage, audit)
    declared = sum(gap.last + 1 - gap.first for gap in audit.gaps if gap.unit == "seq")
    hits = len(await stage.hits(troubles.HOLE))
    stage.check(f"{declared} numbers are declared, {hits} were left out", declared == hits > 0)
