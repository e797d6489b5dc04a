"""Forebay as the first process of a container: it heeds signals, and leaves no zombies."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from forebay.app.wiring.data_folder import DataFolder
from forebay.lab.commands import FOREBAY
from tests.support.commands import Running, environment, forebay, simulator, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMESPACE = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc")


@pytest.fixture(autouse=True)
def _namespaces() -> None:
    try:
        subprocess.run([*NAMESPACE, "true"], check=True, capture_output=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        pytest.skip("needs unshare and namespaces of users and processes")


def children(pid: int) -> dict[int, str]:
    """The state of each child of a process, by process id."""
    found = {}
    for each in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = each.read_text(encoding="utf-8").rpartition(")")[2].split()[:2]
            if int(parent) == pid:
                found[int(each.parent.name)] = state
    return found


@contextlib.contextmanager
def contained(*arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run a command as the first process; give ``unshare`` and the command's process id."""
    with subprocess.Popen(
        [*NAMESPACE, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment({"FOREBAY_HTTP__PORT": "0"}),
    ) as process:
        first = wait_for(lambda: next(iter(children(process.pid)), None), "the first process")
        try:
            yield process, first
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(first, signal.SIGKILL)


@pytest.mark.drill
def test_orphans_are_reaped_and_a_stop_stores_what_was_captured(tmp_path: Path) -> None:
    data = tmp_path / "data"
    script = 'sleep 0.1 & sleep 0.2 & exec "$@"'  # two that the capture did not start
    command = ["run", "--venue", "coinbase", "--symbols", "BTC-USD", "--data", str(data)]
    with (
        simulator("--rate", 300) as lab,
        contained("sh", "-c", script, "sh", *FOREBAY, *command, *lab.flags) as (process, first),
    ):
        running = Running(process, DataFolder(data), data)
        running.captured(50)
        wait_for(lambda: "Z" not in children(first).values() or None, "no zombies", 20)
        assert len(children(first)) == 2
        os.kill(next(iter(children(first))), signal.SIGKILL)
        running.until(lambda told: told["capture"]["captured"] > 0, "all processes")
        wait_for(lambda: len(children(first)) == 2 or None, "the one that was killed", 20)
        os.kill(first, signal.SIGTERM)
        assert process.wait(60) == 0
    assert forebay("sql", "SELECT count(*) FROM trades", "--data", data).code == 0


def test_a_command_that_has_not_begun_ends_when_it_is_told_to() -> None:
    script = "import time, forebay.cli; print(flush=True); time.sleep(60)"
    with contained(sys.executable, "-c", script) as (process, first):
        assert process.stdout is not None
        process.stdout.readline()
        os.kill(first, signal.SIGTERM)
        assert process.wait(20) == 128 + signal.SIGTERM
