"""Rounds, medians and the table: what every comparison shares.

A comparison is a list of *contenders*, callables that do the same work once and answer how fast
it went. They take turns (A B A B ...), so that whatever else the machine does meets all of them.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ROUNDS = 5
ROOT = Path(__file__).resolve().parents[2]
OURS = "forebay"


class NotRun(Exception):
    """A row that cannot be measured here; the text says what is missing."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the answer: how fast we are, beside whom, and what was to be reached."""

    name: str
    unit: str
    goal: str
    ours: float | None = None
    peer: float | None = None
    peer_name: str = ""
    ratio: float | None = None
    """Ours over the peer's: more than 1 is faster; None without a peer."""
    reached: bool | None = None
    """None if it was not measured, or there is no goal."""
    rounds: int = 0
    spread: str = ""
    """Smallest and largest of our rounds."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Goal:
    """What is to be reached: a ratio to the peer, or a bound on our own figure."""

    ratio: float | None = None
    least: float | None = None
    most: float | None = None

    def __str__(self) -> str:
        if self.ratio is not None:
            return f">= {self.ratio:g}x"
        return f">= {self.least:,g}" if self.least is not None else f"<= {self.most:,g}"

    def reached(self, ours: float, ratio: float | None) -> bool:
        """Whether a measured row is good enough."""
        if self.ratio is not None:
            return ratio is not None and ratio >= self.ratio
        return ours >= self.least if self.least is not None else ours <= (self.most or 0.0)


@dataclass(slots=True)
class Rounds:
    """What each contender reached, round for round."""

    figures: dict[str, list[float]] = field(default_factory=dict)

    def median(self, name: str) -> float:
        """The middle of one contender's rounds."""
        return statistics.median(self.figures[name])

    def ratio(self, peer: str) -> float:
        """The middle of the rounds' ratios: neighbours in time share the machine's mood."""
        ours = self.figures[OURS]
        return statistics.median(a / b for a, b in zip(ours, self.figures[peer], strict=True))

    def row(self, name: str, unit: str, goal: Goal | None, peer: str = "", note: str = "") -> Row:
        """One line: us beside ``peer``, or alone; without a goal it only informs."""
        ours = self.median(OURS)
        ratio = self.ratio(peer) if peer else None
        mine = self.figures[OURS]
        return Row(
            name=name,
            unit=unit,
            goal=str(goal) if goal else "",
            ours=ours,
            peer=self.median(peer) if peer else None,
            peer_name=peer,
            ratio=ratio,
            reached=goal.reached(ours, ratio) if goal else None,
            rounds=len(mine),
            spread=f"{_short(min(mine))} to {_short(max(mine))}",
            note=note,
        )


def alternate(contenders: Mapping[str, Callable[[], float]], rounds: int = ROUNDS) -> Rounds:
    """Let each contender run once a round, in turns; the first round only warms up."""
    measured = Rounds({name: [] for name in contenders})
    for number in range(rounds + 1):
        for name, contender in contenders.items():
            figure = contender()
            if number:
                measured.figures[name].append(figure)
    return measured


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call, by the monotonic clock."""
    began = time.monotonic()
    work()
    return time.monotonic() - began


def cpu_seconds() -> float:
    """CPU time of this process and all its threads, the kernel's part included."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


# ------------------------------------------------------------------ processes


def child(module: str, request: Mapping[str, Any], timeout_s: float = 120.0) -> dict[str, Any]:
    """Run ``python -m module JSON`` to its end; answer the JSON that it printed."""
    done = subprocess.run(
        [sys.executable, "-m", module, json.dumps(dict(request))],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        timeout=timeout_s,
        check=True,
    )
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def environment() -> dict[str, str]:
    """Answer what a child process needs to find this checkout's code."""
    return os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT)))}


@contextlib.contextmanager
def sending(wire: Path, rate: float = 0.0) -> Iterator[str]:
    """Run the sender over ``wire``; gives its websocket address."""
    command = [sys.executable, "-m", "tests.benchmarks.sender", str(wire), "--rate", str(rate)]
    process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        port = json.loads(process.stdout.readline())["port"]
        yield f"ws://127.0.0.1:{port}/"
    finally:
        process.kill()
        process.communicate()


# --------------------------------------------------------------------- report


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def table(rows: list[Row]) -> str:
    """Lines for a person to read."""
    lines = [("benchmark", "ours", "peer", "ratio", "goal", "")]
    for row in rows:
        if row.ours is None:
            lines.append((row.name, "", "", "", row.goal, f"not run: {row.note}"))
            continue
        peer = f"{_short(row.peer)} {row.peer_name}" if row.peer is not None else ""
        ratio = f"{row.ratio:.2f}x" if row.ratio is not None else ""
        verdict = {True: "reached", False: "MISSED", None: "no goal"}[row.reached]
        note = f"{verdict}  ({row.spread}; {row.unit}{'; ' + row.note if row.note else ''})"
        lines.append((row.name, _short(row.ours), peer, ratio, row.goal, note))
    widths = [max(len(line[column]) for line in lines) for column in range(5)]
    return "\n".join(
        "  ".join(
            text.ljust(width) for text, width in zip(line, [*widths, 0], strict=True)
        ).rstrip()
        for line in lines
    )


def write_json(rows: list[Row], path: Path, versions: Mapping[str, str]) -> None:
    """Write ``build/bench.json``: a list of rows, each with what was measured with what."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = [{**asdict(row), "versions": dict(versions)} for row in rows]
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
