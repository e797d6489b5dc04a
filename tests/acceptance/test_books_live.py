"""Books of a capture that is killed and cut off, beside the truth of the market at any moment."""

from __future__ import annotations

import json
import os
import random
import signal
import urllib.request
from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

import forebay as package
from forebay.times import to_text
from tests.support.commands import capture, connected, forebay, simulator

if TYPE_CHECKING:
    from pathlib import Path

    from forebay.app.reader import Data
    from tests.support.commands import Lab, Running

SYMBOLS = ("BTC-USD", "ETH-USD")
RATE = 400
ENOUGH = 3 * RATE
"""Rows between two kills."""
MOMENTS = 25
"""Of each book."""
FAULTS = "disconnect=0.0003,corrupt=0.0003,duplicate=0.01"


def truth(lab: Lab, symbol: str, at_ns: int) -> list[list[tuple[Decimal, ...]]]:
    url = f"{lab.truth_url}/book?symbol={symbol}&at={at_ns}"
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - our own, on loopback
        return sides(json.load(answer))


def sides(told: dict[str, Any]) -> list[list[tuple[Decimal, ...]]]:
    return [[tuple(map(Decimal, level)) for level in told[side]] for side in ("bids", "asks")]


def compared(lab: Lab, data: Data, dice: random.Random) -> Counter[str]:
    """Compare books at random moments; return how many were as they were, or unknown, and why."""
    found: Counter[str] = Counter()
    for symbol in SYMBOLS:
        (ends,) = data.sql(
            "SELECT epoch_ns(min(event_ts)) AS first, epoch_ns(max(event_ts)) AS last "  # noqa: S608 - our own name
            f"FROM book_deltas WHERE symbol = '{symbol}'"
        ).to_pylist()
        for _ in range(MOMENTS):
            at_ns = dice.randrange(ends["first"], ends["last"])
            told = data.book_at("coinbase", symbol, to_text(at_ns, exact=True))
            if told["state"] == "known":
                assert sides(told) == truth(lab, symbol, at_ns), (symbol, at_ns)
            found[told["reason"] or "known"] += 1
    return found


def killed(running: Running, victim: str) -> None:
    """Kill a process once it has seen a piece of the market, and wait for the next one."""
    told = running.until(lambda now: now["deliver"]["rows"] > ENOUGH, "a piece of the market")
    pid = told[victim]["pid"]
    os.kill(pid, signal.SIGKILL)
    running.until(lambda now: bool(now[victim]["pid"] != pid), f"another {victim}")


@pytest.mark.drill  # kills with every kind of event look at books, too
def test_a_known_book_is_the_markets_whatever_was_killed(tmp_path: Path) -> None:
    market = ("--rate", RATE, "--start", "now", "--symbols", ",".join(SYMBOLS), "--faults", FAULTS)
    folder, dice = tmp_path / "data", random.Random(3)
    with simulator(*market) as lab:
        with capture(folder, *lab.flags, "--channels", "all") as running:
            connected(running)
            for victim in ("capture", "deliver"):
                killed(running, victim)
            running.until(lambda now: now["deliver"]["rows"] > ENOUGH, "more of the market")
            with package.open(folder) as data:
                assert compared(lab, data, dice)["known"] > 0
            running.stop()
        with package.open(folder) as data:
            found = compared(lab, data, dice)
    assert found["known"] > len(SYMBOLS) * MOMENTS // 4, found
    report = forebay("audit", "--data", folder, "--json").json
    assert [report[name] for name in ("missing", "doubled", "mutated", "spurious")] == [0] * 4
