"""What a drill switches on and off in the simulated exchange: each strikes, and is counted."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from forebay.clock import SystemClock
from forebay.errors import ConfigError
from forebay.lab import faults
from forebay.lab.exchanges.coinbase import VENUE as COINBASE
from forebay.lab.exchanges.exchange import Exchange, ExchangeConfig
from forebay.lab.exchanges.market import MarketConfig
from forebay.lab.exchanges.server import Running, ServerConfig, running
from forebay.lab.faults import (
    ABOUT,
    FLAP,
    NO_UPGRADE,
    RESTATE,
    SILENCE,
    TEAR,
    SwitchedFaults,
)
from tests.unit.lab.fakes import BTC, SECOND, build, command, indices, join, pass_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


# ------------------------------------------------------------------- the switch


def test_everything_is_off_at_first_and_strikes_nothing() -> None:
    all_off = SwitchedFaults()

    assert not any(all_off.strikes(name, 5) for name in ABOUT)
    assert {told["hits"] for told in all_off.document().values()} == {0}


def test_a_trouble_that_is_on_counts_each_strike_with_its_moment() -> None:
    some = SwitchedFaults()
    some.switch(FLAP, on=True)

    assert [some.strikes(FLAP, now) for now in (3, 7)] == [True, True]
    some.switch(FLAP, on=False)
    assert not some.strikes(FLAP, 9)
    assert some.document()[FLAP] == {"on": False, "hits": 2, "settings": {}, "moments_ns": [3, 7]}
    assert some.document()[SILENCE]["hits"] == 0


def test_moments_are_kept_up_to_a_bound_and_hits_are_all_counted() -> None:
    some = SwitchedFaults()
    some.switch(FLAP, on=True)
    for now in range(faults.KEPT + 5):
        some.strikes(FLAP, now)

    told = some.document()[FLAP]
    assert told["hits"] == faults.KEPT + 5
    assert (told["moments_ns"][0], len(told["moments_ns"])) == (5, faults.KEPT)


@pytest.mark.parametrize(
    ("name", "settings", "part"),
    [
        ("rest-42", {}, "'rest-429'"),
        ("nonsense", {}, "There are rest-429"),
        (faults.TOO_MANY, {"retry_after": 1}, "retry_after_s"),
        (faults.TOO_MANY, {"retry_after_s": -1}, "retry_after_s"),
        (faults.TOO_MANY, {"retry_after_s": True}, "retry_after_s"),
        (faults.TOO_MANY, {"retry_after_s": 1.5}, "retry_after_s"),
        (FLAP, {"status": 1}, "It takes none"),
    ],
)
def test_what_is_no_trouble_or_setting_is_refused_with_what_there_is(
    name: str, settings: dict[str, object], part: str
) -> None:
    some = SwitchedFaults()

    with pytest.raises(ConfigError) as refused:
        some.switch(name, on=True, settings=settings)
    assert part in refused.value.hint
    assert not any(told["on"] for told in some.document().values())


# ----------------------------------------------------------------- the websocket


def test_flapping_closes_those_who_are_there_and_each_that_subscribes() -> None:
    exchange = build()
    line, wire = join(exchange)
    exchange.switch(FLAP, SECOND, on=True)
    again, second = join(exchange, SECOND)

    assert (line.ended, wire.last()) == (True, ("close", 1012))
    assert (again.ended, second.last()) == (True, ("close", 1012))
    assert [said["type"] for said in second.messages()] == ["subscriptions"]
    assert exchange.status()["connections"] == 0
    assert exchange.switched.document()[FLAP]["hits"] == 2


def test_after_flapping_a_subscription_lives_again() -> None:
    exchange = build()
    exchange.switch(FLAP, 0, on=True)
    exchange.switch(FLAP, 0, on=False)
    line, wire = join(exchange)
    pass_time(exchange, 0, SECOND)

    assert not line.ended
    assert indices(exchange, wire)


def test_silence_mutes_those_who_are_there_and_each_that_subscribes() -> None:
    exchange = build()
    line, wire = join(exchange, channels=("matches", "heartbeat"))
    exchange.switch(SILENCE, 0, on=True)
    late, second = join(exchange, 0)
    wire.did.clear()
    pass_time(exchange, 0, 3 * SECOND)

    assert line.muted
    assert late.muted
    assert not line.ended
    assert wire.did == []  # no event, no heartbeat, no ping
    assert [said["type"] for said in second.messages()] == ["subscriptions"]
    assert exchange.switched.document()[SILENCE]["hits"] == 2


def test_silence_lasts_a_minute_from_when_it_began() -> None:
    exchange = build()
    line, wire = join(exchange)
    exchange.switch(SILENCE, 5 * SECOND, on=True)
    exchange.switch(SILENCE, 6 * SECOND, on=False)

    exchange.tick(64 * SECOND)
    assert wire.last()[0] != "abort"
    exchange.tick(65 * SECOND)
    assert wire.last() == ("abort", 0)
    assert line.ended


def test_what_the_silent_ones_missed_is_certainly_withheld() -> None:
    exchange = build(rate=100)
    join(exchange)
    pass_time(exchange, 0, SECOND)
    exchange.switch(SILENCE, SECOND, on=True)
    pass_time(exchange, SECOND, 2 * SECOND)

    told = exchange.withheld()[BTC]
    assert sum(last + 1 - first for first, last, _ in told["certain"]) == 100


def test_refusing_upgrades_closes_those_who_are_there() -> None:
    exchange = build()
    line, wire = join(exchange)
    assert not exchange.switched.strikes(NO_UPGRADE, 0)
    exchange.switch(NO_UPGRADE, 0, on=True)

    assert (line.ended, wire.last()) == (True, ("close", 1012))
    assert exchange.switched.strikes(NO_UPGRADE, 1)
    assert exchange.switched.document()[NO_UPGRADE]["hits"] == 1


def test_a_torn_event_is_poison_and_a_restated_one_comes_twice() -> None:
    exchange = build(rate=1_000)
    _, wire = join(exchange)
    exchange.switch(TEAR, 0, on=True, settings={"every": 10})
    pass_time(exchange, 0, SECOND)
    exchange.switch(TEAR, SECOND, on=False)
    exchange.switch(RESTATE, SECOND, on=True, settings={"every": 10})
    pass_time(exchange, SECOND, 2 * SECOND)

    sent = indices(exchange, wire)
    # What was torn may have arrived until a pong says so, so it is in doubt here.
    assert exchange.withheld()[BTC]["poison_in_doubt"] == list(range(100, 1_100, 10))
    assert not {index for index in sent if index < 1_100 and index % 10 == 0}
    twice = sorted({index for index in sent if sent.count(index) == 2})
    assert twice == list(range(1_100, 2_100, 10))
    prices = [m["price"] for m in wire.messages("match") if indices_of(exchange, m) == 1_100]
    assert prices[1] == f"1{prices[0]}"


def indices_of(exchange: Exchange, message: dict[str, object]) -> int:
    return int(str(message["trade_id"])) - exchange.market.trades[BTC].first_trade_id


def test_a_closed_market_has_no_further_event_and_goes_on_otherwise() -> None:
    exchange = build()
    _, wire = join(exchange, channels=("matches", "heartbeat"))
    pass_time(exchange, 0, SECOND)
    exchange.market.close()
    last = exchange.market.last(BTC)
    before = len(wire.messages("heartbeat"))
    pass_time(exchange, SECOND, 3 * SECOND)

    assert exchange.market.last(BTC) == last
    assert exchange.status()["finished"]
    assert len(wire.messages("heartbeat")) > before


# ---------------------------------------------------------------- real sockets


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[tuple[Running, aiohttp.ClientSession]]:
    exchange = ExchangeConfig(COINBASE, MarketConfig(5, (BTC,), 1_000), {})
    async with (
        asyncio.timeout(20),
        running(ServerConfig(exchange), SystemClock()) as server,
        aiohttp.ClientSession() as session,
    ):
        yield server, session


async def switched(
    session: aiohttp.ClientSession, server: Running, name: str, **settings: int
) -> dict[str, Any]:
    async with session.put(f"{server.truth_url}/faults/{name}", json=settings) as answer:
        assert answer.status == 200
        told: dict[str, Any] = await answer.json()
        return told


async def test_rest_answers_429_with_retry_after_until_it_is_switched_off() -> None:
    async with serving() as (server, session):
        url = f"{server.rest_url}/products"
        told = await switched(session, server, faults.TOO_MANY, retry_after_s=7)
        assert told[faults.TOO_MANY]["on"]
        async with session.get(url) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (429, "7")
        await switched(session, server, faults.TOO_MANY, retry_after_s=0)
        async with session.get(url) as answer:
            assert (answer.status, "Retry-After" in answer.headers) == (429, False)
        async with session.delete(f"{server.truth_url}/faults/{faults.TOO_MANY}") as answer:
            told = await answer.json()
        assert (told[faults.TOO_MANY]["on"], told[faults.TOO_MANY]["hits"]) == (
            False,
            2,
        )
        async with session.get(url) as answer:
            assert answer.status == 200
        async with session.get(server.truth_url) as answer:
            assert (await answer.json())["rest_requests"] == 3


async def test_rest_answers_any_status_it_is_told() -> None:
    async with serving() as (server, session):
        await switched(session, server, faults.BROKEN, status=503)
        async with session.get(f"{server.rest_url}/products") as answer:
            assert answer.status == 503
            assert "message" in await answer.json()


async def test_rest_hangs_until_it_is_switched_off_and_then_drops_the_connection() -> None:
    async with serving() as (server, session):
        await switched(session, server, faults.HANG)
        # The client would ask again by itself if it were a GET.
        asking = asyncio.ensure_future(session.post(f"{server.rest_url}/products"))
        hits = 0
        while not hits:
            async with session.get(f"{server.truth_url}/faults") as answer:
                hits = (await answer.json())[faults.HANG]["hits"]
        done, _ = await asyncio.wait({asking}, timeout=0.2)
        assert not done
        async with session.delete(f"{server.truth_url}/faults/{faults.HANG}"):
            pass
        with pytest.raises(aiohttp.ClientError):
            await asking


async def test_rest_refuses_by_resetting_the_connection() -> None:
    async with serving() as (server, session):
        await switched(session, server, faults.REFUSE)
        with pytest.raises(aiohttp.ClientError):
            await session.get(f"{server.rest_url}/products")


async def test_the_websocket_refuses_upgrades_and_takes_them_again() -> None:
    async with serving() as (server, session):
        address = server.ws_url.replace("ws://", "http://")
        async with session.ws_connect(server.ws_url) as living:
            await switched(session, server, NO_UPGRADE)
            closed = await living.receive()
            assert (closed.type, closed.data) == (aiohttp.WSMsgType.CLOSE, 1012)
        async with session.get(address) as refused:
            assert refused.status == 503
        async with session.delete(f"{server.truth_url}/faults/{NO_UPGRADE}"):
            pass
        async with session.ws_connect(server.ws_url) as again:
            await again.send_bytes(command())
            assert json.loads(await again.receive_str())["type"] == "subscriptions"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("faults/rest-42", b"{}"),
        ("faults/rest-429", b'{"x": 1}'),
        ("faults/rest-429", b"[1]"),
        ("faults/rest-429", b"{"),
    ],
)
async def test_a_switch_that_cannot_be_is_answered_with_400(path: str, body: bytes) -> None:
    async with serving() as (server, session):
        async with session.put(f"{server.truth_url}/{path}", data=body) as answer:
            assert answer.status == 400
            assert (await answer.json())["message"]
        async with session.get(f"{server.truth_url}/faults") as answer:
            assert not any(told["on"] for told in (await answer.json()).values())


async def test_the_market_is_closed_over_http() -> None:
    async with serving() as (server, session):
        async with session.ws_connect(server.ws_url) as connection:
            await connection.send_bytes(command())
            async with session.post(f"{server.truth_url}/close") as answer:
                closed = await answer.json()
        assert closed["clock_started"]
        async with session.get(server.truth_url) as answer:
            assert (await answer.json())["symbols"] == closed["symbols"]
