"""Coinbase Exchange, pure: what to say to the feed and what its messages mean.

Facts from the exchange's published pages ("Exchange WebSocket feed", "Exchange REST API")
and from recorded frames:

* ``side`` of a match is the *maker's*; Forebay's is the taker's, the opposite.
* ``trade_id`` rises by one per product. ``last_match`` repeats the latest trade at the
  moment of subscribing, and a heartbeat's ``last_trade_id`` says what exists.
* Prices and sizes are JSON strings, times RFC 3339 in microseconds, on both paths.
"""

from __future__ import annotations

import json
import re
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, cast

import msgspec
import numpy as np

from forebay.domain.channels import Channel
from forebay.domain.frames import FrameKind
from forebay.domain.identity import NATIVE_ID_LIMIT
from forebay.domain.parsed import DeadLetter, Parsed, RawEvents, Reason
from forebay.errors import Permanent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from forebay.domain.frames import FrameBatch

VENUE = "coinbase"
PARSER = "coinbase/1"
"""Name and version of this parser, kept with every dead letter."""
CHANNELS = ("matches", "heartbeat")
TRADES = Channel("trade", identity="native", unit="id", time_unit_ns=1000, history=True)
"""``trade_id`` rises by one and is the same on every path; times are in microseconds."""
MARKET = "spot"
FEWEST = 512
"""Fewer frames than this are read sooner one by one than as columns."""

_TAKER = {"buy": "sell", "sell": "buy"}
_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""Everything msgspec raises over bytes: the last two are no DecodeError."""
_HISTORY = re.compile(r"GET /products/([^/?]+)/trades(?:\?|$)")
_PRODUCT = re.compile(r"[A-Z0-9]{1,20}-[A-Z0-9]{1,20}")


class _Match(msgspec.Struct, tag="match"):
    trade_id: int
    product_id: str
    price: str
    size: str
    side: str
    time: str


class _LastMatch(_Match, tag="last_match"):
    """The same facts, told again when a subscription begins."""


class _Heartbeat(msgspec.Struct, tag="heartbeat"):
    product_id: str
    last_trade_id: Annotated[int, msgspec.Meta(ge=0, lt=NATIVE_ID_LIMIT)]
    """0 while nothing has been traded yet."""


class _Subscriptions(msgspec.Struct, tag="subscriptions"):
    pass


class _Error(msgspec.Struct, tag="error"):
    pass


def _unbuilt(name: str) -> type[msgspec.Struct]:
    """A message type whose channel is not built yet: counted, its content left in the journal."""
    return msgspec.defstruct(f"Unbuilt_{name}", [], tag=name)


UNBUILT = (
    "snapshot",
    "l2update",
    "ticker",
    "status",
    "received",
    "open",
    "done",
    "change",
    "activate",
    "auction",
    "rfq_matches",
)
_unbuilt_types = {_unbuilt(name): name for name in UNBUILT}

_message_types: Any = _Match | _LastMatch | _Heartbeat | _Subscriptions | _Error
for _type in _unbuilt_types:
    _message_types |= _type

_decode = cast("Callable[[bytes], Any]", msgspec.json.Decoder(_message_types).decode)


class _RestTrade(msgspec.Struct):
    trade_id: int
    price: str
    size: str
    side: str
    time: str


class _RestTradeId(msgspec.Struct):
    """Paging needs no more: a row that is poison in another field must not stop a fill."""

    trade_id: int


_decode_ids = msgspec.json.Decoder(list[_RestTradeId]).decode
_decode_page = msgspec.json.Decoder(list[_RestTrade]).decode
_decode_rows = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_row = msgspec.json.Decoder(_RestTrade).decode


def subscribe_message(symbols: Sequence[str]) -> bytes:
    """Answer the message that subscribes to trades and heartbeats of ``symbols``.

    The venue closes a connection that has not sent it within 5 s.
    """
    message = {"type": "subscribe", "product_ids": list(symbols), "channels": list(CHANNELS)}
    return json.dumps(message, separators=(",", ":")).encode()


def accepts(payload: bytes) -> bool:
    """Tell whether ``payload`` accepts the subscription.

    Raises :class:`~forebay.errors.Permanent` with the venue's reason when it refuses.
    """
    try:
        message = msgspec.json.decode(payload)
    except _UNDECODABLE:
        return False
    kind = message.get("type") if isinstance(message, dict) else None
    if kind == "error":
        reason = message.get("reason") or message.get("message") or "no reason given"
        text = f"Coinbase refused the subscription: {reason}."
        raise Permanent(text, hint="List what there is with `forebay symbols --venue coinbase`.")
    return kind == "subscriptions"


def trades_path(symbol: str, after: int, limit: int = 1000) -> str:
    """Answer path and query for the ``limit`` trades with ids just below ``after``."""
    return f"/products/{symbol}/trades?limit={limit}&after={after}"


def trade_ids(body: bytes) -> list[int]:
    """Answer the ids of a page of history, newest first as they are listed.

    Raises ``msgspec.DecodeError`` when it is none.
    """
    try:
        page = _decode_ids(body)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error
    return [row.trade_id for row in page]


def why_undecodable(payload: bytes, error: msgspec.DecodeError) -> Reason:
    """Sort a decoder's complaint into a reason."""
    try:
        message = msgspec.json.decode(payload)
    except _UNDECODABLE:
        return "not_json"
    if not isinstance(message, dict):
        return "wrong_type"
    kind = message.get("type")
    known = {"match", "last_match", "heartbeat", "subscriptions", "error", *UNBUILT}
    if "type" in message and not (isinstance(kind, str) and kind in known):
        return "unknown_type"
    return "missing_field" if "missing required field" in str(error) else "wrong_type"


