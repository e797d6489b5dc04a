"""``forebay backfill`` as a process: killed at any moment, its records lost, and the same rows."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
import subprocess
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from forebay.app.processes.verification import DIFFERENCES
from forebay.app.reader import Data
from forebay.app.wiring.data_folder import DataFolder
from forebay.clock import SystemClock
from forebay.lab.commands import FOREBAY
from forebay.times import to_text
from tests.support.commands import (
    capture,
    connected,
    environment,
    said,
    simulator,
    wait_for,
)
from tests.support.http_server import serving
from tests.support.made_history import BEGIN_S, DAY_S, MadeHistory, bars, on_weekdays

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BTC, ETH = "BTC-USD", "ETH-USD"
EVERY = (
    "SELECT symbol, timeframe, epoch(open_ts)::BIGINT AS opened, close::VARCHAR AS close "
    "FROM bars ORDER BY ALL"
)
DAYS = 3
PAGES = 2 * -(-DAYS * 1440 // 300)


def command(folder: Path, url: str) -> list[str]:
    return [
        *(*FOREBAY, "backfill", "--venue", "coinbase", "--symbol", BTC, "--symbol", ETH),
        *("--timeframe", "1m", "--from", "2026-03-04", "--to", "2026-03-07", "--at-once", "1"),
        *("--rest-url", url, "--data", str(folder), "--json"),
    ]


async def started(folder: Path, url: str) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    arguments = command(folder, url)
    return await asyncio.create_subprocess_exec(
        *arguments, env=environment(), stdout=pipe, stderr=pipe
    )


async def ended(folder: Path, url: str) -> dict[str, Any]:
    process = await started(folder, url)
    out, said = await asyncio.wait_for(process.communicate(), 90)
    assert process.returncode == 0, said.decode()
    found: dict[str, Any] = json.loads(out)
    return found


async def killed(folder: Path, url: str, history: MadeHistory, after: int) -> None:
    """Begin, and kill it once so many more pages were asked for."""
    enough = len(history.asked) + after
    process = await started(folder, url)
    async with asyncio.timeout(60):
        while len(history.asked) < enough:  # noqa: ASYNC110 - it is no event
            await asyncio.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    await process.communicate()
    assert process.returncode == -signal.SIGKILL


def rows(folder: Path) -> Counter[tuple[str, int, str]]:
    found = Data(folder).sql(EVERY).to_pylist()
    return Counter((row["symbol"], row["opened"], row["close"].rstrip("0")) for row in found)


def expected(history: MadeHistory) -> Counter[tuple[str, int, str]]:
    begin = BEGIN_S + 2 * DAY_S
    return Counter(
        (symbol, opened, close)
        for symbol in (BTC, ETH)
        for opened, close in bars(history, symbol, 60, begin, begin + DAYS * DAY_S)
    )


async def test_killed_again_and_again_it_stores_each_bar_once_and_repeats_a_page_a_kill(
    tmp_path: Path,
) -> None:
    history = MadeHistory(on_weekdays, delay_s=0.02)
    async with serving(history.answer) as url:
        for after in (3, 1, 8):
            await killed(tmp_path, url, history, after)
        found = await ended(tmp_path, url)
    assert found["complete"]
    assert rows(tmp_path) == expected(history)
    assert len({*history.asked}) == PAGES
    assert len(history.asked) <= PAGES + 3, "a kill costs a page at most"
    assert Data(tmp_path).audit_report().ok


def _store_of_the_beginning(folder: Path, copy: Path) -> None:
    database = DataFolder(folder).root / "forebay.duckdb"
    for each in database.parent.glob(f"{database.name}*"):
        each.unlink()
    for each in copy.glob(f"{database.name}*"):
        shutil.copy(each, database.parent)


def _without_database(folder: Path, _: Path) -> None:
    for each in folder.glob("forebay.duckdb*"):
        each.unlink()


def _without_cursor(folder: Path, _: Path) -> None:
    (folder / "cursors" / "store.cursor").unlink()


def _half_a_cursor(folder: Path, _: Path) -> None:
    cursor = folder / "cursors" / "store.cursor"
    cursor.write_bytes(cursor.read_bytes()[:9])


@pytest.mark.parametrize(
    "harm", [_store_of_the_beginning, _without_database, _without_cursor, _half_a_cursor]
)
@pytest.mark.drill
async def test_whatever_is_lost_of_how_far_it_got_the_rows_are_the_same(
    tmp_path: Path, harm: Callable[[Path, Path], None]
) -> None:
    folder, copy = tmp_path / "data", tmp_path / "copy"
    history = MadeHistory(on_weekdays, delay_s=0.02)
    async with serving(history.answer) as url:
        await killed(folder, url, history, 3)
        shutil.copytree(folder, copy)
        await killed(folder, url, history, 9)
        harm(folder, copy)
        assert (await ended(folder, url))["complete"]
    assert rows(folder) == expected(history)
    assert Data(folder).audit_report().ok


@pytest.mark.drill
async def test_a_running_capture_downloads_beside_what_it_captures(tmp_path: Path) -> None:
    history = MadeHistory(on_weekdays)

    def capturing() -> contextlib.ExitStack:
        with contextlib.ExitStack() as stack:
            lab = stack.enter_context(simulator("--rate", 100))
            running = stack.enter_context(capture(tmp_path / "data", *lab.flags))
            connected(running)
            return stack.pop_all()

    async with serving(history.answer) as url:
        with await asyncio.to_thread(capturing):
            found = await ended(tmp_path / "data", url)
            asked = len(history.asked)
            again = await ended(tmp_path / "data", url)
    assert found["complete"]
    assert found["stored"] == expected(history).total()
    assert again["complete"]
    assert asked == len(history.asked) == PAGES
    assert rows(tmp_path / "data") == expected(history)
    audit = Data(tmp_path / "data").audit_report()
    assert audit.ok, audit.problems
    assert sum(each.events for each in audit.streams if each.channel == "trade") > 0


SERVICE = """
data = "{data}"
fill.enabled = false
[[venues]]
name = "coinbase"
symbols = ["BTC-USD"]
ws_url = "{ws_url}"
rest_url = "{rest_url}"
[downloader]
venue = "coinbase"
symbols = ["BTC-USD", "ETH-USD"]
timeframes = ["1h"]
since = "{since}"
every = "1s"
"""


@pytest.mark.drill
async def test_the_configuration_has_bars_kept_up_with_beside_a_capture(tmp_path: Path) -> None:
    history = MadeHistory()
    now_s = SystemClock.wall_ns() // 10**9
    since = now_s // 3600 * 3600 - 48 * 3600
    file, data = tmp_path / "forebay.toml", tmp_path / "data"

    def capturing(url: str) -> None:
        with simulator("--rate", 100) as lab:
            told = {"ws_url": lab.ws_url, "rest_url": url, "since": to_text(since * 10**9)}
            file.write_text(SERVICE.format(data=data, **told))
            with capture(data, file=file) as running:
                running.until(
                    lambda each: each["deliver"]["stored"].get("bars", 0) >= 2 * 48, "the bars"
                )

                def both() -> list[dict[str, Any]] | None:
                    lines = said(running.log, "bars_verified")
                    return lines if len({each["stream"] for each in lines}) == 2 else None

                verdicts = wait_for(both, "both series")
                assert not any(each[name] for each in verdicts for name in DIFFERENCES), verdicts
                assert sum(each["bars"] for each in verdicts) >= 2 * 48, verdicts
                beside = ("--venue", "coinbase", "--timeframe", "1h", "-c", str(file), "--json")
                since_text = to_text(since * 10**9)
                found = subprocess.run(
                    [*FOREBAY, "verify", *beside, "--from", since_text],
                    env=environment(),
                    stdout=subprocess.PIPE,
                    check=True,
                )
                streams = json.loads(found.stdout)["streams"]
                assert [each["symbol"] for each in streams] == [BTC, ETH]

    async with serving(history.answer) as url:
        await asyncio.to_thread(capturing, url)
        verified = await asyncio.create_subprocess_exec(
            *(*FOREBAY, "verify", "--venue", "coinbase", "--timeframe", "1h", "-c", str(file)),
            *("--from", to_text(since * 10**9), "--to", to_text((since + 3600 * 47) * 10**9)),
            env=environment(),
        )
        assert await verified.wait() == 0
        history.prices = lambda *_: ("1", "3", "2", "2", "1")
        verified = await asyncio.create_subprocess_exec(
            *(*FOREBAY, "verify", "--venue", "coinbase", "--timeframe", "1h", "-c", str(file)),
            *("--from", to_text(since * 10**9), "--symbol", ETH),
            env=environment(),
        )
        assert await verified.wait() == 1
    found = Data(data).sql("SELECT DISTINCT symbol, timeframe FROM bars ORDER BY ALL").to_pylist()
    assert [(row["symbol"], row["timeframe"]) for row in found] == [(BTC, "1h"), (ETH, "1h")]
