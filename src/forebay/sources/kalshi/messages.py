"""Trades, tickers and books in both generations of the venue's fields, as columns of one.

Of each field the exact text counts (``*_dollars``, ``*_fp``) and, only where there is none, the
whole cents or contracts of before. A message that has neither says nothing, and 0 least of all.
"""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import msgspec

from forebay.domain.identity import NATIVE_ID_LIMIT
from forebay.domain.parsed import DeadLetter, Moments, RawEvents
from forebay.sources.kalshi.protocol import (
    BOOK_DELTAS,
    BOOK_SNAPSHOTS,
    MARKET,
    MILLISECOND,
    SEQ_BITS,
    TICKERS,
    TRADES,
    wanted,
)
from forebay.times import to_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from forebay.domain.channels import Channel
    from forebay.domain.frames import FrameBatch
    from forebay.domain.parsed import Cells
    from forebay.sources.parsing import Placed

_PRICE = re.compile(r"0?\.[0-9]{1,18}")
_NOTHING = re.compile(r"0*\.?0*")
MISNAMED = "no levels under any name that is known"
_ALL = re.compile(r"0*1(\.0*)?")
_LATEST_MS = 253_402_300_800_000
"""The year 10000: what is later is no time that can be written."""
_OUTCOMES = {"yes": "buy", "no": "sell"}
"""Which side of the YES contract a taker of each outcome is on."""
_BOOK_SIDES = {"bid": "buy", "ask": "sell"}


# --------------------------------------------------------------------------- numbers


@lru_cache(maxsize=65_536)
def complement(price: str) -> str:
    """Return ``1 - price`` with as many digits; of what is between 0 and 1 nowhere, no number."""
    if _PRICE.fullmatch(price):
        digits = price.partition(".")[2]
        rest = 10 ** len(digits) - int(digits)
        if rest < 10 ** len(digits):
            return f"0.{rest:0{len(digits)}d}"
    return f"1 - {price}"


def dollars(text: str | None, cents: int | None) -> str | None:
    """Return a price, None if neither field is there."""
    return text if text is not None or cents is None else f"{Decimal(cents).scaleb(-2):f}"


def contracts(text: str | None, whole: int | None) -> str | None:
    """Return a count, None if neither field is there."""
    return text if text is not None or whole is None else str(whole)


def _bid(price: str | None) -> str | None:
    """Return a best bid; the venue writes one that does not exist as 0."""
    return None if price is None or _NOTHING.fullmatch(price) else price


def _ask(price: str | None) -> str | None:
    """Return a best ask; one that does not exist is 1, as it follows from a NO bid of 0."""
    return None if _bid(price) is None or _ALL.fullmatch(price or "") else price


# -------------------------------------------------------------------------- messages


class _Timed(msgspec.Struct, kw_only=True):
    """``ts`` counts seconds, or is a text; ``ts_ms`` milliseconds."""

    ts: int | str | None = None
    ts_ms: int | None = None

    @property
    def milliseconds(self) -> int | None:
        """When it happened, None if it does not say."""
        seconds = self.ts if isinstance(self.ts, int) else None
        return seconds * 1000 if self.ts_ms is None and seconds is not None else self.ts_ms


class _Traded(_Timed, kw_only=True):
    """What a trade says of itself on both ways; block trades say more."""

    trade_id: str
    yes_price_dollars: str | None = None
    yes_price: int | None = None
    count_fp: str | None = None
    count: int | None = None
    taker_outcome_side: str | None = None
    taker_side: str | None = None
    """Deprecated; it says the same."""
    taker_book_side: str | None = None

    @property
    def price(self) -> str | None:
        """Of YES."""
        return dollars(self.yes_price_dollars, self.yes_price)

    @property
    def size(self) -> str | None:
        """In contracts."""
        return contracts(self.count_fp, self.count)

    @property
    def side(self) -> str:
        """The taker's, of the YES contract."""
        if outcome := self.taker_outcome_side or self.taker_side:
            return _OUTCOMES.get(outcome, f"{outcome}?")
        return _BOOK_SIDES.get(self.taker_book_side or "", "unknown")


class TradeMessage(_Traded, kw_only=True):
    """A trade over the websocket."""

    market_ticker: str


class PageTrade(_Traded, kw_only=True):
    """A trade of a page."""

    ticker: str
    created_time: str


class TickerMessage(_Timed, kw_only=True):
    """Told when anything of it changes; there is no day that its volume is of."""

    market_ticker: str
    price_dollars: str | None = None
    price: int | None = None
    yes_bid_dollars: str | None = None
    yes_bid: int | None = None
    yes_ask_dollars: str | None = None
    yes_ask: int | None = None
    yes_bid_size_fp: str | None = None
    yes_ask_size_fp: str | None = None
    last_trade_size_fp: str | None = None


