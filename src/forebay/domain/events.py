"""Raw events to checked columns: exact values, times, ids and flags, without an object an event.

Ids are as :mod:`forebay.domain.identity` says. Those of class ``content`` get their ordinals
afterwards, once it is known which rows are accepted: see :func:`with_ordinals`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from forebay.domain import schema
from forebay.domain.columns import as_arrays
from forebay.domain.digest import bytes_of, cell_texts
from forebay.domain.flags import BACKFILL, FLAGS, LATE, PARTIAL, SKEWED, bits_of
from forebay.domain.identity import (
    ITEM_BITS,
    base_id,
    base_text,
    digest_ids,
    halves_of,
    numbered,
    stream_prefix,
    uuids,
)
from forebay.domain.kinds import KINDS, EventKind
from forebay.domain.kinds.checks import Checks, times, told, whole_numbers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from forebay.domain.channels import Channel
    from forebay.domain.frames import Context, FrameBatch
    from forebay.domain.identity import IdentityClass
    from forebay.domain.parsed import DeadLetter, RawEvents

    Integers = npt.NDArray[np.int64]
    Halves = npt.NDArray[np.uint64]

SECOND = 1_000_000_000
LATE_AFTER_NS = 60 * SECOND
SKEWED_AFTER_NS = 5 * SECOND
EARLIEST_NS = 1_230_768_000 * SECOND
"""2009-01-01: no venue has older events, so an older time is a wrong unit."""
LATEST_AHEAD_NS = 86_400 * SECOND
"""An event over a day in the future of its receipt is a wrong unit or zone."""

_BY_ROW = ("codes", "frames", "numbers", "received_ns", "flags")
_FLAG_NAMES = pa.array(
    [
        ",".join(name for bit, name in enumerate(FLAGS) if mask >> bit & 1)
        for mask in range(1 << len(FLAGS))
    ]
)


@dataclass(slots=True)
class EventColumns:
    """Accepted events of one channel and market in arrival order; ``n`` rows."""

    channel: Channel
    kind: EventKind
    market: str
    table: pa.Table
    """All columns of the kind's table but ``flags``."""
    symbols: list[str]
    codes: Integers
    """Of each row, the index of its symbol in ``symbols``; shape (n,)."""
    frames: Integers
    """Of each row, the index of its frame in the batch, rising; shape (n,)."""
    numbers: Integers
    """What coverage counts, shape (n,); 0 where it counts nothing."""
    received_ns: Integers
    own_sequence: bool
    """Whether coverage counts other numbers than those in the events' ids."""
    flags: npt.NDArray[np.uint8]
    """Bits of :data:`~forebay.domain.flags.FLAGS`, shape (n,)."""

    @classmethod
    def of_rows(cls, channel: Channel, rows: pa.Table, *, own_sequence: bool) -> EventColumns:
        """Return the columns that :meth:`finish` gave ``rows`` of, in one chunk; no frames."""
        one = {name: rows[name].combine_chunks() for name in rows.column_names}
        named = one["flags"].dictionary_encode()
        bits = np.array([bits_of(text) for text in named.dictionary.to_pylist()], dtype=np.uint8)
        return cls(
            channel,
            KINDS[channel.kind],
            one["market"][0].as_py(),
            rows.drop_columns(["flags"]),
            one["symbol"].dictionary.to_pylist(),
            one["symbol"].indices.to_numpy().astype(np.int64),
            np.zeros(len(rows), dtype=np.int64),
            one["venue_seq"].fill_null(0).to_numpy(),
            one["received_ts"].cast(pa.int64()).to_numpy(),
            own_sequence,
            bits[named.indices.to_numpy()],
        )

    def by_symbol(self) -> Iterator[tuple[str, Integers]]:
        """Return the rows of each symbol, in arrival order."""
        order = np.argsort(self.codes, kind="stable")
        codes = self.codes[order]
        if not len(codes):
            return
        for rows in np.split(order, np.flatnonzero(codes[1:] != codes[:-1]) + 1):
            yield self.symbols[self.codes[rows[0]]], rows

    def finish(self) -> pa.Table:
        """Return the rows with their flags by name, as the schema has them."""
        names = pa.DictionaryArray.from_arrays(pa.array(self.flags), _FLAG_NAMES)
        columns = [*self.table.columns, names.dictionary_decode()]
        return pa.Table.from_arrays(columns, schema=self.kind.schema)


