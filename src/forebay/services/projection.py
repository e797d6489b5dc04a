"""Frames to rows and coverage: a pure projection that can be repeated over any journal part.

What is normalised comes first, then the :class:`CoverageBook`: what is new, what is out of order,
what is missing. That needs no frames and no journal: what travelled over a transport is taken as
what was read from the journal a moment ago.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import product
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from forebay.domain.channels import declared_of, kind_of
from forebay.domain.coverage import (
    COVERAGES,
    Acceptance,
    Arrival,
    Coverage,
    Look,
    StreamKey,
    TimeCoverage,
)
from forebay.domain.coverage.gaps import unit_of
from forebay.domain.coverage.time import MissedName
from forebay.domain.digest import codes_of
from forebay.domain.flags import FLAGS, OUT_OF_ORDER
from forebay.domain.frames import (
    EVERY_SYMBOL,
    Context,
    Control,
    EpochAccepted,
    EpochClosed,
    FrameBatch,
    GapAccepted,
    HistoryFinished,
    Loss,
    MissedNumbers,
    NumbersMissed,
    RangeChecked,
    StreamsAsked,
    StreamsEnded,
    StreamsOwed,
    StreamsRefused,
)
from forebay.domain.roll import Answered, AskedFor, Roll
from forebay.ports import Events, Parser
from forebay.services.batches import batches_of
from forebay.services.clock_skew import NO_DELAYS, Delays
from forebay.services.letter_states import states_of
from forebay.services.normalise import Normalised, OrdinalAssigner, Ordinals
from forebay.services.venue_totals import Sources, VenueTotals, count_letters, plus, way

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import numpy.typing as npt

    from forebay.domain.channels import Channel, Unit
    from forebay.domain.events import EventColumns

__all__ = ["CoverageBook", "Declared", "Projected", "Projection", "batches_of", "declared"]

Declared = dict[str, "Mapping[str, Channel]"]
"""What venues declare of their channels, by venue and kind of event."""

_LOOKS_NS = 10_000_000_000
"""Looks at a series within such a time are one, so that they are kept together."""
_HEARD = ("time", "seq")
"""Units that count when a connection was heard, even if it said nothing."""


def declared(parsers: Mapping[str, Parser]) -> Declared:
    """Return what the venues of some parsers declare."""
    return {venue: parser.channels for venue, parser in parsers.items()}


@dataclass(slots=True)
class Projected:
    """What a run of frames amounts to."""

    events: dict[str, Events] = field(default_factory=dict)
    """By table, in the order of the journal."""
    letters: pa.Table | None = None
    letter_states: pa.Table | None = None
    coverage: dict[StreamKey, Coverage] = field(default_factory=dict)
    """Whole new coverage of each stream that changed."""
    ordinals: Ordinals = field(default_factory=dict)
    """Whole new ordinals of each stream that changed."""
    frames: Counter[str] = field(default_factory=Counter)
    """Frames by outcome: ``yielding``, ``control``, ``dead``; they add up to all frames."""
    unbuilt: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    """Dead letters by reason."""
    flagged: int = 0
    flags: Counter[str] = field(default_factory=Counter)
    """How many new events have each flag."""
    losses: list[Loss] = field(default_factory=list)
    roll: Roll = field(default_factory=Roll)
    """What was asked for with these frames, and what was answered."""
    heard: dict[StreamKey, int] = field(default_factory=dict)
    """When the last event of each stream that has some was received live."""
    venues: VenueTotals = field(default_factory=dict)
    """What each venue told; what of it came again the store will say."""
    sources: Sources = field(default_factory=dict)
    delays: dict[str, Delays] = field(default_factory=dict)
    """By venue, of events that a connection told as they happened."""


class CoverageBook:
    """Coverage of every stream; nothing changes until :meth:`adopt`."""

    def __init__(self, channels: Declared, coverage: Mapping[StreamKey, Coverage]) -> None:
        self._channels = channels
        self.coverage = dict(coverage)

    def enter(self, items: Iterable[Normalised], out: Projected | None = None) -> Projected:
        """Return rows and new coverage of ``items``, which come after all that was adopted."""
        out = Projected() if out is None else out
        tables: dict[str, list[Events]] = defaultdict(list)
        letters: list[pa.Table] = []
        states: list[pa.Table] = []
        for item in items:
            for columns in item.events:
                tables[columns.kind.table].append(self._events(item.context, columns, out))
            self._know(item, out)
            for said in item.controls:
                _enrol(item.context, said.control, said.received_ns, out.roll)
                self._control(item.context, said.control, said.received_ns, out)
            if item.letters is not None:
                letters.append(item.letters)
            states += states_of(item)
            out.reasons.update(item.reasons)
            out.frames.update(item.frames)
            out.unbuilt.update(item.unbuilt)
        for key, changed in out.coverage.items():
            channel = declared_of(self._channels.get(key.venue, {}), key.channel)
            if channel is None or not channel.history:
                changed.give_up()
        out.events = {table: _in_journal_order(parts) for table, parts in tables.items()}
        if letters:
            out.letters = pa.concat_tables(letters)
            count_letters(out.letters, out.venues)
        if states:
            out.letter_states = pa.concat_tables(states)
        return out

    def adopt(self, projected: Projected) -> None:
        self.coverage.update(projected.coverage)

    def follows(self, key: StreamKey) -> bool:  # noqa: ARG002 - a book of one lane asks it
        """Return whether records of connections are to change a stream here."""
        return True

    def _stream(self, key: StreamKey, unit: Unit, out: Projected) -> Coverage:
        if (changed := out.coverage.get(key)) is not None:
            return changed
        known = self.coverage.get(key)
        # A venue whose declaration has changed counts anew.
        if known is None or known.unit != unit:
            out.coverage[key] = fresh = COVERAGES[unit]()
            return fresh
        out.coverage[key] = copy = known.copy()
        return copy

    def _control(self, context: Context, control: Control, now_ns: int, out: Projected) -> None:
        if isinstance(control, HistoryFinished):
            self._finished(context.venue, control, now_ns, out)
        elif isinstance(control, GapAccepted | RangeChecked | StreamsOwed):
            self._of_streams(context, control, now_ns, out)
        elif isinstance(control, EpochAccepted):
            for key, unit in self._carried(context):
                if not control.streams or (key.channel, key.symbol) in control.streams:
                    self._stream(key, unit, out).opened(context.epoch, now_ns)
        elif isinstance(control, StreamsEnded | EpochClosed):
            self._closed(context, control, now_ns, out)
        elif isinstance(control, NumbersMissed):
            self._missed(context, control, out)
        elif isinstance(control, Loss):
            out.losses.append(control)

    def _of_streams(
        self,
        context: Context,
        control: GapAccepted | RangeChecked | StreamsOwed,
        now_ns: int,
        out: Projected,
    ) -> None:
        """Take a record that names its streams."""
        if isinstance(control, StreamsOwed):
            for name in control.streams:
                key = StreamKey(context.venue, context.market, *name)
                if self.follows(key) and self._unit(key) in _HEARD:
                    owed = self._stream(key, self._unit(key), out)
                    owed.owe(now_ns, control.since_ns, control.until_ns)
            return
        key = StreamKey(context.venue, control.market, control.channel, control.symbol)
        stream = self._stream(key, self._unit(key), out)
        if isinstance(control, GapAccepted):
            told = Acceptance(now_ns, control.epoch, control.by, control.reason)
            stream.accept(control.first, control.last, told)
        else:
            stream.checked(control.first, control.last, control.missing, control.stored)

    def _closed(
        self, context: Context, control: StreamsEnded | EpochClosed, now_ns: int, out: Projected
    ) -> None:
        """Have streams of a connection be heard up to its last frame, and by it no more."""
        last_ns = None if control.silent_ns is None else now_ns - control.silent_ns
        some = set(control.streams) if isinstance(control, StreamsEnded) else None
        spoke = [
            (key, held.unit)
            for key, held in {**self.coverage, **out.coverage}.items()
            if key.venue == context.venue
            and held.unit in _HEARD
            and context.epoch in held.epochs
            and (some is None or (key.channel, key.symbol) in some)
            and self.follows(key)
        ]
        late_ns = control.late_ns if isinstance(control, EpochClosed) else 0
        for key, unit in spoke:
            stream = self._stream(key, unit, out)
            stream.closed(context.epoch, last_ns)
            if late_ns and last_ns is not None:
                late = MissedNumbers(0, 0, last_ns - late_ns, last_ns)
                stream.miss(f"{context.epoch}/late", (late,), ())

    def _missed(self, context: Context, control: NumbersMissed, out: Projected) -> None:
        """Have every stream of a line miss what the line misses, and tell of it by itself."""
        if control.over:  # whatever the connection carried when it was found
            names = {MissedName(control.line, hole.first, hole.last) for hole in control.over}
            for key, held in {**self.coverage, **out.coverage}.items():
                if isinstance(held, TimeCoverage) and not names.isdisjoint(held.missed):
                    self._stream(key, held.unit, out).miss(control.line, (), control.over)
        if control.missed and control.kinds:
            together = StreamKey(context.venue, context.market, control.kinds[0], EVERY_SYMBOL)
            hit = [key for key, _ in self._carried(context) if key.channel in control.kinds]
            for key in [*hit, *([together] if self.follows(together) else [])]:
                self._stream(key, self._unit(key), out).miss(control.line, control.missed, ())

    def _finished(self, venue: str, control: HistoryFinished, now_ns: int, out: Projected) -> None:
        key = StreamKey(venue, control.market, control.channel, control.symbol)
        channel = declared_of(self._channels.get(venue, {}), control.channel)
        unit = channel.unit if channel else "none"
        in_ids = control.unit == "id"
        absent = control.absent or control.lacking
        if channel and (unit == "id") is in_ids and (absent or not in_ids):
            waits_s = channel.believed_after_s
            series = kind_of(control.channel) != control.channel
            if series:  # a download looks at many at once
                now_ns -= now_ns % _LOOKS_NS
            look = Look(now_ns, waits_s, series) if control.lacking else None
            self._stream(key, unit, out).finished(control.first, control.last, absent, look)

    def _carried(self, context: Context) -> Iterator[tuple[StreamKey, Unit]]:
        """Return the streams of a live connection that count when it was heard.

        One that does not say its channels promises none, whatever comes.
        """
        channels = self._channels.get(context.venue)
        if channels is None or context.purpose != "live" or context.partial:
            return
        for name, channel in channels.items():
            if channel.unit in _HEARD and name in context.channels:
                for symbol in context.symbols:
                    key = StreamKey(context.venue, context.market, name, symbol)
                    if self.follows(key):
                        yield key, channel.unit

    def _unit(self, key: StreamKey) -> Unit:
        found = declared_of(self._channels.get(key.venue, {}), key.channel)
        return unit_of(key, found)

    def _events(self, context: Context, columns: EventColumns, out: Projected) -> Events:
        """Cover what arrived, and return its rows."""
        channel = columns.channel
        seen_before = np.zeros(len(columns.numbers), dtype=np.bool_)
        live = context.purpose != "history" and not context.partial
        for symbol, rows in columns.by_symbol():
            key = StreamKey(context.venue, columns.market, columns.kind.channel, symbol)
            told = columns.numbers[rows], columns.received_ns[rows]
            timed = context.purpose == "live"
            arrival = Arrival(context.epoch, live, *told, timed=timed, outage=context.outage)
            seen = self._stream(key, channel.unit, out).see(arrival)
            seen_before[rows] = seen.before
            if timed:
                last_ns = int(columns.received_ns[rows].max())
                out.heard[key] = max(last_ns, out.heard.get(key, last_ns))
            if seen.out_of_order.any():
                columns.flags[rows[seen.out_of_order]] |= np.uint8(OUT_OF_ORDER)
        knows = channel.unit == "id" or _counts_ids(columns, context)
        if not knows:  # that a number was seen does not say that the event was
            seen_before[:] = False
        _count_flags(columns.flags[~seen_before], context, out)
        _note_way(context, columns, out)
        return Events(columns.finish(), seen_before, ~seen_before & knows)

    def _know(self, item: Normalised, out: Projected) -> None:
        if item.context.partial:
            return
        for (market, channel, symbol), known in item.known.items():
            key = StreamKey(item.context.venue, market, channel, symbol)
            for near in known:
                self._stream(key, self._unit(key), out).know(item.context.epoch, *near)


class Projection(CoverageBook):
    """Projects frames on top of the coverage so far; nothing changes until :meth:`adopt`."""

    def __init__(
        self,
        parsers: Mapping[str, Parser],
        coverage: Mapping[StreamKey, Coverage],
        ordinals: Mapping[StreamKey, bytes] = MappingProxyType({}),
    ) -> None:
        super().__init__(declared(parsers), coverage)
        self._parsers = parsers
        self._ordinals = OrdinalAssigner(ordinals)

    def project(self, batches: Iterable[FrameBatch]) -> Projected:
        """Return rows, dead letters and new coverage of ``batches``."""
        out = Projected(ordinals=self._ordinals.changed())
        items = self._ordinals.normalised(batches, self._parsers, out.ordinals)
        return self.enter(items, out)

    def adopt(self, projected: Projected) -> None:
        super().adopt(projected)
        self._ordinals.adopt(projected.ordinals)

    def begin_again(self) -> None:
        """Count ordinals from 0: frames that were counted will be read once more."""
        self._ordinals.begin_again()


def _enrol(context: Context, control: Control, now_ns: int, roll: Roll) -> None:
    """Note what was asked for, and what a venue gives or does not give."""
    if isinstance(control, StreamsAsked):
        roll.ask(AskedFor(now_ns, context.collector, context.venue, control.streams))
    elif isinstance(control, StreamsRefused):
        told = context.venue, context.market, control.streams, control.reason
        roll.answer(Answered(now_ns, *told))
    elif isinstance(control, EpochAccepted) and context.purpose == "live":
        streams = control.streams or tuple(product(context.channels, context.symbols))
        roll.answer(Answered(now_ns, context.venue, context.market, streams))


def _counts_ids(columns: EventColumns, context: Context) -> bool:
    """Return whether coverage by numbers of a connection knows which of its events are new.

    A recording may have been told before without its numbers, when it was filtered.
    """
    channel = columns.channel
    counts = channel.unit == "seq" and channel.identity == "session" and not columns.own_sequence
    return counts and context.purpose == "live" and not context.partial


def _in_journal_order(parts: list[Events]) -> Events:
    """Join the events of a table, and undo what grouping frames by context did to their order.

    Of two versions of one event, the one that was received first is then stored.
    """
    if len(parts) == 1:
        return parts[0]
    rows = pa.concat_tables([part.rows for part in parts])
    # Stable: items of a frame stay in order.
    order = np.lexsort((rows["seq"].to_numpy(), codes_of(rows["log_id"])))
    seen_before = np.concatenate([part.seen_before for part in parts])[order]
    vouched_new = np.concatenate([part.vouched_new for part in parts])[order]
    return Events(rows.take(pa.array(order)), seen_before, vouched_new)


def _note_way(context: Context, columns: EventColumns, out: Projected) -> None:
    """Count events by the way they came, and note how long they took if they were pushed."""
    way(out.venues, context.venue, context.source).told += len(columns.numbers)
    out.sources[context.venue, context.epoch] = context.source
    pushed = context.source == "ws" and context.purpose == "live" and not context.partial
    if pushed and columns.kind.momentary:
        times = columns.table["exchange_ts"]
        known = times.is_valid().to_numpy()
        delays_ns = (columns.received_ns - times.cast(pa.int64()).fill_null(0).to_numpy())[known]
        if len(delays_ns):
            new = Delays(len(delays_ns), int(delays_ns.min()))
            out.delays[context.venue] = out.delays.get(context.venue, NO_DELAYS) | new


def _count_flags(flags: npt.NDArray[np.uint8], context: Context, out: Projected) -> None:
    """Count the bits of new events; shape (n,)."""
    flagged = flags[flags != 0]
    out.flagged += len(flagged)
    if len(flagged):
        bits = np.unpackbits(flagged[:, None], axis=1, bitorder="little").sum(axis=0)
        counts = {name: int(n) for name, n in zip(FLAGS, bits, strict=False) if n}
        out.flags.update(counts)
        plus(way(out.venues, context.venue, context.source).flags, counts)