class CoinbaseParser:
    """Parser of everything the feed and the trade history send.

    Both ways of reading a match say the same; ``fewest`` frames are read as columns if they can.
    """

    name = PARSER
    channels: Mapping[str, Channel] = {TRADES.kind: TRADES}

    def __init__(self, fewest: int = FEWEST) -> None:
        self._fewest = fewest

    def parse(self, batch: FrameBatch) -> Parsed:
        """Account for every frame of ``batch``; see :class:`~forebay.ports.Parser`."""
        if batch.kind is FrameKind.REST:
            return _parse_history(batch)
        return _parse_feed(batch, self._fewest)


def _decoded(
    indices: Sequence[int], payloads: Sequence[bytes], dead: list[DeadLetter]
) -> list[tuple[int, Any]]:
    """Messages with the index of their frame; what does not decode goes to ``dead``."""
    try:
        return list(zip(indices, map(_decode, payloads), strict=True))
    except _UNDECODABLE:
        messages = []
    for index, payload in zip(indices, payloads, strict=True):
        try:
            messages.append((index, _decode(payload)))
        except msgspec.DecodeError as error:
            reason = why_undecodable(payload, error)
            dead.append(DeadLetter(index, 0, reason, str(error)))
        except (UnicodeDecodeError, RecursionError) as error:
            dead.append(DeadLetter(index, 0, "not_json", str(error)))
    return messages


def _parse_feed(batch: FrameBatch, fewest: int) -> Parsed:
    """Read the matches among at least ``fewest`` frames as columns, all else frame by frame."""
    parsed = Parsed()
    if len(batch) < fewest:
        trades = _read(batch, range(len(batch)), batch.payloads, parsed)
        parsed.events = [trades] if len(trades) else []
        return parsed
    # Capture imports this module too, and needs no Arrow.
    from forebay.domain.columns import joined  # noqa: PLC0415
    from forebay.sources.coinbase.matches import read_matches  # noqa: PLC0415

    parts = read_matches(batch.payloads, partial(_wanted, batch), TRADES)
    rest = np.ones(len(batch), dtype=np.bool_)
    for part in parts:
        rest[part.frame] = False
    indices: list[int] = np.flatnonzero(rest).tolist()
    others = _read(batch, indices, [batch.payloads[index] for index in indices], parsed)
    parts += [others] if len(others) else []
    parsed.events = [joined(parts)] if parts else []
    return parsed


