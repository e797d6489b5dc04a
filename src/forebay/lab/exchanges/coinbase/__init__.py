"""The simulated Coinbase Exchange: what is the venue's own."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from forebay.lab.exchanges.coinbase import messages
from forebay.lab.exchanges.coinbase.rest import Rest
from forebay.lab.exchanges.commands import CommandVenue, Request
from forebay.lab.exchanges.limits import RestLimit
from forebay.lab.exchanges.model import TRADE, Feed, Greeting, Speaker, Topic, VenueModel
from forebay.lab.truth import BookTruth, Tickers

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from aiohttp import web

    from forebay.clock import Clock
    from forebay.lab.exchanges.market import Market
    from forebay.lab.faults import SwitchedFaults
    from forebay.lab.truth import Trade, Trades

_FEEDS: Final[Mapping[str, Feed]] = MappingProxyType(
    {
        messages.MATCHES: TRADE,
        messages.TICKER: "ticker",
        messages.LEVEL2: "book",
        messages.LEVEL2_50: "book",
    }
)
_COMPLAINTS: Final = MappingProxyType({404: "NotFound", 429: "Public rate limit exceeded"})


class Coinbase(CommandVenue):
    """See :class:`~forebay.lab.exchanges.model.VenueModel`."""

    name = "coinbase"
    subscribe_within_ns: int | None = 5_000_000_000
    rest_limit = RestLimit(per_second=10, burst=15)

    def understand(self, raw: bytes, symbols: Collection[str]) -> Request | bytes:
        try:
            return messages.parse_request(raw, symbols)
        except messages.CommandRefused as refusal:
            return messages.error(refusal)

    def acknowledgement(self, topics: Sequence[Topic], new: Sequence[Topic]) -> bytes:
        del new
        return messages.subscriptions(topics)

    def feed(self, channel: str) -> Feed | None:
        return _FEEDS.get(channel)

    def speaker(self, trades: Trades) -> CoinbaseSpeaker:
        return CoinbaseSpeaker(trades)

    def routes(
        self, market: Market, clock: Clock, switched: SwitchedFaults
    ) -> Iterable[web.RouteDef]:
        del switched
        return Rest(market, clock).routes()

    def complaint(self, status: int, message: str = "") -> object:
        return {"message": message or _COMPLAINTS[status]}


class CoinbaseSpeaker(Speaker):
    """What is told of one product."""

    def __init__(self, trades: Trades) -> None:
        self._trades = trades
        self._tickers = Tickers(trades)
        self._book = BookTruth(trades)

    def greeting(self, channel: str, last: int) -> Greeting | None:
        feed = _FEEDS.get(channel)
        if feed == TRADE:
            return Greeting(messages.match(self._trades.event(last), "last_match"), last)
        if feed == "book":
            return Greeting(messages.snapshot(self._book.snapshot(last)))
        told = self._tickers.last(last)
        if feed is None or told is None:
            return None
        return Greeting(messages.ticker(told, self._trades.event(told.index)), told.index)

    def frame(self, feed: Feed, trade: Trade) -> bytes | None:
        if feed == TRADE:
            return messages.match(trade)
        if feed == "book":
            return messages.l2update(self._book.delta(trade.index))
        due = self._tickers.due(trade.index)
        return messages.ticker(self._tickers.of(trade), trade) if due else None

    def heartbeat(self, channel: str, last: int) -> bytes | None:
        if channel != messages.HEARTBEAT:
            return None
        return messages.heartbeat(self._trades.event(last))


VENUE: Final[VenueModel] = Coinbase()
