"""Messages of the feed that tell events, and their events as columns."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from forebay.domain.events import EARLIEST_NS, LATEST_AHEAD_NS
from forebay.domain.kinds.checks import times, true_where
from forebay.domain.parsed import DeadLetter, RawEvents
from forebay.sources.coinbase.protocol import BOOK_DELTAS, BOOK_SNAPSHOTS, QUOTES, TICKERS, TRADES
from forebay.sources.levels import by_side, offsets_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import numpy.typing as npt

    from forebay.domain.channels import Channel
    from forebay.domain.parsed import Cells

    Message = TypeVar("Message", bound=Any)
    Told = Sequence[tuple[int, Any]]
    Integers = npt.NDArray[np.int64]
    Mask = npt.NDArray[np.bool_]

TAKER = {"buy": "sell", "sell": "buy"}
"""By the maker's side."""
_SIDES = {"buy", "sell"}
"""``buy`` is the side of the bids."""
_EARLIEST = "2009"
"""Texts of the venue's times sort as the times do, and this before any plausible one."""
_SHAPE = re.compile(r"([0-9]{4})-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}")
_FIRST_YEAR, _LAST_YEAR = 1678, 2261
"""All of them can be told in nanoseconds, in 64 bits."""


class Match(msgspec.Struct, tag="match"):
    """A trade."""

    trade_id: int
    product_id: str
    price: str
    size: str
    side: str
    time: str


class LastMatch(Match, tag="last_match"):
    """The same facts, received again when a subscription begins."""


class CoinbaseTicker(msgspec.Struct, tag="ticker"):
    """Told with each trade, and when a subscription begins."""

    product_id: str
    price: str | None = None
    trade_id: int | None = None
    """Of the last trade; absent or 0 if the product was never traded."""
    last_size: str | None = None
    best_bid: str | None = None
    best_bid_size: str | None = None
    """The venue has told sizes since 2022."""
    best_ask: str | None = None
    best_ask_size: str | None = None
    open_24h: str | None = None
    high_24h: str | None = None
    low_24h: str | None = None
    volume_24h: str | None = None
    time: str | None = None


class BookSnapshot(msgspec.Struct, tag="snapshot"):
    """A whole book; the venue writes a side without levels as an empty list or as null."""

    product_id: str
    bids: list[tuple[str, str]] | None
    asks: list[tuple[str, str]] | None
    time: str | None = None


class Update(msgspec.Struct, tag="l2update"):
    """The sizes that levels have from now on: side, price, size; 0 takes a level away."""

    product_id: str
    changes: list[tuple[str, str, str]]
    time: str | None = None


def trades(told: Told) -> list[RawEvents]:
    """Return the trades that matches tell."""
    matches = [match for _, match in told]
    native = [match.trade_id for match in matches]
    return [_events(TRADES, told, trade_columns(matches), native=native)]


def trade_columns(matches: Sequence[Any]) -> dict[str, Cells]:
    """Return price, size and the taker's side; a comprehension each is Python's fastest way."""
    return {
        "price": [match.price for match in matches],
        "size": [match.size for match in matches],
        "side": [TAKER.get(match.side, match.side + "?") for match in matches],
    }


def tickers(told: Told, kinds: Collection[str], received_ns: Integers) -> list[RawEvents]:
    """Return the tickers and the quotes among ``kinds`` that messages tell.

    The ticker is the first event of its frame, the quote the second. A product that was never
    traded has no ticker, and one whose book lacks a side has no quote.
    """
    found = []
    for timed in _apart(told, received_ns):
        if TICKERS.kind in kinds:
            traded = [(i, each) for i, each in timed if each.trade_id or _price(each.price)]
            found.append(_events(TICKERS, traded, _ticker_columns(traded)))
        if QUOTES.kind in kinds:
            both = [each for each in timed if _price(each[1].best_bid) and _price(each[1].best_ask)]
            found.append(_events(QUOTES, both, _quote_columns(both), item=1))
    return [part for part in found if len(part)]


def _ticker_columns(told: Told) -> dict[str, Cells]:
    return {
        "price": [ticker.price for _, ticker in told],
        "size": [ticker.last_size for _, ticker in told],
        "bid_size": [ticker.best_bid_size for _, ticker in told],
        "ask_size": [ticker.best_ask_size for _, ticker in told],
        "volume_24h": [ticker.volume_24h for _, ticker in told],
        "bid_price": [_price(ticker.best_bid) for _, ticker in told],
        "ask_price": [_price(ticker.best_ask) for _, ticker in told],
        "open_24h": [_price(ticker.open_24h) for _, ticker in told],
        "high_24h": [_price(ticker.high_24h) for _, ticker in told],
        "low_24h": [_price(ticker.low_24h) for _, ticker in told],
    }