def build_events(raw: RawEvents, batch: FrameBatch) -> tuple[EventColumns, list[DeadLetter]]:
    """Check every event of ``raw`` and return the accepted ones and the dead letters."""
    return _build(as_arrays(raw), batch)


def _build(raw: Any, batch: FrameBatch) -> tuple[EventColumns, list[DeadLetter]]:  # noqa: ANN401
    channel, context, count = raw.channel, batch.context, len(raw)
    kind, checks = KINDS[channel.kind], Checks(raw)
    kind.check(checks)
    received_ns = batch.received_ns[raw.frame]
    exchange, exchange_ns = _times(checks, received_ns)
    natives = _natives(checks)
    numbers = _numbers(checks, natives)
    symbols: list[str] = raw.symbol.dictionary.to_pylist()
    codes = raw.symbol.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    event_ns = exchange_ns // channel.time_unit_ns * channel.time_unit_ns
    event = pa.array(event_ns).cast(schema.TIME)
    checked = {**checks.columns, "event_ts": event}
    content = [checked[name] for name in kind.content if name in checked]
    ids = event_ids(raw, batch, symbols, codes, natives=natives, content=content)
    columns = [
        uuids(ids),
        _label(context.venue, count),
        _label(raw.market, count),
        raw.symbol,
        raw.venue_symbol,
        _label(context.collector, count),
        _label(context.epoch, count),
        _label(batch.log_id, count),
        pa.array(batch.seqs[raw.frame]),
        pa.nulls(count, pa.int64()) if numbers is None else pa.array(numbers),
        event,
        exchange,
        pa.array(received_ns).cast(schema.TIME),
        *(checks.columns[name] for name in kind.columns.names),
    ]
    table = pa.Table.from_arrays(columns, schema=kind.schema.remove(len(columns)))
    flags = checks.flags | _flags(context, received_ns, exchange_ns, holds=kind.holds)
    if numbers is None:
        numbers = np.zeros(count, dtype=np.int64)
    places = symbols, codes, raw.frame, numbers, received_ns, raw.sequence is not None, flags
    accepted = EventColumns(channel, kind, raw.market, table, *places)
    if checks.dead:
        accepted = _keep(accepted, checks.dead)
    return accepted, list(checks.dead.values())


def _label(text: str, count: int) -> pa.Array:
    indices = pa.array(np.zeros(count, dtype=np.int32))
    return pa.DictionaryArray.from_arrays(indices, pa.array([text], pa.string()))


def _times(checks: Checks, received_ns: Integers) -> tuple[pa.Array, Integers]:
    """Return venue times as Arrow has them, null where the venue gives none, and as integers.

    Where the venue gives none, the integers are the receipt; rejected rows have some value.
    """
    column: Any = checks.raw.time
    if column is None:
        return pa.nulls(len(received_ns), schema.TIME), received_ns
    values, exchange_ns, bad = times(column)
    checks.reject_where(bad, "bad_time", told(column))
    implausible = (exchange_ns < EARLIEST_NS) | (exchange_ns > received_ns + LATEST_AHEAD_NS)
    checks.reject_where(implausible & ~bad, "implausible_time", told(column))
    return values, exchange_ns


def _natives(checks: Checks) -> Integers | None:
    """Return the venue's own ids where they are integers; check whatever ids there are."""
    raw: Any = checks.raw
    if raw.channel.identity == "observation":
        checks.reject_where(raw.item >> ITEM_BITS > 0, "bad_id", raw.item)
    if raw.native is None:
        return None
    if isinstance(raw.native, pa.Array):
        empty = raw.native.cast(pa.string()).fill_null("").to_numpy(zero_copy_only=False) == ""
        checks.reject_where(empty, "bad_id", raw.native)
        return None
    natives, bad = whole_numbers(raw.native)
    checks.reject_where(bad, "bad_id", raw.native)
    return natives


def _numbers(checks: Checks, natives: Integers | None) -> Integers | None:
    """Return what coverage counts, None where it counts nothing."""
    raw: Any = checks.raw
    if raw.channel.unit == "id" or (raw.channel.unit == "seq" and raw.sequence is None):
        if natives is None:
            message = f"{raw.channel} counts integers of the venue, and it gives none"
            raise TypeError(message)
        return natives
    if raw.channel.unit != "seq":
        return None
    numbers, bad = whole_numbers(raw.sequence)
    checks.reject_where(bad, "bad_id", raw.sequence)
    return numbers


