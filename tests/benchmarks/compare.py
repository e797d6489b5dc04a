"""``make bench-compare BASE=commit``: our own rows of an earlier commit beside the present tree.

Both are measured in one run, in turns (B H H B B H H B ...), each time by a fresh process in
which ``alone.py`` runs the benchmarks of that tree against the code of that tree; both use the
libraries of the present ``.venv``. A round is a base and a head that are neighbours in time, and
*ratio* is the median of the rounds' head over base: what else the machine does meets both alike.

The control, *A/A*: between any two rounds, two measurements of the *same* tree are neighbours, as
near in time as the two of a round. From them, taken either way round, follows how far the median
of so many rounds strays when nothing was changed: beyond A/A one time in twenty at most. A row
differs beyond noise only if

* its rounds agree more than coins would (5 %, one-sided: of five rounds all five), and
* its ratio is further from 1 than A/A.

The first assumes nothing about the noise, and fewer than five rounds cannot fulfil it; the second
keeps a small and steady difference apart from what the machine does by itself. Simulated with
noise of 2 % (normal, long-tailed, or leaning on the last measurement), equal trees are called
worse in about one row of seventy, which is one row in every fourth full run; by 10 % beyond noise
in about one of a thousand.

So a difference of 5 % means something in a row whose A/A is well below 5 %, and nothing in one
whose A/A is above, whatever the two medians are. More rounds help: four times as many halve A/A.

Exit code 1 if a row is worse by more than ``--limit`` per cent beyond A/A, or a benchmark fails
in the present tree only; 2 if nothing could be compared; 0 otherwise.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.benchmarks.comparing import (
    BASE,
    HEAD,
    LIMIT,
    Failed,
    Outcome,
    five_percent,
    in_one_only,
    run_benchmark,
    table,
)
from tests.benchmarks.harness import ROOT, ROUNDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

ALONE = Path(__file__).with_name("alone.py")
WRITTEN = ROOT / "build" / "bench-compare.json"
_PATIENCE_S = 600.0
_FAREWELL_S = 10.0


def git(*arguments: str) -> str:
    """Return what git prints; Ctrl-C does not reach it, so that cleaning up is not cut short."""
    done = subprocess.run(
        ["git", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
    )
    if done.returncode:
        raise Failed(done.stderr.strip() or f"git {arguments[0]} failed")
    return done.stdout.strip()


@contextlib.contextmanager
def checkout(commit: str, run: Callable[..., str] = git) -> Iterator[Path]:
    """Give a worktree of ``commit``, which is gone afterwards, whatever happened."""
    with tempfile.TemporaryDirectory(prefix="forebay-bench-") as folder:
        place = str(Path(folder, BASE))
        try:
            run("worktree", "add", "--detach", place, commit)
            yield Path(place)
        finally:
            with contextlib.suppress(Failed):  # it may never have been there
                run("worktree", "remove", "--force", "--force", place)


def ask(tree: Path, *arguments: str, patience_s: float = _PATIENCE_S) -> Any:  # noqa: ANN401
    """Return what ``alone.py`` says in a tree; nothing that it started outlives the call."""
    process = subprocess.Popen(
        [sys.executable, "-P", str(ALONE), *arguments],
        cwd=tree,
        env=os.environ | {"PYTHONPATH": os.pathsep.join((str(tree / "src"), str(tree)))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        said, wrong = process.communicate(timeout=patience_s)
    except BaseException as reason:
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, signal.SIGINT)  # it has temporary folders to remove
            process.communicate(timeout=_FAREWELL_S)
        if isinstance(reason, subprocess.TimeoutExpired):
            raise Failed(f"took more than {patience_s:g} s") from None
        raise
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.returncode:
        sys.stderr.write("\n" + wrong.decode(errors="replace"))
        raise Failed(f"ended with exit code {process.returncode}")
    return json.loads(said.splitlines()[-1])


def run_all(trees: Mapping[str, Path], only: Sequence[str], rounds: int, limit: float) -> Outcome:
    """Measure every benchmark, or only some, one after the other."""
    found: dict[str, list[str]] = {}
    for side, tree in trees.items():
        try:
            found[side] = ask(tree)
        except Failed as failure:
            raise Failed(f"The benchmarks of {side} cannot be listed: it {failure}") from failure
    if unknown := set(only).difference(*found.values()):
        raise Failed(f"No such benchmark: {', '.join(sorted(unknown))}")
    names = {side: [name for name in of if name in (only or of)] for side, of in found.items()}
    whole = Outcome(missing=in_one_only(names))

    def measure(side: str, name: str) -> Mapping[str, Any]:
        sys.stderr.write(f" {side[0].upper()}")
        sys.stderr.flush()
        answer: Mapping[str, Any] = ask(trees[side], name)
        return answer

    for name in (name for name in names[BASE] if name in names[HEAD]):
        sys.stderr.write(f"measuring {name}")
        one = run_benchmark(name, rounds, measure, limit)
        sys.stderr.write("\n")
        whole.rows += one.rows
        whole.missing += one.missing
        whole.broken |= one.broken
    return whole


def tell(outcome: Outcome, about: Mapping[str, object], path: Path) -> str:
    """Return what there is to say, and write it for machines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [asdict(row) for row in outcome.rows]
    document = {**about, "rows": rows, "missing": outcome.missing, "passes": outcome.passes}
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    lines = [table(outcome.rows), five_percent(outcome.rows)] if rows else []
    lines += [f"not compared: {sentence}" for sentence in outcome.missing]
    return "\n".join(lines) + "\n"


def compare_trees(chosen: argparse.Namespace) -> int:
    """Compare, tell, write; return the exit code."""
    try:
        base = git("rev-parse", "--verify", "--end-of-options", f"{chosen.base}^{{commit}}")
    except Failed as failure:
        raise Failed(f"{chosen.base} is no commit here: {failure}") from failure
    head, changed = git("rev-parse", "HEAD"), bool(git("status", "--porcelain"))
    sys.stderr.write(f"base {base[:12]}, head {head[:12]}{' and what is changed' * changed}\n")
    if git("diff", "--name-only", base, "--", "requirements"):
        sys.stderr.write("The locks differ; both are measured with the present libraries.\n")
    with checkout(base) as place:
        trees = {BASE: place, HEAD: ROOT}
        outcome = run_all(trees, chosen.only or (), chosen.rounds, chosen.limit)
    about = {"base": base, "head": head, "changed": changed}
    about |= {"rounds": chosen.rounds, "limit": chosen.limit}
    sys.stdout.write(tell(outcome, about, WRITTEN))
    if not outcome.rows and not outcome.broken:
        return 2
    return 0 if outcome.passes else 1


def interrupt(_number: int, _frame: object) -> None:
    """End as by Ctrl-C, and let nothing more disturb what is cleaned up then."""
    for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)
    raise KeyboardInterrupt


def _rounds(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError("at least one")
    return int(text)


def main() -> None:
    """Compare what was asked for."""
    parser = argparse.ArgumentParser(prog="make bench-compare", description="Compare two trees.")
    parser.add_argument("--base", required=True, help="the commit to compare with")
    parser.add_argument("--only", action="append", metavar="NAME", help="one benchmark")
    parser.add_argument("--rounds", type=_rounds, default=ROUNDS)
    parser.add_argument("--limit", type=float, default=LIMIT, help="per cent beyond noise")
    chosen = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, interrupt)
    try:
        sys.exit(compare_trees(chosen))
    except Failed as failure:
        sys.stderr.write(f"{failure}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted; the worktree of base is removed.\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
