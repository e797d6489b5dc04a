"""A process that is stopped in its tracks, and goes on later: it neither dies nor answers."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from forebay.lab.drills.resources import process_state

if TYPE_CHECKING:
    from forebay.lab.drills.stage import Stage


async def deliver(stage: Stage) -> None:
    """Deliver is stopped with SIGSTOP, so it answers nobody; capture goes on."""
    seen = await stage.until(lambda seen: seen.pid("deliver") is not None, "deliver to answer")
    pid = seen.pid("deliver") or 0
    os.kill(pid, signal.SIGSTOP)
    stage.say("deliver hangs")
    try:
        await stage.comes(
            lambda seen: seen.down.get("store") == "deliver", "the store is down by it"
        )
        stopped = int(process_state(pid) == "T")
        await stage.captured(stage.drill.rate)
        await stage.last(stage.timing.fault_s)
        status, _ = await stage.get("/health/live")
        stage.check("liveness does not depend on it", status == 200)  # noqa: PLR2004
    finally:
        os.kill(pid, signal.SIGCONT)
    stage.fault_over(stopped)
