"""What REST answers: trades, books and candles.

Answers that hold no events, such as those on status, schedule and limits, are control.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from forebay.domain.calendars.weekly import NEW_YORK, moment_ns
from forebay.domain.parsed import DeadLetter, Parsed
from forebay.sources.kalshi.messages import (
    MISNAMED,
    PageTrade,
    Sides,
    asked_for,
    contracts,
    dollars,
    page_trades,
    snapshots,
)
from forebay.sources.kalshi.protocol import (
    BARS,
    BOOK_SNAPSHOTS,
    MARKET,
    PERIODS_MIN,
    SECOND,
    SESSION_OF,
    TRADES,
    taken,
)
from forebay.sources.kalshi.statements import FORMS, Statement, listed, read_statements
from forebay.sources.parsing import SKEW_NS, UNDECODABLE, PageReader, bars, reason_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from forebay.domain.frames import FrameBatch
    from forebay.domain.parsed import RawEvents
    from forebay.sources.kalshi.messages import Told

TIMEFRAMES = {minutes: timeframe for timeframe, minutes in PERIODS_MIN.items()}
"""By minutes of a candle's period."""
_PRICES = ("open", "high", "low", "close")
_ASKED = re.compile(r"GET (?:/trade-api/v2)?(/[^?]*)(?:\?(.*))?", re.DOTALL)
_TRADES = re.compile(r"/(?:markets|historical)/trades")
_BOOKS = re.compile(r"/markets/(?:orderbooks|([^/]+)/orderbook)")
_CANDLES = re.compile(
    r"/markets/candlesticks|/(?:series/[^/]+|historical)/markets/([^/]+)/candlesticks"
)
_STATEMENTS = re.compile(r"/(?:historical/)?(?:markets|events|series)(?:/[^/]+)?")
_OF_MARKETS = ("/markets/trades", "/markets/orderbooks", "/markets/candlesticks")
"""What is not called like a market."""
_PERIOD = re.compile(r"(?:^|&)period_interval=([0-9]{1,9})(?=&|$)")
_NAMED = re.compile(r"(?<=/)[A-Z0-9][^/]*")
_LATEST_S = 253_402_300_800


class _Book(msgspec.Struct):
    """The older name of the book is ``orderbook``."""

    ticker: str = ""
    orderbook_fp: msgspec.Raw = msgspec.Raw()
    orderbook: msgspec.Raw = msgspec.Raw()


class _Distribution(msgspec.Struct):
    """Prices of a period: in dollars, in dollars by the other name, or in cents."""

    open_dollars: str | None = None
    high_dollars: str | None = None
    low_dollars: str | None = None
    close_dollars: str | None = None
    open: str | int | None = None
    high: str | int | None = None
    low: str | int | None = None
    close: str | int | None = None

    def price(self, name: str) -> str | None:
        """Return one of them, None if there is none."""
        told: str | None = getattr(self, f"{name}_dollars")
        other: str | int | None = getattr(self, name)
        if told is not None or other is None:
            return told
        return dollars(None, other) if isinstance(other, int) else other


class Candle(msgspec.Struct):
    """One period; ``price`` says nothing of one in which nothing was traded."""

    end_period_ts: int
    price: _Distribution | None = None
    volume_fp: str | None = None
    volume: str | int | None = None

    @property
    def traded(self) -> bool:
        """Whether there is a bar of trades."""
        price = self.price
        return price is not None and any(price.price(name) is not None for name in _PRICES)


class _Candles(msgspec.Struct):
    candlesticks: msgspec.Raw
    market_ticker: str = ""


class _CandlePage(msgspec.Struct):
    markets: list[_Candles]


def _reader(row: type, page: str) -> PageReader:
    """Return what reads pages whose rows are in ``page``."""

    def made(each: Any) -> type:  # noqa: ANN401 - a type as msgspec takes it
        return msgspec.defstruct("Page", [(page, list[each] | None)])

    return PageReader(row, made, lambda read: getattr(read, page) or ())


_trade_pages = _reader(PageTrade, "trades")
_book_pages = _reader(_Book, "orderbooks")
_candle_rows = PageReader(Candle)
_sides = msgspec.json.Decoder(Sides | None).decode
_book = msgspec.json.Decoder(_Book).decode
_candles = msgspec.json.Decoder(_Candles).decode
_candle_page = msgspec.json.Decoder(_CandlePage).decode


