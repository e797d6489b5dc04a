"""A line that is too thin for live capture and a download at once: live goes first."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING

from forebay.app.reader import Data
from forebay.lab.commands import FOREBAY, ask, running, until
from forebay.lab.drills import line
from forebay.lab.drills.history import HistoryStage, true_bars
from forebay.lab.drills.stage import START_S, Stage
from forebay.lab.exchanges.massive.rest import SHORT
from forebay.lab.truth.texts import uuid_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PAIRS = ("EUR-USD", "GBP-USD")
ROWS = 5_000
"""Bars of a page: some hundred kilobytes."""
LATE_MS = 1_000.0
"""Of a hundred live events 99 may come so late at most; the line's own queue holds 300 ms."""
INTAKE = 0.95
FULL = 0.85
"""The share of its rate that a saturated line carries, headers of the queue not counted."""


@contextlib.asynccontextmanager
async def history_beside(stage: Stage) -> AsyncIterator[None]:
    """Run a simulated Massive beside the exchange, which the run captures a little of, too."""
    bars = ",".join(f"{each}={stage.drill.bars}" for each in PAIRS)
    seeded = ("--seed", str(stage.seed), "--start", "now", "--rate", "4")
    market = (*seeded, "--symbols", ",".join(PAIRS), "--bars", bars)
    async with running("lab", "serve", HistoryStage.venue, *market) as lab:
        assert lab.stdout is not None  # noqa: S101 - it was asked for
        urls = json.loads(await asyncio.wait_for(lab.stdout.readline(), START_S))
        await ask(f"{urls['truth_url']}/faults/{SHORT}", "PUT", {"rows": ROWS})
        stage.beside.append(HistoryStage.table(stage.root, urls, PAIRS))
        yield


async def line_saturated(stage: Stage) -> None:
    """A line is too thin for live capture and a download: live goes on, the download yields."""
    quiet = await _look(stage, stage.timing.healthy_s)
    download = await asyncio.create_subprocess_exec(
        *(*FOREBAY, "backfill", "-c", str(stage.config), "--json"),
        *HistoryStage.wanted(stage.drill.bars, PAIRS),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    reading = asyncio.ensure_future(download.communicate())
    try:
        busy = await _look(stage, max(stage.timing.fault_s, 3.0))

        async def look() -> bool | None:
            return reading.done() or None

        ended = download.returncode is not None
        stage.check("the download outlasts the look", ok=not ended)
        await until(stage.clock, look, "the download to end", stage.timing.patience_s)
    finally:
        with contextlib.suppress(ProcessLookupError):
            download.kill()
    out, _ = await reading
    stage.fault_over(busy["overlimits"])
    told = json.loads(out) if out.strip() else {"complete": False}
    stage.check("everything was downloaded at last", ok=bool(told["complete"]))
    await stage.until(
        lambda seen: seen.lag is not None and seen.lag < stage.drill.rate, "the store"
    )
    share = busy["bytes"] * 8 / stage.drill.line_kbit / 1000 / busy["seconds"]
    stage.check(f"the line was full: {share:.0%} of its rate", ok=share >= FULL)
    for name, span in (("before", quiet), ("while it was full", busy)):
        late_ms, intake = await asyncio.to_thread(_live, stage, span)
        said = f"{name}, 99 of 100 events were at most {late_ms:.0f} ms late, intake {intake:.0%}"
        stage.check(said, ok=late_ms <= LATE_MS and intake >= INTAKE)
    stage.check("the bars are history's", ok=await asyncio.to_thread(_same, stage))


async def _look(stage: Stage, seconds: float) -> dict[str, int | float]:
    """Return when a look began, its length, and what the line carried meanwhile."""
    begin_ns, before = stage.clock.wall_ns(), await asyncio.to_thread(line.carried)
    await stage.clock.sleep(seconds)
    after = await asyncio.to_thread(line.carried)
    end_ns = stage.clock.wall_ns()
    spent = {name: after[name] - before[name] for name in after}
    return {**spent, "begin": begin_ns, "end": end_ns, "seconds": (end_ns - begin_ns) / 1e9}


def _live(stage: Stage, span: dict[str, int | float]) -> tuple[float, float]:
    """Return how late the live events of a time were, and which share of the rate came in it."""
    begin, end = (f"make_timestamp_ns({span[name]})" for name in ("begin", "end"))
    late = "(epoch_ns(received_ts) - epoch_ns(event_ts)) / 1e6"
    query = (
        f"SELECT quantile_cont({late}, 0.99) AS late, count(*) AS n FROM trades "  # noqa: S608
        f"WHERE received_ts BETWEEN {begin} AND {end}"
    )
    (row,) = Data(stage.data.root).sql(query).to_pylist()
    return row["late"] or float("inf"), row["n"] / (stage.drill.rate * span["seconds"])


def _same(stage: Stage) -> bool:
    """Return whether the bars that were downloaded are those that history has, each once."""
    query = "SELECT event_id::VARCHAR AS id FROM bars WHERE origin = 'backfill'"
    stored = sorted(Data(stage.data.root).sql(query)["id"].to_pylist())
    made = (true_bars(each, stage.drill.bars, stage.seed).values() for each in PAIRS)
    return stored == sorted(uuid_text(bar.event_id) for bars in made for bar in bars)
