"""What the streams say: arrays of events, several of them a frame, each for itself."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar, cast

import msgspec

from forebay.domain.channels import Channel
from forebay.domain.parsed import DeadLetter, Moments, Parsed, RawEvents, Reason
from forebay.sources.massive import bars, ticks
from forebay.sources.massive.channels import (
    BARS,
    CRYPTO,
    FOREX,
    MILLISECOND,
    QUOTES,
    SECONDS,
    TRADES,
    taken,
)
from forebay.sources.massive.protocol import UNDECODABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from forebay.domain.frames import FrameBatch

    Told = list[tuple[int, int, Any]]


class _Event(msgspec.Struct, tag_field="ev"):
    """Any event."""


class _ForexQuote(_Event, tag="C"):
    market: ClassVar[str] = FOREX
    channel: ClassVar[Channel] = QUOTES
    p: str
    a: Decimal
    b: Decimal
    t: int

    @property
    def pair(self) -> str:
        return self.p

    def cells(self) -> dict[str, str | None]:
        return {
            "bid_price": bars.plain(self.b),
            "ask_price": bars.plain(self.a),
            "bid_size": None,
            "ask_size": None,
        }


class _CryptoQuote(_Event, tag="XQ", rename={"as_": "as"}):
    market: ClassVar[str] = CRYPTO
    channel: ClassVar[Channel] = QUOTES
    pair: str
    bp: Decimal
    bs: Decimal
    ap: Decimal
    as_: Decimal
    t: int

    def cells(self) -> dict[str, str | None]:
        return {
            "bid_price": bars.plain(self.bp),
            "ask_price": bars.plain(self.ap),
            "bid_size": bars.plain(self.bs),
            "ask_size": bars.plain(self.as_),
        }


class _CryptoTrade(_Event, tag="XT"):
    market: ClassVar[str] = CRYPTO
    channel: ClassVar[Channel] = TRADES
    pair: str
    p: Decimal
    s: Decimal
    t: int
    i: str | int
    x: int
    c: list[int] | None = None

    def cells(self) -> dict[str, str | None]:
        return {
            "price": bars.plain(self.p),
            "size": bars.plain(self.s),
            "side": ticks.side(self.c),
        }


class _Bar(_Event):
    channel: ClassVar[Channel] = BARS
    market: ClassVar[str]
    timeframe: ClassVar[str]
    pair: str
    o: Decimal
    h: Decimal
    l: Decimal  # noqa: E741 - the venue's name
    c: Decimal
    v: Decimal
    s: int
    e: int
    vw: Decimal | None = None

    def row(self) -> bars.BarRow:
        """The same as a page tells it."""
        return bars.BarRow(self.s, self.o, self.h, self.l, self.c, self.v, self.vw)


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


class _Book(_Event, tag="XL2"):
    """Whole books are not captured: counted, and kept in the journal."""


class _Status(_Event, tag="status"):
    pass


_TYPES: Any = (
    _ForexQuote | _CryptoQuote | _CryptoTrade | _ForexMinute | _ForexSecond
    | _CryptoMinute | _CryptoSecond | _Book | _Status
)  # fmt: skip
_KNOWN = {"C", "XQ", "XT", "CA", "CAS", "XA", "XAS", "XL2", "status"}
_decode = cast("Callable[[bytes], list[Any]]", msgspec.json.Decoder(list[_TYPES]).decode)
_decode_raw = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_one = cast("Callable[[bytes], Any]", msgspec.json.Decoder(_TYPES).decode)


def read_stream(batch: FrameBatch) -> Parsed:
    """Account for frames of a stream."""
    parsed = Parsed()
    kinds, wanted = taken(batch), {*batch.context.symbols}
    told: dict[tuple[str, str], Told] = {}
    for frame, payload in enumerate(batch.payloads):
        letters, yields, unbuilt = len(parsed.dead), False, False
        for item, event in _events(frame, payload, parsed.dead):
            unbuilt = unbuilt or isinstance(event, _Book)
            if isinstance(event, (_Book, _Status)) or event.channel.kind not in kinds:
                continue
            letter = _refused(frame, item, event, wanted)
            if letter is not None:
                parsed.dead.append(letter)
                continue
            yields = True
            told.setdefault((event.channel.kind, event.market), []).append((frame, item, event))
        if unbuilt:
            parsed.unbuilt["XL2"] += 1
        if not yields and len(parsed.dead) == letters:
            parsed.control += 1
    parsed.events = [_columns(batch, market, told[kind, market]) for kind, market in sorted(told)]
    return parsed


def _events(frame: int, payload: bytes, dead: list[DeadLetter]) -> list[tuple[int, Any]]:
    """Return the events of a frame with their place; what does not decode goes to ``dead``."""
    try:
        return list(enumerate(_decode(payload)))
    except UNDECODABLE:
        pass
    try:
        raws = _decode_raw(payload)
    except UNDECODABLE as error:
        invalid = isinstance(error, msgspec.ValidationError)
        dead.append(DeadLetter(frame, 0, "wrong_type" if invalid else "not_json", str(error)))
        return []
    events = []
    for item, raw in enumerate(raws):
        try:
            events.append((item, _decode_one(raw)))
        except UNDECODABLE as error:
            dead.append(DeadLetter(frame, item, _why(bytes(raw), error), str(error)))
    return events


def _why(raw: bytes, error: Exception) -> Reason:
    """Sort a decoder's complaint into a reason."""
    try:
        event = msgspec.json.decode(raw)
    except UNDECODABLE:
        return "not_json"
    kind = event.get("ev") if isinstance(event, dict) else None
    if isinstance(event, dict) and "ev" in event and kind not in _KNOWN:
        return "unknown_type"
    return "missing_field" if "missing required field" in str(error) else "wrong_type"


