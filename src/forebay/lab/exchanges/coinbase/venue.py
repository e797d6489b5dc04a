"""Coinbase Exchange as the chassis sees it."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from forebay.lab.exchanges.coinbase import messages
from forebay.lab.exchanges.coinbase.rest import Rest
from forebay.lab.exchanges.limits import RestLimit
from forebay.lab.exchanges.model import TRADE, Feed, Greeting, Request, Topic

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from aiohttp import web

    from forebay.clock import Clock
    from forebay.lab.exchanges.market import Market
    from forebay.lab.truth import Trade, Trades

_FEEDS: Final[Mapping[str, Feed]] = MappingProxyType({messages.MATCHES: TRADE})
_COMPLAINTS: Final = MappingProxyType({404: "NotFound", 429: "Public rate limit exceeded"})


class Coinbase:
    """A :class:`~forebay.lab.exchanges.model.VenueModel`."""

    name = "coinbase"
    subscribe_within_ns: int | None = 5_000_000_000
    rest_limit = RestLimit(per_second=10, burst=15)

    def understand(self, raw: bytes, symbols: Collection[str]) -> Request | bytes:
        try:
            return messages.parse_request(raw, symbols)
        except messages.Refusal as refusal:
            return messages.error(refusal)

    def acknowledgement(self, topics: Sequence[Topic]) -> bytes:
        return messages.subscriptions(topics)

    def feed(self, channel: str) -> Feed | None:
        return _FEEDS.get(channel)

    def speaker(self, trades: Trades) -> Speaker:
        return Speaker(trades)

    def routes(self, market: Market, clock: Clock) -> Iterable[web.RouteDef]:
        return Rest(market, clock).routes()

    def complaint(self, status: int, message: str = "") -> object:
        return {"message": message or _COMPLAINTS[status]}


class Speaker:
    """A :class:`~forebay.lab.exchanges.model.Speaker` for one product."""

    def __init__(self, trades: Trades) -> None:
        self._trades = trades

    def greeting(self, channel: str, last: int) -> Greeting | None:
        if channel == messages.MATCHES:
            return Greeting(messages.match(self._trades.event(last), "last_match"), last)
        return None

    def frame(self, feed: Feed, trade: Trade) -> bytes | None:
        return messages.match(trade) if feed == TRADE else None

    def heartbeat(self, channel: str, last: Trade) -> bytes | None:
        return messages.heartbeat(last) if channel == messages.HEARTBEAT else None