class Sides(msgspec.Struct):
    """A book: what is bid for YES and for NO; a side without levels is absent, or null."""

    yes_dollars_fp: list[tuple[str, str]] | None = None
    no_dollars_fp: list[tuple[str, str]] | None = None
    yes_dollars: list[tuple[str, str | int]] | None = None
    no_dollars: list[tuple[str, str | int]] | None = None
    yes: list[tuple[int, int]] | None = None
    no: list[tuple[int, int]] | None = None

    def levels(self, side: str) -> list[tuple[str, str]]:
        """Return prices and sizes of ``yes`` or ``no``, as bids of that."""
        for name in (f"{side}_dollars_fp", f"{side}_dollars"):
            if (told := getattr(self, name)) is not None:
                return [(price, str(size)) for price, size in told]
        whole: list[tuple[int, int]] = getattr(self, side) or []
        return [(dollars(None, cents) or "", str(size)) for cents, size in whole]

    def misnamed(self, payload: bytes) -> bool:
        """Return whether ``payload`` has lists of something, but none of a book."""
        return b"[" in payload and all(side is None for side in self._known())

    def _known(self) -> Iterator[object]:
        return (getattr(self, name) for name in Sides.__struct_fields__)


class SnapshotMessage(Sides, kw_only=True):
    """A whole book over the websocket; it has no time."""

    market_ticker: str


class DeltaMessage(_Timed, kw_only=True):
    """By how much the size of one level changes."""

    market_ticker: str
    side: str
    price_dollars: str | None = None
    price: int | None = None
    delta_fp: str | None = None
    delta: int | None = None

    @property
    def instant(self) -> str | None:
        """When it happened, RFC 3339; None if it does not say."""
        if isinstance(self.ts, str) and self.ts:
            return self.ts
        told = self.milliseconds
        if told is None or not 0 <= told < _LATEST_MS:
            return None if told is None else str(told)
        return to_text(told * MILLISECOND, exact=True)


class NumberedMessage(NamedTuple):
    """A change of a book with the number of its frame."""

    sid: int
    seq: int
    delta: DeltaMessage

    @property
    def native(self) -> int:
        """One number of both; -1 if they have no room in it, which no number is."""
        fits = 0 <= self.seq < 1 << SEQ_BITS and 0 <= self.sid < NATIVE_ID_LIMIT >> SEQ_BITS
        return self.sid << SEQ_BITS | self.seq if fits else -1


# ---------------------------------------------------------------------------- events

Told: TypeAlias = "Sequence[tuple[int, int, str, Any]]"
"""Of messages, frame and item, the market and what is said of it."""


def trades(told: Told, dead: list[DeadLetter]) -> list[RawEvents]:
    """Return the trades of the websocket; those without a price or a size go to ``dead``."""
    rows = _whole(told, ("price", "size"), dead)
    return _apart(
        TRADES,
        rows,
        lambda row: row.milliseconds,
        trade_columns,
        native=lambda row: row.trade_id,
        unit_ns=MILLISECOND,
    )


def page_trades(told: Told, dead: list[DeadLetter]) -> list[RawEvents]:
    """Return the trades of pages likewise."""
    rows = _whole(told, ("price", "size"), dead)
    return _apart(
        TRADES, rows, lambda row: row.created_time, trade_columns, native=lambda row: row.trade_id
    )


def trade_columns(rows: Sequence[Any]) -> dict[str, Cells]:
    """Return price, size and the taker's side."""
    return {
        "price": [row.price for row in rows],
        "size": [row.size for row in rows],
        "side": [row.side for row in rows],
    }


def tickers(told: Told, dead: list[DeadLetter]) -> list[RawEvents]:
    """Return the tickers of markets that were traded; a price of 0 says that one never was."""
    del dead
    rows = [each for each in told if _bid(dollars(each[3].price_dollars, each[3].price))]
    return _apart(TICKERS, rows, lambda row: row.milliseconds, _ticker_columns, unit_ns=MILLISECOND)


def _ticker_columns(rows: Sequence[Any]) -> dict[str, Cells]:
    bids = [_bid(dollars(row.yes_bid_dollars, row.yes_bid)) for row in rows]
    asks = [_ask(dollars(row.yes_ask_dollars, row.yes_ask)) for row in rows]
    return {
        "price": [dollars(row.price_dollars, row.price) for row in rows],
        "size": [row.last_trade_size_fp for row in rows],
        "bid_price": bids,
        "bid_size": [row.yes_bid_size_fp for row in rows],
        "ask_price": asks,
        "ask_size": [row.yes_ask_size_fp for row in rows],
    }


