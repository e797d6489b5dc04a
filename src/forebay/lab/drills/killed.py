"""Processes killed with SIGKILL while they work."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from forebay.lab.drills.stage import Stage


async def capture(stage: Stage) -> None:
    """Capture is killed twice; what it misses meanwhile is declared, and filled."""
    await _killed(stage, "capture", 2)


async def deliver(stage: Stage) -> None:
    """Deliver is killed twice; it goes on where the store is."""
    await _killed(stage, "deliver", 2)


async def run(stage: Stage) -> None:
    """The supervisor is killed, its processes leave with it, and it is started again."""
    stage.run.kill()
    code = await stage.run.wait()
    stage.say("killed the supervisor")
    await stage.until(lambda seen: seen.capture is None and seen.deliver is None, "the others' end")
    await stage.last(stage.timing.fault_s)
    await stage.start_run()
    stage.fault_over(int(code == -signal.SIGKILL))
    await stage.until(lambda seen: seen.connected, "a connection")


async def _killed(stage: Stage, role: str, times: int) -> None:
    for _ in range(times):
        await _kill(stage, role)
        await stage.last(stage.timing.fault_s)
    stage.fault_over(len(stage.happened("process_died")))


async def _kill(stage: Stage, role: str) -> None:
    """Kill a process and wait until its successor answers."""
    seen = await stage.until(lambda seen: seen.pid(role) is not None, f"{role} to answer")
    pid = seen.pid(role) or 0
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    stage.say(f"killed {role}")
    await stage.until(lambda seen: seen.pid(role) not in (None, pid), f"{role} to be back")
