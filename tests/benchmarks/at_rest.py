"""At rest: what ``forebay run`` costs where little happens, 200 trades a second by default.

CPU time and memory of the supervisor, of capture and of deliver, as the kernel counts them, over
some time after some time to settle; the simulated exchange beside them is not counted.
``python -m tests.benchmarks.at_rest`` prints each process as well: ``--seconds``, ``--warm-up``
and ``--rate`` are its own.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from forebay.clock import SystemClock
from tests.benchmarks.harness import Goal, NotRun, environment

if TYPE_CHECKING:
    from collections.abc import Iterator

RATE, WARM_UP_S, SECONDS = 200, 60.0, 60.0
GOALS = Goal(most=8), Goal(most=200), Goal(most=200)
"""Of all processes together: CPU time, and memory by either count."""
ROLES = "supervisor", "capture", "deliver"
SYMBOLS = "BTC-USD,ETH-USD"
_COMMAND = "import sys; from forebay.cli.main import main; sys.exit(main())"
_TICKS = os.sysconf("SC_CLK_TCK")
_START_S = 30.0
_LINE = "{:12}{:>14}{:>10}{:>10}"


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used and holds."""

    cpu_s: float
    """CPU time since it began, in user mode and in the kernel, of all its threads."""
    rss_mb: float
    pss_mb: float
    """As ``rss_mb``, each shared page divided by how many processes share it."""


def usage(pid: int) -> Usage:
    """Return what the kernel says of a process."""
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()
    kb = {line.split(":")[0]: int(line.split()[1]) for line in rollup[1:]}
    cpu_s = (int(stat[11]) + int(stat[12])) / _TICKS
    return Usage(cpu_s, kb["Rss"] / 1024, kb["Pss"] / 1024)


def roles(supervisor: int) -> dict[str, int]:
    """Return the pids of the processes of a capture that run now, by their names."""
    listed = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text(encoding="utf-8")
    found = {"supervisor": supervisor}
    for pid in map(int, listed.split()):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        found |= {role: pid for role in ROLES[1:] if role in words}
    return found


@contextlib.contextmanager
def command(*arguments: str, cwd: str, output: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run a ``forebay`` command while the block runs."""
    process = subprocess.Popen(
        [sys.executable, "-c", _COMMAND, *arguments],
        cwd=cwd,
        env=environment() | {"FOREBAY_HTTP__PORT": "0"},
        stdout=output,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate()


async def measure(rate: float, warm_up_s: float, seconds: float) -> dict[str, Usage]:
    """Return what each process used in ``seconds`` and holds at their end, by its name."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="forebay-bench-"))
        pids = await _capturing(stack, folder, rate)
        clock = SystemClock()
        await clock.sleep(warm_up_s)
        before = {role: usage(pid) for role, pid in pids.items()}
        await clock.sleep(seconds)
        after = {role: usage(pid) for role, pid in pids.items()}
    return {
        role: Usage(now.cpu_s - before[role].cpu_s, now.rss_mb, now.pss_mb)
        for role, now in after.items()
    }


async def _capturing(stack: contextlib.ExitStack, folder: str, rate: float) -> dict[str, int]:
    """Capture a simulated exchange until ``stack`` ends; return the pids of the processes."""
    serve = "lab", "serve", "coinbase", "--seed", "1", "--start", "now", "--symbols", SYMBOLS
    pace = "--rate", str(rate), "--step-us", str(round(2e6 / rate))
    lab = stack.enter_context(command(*serve, *pace, cwd=folder, output=subprocess.PIPE))
    assert lab.stdout is not None
    if not (line := lab.stdout.readline()):
        raise NotRun("the simulated exchange did not start")
    urls = json.loads(line)
    run = "run", "--venue", "coinbase", "--symbols", SYMBOLS, "--data", f"{folder}/data"
    where = "--ws-url", urls["ws_url"], "--rest-url", urls["rest_url"]
    running = stack.enter_context(command(*run, *where, cwd=folder, output=subprocess.DEVNULL))
    return await started(running)


async def started(running: subprocess.Popen[bytes]) -> dict[str, int]:
    """Return the pids of the processes of a capture that was just started, by their names."""
    clock = SystemClock()
    deadline = clock.monotonic_ns() + _START_S * 1e9
    while len(pids := roles(running.pid)) < len(ROLES):
        if running.poll() is not None or clock.monotonic_ns() > deadline:
            raise NotRun("the capture did not start")
        await clock.sleep(0.1)
    return pids


def total(used: dict[str, Usage]) -> Usage:
    """Return what they use together; memory that they share is in ``rss_mb`` more than once."""
    each = used.values()
    return Usage(
        sum(one.cpu_s for one in each),
        sum(one.rss_mb for one in each),
        sum(one.pss_mb for one in each),
    )


def report(used: dict[str, Usage], seconds: float) -> str:
    """Return lines for a person to read."""
    lines = [_LINE.format("", "% of a core", "RSS MB", "PSS MB")]
    figures: list[float] = []
    for role, one in {**used, "together": total(used)}.items():
        figures = [one.cpu_s / seconds * 100, one.rss_mb, one.pss_mb]
        lines.append(_LINE.format(role, *(f"{figure:.1f}" for figure in figures)))
    reached = (
        "reached" if goal.reached(figure, None) else "missed"
        for goal, figure in zip(GOALS, figures, strict=True)
    )
    lines += [_LINE.format("goal", *map(str, GOALS)), _LINE.format("", *reached)]
    return "\n".join(lines)


def main() -> None:
    """Measure as the arguments say; exit 0 also if a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.at_rest", description=__doc__)
    parser.add_argument("--rate", type=float, default=RATE, help="trades a second")
    parser.add_argument("--warm-up", type=float, default=WARM_UP_S, help="seconds not counted")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="seconds counted")
    asked = parser.parse_args()
    used = asyncio.run(measure(asked.rate, asked.warm_up, asked.seconds))
    sys.stdout.write(report(used, asked.seconds) + "\n")


if __name__ == "__main__":
    main()
