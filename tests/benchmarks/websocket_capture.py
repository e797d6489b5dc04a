"""From a socket to CAPTURED: frames a CPU second of the capture process.

A process of its own sends prepared matches over loopback as fast as they are taken; another one
captures them with the product's connector, group commit and journal. The peer is the same sink
behind the ``websockets`` library.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.benchmarks.frames import write_wire
from tests.benchmarks.harness import OURS, Goal, Row, alternate, child, sending

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RECORDER = "tests.benchmarks.recorder"
_WARM = 20_000
_PACE = 50_000.0


def _recorded(folder: str, url: str, frames: int, driver: str) -> dict[str, Any]:
    place = tempfile.mkdtemp(dir=folder)
    request = {"url": url, "folder": place, "frames": frames, "driver": driver, "warm": _WARM}
    return child(RECORDER, request)


def run(*, count: int = 400_000) -> Iterator[Row]:
    """Measure frames a CPU second, kernel and disk writes included."""
    with tempfile.TemporaryDirectory(prefix="forebay-bench-") as folder:
        wire = Path(folder) / "wire"
        write_wire(wire, count)
        with sending(wire) as url:

            def once(driver: str) -> Callable[[], float]:
                def measured() -> float:
                    result = _recorded(folder, url, count, driver)
                    return float(result["frames"] / result["cpu_s"])

                return measured

            rounds = alternate({OURS: once("picows"), "websockets": once("websockets")})
            heard = alternate({OURS: once("heard")}, 3)
    yield rounds.row("websocket -> captured", "frames/CPU s", Goal(least=500_000), "websockets")
    yield heard.row("websocket -> captured, each heard by its session", "frames/CPU s", None)


def latency(*, count: int = 300_000) -> Iterator[Row]:
    """Measure milliseconds from receipt to CAPTURED at 50 k frames a second, on this disk."""
    with tempfile.TemporaryDirectory(prefix="forebay-bench-") as folder:
        wire = Path(folder) / "wire"
        write_wire(wire, count)
        middles: list[float] = []
        with sending(wire, _PACE) as url:

            def once() -> float:
                result = _recorded(folder, url, count, "picows")
                middles.append(result["p50_ms"])
                return float(result["p99_ms"])

            rounds = alternate({OURS: once})
    middle = sorted(middles)[len(middles) // 2]
    yield rounds.row(
        "capture latency p99 at 50 k/s", "ms", Goal(most=15), note=f"p50 {middle:.1f} ms"
    )
