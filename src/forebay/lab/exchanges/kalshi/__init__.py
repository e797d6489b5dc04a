"""The simulated Kalshi: what is the venue's own."""

from __future__ import annotations

import functools
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, cast

from forebay.lab.exchanges.kalshi import messages, truth
from forebay.lab.exchanges.kalshi.account import WS_PATH, LabAccount
from forebay.lab.exchanges.kalshi.dialogue import KalshiDialogue, channel_of
from forebay.lab.exchanges.kalshi.lives import Lives, told_lives
from forebay.lab.exchanges.kalshi.rest import KalshiRest
from forebay.lab.exchanges.kalshi.symbols import parse_tickers
from forebay.lab.exchanges.kalshi.troubles import (
    AGAIN,
    ERRORS,
    HOLE,
    MAINTENANCE,
    NEW_SIDS,
    TROUBLES,
)
from forebay.lab.exchanges.limits import RestLimit
from forebay.lab.exchanges.model import TRADE, Feed, Greeting, Speaker, VenueModel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from aiohttp import web

    from forebay.clock import Clock
    from forebay.lab.exchanges.market import Market
    from forebay.lab.exchanges.model import Announcement
    from forebay.lab.faults import SwitchedFaults
    from forebay.lab.truth import Trade, Trades

_FEEDS: Final = MappingProxyType(
    {messages.TRADES: TRADE, messages.TICKER: "ticker", messages.BOOK: "book"}
)
_COMPLAINTS: Final = MappingProxyType(
    {
        400: ("bad_request", "bad request"),
        401: ("authentication_error", "authentication_error"),
        404: ("not_found", "not found"),
        503: ("service_unavailable", "exchange is under maintenance"),
    }
)
_TOO_MANY: Final = 429
_SIDS: Final = 1_000
"""So much higher do new sids begin."""


class Kalshi(VenueModel):
    """See :class:`~forebay.lab.exchanges.model.VenueModel`."""

    name = truth.VENUE
    subscribe_within_ns: int | None = None
    rest_limit = RestLimit(per_second=20, burst=20)
    sources = truth.SOURCES
    numbered = False
    rest_path = "/trade-api/v2"
    ws_path = WS_PATH
    troubles = TROUBLES
    striking: Mapping[str, tuple[str, tuple[Feed, ...]]] = MappingProxyType(
        {HOLE: ("drop", (TRADE, "book"))}
    )
    noises: Mapping[str, bytes] = MappingProxyType({ERRORS: messages.error(18)})
    repeated: Mapping[str, str] = MappingProxyType({AGAIN: messages.BOOK})
    shutting = (MAINTENANCE,)
    heartbeat: tuple[int, bytes] | None = (10_000_000_000, b"heartbeat")
    waits_told = False

    def __init__(self, account: LabAccount | None = None) -> None:
        self._account = account

    @functools.cached_property
    def keys(self) -> LabAccount:
        """The one account."""
        return self._account or LabAccount()

    def with_account(self, folder: Path) -> Kalshi:
        return Kalshi(LabAccount.at(folder))

    def account(self) -> Mapping[str, str]:
        return self.keys.files

    def admits(self, headers: Mapping[str, str], path: str, wall_ns: int) -> object:
        why = self.keys.refusal(headers, "GET", WS_PATH, wall_ns)
        if why and path != WS_PATH:  # somebody may sign the path that was asked for
            why = self.keys.refusal(headers, "GET", path, wall_ns)
        return self.complaint(401, why) if why else None

    def trades(self, seed: int, symbol: str, *, start_ns: int, step_us: int) -> Trades:
        return truth.KalshiTrades(seed, symbol, start_ns=start_ns, step_us=step_us)

    def parse_symbols(self, text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return parse_tickers(text)

    def another_price(self, price: str) -> str:
        return truth.complement(price) if price != "0.5000" else "0.5100"

    def market_of(self, symbol: str) -> str:
        del symbol
        return truth.MARKET

    def dialogue(self, switched: SwitchedFaults, now_ns: int) -> KalshiDialogue:
        high = switched.strikes(NEW_SIDS, now_ns)
        first = switched.hits(NEW_SIDS) * _SIDS if high else 0
        return KalshiDialogue(switched, first + 1)

    def word(self, channel: str) -> str:
        return channel_of(channel)

    def feed(self, channel: str) -> Feed | None:
        return cast("Feed | None", _FEEDS.get(channel_of(channel)))

    def speaker(self, trades: Trades) -> KalshiSpeaker:
        return KalshiSpeaker(trades)

    def routes(
        self, market: Market, clock: Clock, switched: SwitchedFaults
    ) -> Iterable[web.RouteDef]:
        return KalshiRest(market, clock, switched, self.keys).routes()

    def change(
        self, market: Market, symbol: str, wanted: Mapping[str, object], now_ns: int
    ) -> Sequence[Announcement]:
        return Lives(market, now_ns).change(symbol, wanted)

    def due(self, market: Market, now_ns: int) -> Iterator[Announcement]:
        return Lives(market, now_ns).due()

    def lives(self, market: Market) -> dict[str, object]:
        return told_lives(market)

    def complaint(self, status: int, message: str = "") -> object:
        if status == _TOO_MANY:
            return {"error": "too many requests"}
        code, usual = _COMPLAINTS.get(status, ("internal_error", "internal server error"))
        return {"code": code, "message": usual, "details": message}


class KalshiSpeaker(Speaker):
    """What is told of one market."""

    def __init__(self, trades: Trades) -> None:
        assert isinstance(trades, truth.KalshiTrades)  # noqa: S101 - the venue made them
        self._trades = trades
        self._tickers = truth.KalshiTickers(trades)
        self._book = truth.KalshiBook(trades)

    def greeting(self, channel: str, last: int) -> Greeting | None:
        kind = channel_of(channel)
        if kind == messages.BOOK:
            book = self._book.snapshot(last)
            return Greeting(messages.snapshot(self._trades.symbol, *messages.levels(book)))
        told = self._tickers.last(last) if kind == messages.TICKER else None
        return None if told is None else Greeting(messages.ticker(told), told.index)

    def frame(self, feed: Feed, trade: Trade) -> bytes | None:
        if feed == TRADE:
            return messages.trade(truth.told_trade(self._trades, trade))
        if feed == "book":
            delta = self._book.delta(trade.index)
            return None if delta is None else messages.delta(delta)
        told = self._tickers.event(trade.index) if feed == "ticker" else None
        return None if told is None else messages.ticker(told)


VENUE: Final[VenueModel] = Kalshi()
