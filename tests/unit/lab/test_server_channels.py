"""Candles, books and the truth of every channel over HTTP."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from forebay.lab.truth import (
    DEFAULT_START_NS,
    SOURCES,
    BookTruth,
    Trade,
    Trades,
    TruthDigest,
    events,
)
from tests.unit.lab.fakes import BTC, command, until
from tests.unit.lab.live import ask, serving

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    import aiohttp

    from forebay.lab.exchanges.server import Running

STEP_US = 601_000  # about a hundred trades a minute
MINUTE_S = 60
START_S = DEFAULT_START_NS // 1_000_000_000
FUTURE_NS = 1_900_000_000_000_000_000 // 60_000_000_000 * 60_000_000_000
TRADES = Trades(5, "coinbase", BTC, step_us=STEP_US)
END = 550
"""Index after the last trade of these markets."""


def market(
    start_ns: int = DEFAULT_START_NS,
) -> AbstractAsyncContextManager[tuple[Running, aiohttp.ClientSession]]:
    return serving(rate=100_000, events=END - 100, step_us=STEP_US, start_ns=start_ns)


async def finish(session: aiohttp.ClientSession, server: Running) -> None:
    """Let all of the market happen."""
    connection = await session.ws_connect(server.ws_url)
    await connection.send_bytes(command())
    await until(lambda: bool(server.exchange.market.finished))
    await connection.close()


async def candles(session: aiohttp.ClientSession, server: Running, **query: object) -> list[Any]:
    """Rows of a request for candles, whose numbers are exact."""
    url = f"{server.rest_url}/products/{BTC}/candles"
    params = {name: str(value) for name, value in query.items()}
    async with session.get(url, params=params) as answer:
        assert answer.status == 200, await answer.text()
        rows: list[Any] = json.loads(await answer.text(), parse_float=Decimal)
    return rows


def expected(begin_s: int, seconds: int = MINUTE_S, trades: Trades = TRADES) -> list[Decimal]:
    """A candle as its trades make it, those that happened."""
    own = [t for t in trades.events(0, END) if begin_s <= t.event_ts / 1e9 < begin_s + seconds]
    prices = [Decimal(t.price) for t in own]
    volume = sum((Decimal(t.size) for t in own), Decimal())
    return [Decimal(begin_s), min(prices), max(prices), prices[0], prices[-1], volume]


# ----------------------------------------------------------------------- candles


async def test_candles_are_what_their_trades_make_newest_first() -> None:
    async with market() as (server, session):
        await finish(session, server)
        rows = await candles(session, server, granularity=60)
    begins = [row[0] for row in rows]
    assert begins == sorted(begins, reverse=True)
    assert begins[-1] == START_S
    assert len(rows) == 5
    assert [list(map(Decimal, row)) for row in rows] == [expected(begin) for begin in begins]


async def test_candles_of_five_minutes_are_those_of_all_their_trades() -> None:
    async with market() as (server, session):
        await finish(session, server)
        rows = await candles(session, server, granularity=300)
    assert [list(map(Decimal, row)) for row in rows] == [expected(START_S, 300)]


async def test_start_and_end_are_both_within_and_either_alone_is_not_looked_at() -> None:
    begin, end = START_S + MINUTE_S, START_S + 3 * MINUTE_S
    iso = datetime.fromtimestamp(end, UTC).isoformat().replace("+00:00", ".000Z")
    async with market() as (server, session):
        await finish(session, server)
        some = await candles(session, server, granularity=60, start=begin, end=iso)
        every = await candles(session, server, granularity=60, start=begin)
    assert [row[0] for row in some] == [end, end - MINUTE_S, begin]
    assert every[-1][0] == START_S


async def test_a_period_without_a_trade_is_absent() -> None:
    async with serving(rate=100_000, events=20, step_us=150_000_000) as (server, session):
        await finish(session, server)
        rows = await candles(session, server, granularity=60)
    begins = [row[0] for row in rows]
    assert len(begins) > 50
    assert all(after - before > MINUTE_S for after, before in pairwise(begins))


async def test_what_is_to_come_is_in_no_candle() -> None:
    async with serving(rate=0.001, step_us=STEP_US) as (server, session):
        rows = await candles(session, server, granularity=60)
    assert [row[0] for row in rows] == [START_S]


async def test_a_candle_that_is_not_over_by_the_clock_either_is_given_as_far_as_it_is() -> None:
    trades = Trades(5, "coinbase", BTC, step_us=STEP_US, start_ns=FUTURE_NS)
    async with market(FUTURE_NS) as (server, session):
        await finish(session, server)
        newest = (await candles(session, server, granularity=60))[0]
    begin = trades.time_ns(END - 1) // 60_000_000_000 * 60
    assert newest[0] == begin
    assert list(map(Decimal, newest)) == expected(begin, trades=trades)


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("granularity=61", "Unsupported granularity"),
        ("granularity=x", "Invalid granularity"),
        ("granularity=60&start=yesterday&end=0", "Invalid start"),
        ("granularity=60&start=0&end=18000", "Count of aggregations requested exceeds 300"),
    ],
)
async def test_a_wrong_question_for_candles_is_400(query: str, says: str) -> None:
    async with serving() as (server, session):
        url = f"{server.rest_url}/products/{BTC}/candles?{query}"
        status, _, body = await ask(session, url)
    assert status == 400
    assert says in str(body)


async def test_three_hundred_candles_may_be_asked_for() -> None:
    async with market() as (server, session):
        await finish(session, server)
        end = START_S + 299 * MINUTE_S
        rows = await candles(session, server, granularity=60, start=START_S, end=end)
    assert rows[-1][0] == START_S


# ------------------------------------------------------------------------- books


async def test_the_rest_book_is_the_book() -> None:
    book, trade = BookTruth(TRADES).snapshot(99), TRADES.event(99)
    async with serving(rate=0.001, step_us=STEP_US) as (server, session):
        url = f"{server.rest_url}/products/{BTC}/book"
        _, _, whole = await ask(session, f"{url}?level=2")
        _, _, best = await ask(session, url)
        refused, _, _ = await ask(session, f"{url}?level=3")
    assert isinstance(whole, dict)
    assert isinstance(best, dict)
    assert whole["bids"] == [[*level, 1] for level in book.bids]
    assert whole["asks"] == [[*level, 1] for level in book.asks]
    assert (whole["sequence"], whole["time"]) == (trade.sequence, trade.time)
    assert (best["bids"], best["asks"]) == (whole["bids"][:1], whole["asks"][:1])
    assert refused == 400


# --------------------------------------------------------------------- the truth


@pytest.mark.parametrize("channel", SOURCES)
async def test_the_truth_of_every_channel_is_told(channel: str) -> None:
    truth = list(events(SOURCES[channel](TRADES), 3, 100))
    async with serving(rate=0.001, step_us=STEP_US) as (server, session):
        query = f"symbol={BTC}&from=3&to=100&channel={channel}"
        async with session.get(f"{server.truth_url}/events?{query}") as answer:
            lines = [json.loads(line) for line in (await answer.text()).splitlines()]
        _, _, digest = await ask(session, f"{server.truth_url}/digest?{query}")
    assert truth
    assert [line.pop("row") for line in lines] == [event.row() for event in truth]
    for line, event in zip(lines, truth, strict=True):
        assert line == {
            **json.loads(json.dumps(event.document())),
            **({"number": event.trade_id} if isinstance(event, Trade) else {}),
        }
    assert digest == TruthDigest.of(truth).document()


async def test_a_channel_there_is_not_is_named() -> None:
    async with serving(rate=0.001) as (server, session):
        url = f"{server.truth_url}/events?symbol={BTC}&from=0&to=1&channel=candle"
        status, _, body = await ask(session, url)
        refused, _, _ = await ask(session, f"{server.truth_url}/withheld?channel=bar")
    assert status == 400
    assert "there are trade, ticker" in str(body)
    assert refused == 400


async def test_what_was_withheld_is_told_by_channel() -> None:
    async with serving({"ticker_drop": 1.0}, events=100) as (server, session):
        connection = await session.ws_connect(server.ws_url)
        await connection.send_bytes(command(channels=("ticker", "level2_batch")))
        await until(lambda: bool(server.exchange.market.finished))
        told = {
            channel: (await ask(session, f"{server.truth_url}/withheld?channel={channel}"))[2]
            for channel in ("trade", "ticker", "quote", "book", "book_delta")
        }
        await connection.close()
    certain = {channel: said[BTC]["certain"] for channel, said in told.items()}  # type: ignore[index]
    assert certain["trade"] == certain["book"] == certain["book_delta"] == []
    assert certain["ticker"] == certain["quote"] != []


async def test_the_book_of_any_moment_is_told() -> None:
    async with serving(rate=100_000, events=END - 100, step_us=STEP_US) as (server, session):
        await finish(session, server)
        moments = [BookTruth(TRADES).delta(index).event_ts for index in (0, 137, 333, END - 1)]
        for at in (*moments, *(moment + 300_000_000 for moment in moments)):
            url = f"{server.truth_url}/book?symbol={BTC}&at={at}"
            _, _, told = await ask(session, url)
            index = min(TRADES.index_at(at), END - 1)
            bids, asks = BookTruth(TRADES).sides(index)
            assert told == {
                "symbol": BTC,
                "at": at,
                "index": index,
                "bids": [list(level) for level in bids],
                "asks": [list(level) for level in asks],
            }


@pytest.mark.parametrize(
    ("query", "says"),
    [
        (f"symbol={BTC}", "Give at"),
        (f"symbol={BTC}&at=5", "had no book yet"),
        ("symbol=XXX-USD&at=5", "no symbol"),
    ],
)
async def test_a_wrong_question_for_a_book_is_400(query: str, says: str) -> None:
    async with serving(rate=0.001) as (server, session):
        status, _, body = await ask(session, f"{server.truth_url}/book?{query}")
    assert status == 400
    assert says in str(body)
