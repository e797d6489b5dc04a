"""REST of a simulated Kalshi: its lists to the last row, and what becomes of its markets."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from forebay.clock import SystemClock
from forebay.lab.exchanges.exchange import ExchangeConfig
from forebay.lab.exchanges.kalshi import Kalshi, troubles
from forebay.lab.exchanges.kalshi.symbols import event_of, parse_tickers, series_of
from forebay.lab.exchanges.kalshi.truth import SOURCES, of_kalshi
from forebay.lab.exchanges.market import MarketConfig
from forebay.lab.exchanges.server import ServerConfig, running
from forebay.lab.truth import DEFAULT_START_NS
from tests.unit.lab.exchanges.kalshi.bench import A, B, build, say, subscribed, told
from tests.unit.lab.fakes import SECOND, pass_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from forebay.lab.exchanges.server import Running

START_S = DEFAULT_START_NS // SECOND
LIVE, IDLE = parse_tickers("KXA-26DEC31-T1,KXB-26DEC31*3,KXMVEX-1-2,KXI-26DEC31*20=idle")


class Served:
    """A simulated Kalshi that is asked over HTTP."""

    def __init__(self, server: Running, session: aiohttp.ClientSession) -> None:
        self.exchange = server.exchange
        self._server, self._session = server, session

    async def get(self, path: str, **query: str | int) -> Any:  # noqa: ANN401 - JSON
        async with self._session.get(self._server.rest_url + path, params=query) as answer:
            return await answer.json()

    async def all(self, path: str, name: str, **query: str | int) -> list[Any]:
        """Every row of a list, page by page."""
        rows: list[Any] = []
        cursor = ""
        while True:
            page = await self.get(path, **query, **({"cursor": cursor} if cursor else {}))
            rows += page[name]
            assert len(page[name]) <= query.get("limit", 100) + 1  # type: ignore[operator]
            if not (cursor := page["cursor"]):
                return rows

    async def switch(self, name: str, **settings: int) -> None:
        url = f"{self._server.truth_url}/faults/{name}"
        async with self._session.put(url, json=settings) as answer:
            assert answer.status == 200

    async def post(self, ticker: str, **wanted: object) -> int:
        url = f"{self._server.truth_url}/markets/{ticker}"
        async with self._session.post(url, json=wanted) as answer:
            return answer.status


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[Served]:
    config = ExchangeConfig(Kalshi(), MarketConfig(5, LIVE, step_us=600_000, idle=IDLE))
    async with (
        asyncio.timeout(20),
        running(ServerConfig(config), SystemClock()) as server,
        aiohttp.ClientSession() as session,
    ):
        yield Served(server, session)


def test_tickers_are_read_and_made_up() -> None:
    assert (
        "KXA-26DEC31-T1",
        *(f"KXB-26DEC31-T000{number}" for number in (1, 2, 3)),
        "KXMVEX-1-2",
    ) == LIVE
    assert len(IDLE) == 20
    assert (event_of(LIVE[1]), series_of(LIVE[1])) == ("KXB-26DEC31", "KXB")
    assert (event_of("KXC-99"), series_of("KXC-99")) == ("KXC-99", "KXC")


async def test_lists_have_every_row_once_or_the_edges_twice() -> None:
    async with serving() as kalshi:
        trades = kalshi.exchange.market.trades
        right = [of_kalshi(trades[name]).event(index) for name in LIVE for index in range(100)]
        ids = {trade.maker_order_id for trade in right}
        for again in (False, True):
            if again:
                await kalshi.switch(troubles.ROW_AGAIN)
            every = await kalshi.all("/markets/trades", "trades", limit=37)
            assert {row["trade_id"] for row in every if row["ticker"] in LIVE} == ids
            # Idle markets have a past, too.
            total = 100 * (len(LIVE) + len(IDLE))
            assert len(every) == total + again * ((total - 1) // 37)
            assert [row["created_time"] for row in every] == sorted(
                (row["created_time"] for row in every), reverse=True
            )
            markets = await kalshi.all("/markets", "markets", limit=6)
            assert len(markets) == 25 + again * 4
            assert {market["ticker"] for market in markets} == {*LIVE, *IDLE}


async def test_a_window_of_trades_has_what_lies_in_it() -> None:
    async with serving() as kalshi:
        trades = of_kalshi(kalshi.exchange.market.trades[A])
        low, high = START_S + 9, START_S + 30
        right = [
            trade.maker_order_id
            for trade in trades.events(0, 100)
            if low * SECOND <= trade.event_ts <= high * SECOND
        ]
        query: dict[str, str | int] = {"ticker": A, "min_ts": low, "max_ts": high, "limit": 7}
        rows = await kalshi.all("/markets/trades", "trades", **query)
        assert [row["trade_id"] for row in rows] == right[::-1]
        # The market's clock stands where its past of 60 s ends.
        for after_s, count in ((100, 0), (30, 50), (0, 100)):
            await kalshi.switch(troubles.HISTORICAL, after_s=after_s)
            old = await kalshi.all("/historical/trades", "trades", ticker=A)
            new = await kalshi.all("/markets/trades", "trades", ticker=A)
            assert (len(old), len(new)) == (count, 100 - count)
            assert len({row["trade_id"] for row in (*old, *new)}) == 100


async def test_markets_are_found_by_every_filter() -> None:
    async with serving() as kalshi:

        async def found(**query: str | int) -> list[str]:
            return [m["ticker"] for m in await kalshi.all("/markets", "markets", **query)]

        assert await found(series_ticker="KXB") == [*LIVE[1:4]]
        assert await found(event_ticker="KXB-26DEC31", limit=2) == [*LIVE[1:4]]
        assert await found(tickers=f"{A},{LIVE[2]}") == [A, LIVE[2]]
        assert await found(mve_filter="only") == [LIVE[4]]
        assert LIVE[4] not in await found(mve_filter="exclude")
        assert await found(status="open", limit=1_000) == [*LIVE, *IDLE]
        assert await found(status="settled") == []
        assert await found(min_close_ts=START_S + 86_400 * 40) == []
        assert len(await found(max_created_ts=START_S)) == 25
        assert (await kalshi.get("/markets", status="happy"))["code"] == "bad_request"
        assert (await kalshi.get("/markets", limit=1_001))["code"] == "bad_request"
        assert (await kalshi.get("/markets/KXNO-1"))["code"] == "not_found"
        names = [e["event_ticker"] for e in await kalshi.all("/events", "events", limit=1)]
        assert names == ["KXA-26DEC31", "KXB-26DEC31", "KXMVEX-1", "KXI-26DEC31"]


async def test_answers_are_of_one_schema_or_of_both() -> None:
    async with serving() as kalshi:
        keys = {}
        for schema in ("both", troubles.NEWER, troubles.OLDER):
            if schema != "both":
                await kalshi.switch(schema)
            (trade,) = (await kalshi.get("/markets/trades", ticker=A, limit=1))["trades"]
            market = (await kalshi.get(f"/markets/{A}"))["market"]
            keys[schema] = {*trade, *market}
            if schema == troubles.NEWER:
                url = f"/faults/{schema}"
                async with kalshi._session.delete(kalshi._server.truth_url + url):
                    pass
        new = {"yes_price_dollars", "count_fp", "yes_bid_dollars", "volume_fp"}
        old = {"yes_price", "count", "yes_bid", "volume"}
        assert keys["both"] >= new | old
        assert keys[troubles.NEWER] >= new
        assert not keys[troubles.NEWER] & old
        assert keys[troubles.OLDER] >= old | {"yes_price_dollars", "yes_bid_dollars"}
        assert not [key for key in keys[troubles.OLDER] if key.endswith("_fp")]


async def test_under_maintenance_the_exchange_says_that_it_is_not_active() -> None:
    async with serving() as kalshi:
        await kalshi.switch(troubles.MAINTENANCE)
        for path in ("/exchange/status", "/markets"):
            async with kalshi._session.get(kalshi._server.rest_url + path) as answer:
                assert answer.status == 503
                assert (await answer.json())["exchange_active"] is False


# ------------------------------------------------------------------------------ lives


async def test_what_cannot_become_of_a_market_is_refused() -> None:
    async with serving() as kalshi:
        assert await kalshi.post(A, do="settle") == 400
        assert await kalshi.post(A, do="create") == 400
        assert await kalshi.post("KXNEW-1-2", do="close") == 400
        assert await kalshi.post("kxnew", do="create") == 400
        assert await kalshi.post(A, do="dance") == 400
        assert await kalshi.post(A, do="move_close", in_s="soon") == 400
        assert await kalshi.post("KXNEW-1-2", do="create") == 200
        assert (await kalshi.get("/markets/KXNEW-1-2"))["market"]["status"] == "active"


def test_a_new_market_is_heard_from_its_first_event_by_all_who_hear_everything() -> None:
    exchange = build()
    _, wire = subscribed(exchange, "trade", "market_lifecycle_v2", tickers=())
    pass_time(exchange, 0, SECOND)
    new = "KXC-26DEC31-T3"
    exchange.change(new, {"do": "create", "open_in_s": 2, "close_in_s": 1}, SECOND)
    assert [m["msg"]["event_type"] for m in told(wire, "market_lifecycle_v2")] == ["created"]
    assert told(wire, "event_lifecycle")[0]["msg"]["series_ticker"] == "KXC"
    pass_time(exchange, SECOND, 6 * SECOND)
    heard = [m["msg"]["trade_id"] for m in told(wire, "trade") if m["msg"]["market_ticker"] == new]
    trades = of_kalshi(exchange.market.trades[new])
    assert 400 < len(heard) < 600, "a second of 500 each"
    assert heard == [trades.event(index).maker_order_id for index in range(len(heard))]
    assert trades.life.status == "closed"
    assert exchange.withheld()[new]["certain"] == []
    assert 0 <= trades.time_ns(0) - trades.life.open_ns < SECOND


@pytest.mark.parametrize("verb", ["deactivate", "close"])
def test_nothing_happens_in_a_market_that_is_halted(verb: str) -> None:
    exchange = build()
    line, wire = subscribed(exchange, "orderbook_delta", "trade")
    pass_time(exchange, 0, SECOND)
    exchange.change(A, {"do": verb}, SECOND)
    before = exchange.market.last(A)
    pass_time(exchange, SECOND, 2 * SECOND)
    assert exchange.market.last(A) == before
    empty = told(wire, "orderbook_snapshot")[-1]["msg"]
    assert {*empty} == {"market_ticker", "market_id"}
    say(exchange, line, "update_subscription", sid=1, action="get_snapshot", market_ticker=A)
    assert {*told(wire, "orderbook_snapshot")[-1]["msg"]} == {"market_ticker", "market_id"}
    if verb == "deactivate":
        exchange.change(A, {"do": "activate"}, 2 * SECOND)
        pass_time(exchange, 2 * SECOND, 3 * SECOND)
        trades = exchange.market.trades[A]
        events = [SOURCES["trade"](trades)(index) for index in range(exchange.market.last(A) + 1)]
        never = [index for index, event in enumerate(events) if event is None]
        assert never[0] == before + 1
        assert 400 < len(never) == never[-1] + 1 - never[0] < 600
        assert exchange.withheld()[A]["certain"] == exchange.withheld("book")[A]["certain"] == []
        assert told(wire, "orderbook_snapshot")[-1]["msg"]["yes_dollars_fp"]
    exchange.change(B, {"do": "close"}, 3 * SECOND)
    exchange.change(B, {"do": "determine", "result": "no"}, 3 * SECOND)
    exchange.change(B, {"do": "settle"}, 3 * SECOND)
    assert of_kalshi(exchange.market.trades[B]).life.status == "finalized"