def snapshots(told: Told, dead: list[DeadLetter]) -> list[RawEvents]:
    """Return whole books; one whose levels have other names than are known goes to ``dead``."""
    del dead
    return _apart(BOOK_SNAPSHOTS, told, lambda _: None, _book_columns)


def _book_columns(books: Sequence[Sides]) -> dict[str, Cells]:
    bids = [book.levels("yes") for book in books]
    asks = [[(complement(price), size) for price, size in book.levels("no")] for book in books]
    return {
        "bid_prices": [[price for price, _ in side] for side in bids],
        "bid_sizes": [[size for _, size in side] for side in bids],
        "ask_prices": [[price for price, _ in side] for side in asks],
        "ask_sizes": [[size for _, size in side] for side in asks],
    }


def deltas(told: Told, dead: list[DeadLetter]) -> list[RawEvents]:
    """Return changes of books; those of no side or without a price or a size go to ``dead``."""
    kept = []
    for entry in told:
        frame, item, symbol, numbered = entry
        delta = numbered.delta
        price = dollars(delta.price_dollars, delta.price)
        size = contracts(delta.delta_fp, delta.delta)
        if delta.side not in _OUTCOMES:
            error = f"side {delta.side!r:.200} of {symbol}"
            dead.append(DeadLetter(frame, item, "bad_side", error))
        elif price is None or size is None:
            lacking = "price" if price is None else "delta"
            dead.append(_lacking(frame, item, symbol, lacking))
        else:
            kept.append((frame, item, symbol, (numbered, price, size)))
    return _apart(
        BOOK_DELTAS,
        kept,
        lambda row: row[0].delta.instant,
        _delta_columns,
        native=lambda row: row[0].native,
    )


def _delta_columns(rows: Sequence[Any]) -> dict[str, Cells]:
    bids = [numbered.delta.side == "yes" for numbered, _, _ in rows]
    each = list(zip(bids, rows, strict=True))
    return {
        "bid_prices": [[price] if bid else [] for bid, (_, price, _) in each],
        "bid_sizes": [[size] if bid else [] for bid, (_, _, size) in each],
        "ask_prices": [[] if bid else [complement(price)] for bid, (_, price, _) in each],
        "ask_sizes": [[] if bid else [size] for bid, (_, _, size) in each],
    }


def asked_for(batch: FrameBatch, told: Told, dead: list[DeadLetter]) -> Told:
    """Return what is said of markets that were asked for; the rest goes to ``dead``."""
    ours = wanted(batch, {symbol for _, _, symbol, _ in told})
    for frame, item, symbol, _ in told:
        if symbol not in ours:
            error = f"market {symbol!r:.200} was not asked for"
            dead.append(DeadLetter(frame, item, "unknown_symbol", error))
    return [each for each in told if each[2] in ours]


def _whole(told: Told, needed: Iterable[str], dead: list[DeadLetter]) -> Told:
    """Return the messages that say all that is ``needed``; the others go to ``dead``."""
    kept = []
    for entry in told:
        lacking = next((name for name in needed if getattr(entry[3], name) is None), "")
        if lacking:
            dead.append(_lacking(entry[0], entry[1], entry[2], lacking))
        else:
            kept.append(entry)
    return kept


def _lacking(frame: int, item: int, symbol: str, name: str) -> DeadLetter:
    return DeadLetter(frame, item, "missing_field", f"no {name} of {symbol} in any form")


def _apart(
    channel: Channel,
    told: Told,
    time: Callable[[Any], Any],
    columns: Callable[[Sequence[Any]], Mapping[str, Cells]],
    *,
    native: Callable[[Any], Any] | None = None,
    unit_ns: int = 0,
) -> list[RawEvents]:
    """Return messages with a time and those without, as events, where there are any.

    Times are texts, or whole numbers of ``unit_ns``.
    """
    parts: dict[bool, list[Placed]] = {False: [], True: []}
    symbols: dict[bool, list[str]] = {False: [], True: []}
    for frame, item, symbol, row in told:
        timed = time(row) is not None
        parts[timed].append((frame, item, row))
        symbols[timed].append(symbol)
    found = []
    for timed, placed in parts.items():
        rows = [row for *_, row in placed]
        if not rows:
            continue
        times = [time(row) for row in rows] if timed else None
        found.append(
            RawEvents(
                channel=channel,
                market=MARKET,
                frame=[frame for frame, _, _ in placed],
                item=[item for _, item, _ in placed],
                venue_symbol=symbols[timed],
                symbol=symbols[timed],
                native=[native(row) for row in rows] if native else None,
                time=Moments(times, unit_ns) if times and unit_ns else times,
                columns=columns(rows),
            )
        )
    return found