class AskedPage(NamedTuple):
    """What a request asks for."""

    path: str
    query: str

    @property
    def timeframe(self) -> str | None:
        """Of candles; None if it is none that has a name here."""
        minutes = _PERIOD.findall(self.query)
        return TIMEFRAMES.get(int(minutes[-1])) if minutes else None


def asked_page(request: str) -> AskedPage:
    """Return path, without what every one begins with, and query of a request."""
    found = _ASKED.fullmatch(request)
    return AskedPage(found[1], found[2] or "") if found else AskedPage("", "")


def read_pages(batch: FrameBatch) -> Parsed:
    """Account for answers to one question."""
    asked, kinds = asked_page(batch.context.request), taken(batch)
    reading = _Reading(batch, Parsed())
    if _TRADES.fullmatch(asked.path) and TRADES.kind in kinds:
        reading.trades()
    elif (books := _BOOKS.fullmatch(asked.path)) and BOOK_SNAPSHOTS.kind in kinds:
        reading.books(books[1] or "")
    elif (candles := _CANDLES.fullmatch(asked.path)) and BARS.kind in kinds:
        reading.candles(candles[1] or "", asked.timeframe)
    elif _STATEMENTS.fullmatch(asked.path) and not asked.path.startswith(_OF_MARKETS):
        reading.statements({*kinds})
    else:
        reading.other(asked.path)
    return reading.parsed


