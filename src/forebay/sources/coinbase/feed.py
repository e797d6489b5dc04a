"""What the feed says: its messages, and which events are in them.

Frames that are as the venue writes them are read many at once: what
:class:`~forebay.domain.templates.Template` returns is what a JSON parser would find. A message that
is written otherwise (other keys or order, white space, an escape, a number too long) or means
something to refuse (another side, a product not asked for) is left to the careful way, frame by
frame, which alone gives verdicts.
"""

from __future__ import annotations

import re
from functools import partial, reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, cast

import msgspec
import numpy as np
import pyarrow as pa

from forebay.domain.columns import joined
from forebay.domain.identity import NATIVE_ID_LIMIT
from forebay.domain.parsed import DeadLetter, Parsed, RawEvents
from forebay.domain.templates import Template
from forebay.sources.coinbase import messages
from forebay.sources.coinbase.protocol import (
    BOOK_DELTAS,
    BOOK_SNAPSHOTS,
    MARKET,
    QUOTES,
    TICKERS,
    TRADES,
    UNBUILT,
    taken,
)
from forebay.sources.levels import by_side
from forebay.sources.parsing import UNDECODABLE, reason_by_type

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

    from forebay.domain.channels import Channel
    from forebay.domain.frames import FrameBatch
    from forebay.domain.parsed import Cells
    from forebay.domain.templates import MatchedRows

    Told = list[tuple[int, Any]]
    Mask = npt.NDArray[np.bool_]
    Wanted = Callable[[set[str]], set[str]]
    Own = Callable[[MatchedRows, Mask], dict[str, Cells]]

_MATCH = Template(
    '{"type":"match","trade_id":<trade_id>'
    ',"maker_order_id":"<maker_order_id>","taker_order_id":"<taker_order_id>"'
    ',"side":"<side>","size":"<size>","price":"<price>"'
    ',"product_id":"<product_id>","sequence":<sequence>,"time":"<time>"}'
)
_ONE_CHANGE = Template(
    '{"type":"l2update","product_id":"<product_id>"'
    ',"changes":[["<side>","<price>","<size>"]],"time":"<time>"}'
)
"""What nearly all updates of the channel ``level2`` look like; batches have more changes."""
_PRODUCT = re.compile(r"[A-Z0-9]{1,20}-[A-Z0-9]{1,20}")


class _Heartbeat(msgspec.Struct, tag="heartbeat"):
    product_id: str
    last_trade_id: Annotated[int, msgspec.Meta(ge=0, lt=NATIVE_ID_LIMIT)]
    """0 while nothing has been traded yet."""


class _Subscriptions(msgspec.Struct, tag="subscriptions"):
    pass


class _Error(msgspec.Struct, tag="error"):
    pass


_unbuilt_types = {msgspec.defstruct(f"Unbuilt_{name}", [], tag=name): name for name in UNBUILT}
"""Message types of channels that are not captured: counted, and kept in the journal."""
_KINDS_OF: dict[type[msgspec.Struct], set[str]] = {
    messages.Match: {TRADES.kind},
    messages.CoinbaseTicker: {TICKERS.kind, QUOTES.kind},
    messages.BookSnapshot: {BOOK_SNAPSHOTS.kind},
    messages.Update: {BOOK_DELTAS.kind},
}
"""By type of message, the kinds of events that it tells."""
_types: tuple[type[msgspec.Struct], ...]
_types = (*_KINDS_OF, messages.LastMatch, _Heartbeat, _Subscriptions, _Error, *_unbuilt_types)
_KNOWN = {each.__struct_config__.tag for each in _types}
_decode = cast("Callable[[bytes], Any]", msgspec.json.Decoder(reduce(or_, _types)).decode)


