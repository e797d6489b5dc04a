"""Raw events to checked columns: exact values, times, ids and flags, without an object an event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from forebay.domain import schema
from forebay.domain.columns import as_arrays
from forebay.domain.event_ids import event_ids
from forebay.domain.flags import BACKFILL, FLAGS, LATE, PARTIAL, SKEWED, bits_of
from forebay.domain.identity import ITEM_BITS, uuids
from forebay.domain.kinds import KINDS
from forebay.domain.kinds.checks import Checks, times, told, whole_numbers

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from forebay.domain.channels import Channel
    from forebay.domain.frames import Context, FrameBatch
    from forebay.domain.kinds import EventKind
    from forebay.domain.parsed import DeadLetter, RawEvents

    Integers = npt.NDArray[np.int64]

SECOND = 1_000_000_000
LATE_AFTER_NS = 60 * SECOND
SKEWED_AFTER_NS = 5 * SECOND
EARLIEST_NS = 1_230_768_000 * SECOND
"""2009-01-01: no venue has older events, so an older time is a wrong unit."""
LATEST_AHEAD_NS = 86_400 * SECOND
"""An event over a day in the future of its receipt is a wrong unit or zone."""

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
    flags: npt.NDArray[np.uint8]
    """Bits of :data:`~forebay.domain.flags.FLAGS`, shape (n,)."""

    @classmethod
    def of_rows(cls, channel: Channel, rows: pa.Table) -> EventColumns:
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
    flags = checks.flags | _flags(context, received_ns, exchange_ns)
    if numbers is None:
        numbers = np.zeros(count, dtype=np.int64)
    places = symbols, codes, raw.frame, numbers, received_ns, flags
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


def _flags(context: Context, received_ns: Integers, exchange_ns: Integers) -> npt.NDArray[np.uint8]:
    """Return the flags that follow from an event's times and its way alone."""
    behind_ns = received_ns - exchange_ns
    if context.purpose == "history":
        flags = np.full(len(behind_ns), BACKFILL, dtype=np.uint8)
    else:
        flags = (behind_ns > LATE_AFTER_NS) * np.uint8(LATE)
    if context.partial:
        flags |= np.uint8(PARTIAL)
    return flags | (-behind_ns > SKEWED_AFTER_NS) * np.uint8(SKEWED)


def _keep(columns: EventColumns, dead: dict[int, DeadLetter]) -> EventColumns:
    mask = np.ones(len(columns.numbers), dtype=bool)
    mask[list(dead)] = False
    return EventColumns(
        columns.channel,
        columns.kind,
        columns.market,
        columns.table.filter(pa.array(mask)),
        columns.symbols,
        columns.codes[mask],
        columns.frames[mask],
        columns.numbers[mask],
        columns.received_ns[mask],
        columns.flags[mask],
    )
