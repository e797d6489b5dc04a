"""The simulated Massive, formerly Polygon: what is the venue's own."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final, cast

from forebay.lab.exchanges.commands import CommandVenue, Login, Request
from forebay.lab.exchanges.limits import RestLimit
from forebay.lab.exchanges.massive import messages, truth
from forebay.lab.exchanges.massive.rest import TROUBLES, MassiveRest
from forebay.lab.exchanges.model import TRADE, Feed, Speaker, Topic, VenueModel
from forebay.lab.truth import Bars, Tickers

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from aiohttp import web

    from forebay.clock import Clock
    from forebay.lab.exchanges.market import Market
    from forebay.lab.faults import SwitchedFaults
    from forebay.lab.truth import Trade, Trades

_SECOND_NS = 1_000_000_000
_PARTINGS: Final = {
    "status-max-connections": ("max_connections", "Maximum number of connections exceeded."),
    "status-slow-consumer": ("slow_consumer", "Client is reading too slowly."),
    "status-force-disconnect": ("force_disconnect", "Disconnected by the server."),
}
_COMPLAINTS: Final = {
    404: "Data not found.",
    429: "You've exceeded the maximum requests per minute, please wait or upgrade.",
}


class Massive(CommandVenue):
    """See :class:`~forebay.lab.exchanges.model.VenueModel`."""

    name = "massive"
    subscribe_within_ns: int | None = 5_000_000_000
    rest_limit = RestLimit(per_second=100, burst=100)
    sources = truth.SOURCES
    numbered = False
    secrets: Mapping[str, str] = MappingProxyType({"key": messages.KEY})
    welcome = messages.status("connected", "Connected Successfully")
    without_key = messages.status("error", "not authenticated")
    too_late = messages.status("auth_timeout", "no key was shown in time")
    partings: Mapping[str, bytes] = MappingProxyType(
        {name: messages.status(*said) for name, said in _PARTINGS.items()}
    )
    troubles: Mapping[str, Mapping[str, int]] = MappingProxyType(
        {**TROUBLES, **{name: {} for name in _PARTINGS}}
    )

    def market_of(self, symbol: str) -> str:
        return truth.market_of(symbol)

    def understand(self, raw: bytes, symbols: Collection[str]) -> Request | Login | bytes:
        return messages.understand(raw, symbols)

    def acknowledgement(self, topics: Sequence[Topic], new: Sequence[Topic]) -> bytes:
        del topics
        said = [f"subscribed to: {messages.topic(word, symbol)}" for word, symbol in new]
        return messages.status("success", *said or ["ok"])

    def feed(self, channel: str) -> Feed | None:
        words = {**messages.WORDS[truth.FOREX], **messages.WORDS[truth.CRYPTO]}
        return cast("Feed | None", words.get(channel))

    def speaker(self, trades: Trades) -> MassiveSpeaker:
        return MassiveSpeaker(trades)

    def routes(
        self, market: Market, clock: Clock, switched: SwitchedFaults
    ) -> Iterable[web.RouteDef]:
        return MassiveRest(market, clock, switched).routes()

    def complaint(self, status: int, message: str = "") -> object:
        word = "NOT_FOUND" if status == 404 else "ERROR"  # noqa: PLR2004 - it has its own
        said = message or _COMPLAINTS[status]
        return {"status": word, "request_id": f"{status:032x}", "error": said}


class MassiveSpeaker(Speaker):
    """What is told of one pair; nothing is replayed."""

    def __init__(self, trades: Trades) -> None:
        self._trades = trades
        self._tickers = Tickers(trades)
        self._bars: dict[Feed, Bars] = {"bar": Bars(trades), "second": Bars(trades, _SECOND_NS)}
        words = messages.WORDS[truth.market_of(trades.symbol)]
        self._words = {feed: word for word, feed in words.items()}

    def frame(self, feed: Feed, trade: Trade) -> bytes | None:
        if feed not in self._words:
            return None
        if feed == TRADE:
            return messages.trade(trade)
        symbol, index = trade.symbol, trade.index
        if feed == "ticker":
            told = self._tickers.quote(index)
            if told is None:
                return None
            bid, ask = (told.bid_price, told.bid_size), (told.ask_price, told.ask_size)
            return messages.quote(symbol, told.event_ts, bid, ask)
        bar = self._bars[feed].event(index)
        if bar is None:
            return None
        texts = (bar.open, bar.high, bar.low, bar.close, bar.volume)
        return messages.bar(self._words[feed], symbol, bar.event_ts, bar.close_ts, texts)


VENUE: Final[VenueModel] = Massive()
