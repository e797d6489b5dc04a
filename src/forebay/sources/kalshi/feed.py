"""What the websocket says: its messages, and which events are in them.

Changes of books and trades that are as the venue writes them are read many at once: what
:class:`~forebay.domain.templates.Template` returns is what a JSON parser would find. All else is
left to the careful way, frame by frame, which alone gives verdicts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial, reduce
from operator import or_
from typing import TYPE_CHECKING, Any, cast

import msgspec
import numpy as np

from forebay.domain.columns import joined
from forebay.domain.identity import NATIVE_ID_LIMIT
from forebay.domain.parsed import CountedMessages, DeadLetter, Parsed, RawEvents
from forebay.sources.kalshi import messages, quick
from forebay.sources.kalshi.protocol import (
    BOOK_DELTAS,
    KINDS_OF_CHANNEL,
    KINDS_OF_TYPE,
    TRADES,
    UNBUILT,
    taken,
    wanted,
)
from forebay.sources.kalshi.statements import Statement, changes, event_changes
from forebay.sources.parsing import UNDECODABLE, reason_by_type

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

    from forebay.domain.frames import FrameBatch

    Integers = npt.NDArray[np.int64]
    _Reader = Callable[[Sequence[bytes]], Iterator[quick.QuickPart]]
    Mask = npt.NDArray[np.bool_]


class _Frame(msgspec.Struct, kw_only=True):
    sid: int | None = None
    seq: int | None = None


class _Trade(_Frame, tag="trade"):
    msg: messages.TradeMessage


class _Ticker(_Frame, tag="ticker"):
    msg: messages.TickerMessage


class _Snapshot(_Frame, tag="orderbook_snapshot"):
    msg: messages.SnapshotMessage


class _Delta(_Frame, tag="orderbook_delta"):
    msg: messages.DeltaMessage


class _Lifecycle(_Frame):
    """Of any market: nobody asks for one market's alone."""

    msg: dict[str, msgspec.Raw]


class _OfMarket(_Lifecycle, tag="market_lifecycle_v2"):
    pass


class _OfCombined(_Lifecycle, tag="multivariate_market_lifecycle"):
    pass


class _OfEvent(_Lifecycle, tag="event_lifecycle"):
    pass


class _Subscribed(_Frame, tag="subscribed"):
    """Says which subscription is of which channel, ahead of all that comes of it."""

    msg: Any = None

    def line(self) -> tuple[int, tuple[str, ...]] | None:
        """Return the subscription, and the kinds of event that it tells."""
        said = self.msg if isinstance(self.msg, dict) else {}
        sid, kinds = said.get("sid"), KINDS_OF_CHANNEL.get(str(said.get("channel")))
        if not isinstance(sid, int) or not 0 <= sid < NATIVE_ID_LIMIT or not kinds:
            return None
        return sid, kinds


def _named(name: str, base: type) -> type[msgspec.Struct]:
    return msgspec.defstruct(f"Kalshi_{name}", [], bases=(base,), tag=name)


_REPLIES = [_named(name, _Frame) for name in ("unsubscribed", "ok", "error")]
_unbuilt_types = {_named(name, _Frame): name for name in UNBUILT}
"""Message types of channels that are not captured: counted, and kept in the journal."""
_ways: dict[type, Callable[[messages.Told, list[DeadLetter]], list[RawEvents]]] = {
    _Trade: messages.trades,
    _Ticker: messages.tickers,
    _Snapshot: messages.snapshots,
    _Delta: messages.deltas,
}
_lifecycles: dict[type, Callable[[Sequence[Statement]], list[RawEvents]]] = {
    _OfMarket: changes,
    _OfCombined: changes,
    _OfEvent: event_changes,
}
_types: list[type[msgspec.Struct]] = [
    *_ways,
    *_lifecycles,
    _Subscribed,
    *_REPLIES,
    *_unbuilt_types,
]
_KNOWN = {each.__struct_config__.tag for each in _types}
_decode = cast("Callable[[bytes], Any]", msgspec.json.Decoder(reduce(or_, _types)).decode)