def _symbol(pair: str) -> str:
    return pair.replace("/", "-")


def _refused(frame: int, item: int, event: Any, wanted: set[str]) -> DeadLetter | None:  # noqa: ANN401
    """Return why an event cannot be, if it cannot: not asked for, or of another length."""
    if wanted and _symbol(event.pair) not in wanted:
        error = f"pair {event.pair!r:.200} was not asked for"
        return DeadLetter(frame, item, "unknown_symbol", error)
    if isinstance(event, _Bar):
        length = SECONDS[event.timeframe] * 1000
        if event.e - event.s != length or not bars.on_grid(event.s, event.timeframe):
            error = f"{event.s} to {event.e} is no bar of {event.timeframe}"
            return DeadLetter(frame, item, "bad_time", error)
    return None


def _columns(batch: FrameBatch, market: str, told: Sequence[tuple[int, int, Any]]) -> RawEvents:
    channel: Channel = told[0][2].channel
    symbols = [_symbol(event.pair) for _, _, event in told]
    pairs = [event.pair for _, _, event in told]
    if channel is BARS:
        return bars.bars(
            batch,
            [(frame, item, event.row()) for frame, item, event in told],
            market=market,
            symbols=symbols,
            venue_symbols=pairs,
            timeframes=[event.timeframe for _, _, event in told],
            ends_ms=[event.e for _, _, event in told],
            adjusted=[False] * len(told),
        )
    cells = [event.cells() for _, _, event in told]
    natives = None
    if channel is TRADES:
        natives = [ticks.native(event.x, str(event.i)) for _, _, event in told]
    return RawEvents(
        channel=channel,
        market=market,
        frame=[frame for frame, _, _ in told],
        item=[item for _, item, _ in told],
        venue_symbol=pairs,
        symbol=symbols,
        native=natives,
        time=Moments([event.t for _, _, event in told], MILLISECOND),
        columns={name: [row[name] for row in cells] for name in cells[0]},
    )
