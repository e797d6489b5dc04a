"""Recorded days of Kalshi: every trade once, books that are never below nothing, and reconnects."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

import forebay as package
from tests.support.commands import forebay
from tests.support.kalshi import DAYS, MARKET, MILLISECOND, T0, delta, snapshot, trade

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

D = Decimal
Side = dict[Decimal, Decimal]


def replay(data: Path, *files: Path) -> dict[str, Any]:
    answer = forebay("replay", *files, "--venue", "kalshi", "--partial", "--data", data, "--json")
    assert answer.code == 0, answer.stderr
    account: dict[str, Any] = answer.json
    assert account["frames"] == account["yielding"] + account["control"] + account["dead_letters"]
    return account


def folded(messages: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Side]]]:
    """Yield the time of each change and the book behind it, with nothing but decimals."""
    book: dict[str, Side] = {}
    for message in messages:
        told = message["msg"]
        if message["type"] == "orderbook_snapshot":
            book = {side: {D(price): D(size) for price, size in told.get(f"{side}_dollars_fp", [])}
                    for side in ("yes", "no")}  # fmt: skip
        elif message["type"] == "orderbook_delta" and book:
            side, price = book[told["side"]], D(told["price_dollars"])
            side[price] = side.get(price, D(0)) + D(told["delta_fp"])
            assert side[price] >= 0, "no level is ever below nothing"
            if not side[price]:
                del side[price]
            yield told["ts"], book


def levels(told: list[list[str]]) -> Side:
    return {D(price): D(size) for price, size in told}


@pytest.mark.parametrize(
    ("day", "counts", "outage_ms"),
    [
        ("KXGOLD15M-26AUG050800-00.2026-08-05", (2, 28_614, 399), 0),
        ("KXGOLD15M-26AUG102030-30.2026-08-11", (4, 33_511, 819), 11_541),
    ],
)
def test_recorded_days(tmp_path: Path, day: str, counts: tuple[int, ...], outage_ms: int) -> None:
    file = DAYS / f"{day}.ndjson.gz"
    if not file.exists():
        pytest.skip(f"the recording {file.name} is not beside this checkout")
    market = day.partition(".")[0]
    with gzip.open(file) as lines:
        messages = [json.loads(line)["event"] for line in lines]
    account = replay(tmp_path / "data", file)
    tables = ("book_snapshots", "book_deltas", "trades")
    assert tuple(account["stored"][name] for name in tables) == counts
    assert (account["dead_letters"], account["duplicates"], account["conflicts"]) == (0, 0, 0)
    again = replay(tmp_path / "data", file)
    assert again["stored"].get("trades", 0) == 0, "every trade once, however often it is told"
    asks = Counter(one["msg"]["trade_id"] for one in messages if one["type"] == "trade")
    with package.open(tmp_path / "data") as opened:
        ids = opened.sql("SELECT trade_id FROM trades")["trade_id"].to_pylist()
        assert Counter(ids) == asks
        assert max(asks.values()) == 1
        gaps = opened.sql("SELECT channel, first, last FROM gaps ORDER BY ALL").to_pylist()
        assert len(gaps) == (3 if outage_ms else 0)
        assert all(gap["last"] - gap["first"] == outage_ms * MILLISECOND - 2 for gap in gaps)
        changes = list(folded(messages))[-1][0]
        assert opened.book_at("kalshi", market)["bids"] == [], "at the close it is empty"
        assert changes <= opened.book_at("kalshi", market)["at"]
    moments = list(range(1000, counts[1], counts[1] // 5))
    with package.open(tmp_path / "data") as opened:
        for at, book in sampled(messages, moments):
            told = opened.book_at("kalshi", market, at)
            assert told["state"] == "known", told["reason"]
            assert levels(told["bids"]) == book["yes"]
            assert levels(told["asks"]) == {1 - price: size for price, size in book["no"].items()}


def sampled(
    messages: list[dict[str, Any]], places: list[int]
) -> Iterator[tuple[str, dict[str, Side]]]:
    """Yield books at some moments: those behind the last change of their time, in order."""
    latest, kept = "", None
    wanted = iter([*places, 10**9])
    place = next(wanted)
    for index, (at, book) in enumerate(folded(messages)):
        if kept is not None and at > latest:
            yield kept
            kept, place = None, next(wanted)
        latest = max(latest, at)
        if index >= place and at == latest:
            kept = at, {name: dict(side) for name, side in book.items()}


def test_another_connection_is_known_by_its_numbers(tmp_path: Path) -> None:
    frames = [
        snapshot(900, yes_dollars_fp=[["0.4800", "41.20"]]),
        delta(907),
        trade(70),
        snapshot(22, yes_dollars_fp=[["0.4800", "1.00"]]),
        trade(5),
        delta(30, side="yes"),
    ]
    late = [0, 1, 2, 12_000, 12_001, 12_002]
    file = tmp_path / "day.ndjson"
    file.write_bytes(b"".join(
        b'{"recv_ms":%d,"event":%s}\n' % (T0 + ms, frame)
        for ms, frame in zip(late, frames, strict=True)
    ))  # fmt: skip
    replay(tmp_path / "data", file)
    with package.open(tmp_path / "data") as opened:
        gaps = opened.sql("SELECT channel, unit, first, last, reason FROM gaps ORDER BY ALL")
        (hole,) = {(gap["first"], gap["last"]) for gap in gaps.to_pylist()}
        assert hole == ((T0 + 2) * MILLISECOND + 1, (T0 + 12_000) * MILLISECOND - 1)
        assert gaps["channel"].to_pylist() == ["book_delta", "book_snapshot", "trade"]
        epochs = opened.sql("SELECT DISTINCT epoch FROM trades")["epoch"].to_pylist()
        assert len(epochs) == 2
        bids = levels(opened.book_at("kalshi", MARKET)["bids"])
        assert bids == {D("0.48"): 1, D("0.49"): D("0.1")}, "of the second connection alone"
