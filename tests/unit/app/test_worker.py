"""Waiting for a predecessor's locks, and for nothing else; what is said at the end."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from forebay.app.processes.worker import retry_while_locked
from forebay.app.wiring.config import Config
from forebay.app.wiring.data_folder import DataFolder
from forebay.clock import SystemClock
from forebay.errors import ConfigError, Corrupt, ForebayError, Unreachable
from forebay.journal import WriterBusy

if TYPE_CHECKING:
    from pathlib import Path


class Tries:
    """Raises ``error`` the first time."""

    def __init__(self, error: ForebayError) -> None:
        self.error = error
        self.count = 0

    def __call__(self) -> str:
        self.count += 1
        if self.count == 1:
            raise self.error
        return "mine"


@pytest.mark.parametrize("held", [Unreachable("held"), WriterBusy("held")])
async def test_what_is_held_is_waited_for(held: ForebayError) -> None:
    assert await retry_while_locked(SystemClock(), asyncio.Event(), Tries(held)) == "mine"


async def test_what_cannot_be_is_refused_at_once() -> None:
    tries = Tries(ConfigError("Written by a newer Forebay."))

    with pytest.raises(ConfigError, match="newer"):
        await retry_while_locked(SystemClock(), asyncio.Event(), tries)
    assert tries.count == 1


def test_why_a_process_ends_is_a_line_like_the_others(tmp_path: Path) -> None:
    data = DataFolder(tmp_path / "data").create()
    data.database("duckdb").write_bytes(b"no database" * 1000)
    config = Config(data=str(data.root))
    with subprocess.Popen(
        [sys.executable, "-m", "forebay.app.processes.worker", "deliver"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(config.encode() + b"\n")
        process.stdin.flush()
        lines = [json.loads(line) for line in process.stderr.read().splitlines()]
    assert process.returncode == Corrupt.exit_code
    assert (lines[-1]["event"], lines[-1]["level"]) == ("process_failed", "error")
    assert lines[-1]["process"] == "deliver"
    assert "The database is damaged" in lines[-1]["reason"]
