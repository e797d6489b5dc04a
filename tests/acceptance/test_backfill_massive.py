"""``forebay backfill`` from a simulated Massive whose truth are recordings: every bar is had."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from forebay.app.reader import Data
from forebay.clock import SystemClock
from forebay.lab.commands import FOREBAY
from forebay.lab.exchanges.exchange import ExchangeConfig
from forebay.lab.exchanges.market import MarketConfig
from forebay.lab.exchanges.massive import VENUE as SIMULATED
from forebay.lab.exchanges.massive.messages import KEY
from forebay.lab.exchanges.server import ServerConfig, running
from forebay.lab.truth.histories import ReadBars
from tests.support.commands import environment
from tests.support.recordings import DATA

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from forebay.lab.exchanges.server import Running

FILES = {"EUR-USD": "EURUSD-1h-ask-2017.csv", "GBP-USD": "GBPUSD-1m-bid-2012.csv"}
WANTED = {
    "EUR-USD": ("1h", "2017-01-01", "2018-01-01"),
    "GBP-USD": ("1m", "2012-02-01", "2012-03-02"),
}
EVERY = (
    "SELECT symbol, timeframe, epoch_ms(open_ts) AS opened, open, high, low, close, adjusted, "
    "state, origin FROM bars"
)
ROWS = 1_000
"""Bars of a page, so that there are enough to be killed between."""


@contextlib.asynccontextmanager
async def recorded(tmp_path: Path) -> AsyncIterator[tuple[Running, dict[str, ReadBars]]]:
    """Serve the recordings, and write how they are reached."""
    folder = DATA / "forex"
    if missing := [name for name in FILES.values() if not (folder / name).exists()]:
        pytest.skip(f"no {missing[0]} in {folder}: name its parent in FOREBAY_RECORDINGS")
    truth = {symbol: ReadBars(folder / name) for symbol, name in FILES.items()}
    market = MarketConfig(5, tuple(FILES), 1000, 10, step_us=1_000_000, bars=truth)
    server = ServerConfig(ExchangeConfig(SIMULATED, market))
    async with running(server, SystemClock()) as served:
        (tmp_path / "massive.toml").write_text(f'key = "{KEY}"\n')
        (tmp_path / "forebay.toml").write_text(
            f'data = "{tmp_path / "data"}"\n[[venues]]\nname = "massive"\nmarket = "forex"\n'
            f'symbols = ["EUR-USD"]\nrest_url = "{served.rest_url}"\n'
            f'credentials_file = "{tmp_path / "massive.toml"}"\n'
        )
        served.exchange.switch(
            "pages-short", SystemClock.monotonic_ns(), on=True, settings={"rows": ROWS}
        )
        yield served, truth


async def begun(
    tmp_path: Path, symbol: str, command: str = "backfill", *, also: str = ""
) -> asyncio.subprocess.Process:
    timeframe, since, until = WANTED[symbol]
    return await asyncio.create_subprocess_exec(
        *(*FOREBAY, command, "-c", str(tmp_path / "forebay.toml"), "--venue", "massive"),
        *("--market", "forex", "--symbol", symbol, "--timeframe", timeframe + also),
        *("--from", since, "--to", until, "--json"),
        env=environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def killed(tmp_path: Path, symbol: str, served: Running, after: int) -> None:
    """Kill a download once it has asked for so many pages."""
    enough = served.exchange.rest_requests + after
    process = await begun(tmp_path, symbol)
    async with asyncio.timeout(60):
        while served.exchange.rest_requests < enough and process.returncode is None:  # noqa: ASYNC110 - the simulator's state
            await asyncio.sleep(0.001)
    with contextlib.suppress(ProcessLookupError):  # it may have ended by itself
        process.send_signal(signal.SIGKILL)
    await process.communicate()


async def ended(
    tmp_path: Path, symbol: str, command: str = "backfill", *, also: str = ""
) -> dict[str, object]:
    process = await begun(tmp_path, symbol, command, also=also)
    out, said = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, said.decode() + out.decode()
    found: dict[str, object] = json.loads(out)
    return found


@pytest.mark.drill
async def test_every_bar_of_the_recordings_is_stored_once_though_it_is_killed(
    tmp_path: Path,
) -> None:
    async with recorded(tmp_path) as (served, truth):
        for symbol, kills in (("EUR-USD", (1, 4, 2, 3, 1)), ("GBP-USD", (2, 9, 1, 2, 3))):
            before = served.exchange.rest_requests
            for after in kills:
                await killed(tmp_path, symbol, served, after)
            assert (await ended(tmp_path, symbol))["complete"]
            asked = served.exchange.rest_requests - before
            pages = len(truth[symbol].lines) // ROWS + 12
            assert asked <= pages + 5 * len(kills), "a kill costs the pages under way"
        assert (await ended(tmp_path, "GBP-USD", "verify"))["same"]
        assert (await ended(tmp_path, "EUR-USD"))["stored"] == 0
        adjusted = await ended(tmp_path, "EUR-USD", also=",adjusted")
        assert adjusted["stored"] == len(truth["EUR-USD"].lines), "a series of its own"
    every = Data(tmp_path / "data").sql(EVERY).to_pylist()
    rows = [row for row in every if not row["adjusted"]]
    assert len(every) == len(rows) + len(truth["EUR-USD"].lines)
    stored = Counter(
        (row["symbol"], row["opened"], *(row[name] for name in ("open", "high", "low", "close")))
        for row in rows
    )
    expected = Counter(
        (symbol, line.open_ms, *map(Decimal, line[1:5]))
        for symbol, bars in truth.items()
        for line in bars.lines
    )
    assert stored == expected
    assert {(row["adjusted"], row["state"], row["origin"]) for row in rows} == {
        (False, "final", "backfill")
    }
    report = Data(tmp_path / "data").audit_report()
    assert report.ok, report.problems