def read_feed(batch: FrameBatch, fewest: int) -> Parsed:
    """Account for frames of the feed; ``fewest`` of them or more are read as columns."""
    parsed = Parsed()
    parts: list[RawEvents] = []
    indices: Sequence[int] = range(len(batch))
    payloads: Sequence[bytes] = batch.payloads
    for read in _quick_ways(batch) if len(batch) >= fewest else ():
        found = read(payloads)
        if found:
            indices, payloads = _remaining(indices, payloads, found)
            parts += found
        if len(payloads) < fewest:
            break
    parts += _read(batch, indices, payloads, parsed)
    parsed.events = list(_joined(parts))
    return parsed


def _quick_ways(batch: FrameBatch) -> Iterator[Callable[[Sequence[bytes]], list[RawEvents]]]:
    """Return what reads many messages of one type at once, of the types that are wanted."""
    kinds, wanted = taken(batch), partial(_wanted, batch)
    if TRADES.kind in kinds:
        yield partial(read_matches, wanted=wanted)
    if BOOK_DELTAS.kind in kinds:
        yield partial(read_updates, wanted=wanted, received_ns=batch.received_ns)


def _remaining(
    indices: Sequence[int], payloads: Sequence[bytes], found: Sequence[RawEvents]
) -> tuple[list[int], list[bytes]]:
    """Return the frames that were not read, and number those that were as the batch does."""
    rest = np.ones(len(payloads), dtype=np.bool_)
    places = np.asarray(indices)
    for part in found:
        rest[part.frame] = False
        part.frame = places[part.frame]
    left: list[int] = np.flatnonzero(rest).tolist()
    return [indices[place] for place in left], [payloads[place] for place in left]


def _joined(parts: Sequence[RawEvents]) -> Iterator[RawEvents]:
    """Return parts of one channel as one, those with a time and those without apart.

    They are in the same order whichever way frames were read, and so are their dead letters.
    """
    alike: dict[tuple[str, bool], list[RawEvents]] = {}
    for part in parts:
        alike.setdefault((part.channel.kind, part.time is None), []).append(part)
    return (joined(alike[shape]) for shape in sorted(alike))


# ------------------------------------------------------------------------ many at once


def read_matches(payloads: Sequence[bytes], wanted: Wanted) -> list[RawEvents]:
    """Return trades of the ``payloads`` that could be read, some thousands a part, in order.

    ``wanted`` returns those of some products whose trades are taken.
    """
    return list(_read_quick(_MATCH, TRADES, payloads, wanted, _trade))


def read_updates(
    payloads: Sequence[bytes], wanted: Wanted, received_ns: npt.NDArray[np.int64]
) -> list[RawEvents]:
    """Return likewise the updates of one change each whose times are plausible."""
    return list(
        _read_quick(_ONE_CHANGE, BOOK_DELTAS, payloads, wanted, _change, received_ns=received_ns)
    )


def _read_quick(
    template: Template,
    channel: Channel,
    payloads: Sequence[bytes],
    wanted: Wanted,
    own: Own,
    *,
    received_ns: npt.NDArray[np.int64] | None = None,
) -> Iterator[RawEvents]:
    for rows in template.read(payloads):
        products, times = rows.texts("product_id").dictionary_encode(), rows.texts("time")
        names: list[str] = products.dictionary.to_pylist()
        taken, buy = wanted(set(names)), rows.says("side", b"buy")
        mask = buy | rows.says("side", b"sell")
        if received_ns is not None:
            mask &= messages.plausible(times, received_ns)
        if len(taken) < len(names):
            mask &= np.array([name in taken for name in names])[products.indices.to_numpy()]
        if not mask.all():
            rows, buy, kept = rows.only(mask), buy[mask], pa.array(mask)  # noqa: PLW2901
            products, times = products.filter(kept), times.filter(kept)
        if len(rows):
            yield RawEvents(
                channel=channel,
                frame=rows.index,
                item=np.zeros(len(rows), dtype=np.int64),
                venue_symbol=products,
                symbol=products,
                native=rows.numbers("trade_id") if channel is TRADES else None,
                time=times,
                columns=own(rows, buy),
            )


