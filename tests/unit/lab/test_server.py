"""The simulated exchange over real sockets, watched by an independent websocket client."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import WSMsgType

from forebay.clock import SystemClock
from forebay.errors import Unreachable
from forebay.lab.exchanges.coinbase import VENUE as COINBASE
from forebay.lab.exchanges.exchange import ExchangeConfig
from forebay.lab.exchanges.limits import Limiter, RestLimit
from forebay.lab.exchanges.market import MarketConfig
from forebay.lab.exchanges.server import Running, ServerConfig, running
from forebay.lab.faults import Faults
from forebay.lab.truth import Trades, TruthDigest
from tests.unit.lab.fakes import BTC, ETH, SECOND, Message, command, until
from tests.unit.lab.live import ask, serving

if TYPE_CHECKING:
    from collections.abc import Callable

Socket = aiohttp.ClientWebSocketResponse


async def subscribed(
    session: aiohttp.ClientSession,
    server: Running,
    symbols: tuple[str, ...] = (BTC,),
    channels: tuple[str, ...] = ("matches",),
) -> Socket:
    connection = await session.ws_connect(server.ws_url)
    await connection.send_bytes(command(symbols=symbols, channels=channels))
    return connection


async def read_until(connection: Socket, enough: Callable[[list[Message]], bool]) -> list[Message]:
    """Messages up to the one that is enough; broken JSON becomes a message of its own."""
    messages: list[Message] = []
    while not enough(messages):
        raw = await connection.receive_str()
        try:
            messages.append(json.loads(raw))
        except ValueError:
            messages.append({"type": "poison", "raw": raw})
    return messages


def trade_ids(messages: list[Message], kind: str = "match") -> list[int]:
    return [int(str(m["trade_id"])) for m in messages if m["type"] == kind]


def matches(number: int) -> Callable[[list[Message]], bool]:
    return lambda messages: len(trade_ids(messages)) >= number


async def rest_ids(session: aiohttp.ClientSession, url: str) -> list[int]:
    async with session.get(url) as answer:
        return [row["trade_id"] for row in await answer.json()]


async def test_what_is_heard_is_the_truth_in_order() -> None:
    async with serving(symbols=(BTC, ETH), events=400) as (server, session):
        connection = await subscribed(session, server, (BTC, ETH))
        messages = await read_until(connection, matches(400))
    assert messages[0]["type"] == "subscriptions"
    for symbol in (BTC, ETH):
        heard = [m for m in messages[1:] if m["product_id"] == symbol]
        truth = list(Trades(5, "coinbase", symbol).events(99, 300))
        assert [m["trade_id"] for m in heard] == [t.trade_id for t in truth]
        assert [m["type"] for m in heard] == ["last_match"] + ["match"] * 200
        for field in ("price", "size", "sequence", "time", "maker_order_id"):
            assert [m[field] for m in heard] == [getattr(t, field) for t in truth]
        makers = {"buy": "sell", "sell": "buy"}
        assert [m["side"] for m in heard] == [makers[t.side] for t in truth]


async def test_two_clients_hear_the_same_and_leave_nothing_withheld() -> None:
    last = Trades(5, "coinbase", BTC).event(399).trade_id

    def to_the_end(messages: list[Message]) -> bool:
        return last in trade_ids(messages[-1:])

    async with serving(events=300) as (server, session):
        both = [await subscribed(session, server) for _ in range(2)]
        heard = await asyncio.gather(*(read_until(c, to_the_end) for c in both))
        said = server.exchange.withheld()[BTC]
    first, second = (trade_ids(messages) for messages in heard)
    assert first == list(range(last - 299, last + 1))
    assert second == first[-len(second) :]  # it may have come after the clock had started
    assert said["certain"] == []


async def test_pongs_of_a_real_client_settle_the_ledger() -> None:
    async with serving(events=20) as (server, session):
        connection = await subscribed(session, server)
        await read_until(connection, matches(20))
        reading = asyncio.create_task(connection.receive())  # its pongs are sent while it reads
        await until(lambda: bool(server.exchange.status()["settled"]))
        said = server.exchange.withheld()[BTC]
        reading.cancel()
    assert (said["certain"], said["in_doubt"]) == ([], [])


async def test_a_client_that_does_not_subscribe_is_closed() -> None:
    async with serving() as (server, session):
        connection = await session.ws_connect(server.ws_url)
        await connection.ping(b"still here")
        five_seconds_on = SystemClock.monotonic_ns() + 5 * SECOND
        server.exchange.tick(five_seconds_on)
        assert (await connection.receive()).type is WSMsgType.CLOSE
        assert connection.close_code == 1008


async def test_a_ping_is_answered_with_its_payload() -> None:
    async with serving() as (server, session):
        connection = await session.ws_connect(server.ws_url, autoping=False)
        await connection.ping(b"abc")
        while (message := await connection.receive()).type is not WSMsgType.PONG:
            assert message.type is WSMsgType.PING
        assert message.data == b"abc"


async def test_a_fragmented_command_is_understood() -> None:
    async with serving() as (server, session):
        connection = await session.ws_connect(server.ws_url)
        whole = command()
        writer = connection._writer
        assert writer.transport is not None
        for first, part, fin in ((1, whole[:9], 0), (0, whole[9:], 0x80)):
            mask = b"\0\0\0\0"
            writer.transport.write(bytes((fin | first, 0x80 | len(part))) + mask + part)
        messages = await read_until(connection, matches(1))
    assert messages[0]["type"] == "subscriptions"


async def test_a_wrong_command_gets_an_error_and_the_connection_lives() -> None:
    async with serving() as (server, session):
        connection = await subscribed(session, server, channels=("level3",))
        await connection.send_bytes(command())
        messages = await read_until(connection, matches(1))
    assert messages[0] == {
        "type": "error",
        "message": "Failed to subscribe",
        "reason": "level3 is not a valid channel",
    }


async def test_a_huge_command_is_refused() -> None:
    async with serving() as (server, session):
        connection = await session.ws_connect(server.ws_url)
        await connection.send_bytes(b"x" * (2 << 20))
        while (message := await connection.receive()).type is WSMsgType.TEXT:
            pass
        assert message.type in (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.ERROR)


async def test_a_huge_command_in_fragments_is_refused_too() -> None:
    async with serving() as (server, session):
        connection = await session.ws_connect(server.ws_url)
        transport = connection._writer.transport
        assert transport is not None
        part = b"\xff" + (600_000).to_bytes(8, "big") + b"\0\0\0\0" + b"x" * 600_000
        transport.write(b"\x01" + part + b"\x00" + part)
        message = await connection.receive()
    assert message.type is WSMsgType.CLOSE
    assert connection.close_code == 1009


async def test_poison_arrives_as_a_whole_message_that_is_no_json() -> None:
    async with serving({"corrupt": 1.0}, events=5) as (server, session):
        connection = await subscribed(session, server)
        messages = await read_until(connection, lambda got: len(got) >= 7)
        said = server.exchange.withheld()[BTC]
    assert [m["type"] for m in messages[2:]] == ["poison"] * 5
    assert said["certain"] == [(100, 104, "corrupt")]
    assert said["poison"] + said["poison_in_doubt"] == [100, 101, 102, 103, 104]


def seed_that_ends_with(code: int) -> int:
    """A seed whose first event is cut off in this way."""
    for seed in range(100):
        fate = Faults(seed, {"disconnect": 1.0}).of_event(BTC, 100)
        if fate and (1001, 1006, 1011, 1012)[fate[1] % 4] == code:
            return seed
    raise AssertionError(code)


@pytest.mark.parametrize("code", [1001, 1011, 1012])
async def test_a_disconnect_ends_the_connection_with_its_code(code: int) -> None:
    seed = seed_that_ends_with(code)
    async with serving({"disconnect": 1.0}, events=1, seed=seed) as (server, session):
        connection = await subscribed(session, server)
        await read_until(connection, lambda got: len(got) >= 2)
        message = await connection.receive()
        said = server.exchange.withheld()[BTC]
    assert message.type is WSMsgType.CLOSE
    assert connection.close_code == code
    assert said["certain"] == [(100, 100, "disconnect")]


async def test_a_disconnect_in_mid_frame_leaves_no_whole_frame_and_no_close_frame() -> None:
    seed = seed_that_ends_with(1006)
    async with serving({"disconnect": 1.0}, events=1, seed=seed) as (server, session):
        connection = await subscribed(session, server)
        await read_until(connection, lambda got: len(got) >= 2)
        message = await connection.receive()
        said = server.exchange.withheld()[BTC]
    assert message.type in (WSMsgType.CLOSED, WSMsgType.ERROR)
    assert said["certain"] == [(100, 100, "disconnect")]


async def test_half_open_stays_open_and_silent_until_the_server_gives_it_up() -> None:
    async with serving({"halfopen": 1.0}, events=10) as (server, session):
        connection = await session.ws_connect(server.ws_url, autoping=False)
        await connection.send_bytes(command(channels=("matches", "heartbeat")))
        await until(lambda: bool(server.exchange.status()["finished"]))
        await connection.ping(b"anybody?")
        await ask(session, f"{server.rest_url}/products")  # by now the ping has been read
        now_ns = SystemClock.monotonic_ns()
        server.exchange.tick(now_ns + 30 * SECOND)  # heartbeats and pings are due
        assert server.exchange.status()["connections"] == 1
        server.exchange.tick(now_ns + 61 * SECOND)
        heard = [message async for message in connection]
    kinds = [json.loads(m.data)["type"] for m in heard if m.type is WSMsgType.TEXT]
    assert kinds[:2] == ["subscriptions", "last_match"]
    assert set(kinds[2:]) <= {"heartbeat"}
    assert len(kinds) <= 3
    assert WSMsgType.PONG not in {message.type for message in heard}


async def test_a_half_open_connection_ends_when_its_peer_leaves() -> None:
    async with serving({"halfopen": 1.0}, events=10) as (server, session):
        connection = await subscribed(session, server)
        await until(lambda: bool(server.exchange.status()["finished"]))
        assert server.exchange.status()["connections"] == 1
        assert connection._writer.transport is not None
        connection._writer.transport.abort()
        await until(lambda: not server.exchange.status()["connections"])
        assert server.exchange.withheld()[BTC]["certain"] == [(100, 109, "halfopen")]


async def test_a_client_that_vanishes_leaves_doubt_and_then_an_outage() -> None:
    async with serving(events=2_000) as (server, session):
        connection = await subscribed(session, server)
        heard = await read_until(connection, matches(50))
        assert connection._writer.transport is not None
        connection._writer.transport.abort()
        await until(lambda: bool(server.exchange.status()["finished"]))
        said = server.exchange.withheld()[BTC]
    [(first, last, reason)] = said["in_doubt"]
    assert (first, reason) == (100, "closed by peer")
    assert last >= 100 + len(trade_ids(heard)) - 1
    assert said["certain"] == [(last + 1, 2_099, "outage")]


# ------------------------------------------------------------------------- REST


async def test_products_are_listed() -> None:
    async with serving(symbols=(BTC, "SKL-GBP")) as (server, session):
        status, _, products = await ask(session, f"{server.rest_url}/products")
    assert status == 200
    assert isinstance(products, list)
    assert [p["id"] for p in products] == [BTC, "SKL-GBP"]


async def test_the_history_is_walked_by_its_headers_without_hole_or_repetition() -> None:
    async with serving(rate=0.001) as (server, session):
        url = f"{server.rest_url}/products/{BTC}/trades?limit=30"
        walked: list[int] = []
        page_url = url
        while True:
            async with session.get(page_url) as answer:
                page = [row["trade_id"] for row in await answer.json()]
                if not page:
                    assert "CB-AFTER" not in answer.headers
                    break
                assert int(answer.headers["CB-BEFORE"]) == page[0]
                page_url = f"{url}&after={answer.headers['CB-AFTER']}"
            walked += page
    newest = Trades(5, "coinbase", BTC).event(99).trade_id
    assert walked == list(range(newest, newest - 100, -1))


async def test_history_rows_equal_the_truth() -> None:
    async with serving(rate=0.001) as (server, session):
        _, _, rows = await ask(session, f"{server.rest_url}/products/{BTC}/trades?limit=1")
    truth = Trades(5, "coinbase", BTC).event(99)
    assert rows == [
        {
            "trade_id": truth.trade_id,
            "side": {"buy": "sell", "sell": "buy"}[truth.side],
            "size": truth.size,
            "price": truth.price,
            "time": truth.time,
        }
    ]


async def test_the_history_has_what_the_feed_withheld_and_nothing_of_the_future() -> None:
    async with serving({"drop": 1.0}, events=20) as (server, session):
        connection = await subscribed(session, server)
        await until(lambda: bool(server.exchange.status()["finished"]))
        await connection.close()
        ids = await rest_ids(session, f"{server.rest_url}/products/{BTC}/trades")
    newest = Trades(5, "coinbase", BTC).event(119).trade_id
    assert ids == list(range(newest, newest - 120, -1))


@pytest.mark.parametrize("path", ["products/XXX-USD/trades", "nowhere", "products/BTC-USD/fills"])
async def test_what_is_not_there_is_404(path: str) -> None:
    async with serving() as (server, session):
        status, _, body = await ask(session, f"{server.rest_url}/{path}")
    assert (status, body) == (404, {"message": "NotFound"})


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "after=-1", "before=1.5"])
async def test_a_wrong_query_is_400(query: str) -> None:
    async with serving() as (server, session):
        status, _, body = await ask(session, f"{server.rest_url}/products/{BTC}/trades?{query}")
    assert status == 400
    assert body == {"message": f"Invalid {query.partition('=')[0]}"}


async def test_the_rate_limit_fault_answers_429_and_counts() -> None:
    async with serving({"rate_limit": 0.5}) as (server, session):
        answers = [await ask(session, f"{server.rest_url}/products") for _ in range(40)]
        refused = [(headers, body) for status, headers, body in answers if status == 429]
        assert server.exchange.status()["rate_limited"] == len(refused)
        expected = [server.exchange.faults.of_request(n) is not None for n in range(1, 41)]
    assert [status == 429 for status, _, _ in answers] == expected
    assert all(body == {"message": "Public rate limit exceeded"} for _, body in refused)
    assert {headers.get("Retry-After") for headers, _ in refused} == {"1", None}


async def test_the_exchanges_own_limit_is_off_unless_asked_for() -> None:
    async with serving() as (server, session):
        statuses = {(await ask(session, f"{server.rest_url}/products"))[0] for _ in range(40)}
    assert statuses == {200}


async def test_the_exchanges_own_limit_refuses_after_the_burst() -> None:
    async with serving(limited=True) as (server, session):
        urls = [f"{server.rest_url}/products"] * 60
        statuses = [
            status for status, _, _ in await asyncio.gather(*(ask(session, u) for u in urls))
        ]
        assert server.exchange.status()["rate_limited"] == statuses.count(429)
    assert statuses.count(200) >= 15
    assert 429 in statuses


def test_a_bucket_gives_fifteen_at_once_and_ten_a_second() -> None:
    limiter = Limiter(RestLimit(10, 15))
    assert [limiter.take("a", 0) for _ in range(17)] == [True] * 15 + [False] * 2
    assert not limiter.take("a", SECOND // 10 - 1)
    assert limiter.take("a", SECOND // 10)
    assert not limiter.take("a", SECOND // 10)
    assert [limiter.take("a", 100 * SECOND) for _ in range(16)].count(True) == 15


def test_clients_have_buckets_of_their_own_and_not_without_bound() -> None:
    limiter = Limiter(RestLimit(10, 15))
    assert [limiter.take("a", 0) for _ in range(16)].count(True) == 15
    assert limiter.take("b", 0)
    for number in range(3_000):
        limiter.take(f"client {number}", 0)
    assert len(limiter._filled_ns) <= 1_024


# --------------------------------------------------------------- the truth server


async def test_the_truth_server_tells_status_and_withheld() -> None:
    async with serving({"drop": 1.0}, events=10) as (server, session):
        connection = await subscribed(session, server)
        await until(lambda: bool(server.exchange.status()["finished"]))
        _, _, status = await ask(session, f"{server.truth_url}/")
        _, _, withheld = await ask(session, f"{server.truth_url}/withheld")
        await connection.close()
    assert isinstance(status, dict)
    assert isinstance(withheld, dict)
    assert status["symbols"] == {BTC: {"first": 100, "last": 109}}
    assert (status["venue"], status["finished"]) == ("coinbase", True)
    assert (status["market"], status["channel"]) == ("spot", "trade")
    assert withheld[BTC]["certain"] == [[100, 109, "drop"]]


async def test_the_truth_server_gives_events_and_digests() -> None:
    async with serving(rate=0.001) as (server, session):
        query = f"symbol={BTC}&from=3&to=100"
        async with session.get(f"{server.truth_url}/events?{query}") as answer:
            lines = (await answer.text()).splitlines()
        _, _, digest = await ask(session, f"{server.truth_url}/digest?{query}")
        _, _, digests = await ask(session, f"{server.truth_url}/digests?{query}&by=25000000")
    truth = list(Trades(5, "coinbase", BTC).events(3, 100))
    assert [json.loads(line) for line in lines] == [
        {**trade.document(), "number": trade.trade_id, "row": trade.row()} for trade in truth
    ]
    assert digest == TruthDigest.of(truth).document()
    buckets = {trade.event_ts // 25_000_000 for trade in truth}
    assert len(buckets) > 1
    assert digests == {
        str(bucket): TruthDigest.of(
            trade for trade in truth if trade.event_ts // 25_000_000 == bucket
        ).document()
        for bucket in buckets
    }


async def test_digests_want_to_know_by_what_time() -> None:
    async with serving(rate=0.001) as (server, session):
        for by in ("", "&by=0", "&by=x"):
            url = f"{server.truth_url}/digests?symbol={BTC}&from=0&to=1{by}"
            status, _, body = await ask(session, url)
            assert status == 400
            assert "by" in str(body)


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("symbol=XXX-USD&from=0&to=1", "no symbol 'XXX-USD'"),
        ("symbol=BTC-USD&from=0", "both from"),
        ("symbol=BTC-USD&from=a&to=1", "Invalid from"),
        ("symbol=BTC-USD&from=0&to=101", "has not come to index 100"),
    ],
)
async def test_the_truth_server_says_what_is_wrong_with_a_question(query: str, says: str) -> None:
    async with serving(rate=0.001) as (server, session):
        for path in ("events", "digest", "digests"):
            status, _, body = await ask(session, f"{server.truth_url}/{path}?by=1&{query}")
            assert status == 400
            assert says in str(body)


# -------------------------------------------------------------------- the process


@pytest.mark.parametrize("which", ["ws_port", "rest_port", "truth_port"])
async def test_a_port_in_use_is_one_clear_sentence(which: str) -> None:
    exchange = ExchangeConfig(COINBASE, MarketConfig(1, (BTC,)))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ports = {"ws_port": 0, "rest_port": 0, "truth_port": 0, which: port}
        with pytest.raises(Unreachable, match=rf"Port {port} on 127\.0\.0\.1 is in use") as caught:
            async with running(ServerConfig(exchange, **ports), SystemClock()):
                pytest.fail("it listens on a port that is taken")
    assert caught.value.exit_code == 3


async def test_everything_listens_on_loopback_and_stops_with_the_block() -> None:
    async with serving() as (server, _):
        urls = [server.ws_url, server.rest_url, server.truth_url]
        ticking = server.ticking
    assert all("//127.0.0.1:" in url for url in urls)
    assert ticking.done()
    for url in urls:
        with pytest.raises(OSError, match=r"refused|Connect call failed"):
            await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