@dataclass(slots=True)
class _Lines:
    """The numbers of frames by subscription."""

    kinds: dict[int, set[str]] = field(default_factory=dict)
    frames: dict[int, list[Integers]] = field(default_factory=dict)
    numbers: dict[int, list[Integers]] = field(default_factory=dict)

    def note(self, kinds: Sequence[str], frames: Integers, sids: Integers, seqs: Integers) -> None:
        """Add frames with their numbers; all of shape (n,)."""
        for sid in np.unique(sids).tolist():
            mask = sids == sid
            self.carry(sid, kinds)
            self.frames.setdefault(sid, []).append(frames[mask])
            self.numbers.setdefault(sid, []).append(seqs[mask])

    def begin(self, frame: int, sid: int, kinds: Sequence[str]) -> None:
        """Note a subscription, whatever has come of it; what comes is numbered from 1."""
        self.note(kinds, *np.array([[frame], [sid], [0]], dtype=np.int64))

    def carry(self, sid: int, kinds: Sequence[str]) -> None:
        """Note which kinds a subscription tells."""
        self.kinds.setdefault(sid, set()).update(kinds)

    def told(self) -> list[CountedMessages]:
        """Return what was noted, a subscription each."""
        found, none = [], np.empty(0, dtype=np.int64)
        for sid in sorted(self.kinds):
            frames = np.concatenate(self.frames.get(sid, [none]))
            order = np.argsort(frames, kind="stable")
            found.append(
                CountedMessages(
                    line=str(sid),
                    kinds=tuple(sorted(self.kinds[sid])),
                    frames=frames[order],
                    numbers=np.concatenate(self.numbers.get(sid, [none]))[order],
                )
            )
        return found


def read_feed(batch: FrameBatch, fewest: int) -> Parsed:
    """Account for frames of the websocket; ``fewest`` of them or more are read as columns."""
    parsed, lines = Parsed(), _Lines()
    parts: list[RawEvents] = []
    indices: Sequence[int] = range(len(batch))
    payloads: Sequence[bytes] = batch.payloads
    for read in _quick_ways(batch) if len(batch) >= fewest else ():
        found = list(read(payloads))
        if found:
            indices, payloads = _remaining(indices, payloads, found)
            parts += [part.events for part in found]
        for part in found:
            kinds = _line_kinds(part.events.channel.kind)
            lines.note(kinds, np.asarray(part.events.frame), part.sids, part.seqs)
        if len(payloads) < fewest:
            break
    parts += _read(batch, indices, payloads, parsed, lines)
    parsed.events = list(_joined(parts))
    parsed.counted = lines.told()
    return parsed


def _line_kinds(kind: str) -> tuple[str, ...]:
    """Return what a subscription carries that carries ``kind``."""
    return next((kinds for kinds in KINDS_OF_CHANNEL.values() if kind in kinds), (kind,))


def _joined(parts: Sequence[RawEvents]) -> Iterator[RawEvents]:
    """Return parts of one channel as one, those with a time and those without apart.

    They are in the same order whichever way frames were read, and so are their dead letters.
    """
    alike: dict[tuple[str, bool], list[RawEvents]] = {}
    for part in parts:
        alike.setdefault((part.channel.kind, part.time is None), []).append(part)
    return (joined(alike[shape]) for shape in sorted(alike))


def _quick_ways(
    batch: FrameBatch,
) -> Iterator[Callable[[Sequence[bytes]], Iterator[quick.QuickPart]]]:
    """Return what reads many messages of one type at once, of the types that are wanted."""
    kinds, ours = taken(batch), partial(wanted, batch)
    if BOOK_DELTAS.kind in kinds:
        yield partial(quick.read_deltas, wanted=ours)
    if TRADES.kind in kinds:
        for template in quick.trade_templates(batch.payloads):
            yield partial(quick.read_trades, wanted=ours, template=template)


def _remaining(
    indices: Sequence[int], payloads: Sequence[bytes], found: Sequence[quick.QuickPart]
) -> tuple[list[int], list[bytes]]:
    """Return the frames that were not read, and number those that were as the batch does."""
    rest = np.ones(len(payloads), dtype=np.bool_)
    places = np.asarray(indices)
    for part in found:
        rest[part.events.frame] = False
        part.events.frame = places[part.events.frame]
    left: list[int] = np.flatnonzero(rest).tolist()
    return [indices[place] for place in left], [payloads[place] for place in left]


