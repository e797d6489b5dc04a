"""A pair's history to DuckDB: the downloader beside a plain loop, its memory, and a restart.

The pages are those of the Massive simulator, a process of its own that makes them while they are
asked for; *pages alone* is how fast it does. Contenders and simulator share the machine.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from tests.benchmarks.downloading import SYMBOL
from tests.benchmarks.harness import OURS, ROOT, Goal, Row, alternate, child, environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BARS, PAGE = 1_025_720, 50_000
"""Of one pair, as the first document counts them; and of one page."""
_ARROW, _ROWS, _FETCHED = "requests + Arrow", "requests + executemany", "pages alone"
_WAYS = {OURS: "ours", _ARROW: "arrow", _FETCHED: "fetched"}
_LIMIT_S = 600.0
_MODULE = "tests.benchmarks.downloading"


class Lab:
    """The simulator, and how often it was asked."""

    def __init__(self, told: dict[str, str]) -> None:
        self.url = told["rest_url"]
        self._truth = told["truth_url"]

    def asked(self) -> int:
        """Requests of history so far."""
        with urllib.request.urlopen(self._truth, timeout=30) as answer:  # noqa: S310
            return int(json.load(answer)["rest_requests"])

    def run(self, way: str, bars: int, folder: str = "") -> dict[str, Any]:
        """Go one way in a process, in a folder of its own if none is given."""
        with tempfile.TemporaryDirectory(prefix="forebay-bench-") as own:
            request = {"way": way, "url": self.url, "folder": folder or own, "bars": bars}
            return child(_MODULE, request, _LIMIT_S)


@contextlib.contextmanager
def massive(bars: int) -> Iterator[Lab]:
    """Run the simulator while the context is open."""
    command = (*(sys.executable, "-m", "forebay", "lab", "serve", "massive", "--seed", "5"),
               *("--symbols", SYMBOL, "--bars", f"{SYMBOL}={bars}"))  # fmt: skip
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        yield Lab(json.loads(process.stdout.readline()))
    finally:
        process.kill()
        process.communicate()


def restarted(lab: Lab, bars: int) -> int:
    """Kill a download at half, and end it; return how often more was asked than once a page."""
    before = lab.asked()
    with tempfile.TemporaryDirectory(prefix="forebay-bench-") as folder:
        request = json.dumps({"way": "ours", "url": lab.url, "folder": folder, "bars": bars})
        command = [sys.executable, "-m", _MODULE, request]
        process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE)
        half = -(-bars // PAGE) // 2
        while lab.asked() - before < half and process.poll() is None:
            pass  # to ask takes its time
        process.kill()
        process.communicate()
        lab.run("ours", bars, folder)
    return lab.asked() - before - -(-bars // PAGE)


def run(*, bars: int = BARS, rounds: int = 3) -> Iterator[Row]:
    """Measure bars a second, memory and a restart."""
    peaks: defaultdict[str, list[float]] = defaultdict(list)

    def rate(lab: Lab, name: str) -> Callable[[], float]:
        def one() -> float:
            found = lab.run(_WAYS[name], bars)
            assert found["bars"] == bars, f"{name}: {found['bars']} bars"
            peaks[name].append(found["peak_mb"])
            return bars / float(found["seconds"])

        return one

    with massive(bars) as lab:
        measured = alternate({name: rate(lab, name) for name in _WAYS}, rounds)
        least = measured.median(_FETCHED)
        note = f"1 page at once; the simulator gives {least:,.0f}"
        yield measured.row("history -> stored", "bars/s", None, _ARROW, note)
        rows = lab.run("rows", PAGE)
        slow = rows["bars"] / rows["seconds"]
        ours = measured.median(OURS)
        yield Row(
            "history -> stored, by rows", "bars/s", "", ours, slow, _ROWS, ours / slow,
            note=f"the peer was given {PAGE:,} bars, once",
        )  # fmt: skip
        peak, peer = (statistics.median(peaks[name]) for name in (OURS, _ARROW))
        yield Row("history, peak memory", "MB", "", peak, peer, _ARROW)
        quarter = lab.run("ours", bars // 4)["peak_mb"]
        grown, goal = max(peaks[OURS]) - quarter, Goal(most=64)
        yield Row(
            "history, memory of four times the bars", "MB more", str(goal), grown,
            reached=goal.reached(grown, None), note=f"{quarter:,.0f} MB at a quarter",
        )  # fmt: skip
        again, once = restarted(lab, bars), Goal(most=1)
        yield Row(
            "history, pages repeated after a kill at half", "pages", str(once), again,
            reached=once.reached(again, None), note=f"of {-(-bars // PAGE)}",
        )  # fmt: skip
