"""Quotes, tickers, bars and books from Python."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from forebay.app.offline.replay import replay
from forebay.app.reader import Data
from forebay.app.wiring.config import Config
from forebay.app.wiring.data_folder import DataFolder
from forebay.clock import ManualClock
from forebay.errors import ConfigError
from forebay.telemetry import ignore
from tests.support.frames import T0, as_json, l2update, rfc3339, snapshot, ticker

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TEN = 1_618_740_000
"""2021-04-18T10:00:00Z."""
CANDLES = "https://api.example/products/BTC-USD/candles?granularity=60 -> {}: {}"


def data(
    tmp_path: Path, lines: Sequence[tuple[float, bytes] | str], venue: str = "coinbase"
) -> Data:
    """Return a folder with a replayed recording; a line may be as it is."""
    file, folder = tmp_path / "made.rec", DataFolder(tmp_path / "data")
    made = [line.encode() if isinstance(line, str) else b"%.6f: %s" % line for line in lines]
    file.write_bytes(b"\n".join(made) + b"\n")
    replay([file], venue, folder, Config(), clock=ManualClock(), observer=ignore)
    return Data(folder.root)


@pytest.mark.parametrize("polls", [(30, 62), (62, 30)], ids=["in order", "the later one first"])
def test_a_bar_is_final_and_as_it_was_told_last(tmp_path: Path, polls: tuple[int, int]) -> None:
    volume = {30: 5, 62: 9}
    lines = [
        CANDLES.format(f"{TEN + second}.0", f"[[{TEN},1,3,2,2.5,{volume[second]}]]")
        for second in polls
    ]
    with data(tmp_path, lines) as opened:
        (bar,) = opened.bars("BTC-USD").to_pylist()
        assert (bar["state"], bar["volume"], bar["open"]) == ("final", 9, 2)
        states = opened.sql("SELECT state FROM bars ORDER BY 1")["state"].to_pylist()
        assert states == ["final", "provisional"], "both tellings are kept"
        assert len(opened.bars("BTC-USD", "5m")) == 0
        assert len(opened.bars("BTC-USD", start="2021-04-18T10:00:01Z")) == 0


def test_between_two_polls_a_bar_is_provisional(tmp_path: Path) -> None:
    lines = [
        CANDLES.format(f"{TEN + second}.0", f"[[{TEN},1,2,1,2,{second}],[{TEN - 60},1,1,1,1,1]]")
        for second in (20, 40)
    ]
    with data(tmp_path, lines) as opened:
        told = opened.bars("BTC-USD").select(["state", "volume"]).to_pylist()
    assert [tuple(bar.values()) for bar in told] == [("final", 1), ("provisional", 40)]


def test_a_bar_that_the_stream_corrects_is_one_and_says_how_often_it_was_told(
    tmp_path: Path,
) -> None:
    bar = {"ev": "CA", "pair": "EUR/USD", "o": 2, "h": 3, "l": 1, "c": 2.5, "s": TEN * 1000}
    told = [(62, 5), (63, 5), (120, 9), (122, 9)]
    lines = [
        (TEN + second, as_json([{**bar, "e": (TEN + 60) * 1000, "v": volume}]))
        for second, volume in told
    ]
    with data(tmp_path, lines, "massive") as opened:
        (read,) = opened.bars("EUR-USD").to_pylist()
        frames = opened.sql("SELECT count(DISTINCT event_id) AS told FROM bars")
    assert (read["revision"], read["volume"], read["state"]) == (2, 9, "final")
    assert frames["told"].to_pylist() == [4], "every telling is kept"


def test_quotes_and_tickers_are_read_by_symbol_and_time(tmp_path: Path) -> None:
    seconds = (0, 1, 2)
    lines = [
        (T0 / 1e9 + second, ticker(time=rfc3339(T0 + second * 10**9), best_bid=f"{second + 1}"))
        for second in seconds
    ]
    with data(tmp_path, lines) as opened:
        assert opened.quotes("BTC-USD")["bid_price"].to_pylist() == [1, 2, 3]
        window: dict[str, Any] = {"start": "2021-04-17T16:43:38Z", "end": "2021-04-17T16:43:39Z"}
        assert opened.quotes("BTC-USD", **window)["bid_price"].to_pylist() == [2]
        assert len(opened.tickers("BTC-USD", **window, venue="coinbase")) == 1
        assert len(opened.tickers("BTC-USD", venue="elsewhere")) == 0


def test_a_book_is_a_table_that_says_whether_it_is_known(tmp_path: Path) -> None:
    start = T0 / 1e9
    lines = [
        (start, snapshot([["100", "1"], ["99", "2"]], [["101", "3.50"]])),
        (start + 1, l2update(("buy", "100", "0"), time=rfc3339(T0 + 10**9))),
    ]
    with data(tmp_path, lines) as opened:
        told = opened.book("BTC-USD")
        assert told.to_pylist() == [
            {"side": "bid", "price": Decimal(99), "size": Decimal(2)},
            {"side": "ask", "price": Decimal(101), "size": Decimal("3.5")},
        ]
        about = told.schema.metadata
        assert (about[b"state"], about[b"as_of"]) == (b"known", b"2021-04-17T16:43:38.000000000Z")
        first = opened.book("BTC-USD", at="2021-04-17T16:43:37.5Z", depth=1, venue="coinbase")
        assert first["price"].to_pylist() == [100, 101]
        before = opened.book("BTC-USD", at="2021-04-17T16:43:36Z")
        assert (len(before), before.schema.metadata[b"state"]) == (0, b"unknown")
        assert before.schema.metadata[b"reason"]
        with pytest.raises(ConfigError, match="Nothing of 'ETH-USD'"):
            opened.book("ETH-USD")


def test_the_numbers_of_a_page_are_read_as_they_stand(tmp_path: Path) -> None:
    body = as_json([[TEN - 60, 1e-7, 0.1, 1e-7, 0.1, 12345678.12345678]]).decode()
    with data(tmp_path, [CANDLES.format(f"{TEN}.0", body)]) as opened:
        (bar,) = opened.bars("BTC-USD").to_pylist()
    assert (bar["low"], bar["volume"]) == (Decimal("0.0000001"), Decimal("12345678.12345678"))