def _trade(rows: MatchedRows, buy: Mask) -> dict[str, Cells]:
    takers = pa.array(["buy", "sell"], pa.string())  # the side of a match is the maker's
    side = takers.take(pa.array(buy.view(np.int8)))
    return {"price": rows.texts("price"), "size": rows.texts("size"), "side": side}


def _change(rows: MatchedRows, buy: Mask) -> dict[str, Cells]:
    places = np.arange(len(rows))
    return by_side(buy, rows.texts("price"), rows.texts("size"), places, len(rows))


# ------------------------------------------------------------------------ frame by frame


def _read(
    batch: FrameBatch, indices: Sequence[int], payloads: Sequence[bytes], parsed: Parsed
) -> list[RawEvents]:
    """Account for frames, given with their indices in ``batch``; return their events."""
    kinds, received_ns = taken(batch), batch.received_ns
    told: dict[type, Told] = {messages.Match: [], _Heartbeat: []}
    told |= {messages.LastMatch: told[messages.Match]}
    for entry in _decoded(indices, payloads, parsed.dead):
        told.setdefault(type(entry[1]), []).append(entry)
    del told[messages.LastMatch]
    _know(batch, told.pop(_Heartbeat), parsed)
    ways: dict[type, Callable[[Told], list[RawEvents]]] = {
        messages.Match: messages.trades,
        messages.CoinbaseTicker: partial(messages.tickers, kinds=kinds, received_ns=received_ns),
        messages.BookSnapshot: partial(messages.snapshots, received_ns=received_ns),
        messages.Update: partial(messages.updates, received_ns=received_ns, dead=parsed.dead),
    }
    events = []
    for kind, entries in told.items():
        if (name := _unbuilt_types.get(kind)) is not None:
            parsed.unbuilt[name] += len(entries)
        if kind not in ways or _KINDS_OF[kind].isdisjoint(kinds):
            parsed.control += len(entries)
            continue
        asked, letters = _asked_for(batch, entries, parsed.dead), len(parsed.dead)
        found = ways[kind](asked) if asked else []
        events += found
        yielding = {frame for part in found for frame in part.frame}
        parsed.control += len(asked) - len(yielding) - (len(parsed.dead) - letters)
    return events


def _know(batch: FrameBatch, beats: Told, parsed: Parsed) -> None:
    """Note which trades heartbeats say that there are."""
    parsed.control += len(beats)
    if TRADES.kind not in taken(batch):
        return
    wanted = _wanted(batch, {beat.product_id for _, beat in beats})
    for _, beat in beats:
        if beat.last_trade_id and beat.product_id in wanted:
            parsed.know((MARKET, TRADES.kind, beat.product_id), beat.last_trade_id)


def _decoded(
    indices: Sequence[int], payloads: Sequence[bytes], dead: list[DeadLetter]
) -> list[tuple[int, Any]]:
    """Return messages with the index of their frame; what does not decode goes to ``dead``."""
    try:
        return list(zip(indices, map(_decode, payloads), strict=True))
    except UNDECODABLE:
        decoded = []
    for index, payload in zip(indices, payloads, strict=True):
        try:
            decoded.append((index, _decode(payload)))
        except UNDECODABLE as error:
            dead.append(DeadLetter(index, 0, reason_by_type(payload, error, _KNOWN), str(error)))
    return decoded


def _wanted(batch: FrameBatch, products: set[str]) -> set[str]:
    if batch.context.symbols:
        return products & set(batch.context.symbols)
    return {product for product in products if _PRODUCT.fullmatch(product)}


def _asked_for(batch: FrameBatch, entries: Told, dead: list[DeadLetter]) -> Told:
    """Return the messages of products that were asked for; the others are dead letters."""
    products = {message.product_id for _, message in entries}
    wanted = _wanted(batch, products)
    if wanted == products:
        return entries
    for index, message in entries:
        if message.product_id not in wanted:
            error = f"product {message.product_id!r} was not asked for"
            dead.append(DeadLetter(index, 0, "unknown_symbol", error))
    return [entry for entry in entries if entry[1].product_id in wanted]