# ------------------------------------------------------------------------ frame by frame


def _read(
    batch: FrameBatch,
    indices: Sequence[int],
    payloads: Sequence[bytes],
    parsed: Parsed,
    lines: _Lines,
) -> list[RawEvents]:
    """Account for frames, given with their indices in ``batch``; return their events."""
    kinds = {*taken(batch)}
    told: dict[type, list[tuple[int, Any]]] = {}
    for entry in _decoded(indices, payloads, parsed.dead):
        told.setdefault(type(entry[1]), []).append(entry)
    events: list[RawEvents] = []
    for each, entries in told.items():
        tag, letters = str(each.__struct_config__.tag), len(parsed.dead)  # type: ignore[attr-defined]
        tells = KINDS_OF_TYPE.get(tag, ())
        if (name := _unbuilt_types.get(each)) is not None:
            parsed.unbuilt[name] += len(entries)
        if kinds.isdisjoint(tells):
            parsed.control += len(entries)
        else:
            found = _found(batch, each, entries, parsed.dead)
            events += found
            yielding = {frame for part in found for frame in part.frame}
            parsed.control += len(entries) - len(yielding) - (len(parsed.dead) - letters)
        for frame, told_line in entries if each is _Subscribed else ():
            if (line := told_line.line()) is not None:
                lines.begin(frame, *line)
        fresh = parsed.dead[letters:]
        lost = {letter.frame for letter in fresh if letter.reason != "unknown_symbol"}
        _count(lines, tells, [entry for entry in entries if entry[0] not in lost])
    return events


def _found(
    batch: FrameBatch, each: type, entries: Sequence[tuple[int, Any]], dead: list[DeadLetter]
) -> list[RawEvents]:
    """Return the events of messages of one type."""
    if each in _lifecycles:
        return _lifecycles[each]([Statement(frame, 0, told.msg) for frame, told in entries])
    asked = messages.asked_for(batch, _shaped(each, entries, dead), dead)
    return _ways[each](asked, dead) if asked else []


def _shaped(
    each: type, entries: Sequence[tuple[int, Any]], dead: list[DeadLetter]
) -> messages.Told:
    """Return what frames of one type say of their markets."""
    if each is not _Delta:
        return [(frame, 0, told.msg.market_ticker, told.msg) for frame, told in entries]
    shaped = []
    for frame, told in entries:
        symbol = told.msg.market_ticker
        if told.sid is None or told.seq is None:
            error = f"no sid and seq of a change of {symbol}"
            dead.append(DeadLetter(frame, 0, "missing_field", error))
        else:
            numbered = messages.NumberedMessage(told.sid, told.seq, told.msg)
            shaped.append((frame, 0, symbol, numbered))
    return shaped


def _count(lines: _Lines, tells: Sequence[str], entries: Sequence[tuple[int, Any]]) -> None:
    """Note the numbers of frames that have some."""
    numbered = [
        (frame, each.sid, each.seq)
        for frame, each in entries
        if each.sid is not None
        and each.seq is not None
        and 0 <= each.sid < NATIVE_ID_LIMIT
        and 0 <= each.seq < NATIVE_ID_LIMIT
    ]
    if numbered:
        frames, sids, seqs = np.array(numbered, dtype=np.int64).T
        lines.note(_line_kinds(tells[0]) if tells else (), frames, sids, seqs)


def _decoded(
    indices: Sequence[int], payloads: Sequence[bytes], dead: list[DeadLetter]
) -> list[tuple[int, Any]]:
    """Return messages with the index of their frame; what does not decode goes to ``dead``."""
    decoded = []
    for index, payload in zip(indices, payloads, strict=True):
        try:
            message = _decode(payload)
        except UNDECODABLE as error:
            dead.append(DeadLetter(index, 0, reason_by_type(payload, error, _KNOWN), str(error)))
            continue
        if isinstance(message, _Snapshot) and message.msg.misnamed(payload):
            dead.append(DeadLetter(index, 0, "missing_field", messages.MISNAMED))
        else:
            decoded.append((index, message))
    return decoded
