"""Our delivery as a process of its own: journal to DuckDB, until so many frames are STORED.

``python -m tests.benchmarks.deliverer '{"folder": ..., "frames": N}'`` follows a journal that is
being written and prints one line of JSON, as :mod:`tests.benchmarks.recorder` does. The ledger is
not on this way: see :mod:`tests.benchmarks.recorded`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from forebay.app.wiring import venues
from forebay.clock import SystemClock
from forebay.journal import CursorFile
from forebay.services.deliver import BACKLOG_FRAMES, PACE_S, Deliverer
from forebay.stores.duckdb import DuckDBStore
from tests.benchmarks.harness import cpu_seconds


async def deliver(folder: str, frames: int) -> dict[str, Any]:
    """Deliver until ``frames`` rows are stored, at the pace of the product's own process."""
    clock, place = SystemClock(), Path(folder)
    store = DuckDBStore(place / "bench.duckdb")
    cursor = CursorFile(place / "store.cursor")
    deliverer = Deliverer(place / "journal", store, venues.parsers(), cursor=cursor)
    began, cpu = clock.monotonic_ns(), cpu_seconds()
    while deliverer.delivered.rows < frames:
        if await asyncio.to_thread(deliverer.step) < BACKLOG_FRAMES:
            await clock.sleep(PACE_S)
    result = {
        "frames": deliverer.delivered.rows,
        "cpu_s": cpu_seconds() - cpu,
        "wall_s": (clock.monotonic_ns() - began) / 1e9,
        "dead_letters": deliverer.delivered.dead_letters,
    }
    store.close()
    return result


def main() -> None:
    """Deliver once and say what it took."""
    sys.stdout.write(json.dumps(asyncio.run(deliver(**json.loads(sys.argv[1])))) + "\n")


if __name__ == "__main__":
    main()
