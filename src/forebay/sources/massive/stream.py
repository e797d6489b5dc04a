"""What the streams say: arrays of events, several of them a frame, each for itself."""

from __future__ import annotations

from decimal import Decimal  # noqa: TC003 - msgspec reads annotations
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from forebay.domain.calendars.grid import STEPS
from forebay.domain.parsed import DeadLetter, Parsed, RawEvents
from forebay.sources.massive.messages import (
    BarRow,
    QuoteRow,
    TradeRow,
    bars,
    on_grid,
    ticks,
)
from forebay.sources.massive.protocol import CRYPTO, FOREX, MILLISECOND, taken
from forebay.sources.parsing import PageReader, reason_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebay.domain.frames import FrameBatch
    from forebay.domain.parsed import Reason
    from forebay.sources.parsing import Placed


# Fields that are told again here are renamed; msgspec renames no others.


class _ForexQuote(
    QuoteRow,
    tag_field="ev",
    kw_only=True,
    tag="C",
    rename={"pair": "p", "time": "t", "bid_price": "b", "ask_price": "a"},
):
    market: ClassVar[str] = FOREX
    pair: str
    time: int
    bid_price: Decimal
    ask_price: Decimal


class _CryptoQuote(
    QuoteRow,
    tag_field="ev",
    kw_only=True,
    tag="XQ",
    rename={"time": "t", "bid_price": "bp", "bid_size": "bs", "ask_price": "ap", "ask_size": "as"},
):
    market: ClassVar[str] = CRYPTO
    pair: str
    time: int
    bid_price: Decimal
    bid_size: Decimal
    ask_price: Decimal
    ask_size: Decimal


class _CryptoTrade(
    TradeRow,
    tag_field="ev",
    kw_only=True,
    tag="XT",
    rename={"time": "t", "id": "i", "exchange": "x", "price": "p", "size": "s", "conditions": "c"},
):
    market: ClassVar[str] = CRYPTO
    pair: str
    time: int
    id: str | int
    exchange: int
    price: Decimal
    size: Decimal
    conditions: list[int] | None = None


class _Bar(BarRow, tag_field="ev", kw_only=True, rename={"begin": "s", "end": "e"}):
    market: ClassVar[str]
    timeframe: ClassVar[str]
    pair: str
    begin: int
    end: int


class _ForexMinute(_Bar, tag="CA"):
    market: ClassVar[str] = FOREX
    timeframe: ClassVar[str] = "1m"


class _ForexSecond(_Bar, tag="CAS"):
    market: ClassVar[str] = FOREX
    timeframe: ClassVar[str] = "1s"


class _CryptoMinute(_Bar, tag="XA"):
    market: ClassVar[str] = CRYPTO
    timeframe: ClassVar[str] = "1m"


class _CryptoSecond(_Bar, tag="XAS"):
    market: ClassVar[str] = CRYPTO
    timeframe: ClassVar[str] = "1s"


class _Book(msgspec.Struct, tag_field="ev", tag="XL2"):
    """Whole books are not captured: counted, and kept in the journal."""


class _Status(msgspec.Struct, tag_field="ev", tag="status"):
    pass


def _why(error: Exception) -> Reason:
    return "unknown_type" if str(error).endswith("`$.ev`") else reason_of(error)


_frames = PageReader(
    _ForexQuote | _CryptoQuote | _CryptoTrade | _ForexMinute | _ForexSecond | _CryptoMinute
    | _CryptoSecond | _Book | _Status,
    why=_why,
)  # fmt: skip


def read_stream(batch: FrameBatch) -> Parsed:
    """Account for frames of a stream."""
    parsed = Parsed()
    kinds, wanted = taken(batch), {*batch.context.symbols}
    told: dict[str, list[Placed]] = {}
    for frame, payload in enumerate(batch.payloads):
        letters, yields = len(parsed.dead), False
        read = _frames.read(frame, payload, parsed.dead)
        rows = read.rows if read is not None else []
        parsed.unbuilt["XL2"] += any(isinstance(event, _Book) for *_, event in rows)
        for row in rows:
            event = row[2]
            if isinstance(event, (_Book, _Status)) or event.channel.kind not in kinds:
                continue
            if (letter := _refused(*row, wanted)) is not None:
                parsed.dead.append(letter)
                continue
            yields = True
            told.setdefault(event.__struct_config__.tag, []).append(row)
        parsed.control += not yields and len(parsed.dead) == letters
    parsed.unbuilt = +parsed.unbuilt
    parsed.events = [_columns(batch, told[tag]) for tag in sorted(told)]
    return parsed


def _symbol(pair: str) -> str:
    return pair.replace("/", "-")


def _refused(frame: int, item: int, event: Any, wanted: set[str]) -> DeadLetter | None:  # noqa: ANN401
    """Return why an event cannot be, if it cannot: not asked for, or of another length."""
    if wanted and _symbol(event.pair) not in wanted:
        error = f"pair {event.pair!r:.200} was not asked for"
        return DeadLetter(frame, item, "unknown_symbol", error)
    if isinstance(event, _Bar):
        length = STEPS[event.timeframe] * 1000
        if event.end - event.begin != length or not on_grid(event.begin, event.timeframe):
            error = f"{event.begin} to {event.end} is no bar of {event.timeframe}"
            return DeadLetter(frame, item, "bad_time", error)
    return None


def _columns(batch: FrameBatch, rows: Sequence[Placed]) -> RawEvents:
    """Return events of one type."""
    pairs, first = [event.pair for *_, event in rows], rows[0][2]
    names: Any = {"symbol": [_symbol(pair) for pair in pairs], "venue_symbol": pairs}
    names["market"] = first.market
    if isinstance(first, _Bar):
        return bars(batch, rows, first.timeframe, **names)
    return ticks(rows, MILLISECOND, **names)
