"""SIGKILL at random moments of capture, deliver or their supervisor: nothing lost or doubled.

Bounds and withheld indices come from the simulator, so a lost tail cannot pass.
"""

from __future__ import annotations

import json
import random
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

import forebay
from forebay.app.wiring.data_folder import DataFolder
from forebay.clock import SystemClock
from forebay.lab.drills.kill import KillDrill, KillPlan
from forebay.lab.drills.plan import VENUE, Drill
from forebay.lab.exchanges.market import HISTORY
from forebay.lab.truth import Trades
from forebay.lab.truth.texts import iso_micros

SYMBOLS = ("BTC-USD", "ETH-USD", "SOL-USD", "ADA-USD", "XRP-USD")
RATE = 5000
FAULTS = (
    "drop=0.0005,duplicate=0.001,reorder=0.001,corrupt=0.0002,late=0.0005,"
    "disconnect=0.00002,halfopen=0.00001,rate_limit=0.1"
)
EVERY_FAULT = (
    f"{FAULTS},ticker_drop=0.0005,ticker_late=0.0005,ticker_reorder=0.0005,ticker_corrupt=0.0002,"
    "ticker_disconnect=0.00002,book_disconnect=0.00002,book_halfopen=0.00001"
)
"""No change of a book is dropped, late or cut short: nobody can see that, and the book is wrong."""
EVERY_CHANNEL = ("trade", "ticker", "quote", "book", "bar")
SO_MANY = pytest.mark.parametrize("kills", [4, pytest.param(10, marks=pytest.mark.drill)])
VICTIMS = ("capture", "deliver", "supervisor")
BOOK = ("book_snapshot", "book_delta")
MOMENTS = 5
"""So many times of each symbol is its book looked at."""


def torture(
    seed: int, *, kills: int, seconds: int, faults: str = FAULTS, channels: tuple[str, ...] = ()
) -> KillPlan:
    """Answer a plan with ``kills`` random kills, every kind of victim among them."""
    rng = random.Random(seed)
    victims = [*VICTIMS, *rng.choices(VICTIMS, k=kills - len(VICTIMS))]
    rng.shuffle(victims)
    moments = sorted(rng.uniform(0.03, 0.97) for _ in victims)
    plan = tuple(zip(moments, victims, strict=True))
    events = seconds * RATE
    venue = {"channels": list(channels)} if channels else {}
    market = Drill("torture", rate=RATE, symbols=SYMBOLS, events=events, faults=faults, venue=venue)
    return KillPlan(market, plan, seed)


@dataclass
class Books:
    """Looks at the books of a data folder at random moments, and at the truth's."""

    folder: Path
    states: Counter[str] = field(default_factory=Counter)

    def look(self, url: str, seed: int) -> None:
        """Compare those that are known; ``url`` is the truth server's."""
        status = ask(url, "/")
        with forebay.open(self.folder) as data:
            for symbol, bounds in status["symbols"].items():
                trades = Trades(
                    seed, VENUE, symbol, start_ns=status["start"], step_us=status["step_us"]
                )
                ends = trades.time_ns(HISTORY), trades.time_ns(bounds["last"])
                rng = random.Random(f"{seed}{symbol}")
                for _ in range(MOMENTS):
                    at_ns = rng.randrange(*ends) // 1_000 * 1_000
                    found = data.book_at(VENUE, symbol, iso_micros(at_ns))
                    self.states[found["state"]] += 1
                    if found["state"] == "known":
                        told = ask(url, "/book", symbol=symbol, at=at_ns)
                        for side in ("bids", "asks"):
                            assert levels(found[side]) == levels(told[side]), (side, found, told)


def levels(side: list[list[str]]) -> list[tuple[Decimal, Decimal]]:
    return [(Decimal(price), Decimal(size)) for price, size in side]


def ask(url: str, path: str, **query: str | int) -> Any:  # noqa: ANN401 - whatever it says
    asked = f"{url}{path}?{urlencode(query)}"
    with urllib.request.urlopen(asked, timeout=30) as answer:  # noqa: S310 - our own server
        return json.loads(answer.read())


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
    assert sum(stream.events for stream in report.streams) >= plan.market.events
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
@SO_MANY
async def test_kills_of_any_process_at_5000_events_a_second(tmp_path: Path, kills: int) -> None:
    await endure(torture(seed=1, kills=kills, seconds=2 + kills), tmp_path / "data")


@pytest.mark.drill
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(2, 12))
async def test_ten_kills_with_many_seeds(tmp_path: Path, seed: int) -> None:
    await endure(torture(seed, kills=10, seconds=40), tmp_path / "data")


@pytest.mark.drill
@pytest.mark.timeout(300)
@SO_MANY
async def test_kills_with_every_kind_of_event(tmp_path: Path, kills: int) -> None:
    plan = torture(1, kills=kills, seconds=2 + kills, faults=EVERY_FAULT, channels=EVERY_CHANNEL)
    books = Books(tmp_path / "data")
    drill = KillDrill(plan, DataFolder(books.folder).create(), SystemClock())
    drill.look = lambda url: books.look(url, plan.seed)
    report = await drill.run()

    assert drill.killed == [victim for _, victim in plan.kills]
    assert report.problems == []
    assert (report.missing, report.doubled, report.mutated, report.spurious) == (0, 0, 0, 0)
    # Trades are filled from history; what else was lost between two connections is gone.
    assert {(gap.channel, gap.state) for gap in report.gaps} == {
        ("trade", "filled"),
        *((channel, "permanent") for channel in ("ticker", "quote", *BOOK)),
    }
    compared = {stream.channel for stream in report.streams if "truth" in stream.stages}
    assert compared == {"trade", "ticker", "quote", "book_delta"}
    assert books.states["known"] > MOMENTS // 4, books.states
    assert books.states["unknown"], books.states
