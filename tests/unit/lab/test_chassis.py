"""The chassis serves a venue that it has never heard of: one made up here, that speaks in words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web

import forebay.lab.exchanges as chassis
from forebay.clock import SystemClock
from forebay.errors import ConfigError
from forebay.lab.exchanges.commands import CommandVenue, Request
from forebay.lab.exchanges.exchange import Exchange, ExchangeConfig
from forebay.lab.exchanges.limits import RestLimit
from forebay.lab.exchanges.market import MarketConfig
from forebay.lab.exchanges.model import TRADE, Feed, Greeting, Speaker, Topic
from forebay.lab.exchanges.queries import BadQuery
from forebay.lab.exchanges.server import ServerConfig, running
from forebay.lab.truth import BookTruth, Trades
from tests.unit.lab.fakes import BTC, SECOND, FakeWire, pass_time, until
from tests.unit.lab.live import ask

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from forebay.clock import Clock
    from forebay.lab.exchanges.market import Market
    from forebay.lab.faults import SwitchedFaults
    from forebay.lab.truth import Trade


class Words(CommandVenue):
    """A venue that is asked for ``deals``, ``tops`` and ``chimes``, and answers in plain text."""

    name = "words"
    subscribe_within_ns: int | None = None
    rest_limit = RestLimit(per_second=1, burst=1)

    def understand(self, raw: bytes, symbols: Collection[str]) -> Request | bytes:
        verb, channel, symbol = raw.decode().split(" ")
        if symbol not in symbols:
            return b"what?"
        return Request(verb == "more", ((channel, symbol),))

    def acknowledgement(self, topics: Sequence[Topic], new: Sequence[Topic]) -> bytes:
        del new
        return " ".join(("now", *(channel for channel, _ in topics))).encode()

    def feed(self, channel: str) -> Feed | None:
        feeds: dict[str, Feed] = {"deals": TRADE, "tops": "book"}
        return feeds.get(channel)

    def speaker(self, trades: Trades) -> Voice:
        return Voice(trades)

    def routes(
        self, market: Market, clock: Clock, switched: SwitchedFaults
    ) -> Iterable[web.RouteDef]:
        del clock, switched

        async def last(request: web.Request) -> web.Response:
            if "loud" in request.query:
                raise BadQuery("quiet, please")
            return web.Response(text=str(market.last(BTC)))

        return [web.get("/last", last)]

    def complaint(self, status: int, message: str = "") -> object:
        return ["no", status, message]


class Voice(Speaker):
    """How it tells."""

    def __init__(self, trades: Trades) -> None:
        self._book = BookTruth(trades)

    def greeting(self, channel: str, last: int) -> Greeting | None:
        return Greeting(self._top(last)) if channel == "tops" else None

    def frame(self, feed: Feed, trade: Trade) -> bytes | None:
        if feed == TRADE:
            return f"deal {trade.index} {trade.price}".encode()
        return self._top(trade.index) if trade.index % 2 else None

    def heartbeat(self, channel: str, last: int) -> bytes | None:
        return f"chime {last}".encode() if channel == "chimes" else None

    def _top(self, index: int) -> bytes:
        (bid, _), (ask, _) = self._book.best(index)
        return f"top {index} {bid} {ask}".encode()


def build(faults: Mapping[str, float] | None = None, events: int | None = None) -> Exchange:
    return Exchange(ExchangeConfig(Words(), MarketConfig(5, (BTC,), 1_000, events), faults or {}))


def listening(exchange: Exchange, *channels: str) -> FakeWire:
    wire = FakeWire()
    line = exchange.connected(wire, 0)
    for channel in channels:
        exchange.received(line, f"more {channel} {BTC}".encode(), 0)
    return wire


def test_a_venue_is_heard_in_its_own_words() -> None:
    exchange = build(events=20)
    wire = listening(exchange, "deals", "tops", "chimes")
    pass_time(exchange, 0, SECOND // 2)
    said = [payload.decode() for payload in wire.payloads()]
    trades = Trades(5, "words", BTC)
    greeting = [text for text in said if text.startswith("top 99 ")]
    assert said[0] == "now deals"
    assert len(greeting) == 1
    assert [text for text in said if text.startswith("deal ")] == [
        f"deal {trade.index} {trade.price}" for trade in trades.events(100, 120)
    ]
    tops = [int(text.split(" ")[1]) for text in said if text.startswith("top ")]
    assert tops == [99, *range(101, 120, 2)]
    assert said.count("chime 99") == 1


def test_its_faults_and_what_it_never_says_are_told_apart() -> None:
    exchange = build({"book_drop": 1.0}, events=20)
    listening(exchange, "deals", "tops")
    pass_time(exchange, 0, SECOND // 2)
    certain = exchange.withheld("book")[BTC]["certain"]
    assert certain == [(index, index, "drop") for index in range(101, 120, 2)]
    assert exchange.withheld()[BTC]["certain"] == []


def test_what_it_does_not_understand_it_says_itself() -> None:
    exchange, wire = build(), FakeWire()
    exchange.received(exchange.connected(wire, 0), b"more deals XXX-USD", 0)
    assert wire.payloads() == [b"what?"]
    assert not exchange.market.clock_started


def test_who_need_not_subscribe_is_not_closed() -> None:
    exchange = build()
    wire = listening(exchange)
    pass_time(exchange, 0, 60 * SECOND, SECOND)
    assert "close" not in [kind for kind, _ in wire.did]


async def test_it_is_served_with_its_own_rest_and_complaints() -> None:
    config = ExchangeConfig(Words(), MarketConfig(5, (BTC,), 1_000, 10))
    async with (
        running(ServerConfig(config, rest_limited=True), SystemClock()) as server,
        aiohttp.ClientSession() as session,
    ):
        async with session.ws_connect(server.ws_url) as socket:
            await socket.send_bytes(f"more deals {BTC}".encode())
            await until(lambda: bool(server.exchange.status()["finished"]))
        answers = [await ask(session, f"{server.rest_url}/last?loud") for _ in range(2)]
        _, _, status = await ask(session, f"{server.truth_url}/")
        url = f"{server.truth_url}/digest?symbol={BTC}&from=0&to=110"
        _, _, digest = await ask(session, url)
    assert [body for _, _, body in answers] == [["no", 400, "quiet, please"], ["no", 429, ""]]
    assert isinstance(status, dict)
    assert isinstance(digest, dict)
    assert (status["venue"], digest["count"]) == ("words", 110)


# ----------------------------------------------------------------- the registry


def test_the_chassis_names_no_venue_but_in_the_registry() -> None:
    folder = Path(chassis.__file__).parent
    naming = {
        (path.relative_to(folder).name, line.strip())
        for path in folder.glob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if any(re.search(name, line, re.IGNORECASE) for name in chassis.NAMES)
    }
    assert {file for file, _ in naming} == {"__init__.py"}
    assert len(naming) == len(chassis.NAMES)


@pytest.mark.parametrize("name", chassis.NAMES)
def test_a_venue_is_found_by_its_name(name: str) -> None:
    assert chassis.venue_named(name).name == name


def test_a_venue_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigError, match="no simulator of 'nowhere'"):
        chassis.venue_named("nowhere")