def _flags(
    context: Context, received_ns: Integers, exchange_ns: Integers, *, holds: bool
) -> npt.NDArray[np.uint8]:
    """Return the flags that follow from an event's times and its way alone."""
    behind_ns = received_ns - exchange_ns
    if context.purpose == "history":
        flags = np.full(len(behind_ns), BACKFILL, dtype=np.uint8)
    elif holds:
        flags = np.zeros(len(behind_ns), dtype=np.uint8)
    else:
        flags = (behind_ns > LATE_AFTER_NS) * np.uint8(LATE)
    if context.partial:
        flags |= np.uint8(PARTIAL)
    return flags | (-behind_ns > SKEWED_AFTER_NS) * np.uint8(SKEWED)


def _keep(columns: EventColumns, dead: dict[int, DeadLetter]) -> EventColumns:
    mask = np.ones(len(columns.numbers), dtype=bool)
    mask[list(dead)] = False
    rows = {name: getattr(columns, name)[mask] for name in _BY_ROW}
    return replace(columns, table=columns.table.filter(pa.array(mask)), **rows)


def event_ids(
    raw: RawEvents,
    batch: FrameBatch,
    symbols: Sequence[str],
    codes: npt.NDArray[np.int64],
    *,
    natives: npt.NDArray[np.int64] | None,
    content: Sequence[pa.Array],
) -> Halves:
    """Return the ids of the n events of ``raw`` as halves, shape (n, 2).

    ``codes`` are the events' places in ``symbols``. ``natives`` are the venue's own ids, checked,
    where they are integers. ``content`` are the columns that tell an event of class ``content``,
    whose ordinals are all 0 here.
    """
    if not len(codes):
        return np.empty((0, 2), dtype=np.uint64)
    context, identity = batch.context, raw.channel.identity
    streams = [(context.venue, raw.market, raw.channel.kind, symbol) for symbol in symbols]
    if identity == "content":
        return _digests("content", streams, codes, content)
    if identity == "native" and natives is None:
        return _digests("native", streams, codes, [raw.native])
    if identity == "native":
        bases = np.zeros((len(streams), 2), dtype=np.uint64)
        bases[:, 0] = np.array([stream_prefix(*stream) for stream in streams], dtype=np.uint64)
    else:
        log_id = context.first[0] if context.first else batch.log_id
        told = (context.collector, context.epoch) if identity == "session" else (log_id,)
        bases = halves_of([base_id(identity, *stream, *told) for stream in streams])
    numbers = observed(batch, raw) if identity == "observation" else natives
    if numbers is None:
        message = f"{raw.channel} needs integers of the venue, and it gives none"
        raise TypeError(message)
    return numbered(bases[codes], numbers)


def observed(batch: FrameBatch, raw: RawEvents) -> npt.NDArray[np.int64]:
    """Return the numbers of observations: item ``i`` of a frame of ``batch``; shape (n,)."""
    first = batch.context.first
    seqs = np.full(len(batch), first[1]) if first else batch.seqs
    found: npt.NDArray[np.int64] = seqs[raw.frame] << ITEM_BITS | raw.item
    return found


def _digests(
    identity: IdentityClass,
    streams: Sequence[tuple[str, ...]],
    codes: npt.NDArray[np.int64],
    content: Sequence[pa.Array],
) -> Halves:
    """Hash what tells each event; of a rejected one, whose cells are null, anything."""
    heads = pa.array([base_text(identity, *stream) for stream in streams], pa.string())
    texts = pc.binary_join_element_wise(heads.take(pa.array(codes)), *map(cell_texts, content), "|")
    return digest_ids(texts.to_pylist())


def contents_of(ids: pa.Array) -> list[bytes]:
    """Return the 16 bytes of each id: of class ``content``, what its ordinal is counted by."""
    raw = bytes_of(ids)
    return [raw[at : at + 16] for at in range(0, len(raw), 16)]


def with_ordinals(ids: pa.Array, ordinals: Sequence[int]) -> pa.Array:
    """Add to each id of class ``content`` its ordinal."""
    halves = np.frombuffer(bytes_of(ids), dtype=">u8").reshape(-1, 2).astype(np.uint64)
    return uuids(numbered(halves, np.array(ordinals, dtype=np.int64)))
