"""A line that is too thin for live capture and a download at once: live goes first."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from forebay.app.reader import Data
from forebay.lab.commands import FOREBAY, ask, running
from forebay.lab.drills import line
from forebay.lab.drills.history import HistoryStage, true_bars
from forebay.lab.drills.stage import START_S, Stage
from forebay.lab.exchanges.massive.rest import SHORT
from forebay.lab.truth.texts import uuid_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

PAIRS = ("EUR-USD", "GBP-USD")
LIVE = ("USD-JPY",)
"""Captured of the same venue, since a capture knows only venues that it captures."""
ROWS = 5_000
"""Bars of a page: some hundred kilobytes."""
LATE_MS = 1_000.0
"""Of a hundred live events 99 may come so late at most; the line's own queue holds 300 ms."""
INTAKE = 0.95
LOOK_S = 0.05


@contextlib.asynccontextmanager
async def history_beside(stage: Stage) -> AsyncIterator[None]:
    """Run a simulated Massive beside the exchange, which the run captures a little of, too."""
    bars = ",".join(f"{each}={stage.drill.bars}" for each in PAIRS)
    seeded = ("--seed", str(stage.seed), "--start", "now", "--rate", "4")
    market = (*seeded, "--symbols", ",".join((*PAIRS, *LIVE)), "--bars", bars)
    async with running("lab", "serve", HistoryStage.served, *market) as lab:
        assert lab.stdout is not None  # noqa: S101 - it was asked for
        urls = json.loads(await asyncio.wait_for(lab.stdout.readline(), START_S))
        await ask(f"{urls['truth_url']}/faults/{SHORT}", "PUT", {"rows": ROWS})
        stage.beside.append(HistoryStage.table(stage.root, urls, LIVE))
        yield


async def line_saturated(stage: Stage) -> None:
    """A line is too thin for live capture and a download: live goes on, the download yields."""
    looks = iter(range(round(max(stage.timing.healthy_s, 2.0) / LOOK_S)))
    quiet = await _look(stage, lambda: next(looks, None) is None)
    download = await asyncio.create_subprocess_exec(
        *(*FOREBAY, "backfill", "-c", str(stage.config), "--json"),
        *HistoryStage.wanted(stage.drill.bars, PAIRS),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    reading = asyncio.ensure_future(download.communicate())
    try:
        end_ns = stage.clock.monotonic_ns() + round(stage.timing.patience_s * 1e9)
        over = lambda: reading.done() or stage.clock.monotonic_ns() > end_ns  # noqa: E731
        busy = await _look(stage, over)
    finally:
        with contextlib.suppress(ProcessLookupError):
            download.kill()
    out, _ = await reading
    stage.fault_over(busy.full)
    told = json.loads(out) if out.strip() else {"complete": False}
    stage.check("everything was downloaded at last", ok=bool(told["complete"]))
    rate = stage.drill.rate
    await stage.until(lambda seen: seen.lag is not None and seen.lag < rate, "the store")
    for name, look in (("before", quiet), ("while it was full", busy)):
        late_ms, intake = await asyncio.to_thread(_live, stage, look)
        said = f"{name}, 99 of 100 events were at most {late_ms:.0f} ms late, intake {intake:.0%}"
        share = look.carried * 8 / stage.drill.line_kbit / 1000 / look.seconds
        what = f"{said}; the line carried {share:.0%}, and was full {look.full} times"
        stage.check(what, ok=late_ms <= LATE_MS and intake >= INTAKE)
    stage.check("the bars are history's", ok=await asyncio.to_thread(_same, stage))


@dataclass(frozen=True, slots=True)
class LineLook:
    """What was seen of the line for a while."""

    begin_ns: int
    end_ns: int
    carried: int
    """Bytes."""
    full: int
    """How often something waited for it."""

    @property
    def seconds(self) -> float:
        return (self.end_ns - self.begin_ns) / 1e9


async def _look(stage: Stage, over: Callable[[], bool]) -> LineLook:
    begin_ns, before, full = stage.clock.wall_ns(), line.carried(), 0
    after = before
    while not over():
        await stage.clock.sleep(LOOK_S)
        after = await asyncio.to_thread(line.carried)
        full += int(after["backlog"] > 0)
    return LineLook(begin_ns, stage.clock.wall_ns(), after["bytes"] - before["bytes"], full)


def _live(stage: Stage, look: LineLook) -> tuple[float, float]:
    """Return how late the live events of a time were, and which share of the rate came in it."""
    begin, end = (f"make_timestamp_ns({ns})" for ns in (look.begin_ns, look.end_ns))
    late = "(epoch_ns(received_ts) - epoch_ns(event_ts)) / 1e6"
    query = (
        f"SELECT quantile_cont({late}, 0.99) AS late, count(*) AS n FROM trades "  # noqa: S608
        f"WHERE received_ts BETWEEN {begin} AND {end}"
    )
    (row,) = Data(stage.data.root).sql(query).to_pylist()
    return row["late"] or float("inf"), row["n"] / (stage.drill.rate * look.seconds)


def _same(stage: Stage) -> bool:
    """Return whether the bars that were downloaded are those that history has, each once."""
    query = "SELECT event_id::VARCHAR AS id FROM bars WHERE origin = 'backfill'"
    stored = sorted(Data(stage.data.root).sql(query)["id"].to_pylist())
    made = (true_bars(each, stage.drill.bars, stage.seed).values() for each in PAIRS)
    return stored == sorted(uuid_text(bar.event_id) for bars in made for bar in bars)