def _read(
    batch: FrameBatch, indices: Sequence[int], payloads: Sequence[bytes], parsed: Parsed
) -> RawEvents:
    """Account for frames, given with their indices in ``batch``; return the trades."""
    matches: list[tuple[int, _Match]] = []
    for entry in _decoded(indices, payloads, parsed.dead):
        message = entry[1]
        if isinstance(message, _Match):
            matches.append(entry)
        else:
            parsed.control += 1
            if isinstance(message, _Heartbeat) and message.last_trade_id:
                parsed.know((MARKET, TRADES.kind, message.product_id), message.last_trade_id)
            elif (name := _unbuilt_types.get(type(message))) is not None:
                parsed.unbuilt[name] += 1
    told = {stream[-1] for stream in parsed.known}
    wanted = _wanted(batch, {match.product_id for _, match in matches} | told)
    parsed.known = {name: known for name, known in parsed.known.items() if name[-1] in wanted}
    if any(match.product_id not in wanted for _, match in matches):
        matches = _refuse_unknown(matches, wanted, parsed)
    return _columns(matches)


def _wanted(batch: FrameBatch, products: set[str]) -> set[str]:
    if batch.context.symbols:
        return products & set(batch.context.symbols)
    return {product for product in products if _PRODUCT.fullmatch(product)}


def _refuse_unknown(
    matches: list[tuple[int, _Match]], wanted: set[str], parsed: Parsed
) -> list[tuple[int, _Match]]:
    for index, match in matches:
        if match.product_id not in wanted:
            error = f"product {match.product_id!r} was not asked for"
            parsed.dead.append(DeadLetter(index, 0, "unknown_symbol", error))
    return [entry for entry in matches if entry[1].product_id in wanted]


def _columns(matches: Sequence[tuple[int, _Match]]) -> RawEvents:
    """Turn matches into columns; a comprehension a column is the fastest way in Python."""
    taker = _TAKER
    products = [match.product_id for _, match in matches]
    return RawEvents(
        channel=TRADES,
        frame=[index for index, _ in matches],
        item=[0] * len(matches),
        venue_symbol=products,
        symbol=products,
        native=[match.trade_id for _, match in matches],
        time=[match.time for _, match in matches],
        columns={
            "price": [match.price for _, match in matches],
            "size": [match.size for _, match in matches],
            "side": [taker.get(match.side, match.side + "?") for _, match in matches],
        },
    )


def _parse_history(batch: FrameBatch) -> Parsed:
    parsed = Parsed()
    asked = _HISTORY.match(batch.context.request)
    if asked is None:
        # An answer that holds no events, such as the list of products.
        parsed.control = len(batch)
        parsed.unbuilt[batch.context.request.partition("?")[0]] = len(batch)
        return parsed
    told: list[tuple[int, int, _RestTrade]] = []
    for index, payload in enumerate(batch.payloads):
        rows = _history_rows(index, payload, parsed.dead)
        if rows is None:
            continue
        if not rows:
            parsed.control += 1  # an empty page says that there is no more
        told.extend((index, item, row) for item, row in rows)
    if not told:
        return parsed
    symbols = [asked[1]] * len(told)
    trades = RawEvents(
        channel=TRADES,
        frame=[index for index, _, _ in told],
        item=[item for _, item, _ in told],
        venue_symbol=symbols,
        symbol=symbols,
        native=[row.trade_id for _, _, row in told],
        time=[row.time for _, _, row in told],
        columns={
            "price": [row.price for _, _, row in told],
            "size": [row.size for _, _, row in told],
            "side": [_TAKER.get(row.side, row.side + "?") for _, _, row in told],
        },
    )
    parsed.events = [trades]
    return parsed


def _history_rows(
    index: int, payload: bytes, dead: list[DeadLetter]
) -> list[tuple[int, _RestTrade]] | None:
    """Rows of one page; None when the page as a whole is dead."""
    try:
        return list(enumerate(_decode_page(payload)))
    except _UNDECODABLE:
        pass
    try:
        raw_rows = _decode_rows(payload)
    except _UNDECODABLE as error:
        reason: Reason = "wrong_type" if isinstance(error, msgspec.ValidationError) else "not_json"
        dead.append(DeadLetter(index, 0, reason, str(error)))
        return None
    rows = []
    for item, raw in enumerate(raw_rows):
        try:
            rows.append((item, _decode_row(raw)))
        except _UNDECODABLE as error:
            missing = "missing required field" in str(error)
            row_reason: Reason = "missing_field" if missing else "wrong_type"
            dead.append(DeadLetter(index, item, row_reason, str(error)))
    return rows or None
