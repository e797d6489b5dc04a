"""Our own side of one benchmark, measured once in the tree that ``PYTHONPATH`` names.

``python -P tests/benchmarks/alone.py NAME`` prints one line of JSON: ``rows``, a list of name,
figure, unit and whether less is better, and ``notes``, why something was not measured; without
NAME it prints the names that there are. It is run by its path, since an older tree does not have
this file: all else is imported from the tree that is measured, its harness and its benchmarks.

Peers are left out where ``alternate`` would give them their turns and where a table of contenders
is kept, and cryptofeed's Python is hidden. A benchmark may still prepare something for them.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ENOUGH_S = 2.0
"""Quick work is done again until it has taken so long, at most as often as it would be anyway."""


class Figure(NamedTuple):
    """What one benchmark says about us."""

    name: str
    value: float
    unit: str
    less: bool
    """Whether less is better."""


def named(name: str, peer: str) -> str:
    """Return a row's name without the peer: ``journal append / lmdb`` is our ``journal append``."""
    return name.removesuffix(peer).rstrip(" /,") if peer else name


def turns(work: Callable[[], float], most: int, clock: Callable[[], float]) -> list[float]:
    """Return what ``work`` answered each time, after once to warm up."""
    work()
    began, figures = clock(), [work()]
    while len(figures) < most and clock() - began < ENOUGH_S:
        figures.append(work())
    return figures


def leave_out_peers(harness: Any) -> None:  # noqa: ANN401 - whichever tree's module it is
    """Let the harness give turns to us only, and answer a :class:`Figure` for a row."""

    def alternate(contenders: Mapping[str, Callable[[], float]], rounds: int = 5) -> object:
        ours = turns(contenders[harness.OURS], rounds, time.monotonic)
        return harness.Rounds({harness.OURS: ours})

    def row(rounds: Any, *about: Any, **more: Any) -> Figure:  # noqa: ANN401 - as its harness has it
        name, unit, goal, *rest = about
        peer = more.get("peer", rest[0] if rest else "")
        middle = statistics.median(rounds.figures[harness.OURS])
        return Figure(named(name, peer), middle, unit, goal is not None and goal.most is not None)

    harness.alternate = alternate
    harness.Rounds.row = row


def idle(*_: object, **__: object) -> None:
    """Do nothing, in a peer's place."""


def idle_peers(ours: str) -> None:
    """Let the peers do nothing, in every table of contenders that the benchmarks keep."""
    modules = [module for name, module in sys.modules.items() if name.startswith("tests.")]
    for table in [value for module in modules for value in vars(module).values()]:
        if isinstance(table, dict) and ours in table:
            table.update(dict.fromkeys(table.keys() - {ours}, idle))


def measure(name: str, harness: Any, benchmarks: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ANN401
    """Return the rows of one benchmark, and why there is not more."""
    rows: dict[str, Figure] = {}
    missing: dict[str, str] = {}
    try:
        for row in benchmarks[name][1]():
            if isinstance(row, Figure):
                rows.setdefault(row.name, row)
            else:
                missing[row.name] = row.note
    except (harness.NotRun, ImportError) as reason:
        missing[name] = "" if rows else str(reason)  # what stopped it after our turns was a peer
    known = tuple(rows)
    notes = [f"{row}: {why}" for row, why in missing.items() if why and not row.startswith(known)]
    return {"rows": list(rows.values()), "notes": notes}


def main() -> None:
    """Measure what was asked for."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ["BENCH_PEER_PYTHON"] = os.devnull + "/none"
    harness: Any = importlib.import_module("tests.benchmarks.harness")
    leave_out_peers(harness)
    benchmarks = importlib.import_module("tests.benchmarks.__main__").BENCHMARKS
    idle_peers(harness.OURS)
    answer = measure(sys.argv[1], harness, benchmarks) if sys.argv[1:] else list(benchmarks)
    sys.stdout.write("\n" + json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