@dataclass(slots=True)
class _Reading:
    """The account of answers to one question, as far as they are read."""

    batch: FrameBatch
    parsed: Parsed

    def other(self, path: str) -> None:
        """Count answers that hold no events."""
        self.parsed.control = len(self.batch)
        if not any(each.fullmatch(path) for each in (_TRADES, _BOOKS, _CANDLES)):
            self.parsed.unbuilt[f"GET {_NAMED.sub('*', path)}"] = len(self.batch)

    def trades(self) -> None:
        """Read pages of trades."""
        self._events(lambda row: row.ticker, _trade_pages, page_trades)

    def books(self, symbol: str) -> None:
        """Read a book of ``symbol``, or several that say whose they are."""
        if not symbol:
            self._events(lambda row: row.ticker, _book_pages, self._snapshots)
            return
        told: list[tuple[int, int, str, Any]] = []
        for frame, payload in enumerate(self.batch.payloads):
            try:
                told.append((frame, 0, symbol, _book(payload)))
            except UNDECODABLE as error:
                self._bury(frame, error)
        self._keep(self._snapshots(self._asked_for(told), self.parsed.dead))

    def _snapshots(self, told: Told, dead: list[DeadLetter]) -> list[RawEvents]:
        books = []
        for frame, item, symbol, row in told:
            raw = bytes(row.orderbook_fp) or bytes(row.orderbook) or b"null"
            try:
                book = _sides(raw)
            except UNDECODABLE as error:
                dead.append(DeadLetter(frame, item, reason_of(error), str(error)))
                continue
            if book is None or book.misnamed(raw):
                dead.append(DeadLetter(frame, item, "missing_field", MISNAMED))
            else:
                books.append((frame, item, symbol, book))
        return snapshots(books, dead)

    def _events(
        self,
        named: Callable[[Any], str],
        reader: PageReader,
        made: Callable[[Told, list[DeadLetter]], list[RawEvents]],
    ) -> None:
        """Read pages whose rows say by ``named`` which market they are of."""
        told: list[tuple[int, int, str, Any]] = []
        for frame, payload in enumerate(self.batch.payloads):
            read = reader.read(frame, payload, self.parsed.dead)
            if read is not None:
                told += [(frame, item, named(row), row) for frame, item, row in read.rows]
        self._keep(made(self._asked_for(told), self.parsed.dead))

    def statements(self, kinds: set[str]) -> None:
        """Read what is said of series, events and markets, those of some kinds."""
        received_ns = dict(enumerate(self.batch.received_ns.tolist()))
        told: dict[str, list[Statement]] = {name: [] for name in FORMS}
        for frame, payload in enumerate(self.batch.payloads):
            try:
                for name, rows in read_statements(frame, payload).items():
                    told[name] += rows
            except UNDECODABLE as error:
                self._bury(frame, error)
        taken_of = [name for name, form in FORMS.items() if form.channel.kind in kinds]
        self._keep([part for name in taken_of for part in listed(name, told[name], received_ns)])

    # ------------------------------------------------------------------------ candles

    def candles(self, symbol: str, timeframe: str | None) -> None:
        """Read candles of ``symbol``, or of several markets that say which they are of."""
        if timeframe is None:
            self.other("/candlesticks")
            return
        told: list[tuple[int, int, str, Any]] = []
        for frame, payload in enumerate(self.batch.payloads):
            try:
                page = [_candles(payload)] if symbol else _candle_page(payload).markets
            except UNDECODABLE as error:
                self._bury(frame, error)
                continue
            offset = 0
            for each in page:
                rows = list(self._candles_of(frame, offset, each))
                told += [(frame, at, symbol or each.market_ticker, row) for at, row in rows]
                offset = max([offset, *(at + 1 for at, _ in rows)])
        self._keep(self._bars(timeframe, self._asked_for(told)))

    def _candles_of(
        self, frame: int, offset: int, candles: _Candles
    ) -> Iterator[tuple[int, Candle]]:
        """Return the candles of one market with their places in the page, from ``offset`` on."""
        dead: list[DeadLetter] = []
        read = _candle_rows.read(frame, bytes(candles.candlesticks), dead)
        self.parsed.dead += [
            DeadLetter(frame, offset + each.item, each.reason, each.error) for each in dead
        ]
        for _, item, row in read.rows if read is not None else ():
            yield offset + item, row

    def _bars(self, timeframe: str, told: Told) -> list[RawEvents]:
        kept, begins = [], []
        for frame, item, symbol, candle in told:
            if not candle.traded:
                continue
            begin = begin_of(timeframe, candle.end_period_ts)
            if begin is None:
                error = f"{candle.end_period_ts} ends no bar of {timeframe} of {symbol}"
                self.parsed.dead.append(DeadLetter(frame, item, "bad_time", error))
            else:
                kept.append((frame, item, symbol, candle))
                begins.append(begin)
        if not kept:
            return []
        symbols, rows = [symbol for _, _, symbol, _ in kept], [row for *_, row in kept]
        volumes = [contracts(row.volume_fp, row.volume) for row in rows]
        prices = {name: [row.price.price(name) for row in rows] for name in _PRICES}
        made = bars(
            self.batch,
            BARS,
            [(frame, item, row) for frame, item, _, row in kept],
            market=MARKET,
            symbol=symbols,
            venue_symbol=symbols,
            timeframe=timeframe,
            of="trade",
            adjusted=False,
            session=SESSION_OF.get(timeframe, "UTC"),
            begins=begins,
            ends=[row.end_period_ts for row in rows],
            skew_ns=SKEW_NS,
            columns={**prices, "volume": volumes},
        )
        return [made]

    # ------------------------------------------------------------------------- account

    def _bury(self, frame: int, error: Exception) -> None:
        self.parsed.dead.append(DeadLetter(frame, 0, reason_of(error), str(error)))

    def _asked_for(self, told: Told) -> Told:
        return asked_for(self.batch, told, self.parsed.dead)

    def _keep(self, events: Sequence[RawEvents]) -> None:
        """Note events; an answer that yields none of anything is control."""
        self.parsed.events = list(events)
        telling = {int(frame) for part in events for frame in part.frame}
        telling |= {letter.frame for letter in self.parsed.dead}
        self.parsed.control += len(self.batch) - len(telling)


def candles_of(body: bytes) -> list[Candle]:
    """Return the candles of one market that can be read; ``ValueError`` if the page is none."""
    dead: list[DeadLetter] = []
    read = _candle_rows.read(0, bytes(_candles(body).candlesticks), dead)
    if read is None:
        raise ValueError(dead[0].error)
    return [row for *_, row in read.rows]


def begin_of(timeframe: str, end_s: int) -> int | None:
    """Return when a candle begins that ends then, Unix seconds; None if none does.

    A day is from midnight to midnight in New York, and may have 23 or 25 hours.
    """
    if not 0 <= end_s < _LATEST_S:
        return None
    if timeframe != "1d":
        step = PERIODS_MIN[timeframe] * 60
        return None if end_s % step else end_s - step
    wall = datetime.fromtimestamp(end_s, NEW_YORK)
    if (wall.hour, wall.minute, wall.second) != (0, 0, 0):
        return None
    return moment_ns(wall.date() - timedelta(days=1), 0, NEW_YORK) // SECOND
