"""The exit code of a capture whose processes were stopped."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from forebay.app.config import Config
from forebay.app.supervisor import Supervisor
from forebay.telemetry import ignore

if TYPE_CHECKING:
    from pathlib import Path

DIES_SO = """
import os, signal
signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), {number}))
print(flush=True)
while True:
    signal.pause()
"""
EXITS_SO = """
import os, signal
signal.signal(signal.SIGTERM, lambda *_: os._exit({number}))
print(flush=True)
while True:
    signal.pause()
"""
NOT_READY = "import signal; print(flush=True); signal.pause()"


class Stopped(Supervisor):
    """Runs a script instead of a role and is stopped as soon as that is ready."""

    script = ""

    async def _start(self, role: str) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", self.script), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        await process.stdout.readline()
        self.stop.set()
        return process


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (DIES_SO.format(number=int(signal.SIGUSR1)), 1),
        (DIES_SO.format(number=int(signal.SIGKILL)), 1),
        (EXITS_SO.format(number=0), 0),
        (EXITS_SO.format(number=3), 3),
        (NOT_READY, 0),
    ],
)
async def test_a_process_that_crashes_while_it_stops_is_no_success(
    tmp_path: Path, script: str, code: int
) -> None:
    supervisor = Stopped(Config(data=str(tmp_path / "data")), ignore, only=("capture",))
    supervisor.script = script

    assert await supervisor.run() == code
