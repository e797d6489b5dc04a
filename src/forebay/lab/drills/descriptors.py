"""Few file descriptors are left to capture."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

from forebay.lab.drills.resources import open_descriptors

if TYPE_CHECKING:
    from forebay.lab.drills.stage import Stage

_SPARE = 2
"""Descriptors that capture may still open: fewer than a fifth, which is what is alarming."""


async def exhausted(stage: Stage) -> None:
    """Capture may open hardly another file or socket for a while; it goes on with what it has."""
    seen = await stage.until(lambda seen: seen.pid("capture") is not None, "capture to answer")
    pid = seen.pid("capture") or 0
    used = open_descriptors(pid)
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + _SPARE, before[1]))
    stage.say(f"capture may have {used + _SPARE} descriptors")
    limited = int(resource.prlimit(pid, resource.RLIMIT_NOFILE)[0] == used + _SPARE)
    try:
        await stage.captured(stage.drill.rate)
        await stage.last(stage.timing.fault_s)
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    stage.fault_over(limited)