def _quote_columns(told: Told) -> dict[str, Cells]:
    return {
        "bid_price": [ticker.best_bid for _, ticker in told],
        "bid_size": [ticker.best_bid_size for _, ticker in told],
        "ask_price": [ticker.best_ask for _, ticker in told],
        "ask_size": [ticker.best_ask_size for _, ticker in told],
    }


def _price(text: str | None) -> str | None:
    """Return a price; the venue writes one that does not exist as 0, or as nothing."""
    return text if text and (text[0] != "0" or text.strip("0.")) else None


def snapshots(told: Told, received_ns: Integers) -> list[RawEvents]:
    """Return the books that messages tell whole."""
    found = []
    for part in _apart(told, received_ns):
        columns: dict[str, pa.Array] = {}
        for name in ("bid", "ask"):
            sides = [getattr(message, f"{name}s") or () for _, message in part]
            levels = [level for side in sides for level in side]
            offsets = offsets_of(np.array([len(side) for side in sides]))
            for at, what in enumerate(("prices", "sizes")):
                texts = pa.array([level[at] for level in levels], pa.string())
                columns[f"{name}_{what}"] = pa.ListArray.from_arrays(offsets, texts)
        found.append(_events(BOOK_SNAPSHOTS, part, columns))
    return found


def updates(told: Told, received_ns: Integers, dead: list[DeadLetter]) -> list[RawEvents]:
    """Return the changes that messages tell; those on a side that is none go to ``dead``."""
    found = []
    for part in _apart(_two_sided(told, dead), received_ns):
        changes = [change for _, message in part for change in message.changes]
        counts = [len(message.changes) for _, message in part]
        buy = np.array([side == "buy" for side, _, _ in changes], dtype=np.bool_)
        prices = pa.array([price for _, price, _ in changes], pa.string())
        sizes = pa.array([size for _, _, size in changes], pa.string())
        message = np.repeat(np.arange(len(part)), counts)
        found.append(_events(BOOK_DELTAS, part, by_side(buy, prices, sizes, message, len(part))))
    return found


def _two_sided(told: Told, dead: list[DeadLetter]) -> Told:
    """Return the messages whose changes are all on a side."""
    sides = {side for _, message in told for side, _, _ in message.changes} - _SIDES
    if not sides:
        return told
    right = []
    for entry in told:
        wrong = [side for side, _, _ in entry[1].changes if side in sides]
        if wrong:
            error = f"side {wrong[0]!r:.200} of {entry[1].product_id}"
            dead.append(DeadLetter(entry[0], 0, "bad_side", error))
        else:
            right.append(entry)
    return right


def _events(
    channel: Channel,
    told: Told,
    columns: Mapping[str, Cells],
    *,
    item: int = 0,
    native: list[int] | None = None,
) -> RawEvents:
    products = [message.product_id for _, message in told]
    return RawEvents(
        channel=channel,
        frame=[index for index, _ in told],
        item=[item] * len(told),
        venue_symbol=products,
        symbol=products,
        native=native,
        time=[message.time for _, message in told]
        if told and told[0][1].time is not None
        else None,
        columns=columns,
    )


# ------------------------------------------------------------------------ times


def _apart(
    told: Sequence[tuple[int, Message]], received_ns: Integers
) -> list[Sequence[tuple[int, Message]]]:
    """Return messages with a time and those without, each with its frame, where there are any.

    One whose ``time`` cannot be, such as the venue's ``0001-01-01T00:00:00Z``, has none: what
    else it says is true. A text that is no time is left as it is.
    """
    texts = [message.time for _, message in told]
    sure = plausible(pa.array(texts, pa.string()), received_ns).tolist() if told else []
    if all(sure):
        return [told] if told else []
    timed, untimed = [], []
    for (index, message), known in zip(told, sure, strict=True):
        if known or (message.time and _can_be(message.time, int(received_ns[index]))):
            timed.append((index, message))
        else:
            untimed.append((index, msgspec.structs.replace(message, time=None)))
    return [part for part in (timed, untimed) if part]


def plausible(texts: pa.Array, received_ns: Integers) -> Mask:
    """Return which times, told in any of some frames, are plausible in each of them.

    It may be false of some that are, never true of one that is not.
    """
    latest = np.datetime64(int(received_ns.min()) + LATEST_AHEAD_NS, "ns")
    right = pc.and_(
        pc.greater_equal(texts, pa.scalar(_EARLIEST)), pc.less(texts, pa.scalar(str(latest)[:19]))
    )
    return true_where(right)


def _can_be(text: str, received_ns: int) -> bool:
    """Return whether a text is a plausible time, or none at all."""
    year = _SHAPE.match(text)
    if year is not None and not _FIRST_YEAR <= int(year[1]) <= _LAST_YEAR:
        return False
    _, exchange_ns, bad = times(pa.array([text], pa.string()))
    return bool(bad[0]) or EARLIEST_NS <= int(exchange_ns[0]) <= received_ns + LATEST_AHEAD_NS
