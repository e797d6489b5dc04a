"""``python -m tests.simulation``: run worlds by seed, in virtual time, and say what happened.

Exit code 1: a world failed, which is printed with the command that runs it again; or something
that should go wrong now and then never did. A negative control is expected to lose or double,
and is no failure.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, TypeVar

from forebay.cli.output import print_json, print_table, progress
from tests.simulation.controls import CONTROLS, run_control
from tests.simulation.run import run_many, run_seed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.simulation.controls import Score
    from tests.simulation.run import Summary

T = TypeVar("T")
COMMAND = "python -m tests.simulation"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what ``arguments`` ask for; return the exit code."""
    asked = _parse(arguments)
    first, count = (asked.first, asked.seeds) if asked.seed is None else (asked.seed, 1)
    if asked.trace:
        return 0 if _print_trace(first) else 1
    if asked.part:
        score = _with_bar(count, lambda bar: run_control(asked.part, first, count, bar))
        _print_score(score, as_json=asked.json)
        return 0
    summary = _with_bar(count, lambda bar: run_many(first, count, jobs=asked.jobs, progress=bar))
    _print_summary(summary, as_json=asked.json)
    return 0 if summary.ok else 1


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=COMMAND, description="Run the core in worlds where everything goes wrong, by seed."
    )
    parser.add_argument("--seed", type=int, help="run this world alone")
    parser.add_argument("--seeds", type=int, default=1000, help="run so many worlds")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first one's seed")
    parser.add_argument("--jobs", type=int, default=1, help="processes to run them in")
    parser.add_argument(
        "--trace", action="store_true", help="with --seed: print everything that happened"
    )
    parser.add_argument("--part", choices=CONTROLS, help="run a negative control instead")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    asked = parser.parse_args(arguments)
    if asked.trace and asked.seed is None:
        parser.error("--trace is of one world: name it with --seed N.")
    if asked.trace and (asked.part or asked.json):
        parser.error("--trace goes with neither --part nor --json.")
    return asked


def _with_bar(total: int, work: Callable[[Callable[[int], None]], T]) -> T:
    """Do ``work`` with a progress bar on stderr."""
    with progress() as bar:
        task = bar.add_task("worlds", total=total)
        return work(lambda done: bar.update(task, completed=done))


def _print_trace(seed: int) -> bool:
    outcome = run_seed(seed, keep_trace=True)
    for line in outcome.lines:
        print(line)
    print(f"trace {outcome.trace}")
    return not outcome.failures


def _print_summary(summary: Summary, *, as_json: bool) -> None:
    failed = [
        {"seed": seed, "failure": failure, "again": f"{COMMAND} --seed {seed}"}
        for seed, failure in summary.failed
    ]
    if as_json:
        print_json(
            {
                "ok": summary.ok,
                "seeds": summary.seeds,
                "events": summary.events,
                "trace": summary.trace,
                "failed": failed,
                "never": summary.never(),
                "happened": summary.counts(),
            }
        )
        return
    print_table("", ("happened", "times"), summary.counts().items())
    verdict = f"{len(failed)} failed" if failed else "none failed"
    print(f"{summary.seeds} seeds, {summary.events} events: {verdict}")
    for failure in failed:
        print(f"seed {failure['seed']}: {failure['failure']}\n  {failure['again']} --trace")
    for name in summary.never():
        print(f"never happened: {name}")


def _print_score(score: Score, *, as_json: bool) -> None:
    document = {"part": score.part, **score.document()}
    if as_json:
        print_json(document)
    else:
        print_table("", tuple(document), [tuple(document.values())])


if __name__ == "__main__":
    sys.exit(main())
