"""Following a capture that runs, ends and begins again: each trade once, in its order."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING

import pytest

import forebay as package
from tests.support.commands import capture, connected, simulator, wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from forebay.app.following import Follow

RATE = 500


@pytest.mark.drill
def test_a_follower_outlives_captures_and_tells_each_trade_once(tmp_path: Path) -> None:
    data = tmp_path / "data"
    told: list[str] = []
    stop = threading.Event()
    with simulator("--rate", RATE, "--start", "now") as lab:
        with capture(data, *lab.flags) as first:
            connected(first)
            first.until(lambda told: told["deliver"]["rows"] > RATE, "a second of the market")
            opened = package.open(data)
            follow = opened.follow("BTC-USD", start="2020-01-01", rows=300, stop=stop)
            reader = threading.Thread(target=collect, args=(follow, told))
            reader.start()
            wait_for(lambda: len(told) > RATE or None, "trades of the first capture")
        # Nothing runs now: what was stored last is read from the file.
        with capture(data, *lab.flags) as second:
            connected(second)
            before = len(told)
            wait_for(lambda: len(told) > before + RATE or None, "trades of the second capture")
    total = len(opened.trades("BTC-USD"))
    wait_for(lambda: len(told) >= total or None, "the rest")
    stop.set()
    reader.join(10)

    assert not reader.is_alive()
    stored = opened.trades("BTC-USD")["event_id"].to_pylist()
    assert [number for number, times in Counter(told).items() if times > 1] == []
    assert {*told} == {str(each) for each in stored}


def collect(follow: Follow, told: list[str]) -> None:
    for table in follow:
        told += map(str, table["event_id"].to_pylist())
