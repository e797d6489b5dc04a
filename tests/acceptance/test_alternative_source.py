"""`forebay run` while Coinbase's REST is down: Massive is asked, and each ends as it truly is."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from forebay.app.reader import Data
from forebay.clock import SystemClock
from forebay.lab.exchanges.exchange import ExchangeConfig
from forebay.lab.exchanges.market import MarketConfig
from forebay.lab.exchanges.massive import VENUE as SIMULATED
from forebay.lab.exchanges.massive.messages import KEY
from forebay.lab.exchanges.server import ServerConfig, running
from forebay.lab.truth.histories import BarLine
from forebay.times import to_text
from tests.support.commands import capture, connected, forebay, said, simulator, wait_for
from tests.support.http_server import serving
from tests.support.made_history import MadeHistory, prices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.commands import Running

BTC, MINUTE_S, HOURS = "BTC-USD", 60, 6
FILE = """
data = "{data}"
[resilience.rest]
failure_threshold = 2
recovery_timeout_s = 5.0
success_threshold = 1
[[venues]]
name = "coinbase"
symbols = ["BTC-USD"]
ws_url = "{ws_url}"
rest_url = "{rest_url}"
[[venues]]
name = "massive"
market = "crypto"
symbols = ["BTC-USD"]
channels = ["quote"]
ws_url = "{their_ws_url}/{{market}}"
rest_url = "{their_rest_url}"
credentials_file = "{secrets}"
[[alternatives]]
sources = ["coinbase:BTC-USD", "massive/crypto:BTC-USD"]
[downloader]
venue = "coinbase"
symbols = ["BTC-USD"]
timeframes = ["1m"]
since = "{since}"
every = "1s"
"""


class Dearer:
    """What Massive has: bars of each minute, unlike those of Coinbase."""

    step_ms = MINUTE_S * 1000

    def between(self, first_ms: int, last_ms: int) -> Iterator[BarLine]:
        """See :class:`~forebay.lab.truth.histories.BarHistory`."""
        for opened_ms in range(-(-first_ms // self.step_ms) * self.step_ms, last_ms + 1, 60_000):
            low, high, opened, close, volume = prices(BTC, MINUTE_S, opened_ms // 1000)
            yield BarLine(opened_ms, f"4{opened}", f"4{high}", f"4{low}", f"4{close}", volume)


def bars(data: Path, since_s: int, end_s: int) -> dict[str, Counter[tuple[int, Decimal]]]:
    """Return by venue when each bar opens, and its close."""
    query = "SELECT venue, epoch(open_ts)::BIGINT AS opened, close FROM bars WHERE state = 'final'"
    found: dict[str, Counter[tuple[int, Decimal]]] = {}
    for row in Data(data).sql(query).to_pylist():
        if since_s <= row["opened"] < end_s:
            found.setdefault(row["venue"], Counter())[row["opened"], row["close"]] += 1
    return found


@pytest.mark.drill
async def test_a_capture_has_another_venue_asked_while_the_first_is_down(tmp_path: Path) -> None:
    end_s = SystemClock.wall_ns() // 10**9 // 3600 * 3600 - 3600  # Massive's lag is over
    since_s, data, file = end_s - HOURS * 3600, tmp_path / "data", tmp_path / "forebay.toml"
    ours = {
        (each, Decimal(prices(BTC, MINUTE_S, each)[3])) for each in range(since_s, end_s, MINUTE_S)
    }
    theirs = {(opened, Decimal(f"4{close}")) for opened, close in ours}
    history = MadeHistory(spoil=lambda *_: web.Response(status=503))

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/candles"):
            return await history.answer(request)
        return history.spoil(BTC, 0) or web.json_response([])

    market = MarketConfig(5, (BTC,), 100, step_us=1_000_000, bars={BTC: Dearer()})
    server = ServerConfig(ExchangeConfig(SIMULATED, market))

    def through_it(first: str) -> None:
        with simulator("--rate", 100, "--symbols", BTC) as lab:
            told = {"ws_url": lab.ws_url, "rest_url": first, "since": to_text(since_s * 10**9)}
            file.write_text(FILE.format(data=data, secrets=secrets, **told, **there))
            with capture(data, file=file) as running:
                connected(running)
                wait_until(
                    running, lambda: {*bars(data, since_s, end_s).get("massive", ())} == theirs
                )
                assert "coinbase" not in bars(data, since_s, end_s)
                assert said(running.log, "alternative_asked")
                history.spoil = lambda *_: None
                wait_until(
                    running, lambda: {*bars(data, since_s, end_s).get("coinbase", ())} == ours
                )
                running.stop()

    secrets = tmp_path / "massive.toml"
    secrets.write_text(f'key = "{KEY}"\n')
    async with running(server, SystemClock()) as served, serving(answer) as first:
        there = {"their_ws_url": served.ws_url, "their_rest_url": served.rest_url}
        await asyncio.to_thread(through_it, first)
    found = bars(data, since_s, end_s)
    assert {venue: {*each} for venue, each in found.items()} == {
        "coinbase": ours,
        "massive": theirs,
    }
    assert all(count == 1 for each in found.values() for count in each.values())
    audit = forebay("audit", "--data", data, "--json")
    assert audit.code == 0, json.dumps(audit.json, indent=1)


def wait_until(running: Running, holds: Callable[[], bool]) -> None:
    wait_for(lambda: holds() or None, f"the bars (log: {running.log})", 40)
