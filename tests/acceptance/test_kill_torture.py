"""SIGKILL at random moments of capture, deliver or their supervisor: nothing lost or doubled.

Bounds and withheld indices come from the simulator, so a lost tail cannot pass.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from forebay.app.data_folder import DataFolder
from forebay.clock import SystemClock
from forebay.lab.drills.kill import KillDrill, KillPlan

SYMBOLS = ("BTC-USD", "ETH-USD", "SOL-USD", "ADA-USD", "XRP-USD")
RATE = 5000
FAULTS = (
    "drop=0.0005,duplicate=0.001,reorder=0.001,corrupt=0.0002,late=0.0005,"
    "disconnect=0.00002,halfopen=0.00001,rate_limit=0.1"
)
VICTIMS = ("capture", "deliver", "supervisor")


def torture(seed: int, *, kills: int, seconds: int) -> KillPlan:
    """Answer a plan with ``kills`` random kills, every kind of victim among them."""
    rng = random.Random(seed)
    victims = [*VICTIMS, *rng.choices(VICTIMS, k=kills - len(VICTIMS))]
    rng.shuffle(victims)
    moments = sorted(rng.uniform(0.03, 0.97) for _ in victims)
    plan = tuple(zip(moments, victims, strict=True))
    return KillPlan(SYMBOLS, RATE, seconds * RATE, FAULTS, plan, seed=seed)


async def endure(plan: KillPlan, folder: Path) -> None:
    drill = KillDrill(plan, DataFolder(folder).create(), SystemClock())
    report = await drill.run()

    assert drill.killed == [victim for _, victim in plan.kills]
    assert report.problems == []
    assert (report.missing, report.doubled, report.mutated, report.spurious) == (0, 0, 0, 0)
    assert report.ok
    # The faults happened: connections were lost, frames were dropped, and all was filled.
    reasons = {gap.reason for gap in report.gaps}
    assert reasons == {"in_connection", "between_connections"}
    assert {gap.state for gap in report.gaps} == {"filled"}
    assert sum(stream.events for stream in report.streams) >= plan.events
    assert processes_of(folder) == []


def processes_of(folder: Path) -> list[str]:
    """Answer the commands of living processes that hold something in ``folder`` open."""
    holders = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            targets = [link.readlink() for link in (process / "fd").iterdir()]
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:  # it ended meanwhile
            continue
        if any(target.is_relative_to(folder) for target in targets):
            holders.append(command)
    return holders


@pytest.mark.timeout(300)
async def test_ten_kills_of_any_process_at_5000_events_a_second(tmp_path: Path) -> None:
    await endure(torture(seed=1, kills=10, seconds=40), tmp_path / "data")


@pytest.mark.drill
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(2, 12))
async def test_ten_kills_with_many_seeds(tmp_path: Path, seed: int) -> None:
    await endure(torture(seed, kills=10, seconds=40), tmp_path / "data")
