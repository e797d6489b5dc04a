"""Kalshi's books of differences, while messages get lost: beside the truth of the market."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest

import forebay as package
from forebay.times import to_text
from tests.acceptance.test_books_live import killed, sides, truth
from tests.support.commands import Lab, capture, connected, process

if TYPE_CHECKING:
    from pathlib import Path

    from forebay.app.reader import Data

SYMBOLS = ("KXA-1", "KXA-2", "KXB-1")
FAULTS = "book_drop=0.003,book_duplicate=0.01,book_disconnect=0.0003"
MARKET = "prediction"
MOMENTS = 15
"""Of each book."""
ENOUGH = 1200
"""Rows between two looks."""
LOST = "A message of its connection was lost before it."


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
            told = data.book_at("kalshi", symbol, to_text(at_ns, exact=True), market=MARKET)
            if told["state"] == "known":
                assert sides(told) == truth(lab, symbol, at_ns), (symbol, at_ns)
            found[told["reason"] or "known"] += 1
    return found


@pytest.mark.drill
@pytest.mark.timeout(300)
def test_a_known_book_of_differences_is_the_markets_whatever_was_lost(tmp_path: Path) -> None:
    market = ("--rate", 150, "--start", "now", "--symbols", ",".join(SYMBOLS), "--faults", FAULTS)
    folder, dice, keys = tmp_path / "data", random.Random(3), tmp_path / "keys"
    with process("lab", "serve", "kalshi", "--seed", 2, "--keys", keys, *market) as child:
        assert child.stdout is not None
        told = json.loads(child.stdout.readline())
        lab = Lab(child, told["ws_url"], told["rest_url"], told["truth_url"])
        config = tmp_path / "forebay.toml"
        config.write_text(
            f'[[venues]]\nname = "kalshi"\nsymbols = {json.dumps(SYMBOLS)}\n'
            f'channels = ["book"]\nws_url = "{lab.ws_url}"\nrest_url = "{lab.rest_url}"\n'
            f'credentials_file = "{told["credentials_file"]}"\n'
        )
        with capture(folder, file=config) as running:
            connected(running)
            for victim in ("deliver", "capture"):
                running.until(lambda now: now["deliver"]["rows"] > ENOUGH, "a piece of the market")
                killed(running, victim)
            running.until(lambda now: now["deliver"]["rows"] > ENOUGH, "more of the market")
            with package.open(folder) as data:
                found = compared(lab, data, dice)
                holes = data.sql("SELECT * FROM gaps WHERE reason = 'in_connection'")
    assert found["known"] > len(SYMBOLS) * MOMENTS // 2, found
    assert found[LOST] > 0
    assert len(holes) > 0
