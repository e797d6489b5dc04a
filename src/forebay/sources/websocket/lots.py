"""Which streams are asked for together, and which alone because something was wrong. Pure.

A *lot* is what one connection asks for. A stream that the venue refuses by name leaves its lot; if
it names none, the lot is halved until the culprit is alone. What was refused is asked for again,
all that is due together, on a connection of its own: with growing pauses while the venue serves
others, and soon while it serves nobody, which is then no stream's fault.

What is wanted may change at any time: new symbols go to the smallest lots whose connections can
be changed, or else make lots of their own; what nobody wants any more is forgotten wherever it is.
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from forebay.resilience.backoff import retry_delay

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable, Mapping

    from forebay.sources.venue import ConnectionPurpose, Stream
    from forebay.sources.websocket.timeouts import Timeouts

STRIKES = 3
"""So many short connections in a row are held against what they asked for."""
LEFT_OUT = 2
"""What is left out while its connection goes on waits for so many doublings longer."""
UNPROVED = 8
"""Into so many lots is divided what is not known to be at fault: no connection proves the venue."""


@dataclass(eq=False, slots=True)
class Lot:
    """What one connection after the other asks for."""

    asked: ConnectionPurpose
    again: bool = False
    """Whether it was refused before, so that nobody counts on it until it is accepted."""
    left_out: set[Stream] = field(default_factory=set)
    """What the venue does not give on the present connection, though it gives others."""
    elsewhere: set[Stream] = field(default_factory=set)
    """What another lot is given meanwhile."""
    strikes: int = 0
    accepted_ns: int | None = None
    """Since when a connection of it is accepted, on the monotonic clock."""

    def without(self, gone: set[str]) -> bool:
        """Ask for the symbols of ``gone`` no more; return whether it did before."""
        kept = tuple(each for each in self.asked.symbols if each not in gone)
        if len(kept) == len(self.asked.symbols):
            return False
        self.asked = replace(self.asked, symbols=kept)
        self.left_out = {stream for stream in self.left_out if stream[1] not in gone}
        self.elsewhere = {stream for stream in self.elsewhere if stream[1] not in gone}
        return True


class Rearranged(NamedTuple):
    """What follows from other symbols being wanted; a lot is in one of these at most."""

    begun: list[Lot]
    changed: list[Lot]
    ended: list[Lot]
    """Of which nobody wants anything any more."""


class Refusal(NamedTuple):
    """What the end of a connection says about what it asked for."""

    reason: str
    named: Mapping[Stream, str]
    """Streams that the venue's own words blame."""
    whole: bool
    """Whether the venue refused the subscription; otherwise the connection only ended early."""


class Next(NamedTuple):
    """What follows the end of a connection."""

    lots: list[Lot]
    """What is asked for now instead of the lot; it alone, if it is asked for again as it is."""
    refused: Mapping[Stream, str]
    """What the venue does not give, and why."""
    pause_s: float
    """Seconds until that is asked for again."""


@dataclass(slots=True)
class _Aside:
    refusals: int = 0
    """While the venue served others."""
    tries: int = 0
    """While it served nobody."""
    due_ns: int | None = None
    """When it is asked for again; None while it is."""


def divided(asked: ConnectionPurpose, size: int, connections: int = 0) -> list[ConnectionPurpose]:
    """Return what each of several connections is for: all channels, of some symbols each.

    With ``connections``, among so many or, if one may carry no more than ``size``, among more, with
    no two of them further apart than one symbol; otherwise each but the last has ``size``.
    """
    symbols, count = asked.symbols, len(asked.symbols)
    if not symbols or not asked.channels:
        return []
    if not connections:
        return [replace(asked, symbols=symbols[at : at + size]) for at in range(0, count, size)]
    lots = min(count, max(connections, -(-count // size)))
    ends = [count * lot // lots for lot in range(lots + 1)]
    return [replace(asked, symbols=symbols[a:b]) for a, b in itertools.pairwise(ends)]


class Lots:
    """The lots of one source."""

    def __init__(
        self,
        asked: Iterable[ConnectionPurpose],
        timeouts: Timeouts,
        rng: random.Random,
        *,
        size: int,
        connections: int = 0,
        whole: ConnectionPurpose | None = None,
    ) -> None:
        """``size`` symbols are of a lot at most; ``connections`` is as of :func:`divided`.

        ``whole`` is what is asked for, whatever its symbols; left out: as of the first.
        """
        self.lots = [Lot(each) for each in asked]
        self._asked = whole or (self.lots[0].asked if self.lots else None)
        self._symbols = dict.fromkeys(name for lot in self.lots for name in lot.asked.symbols)
        self._connections = connections
        self._timeouts = timeouts
        self._rng = rng
        self._size = size
        self._aside: dict[Stream, _Aside] = {}

    @property
    def wanted(self) -> int:
        """How many connections there should be."""
        lots = sum(not lot.again or lot.accepted_ns is not None for lot in self.lots)
        return max(lots, bool(self._symbols))

    def want(self, symbols: Iterable[str], changeable: Callable[[Lot], bool]) -> Rearranged:
        """Note what is wanted from here on; ``changeable`` lots may be given more symbols."""
        wanted = dict.fromkeys(symbols)
        fresh = [symbol for symbol in wanted if symbol not in self._symbols]
        gone = self._symbols.keys() - wanted.keys()
        self._symbols = wanted
        changed: dict[Lot, None] = {}
        ended: list[Lot] = []
        if gone:
            self._aside = {each: told for each, told in self._aside.items() if each[1] not in gone}
            changed = {lot: None for lot in self.lots if lot.without(gone)}
            ended = [lot for lot in changed if not lot.asked.symbols]
            self.lots = [lot for lot in self.lots if lot.asked.symbols]
        begun, grown = self._join(fresh, changeable)
        changed |= dict.fromkeys(grown)
        return Rearranged(begun, [lot for lot in changed if lot.asked.symbols], ended)

    def _join(
        self, fresh: list[str], changeable: Callable[[Lot], bool]
    ) -> tuple[list[Lot], list[Lot]]:
        """Put ``fresh`` symbols into lots; return the new ones, and the others that have some."""
        whole = self._asked
        if not fresh or whole is None or not whole.channels:
            return [], []
        full = [lot for lot in self.lots if lot.asked.channels == whole.channels and not lot.again]
        # One whose connections end soon is being looked into.
        rooms = {lot: [*lot.asked.symbols] for lot in full if not lot.strikes and changeable(lot)}
        begun, grown, lots = list[Lot](), dict[Lot, None](), len(full)
        for symbol in fresh:
            room = min(rooms, key=lambda lot: len(rooms[lot]), default=None)
            if lots < self._connections or room is None or len(rooms[room]) >= self._size:
                room = Lot(replace(whole, symbols=()))
                rooms[room] = []
                begun.append(room)
                lots += 1
            rooms[room].append(symbol)
            grown[room] = None
        for lot in grown:
            lot.asked = replace(lot.asked, symbols=tuple(rooms[lot]))
        self.lots += begun
        return begun, [lot for lot in grown if lot not in begun]

    def wanted_of(self, streams: Mapping[Stream, str]) -> dict[Stream, str]:
        """Return those of ``streams`` that somebody wants still."""
        return {stream: why for stream, why in streams.items() if stream[1] in self._symbols}

    def serving(self, lot: Lot) -> bool:
        """Return whether another connection than that of ``lot`` gives something."""
        return self._proved(lot, 0, whole=True)

    def accepted(self, lot: Lot, streams: Iterable[Stream], now_ns: int) -> None:
        """Note that a connection of ``lot`` gives ``streams``, perhaps later than it should."""
        if lot.accepted_ns is None:
            lot.accepted_ns = now_ns
        for stream in streams:
            lot.left_out.discard(stream)
            aside = self._aside.get(stream)
            if aside is not None and aside.due_ns is not None:
                del self._aside[stream]  # it is not waited for any more
            for other in self.lots:
                if stream in other.left_out and other is not lot:
                    other.elsewhere.add(stream)

    def left_out(self, lot: Lot, streams: Mapping[Stream, str], now_ns: int) -> float:
        """Have what a connection that goes on does not give asked for alone; return in how long."""
        lot.left_out |= streams.keys()
        fresh = streams.keys() - self._aside.keys()
        self._aside |= {stream: _Aside(refusals=LEFT_OUT) for stream in fresh}
        if fresh:
            return self._set_aside(fresh, now_ns, proved=True)
        due = [aside.due_ns for aside in map(self._aside.get, streams) if aside and aside.due_ns]
        return max(0.0, (max(due, default=now_ns) - now_ns) / 1e9)

    def ended(self, lot: Lot, lived_ns: int, refusal: Refusal, now_ns: int) -> Next:
        """A connection of ``lot`` is over, so long after its acceptance; return what follows."""
        proved = self._proved(lot, now_ns, whole=refusal.whole)
        lot.accepted_ns = None
        settled = lived_ns >= self._timeouts.settle_s * 1e9
        lot.strikes = 0 if settled else lot.strikes + 1
        if settled:
            lot.again = False
            for stream in lot.asked.streams - lot.left_out:
                self._aside.pop(stream, None)
        lot.left_out.clear()
        blamed = {**dict.fromkeys(lot.elsewhere, ""), **refusal.named}
        if blamed:
            return self._parted(lot, blamed, refusal, now_ns, proved=proved)
        if not refusal.whole and lot.strikes < STRIKES:
            return Next([lot], {}, 0.0)
        if len(lot.asked.symbols) > 1:
            most = UNPROVED * (1 + lot.strikes // STRIKES)
            if proved or len(self.lots) < most:
                ignored = lived_ns == 0 and lot.strikes >= STRIKES
                few = proved or len(self.lots) < UNPROVED // 2
                return self._halved(lot, STRIKES - 1 if ignored and few else 0)
            return Next([lot], {}, 0.0)
        alone = dict.fromkeys(lot.asked.streams, refusal.reason)
        if proved or (refusal.whole and lot.again):
            return self._parted(lot, alone, refusal, now_ns, proved=proved)
        return Next([lot], alone if refusal.whole else {}, 0.0)

    def due(self, now_ns: int) -> Lot | None:
        """Return a lot of what is to be asked for again now; it is one of :attr:`lots` then."""
        channels: dict[str, list[str]] = defaultdict(list)
        for (channel, symbol), aside in sorted(self._aside.items()):
            if aside.due_ns is not None and aside.due_ns <= now_ns:
                channels[symbol].append(channel)
        if not channels or self._asked is None:
            return None
        kinds = tuple(channels[min(channels)])
        symbols = tuple(each for each, told in channels.items() if tuple(told) == kinds)
        lot = Lot(replace(self._asked, symbols=symbols[: self._size], channels=kinds), again=True)
        for stream in lot.asked.streams:
            self._aside[stream].due_ns = None
        self.lots.append(lot)
        return lot

    def next_due_ns(self) -> int | None:
        """Return when something is to be asked for again; None: nothing is."""
        due = [aside.due_ns for aside in self._aside.values() if aside.due_ns is not None]
        return min(due, default=None)

    def _proved(self, lot: Lot, now_ns: int, *, whole: bool) -> bool:
        """Return whether another connection shows that the venue serves, as long as it takes."""
        least_ns = self._timeouts.settle_s * 1e9
        return any(
            other.accepted_ns is not None and (whole or now_ns - other.accepted_ns >= least_ns)
            for other in self.lots
            if other is not lot
        )

    def _parted(
        self,
        lot: Lot,
        blamed: Mapping[Stream, str],
        refusal: Refusal,
        now_ns: int,
        *,
        proved: bool,
    ) -> Next:
        """Return the lot without what is blamed; a symbol that keeps some channels is alone."""
        asked, kept = lot.asked, defaultdict[tuple[str, ...], list[str]](list)
        for symbol in asked.symbols:
            kinds = tuple(kind for kind in asked.channels if (kind, symbol) not in blamed)
            if kinds:
                kept[kinds].append(symbol)
        lots = [
            Lot(replace(asked, symbols=tuple(symbols), channels=kinds), lot.again)
            for kinds, symbols in kept.items()
        ]
        meant = self.wanted_of(blamed)
        fresh = {stream: why for stream, why in meant.items() if stream not in lot.elsewhere}
        pause_s = self._set_aside(fresh, now_ns, proved=proved or bool(lots and refusal.named))
        self._replace(lot, lots)
        return Next(lots, fresh, pause_s)

    def _halved(self, lot: Lot, strikes: int) -> Next:
        """Return two lots with ``strikes`` already, or the breaker opens before it is known."""
        symbols = lot.asked.symbols
        middle = (len(symbols) + 1) // 2
        halves = [
            Lot(replace(lot.asked, symbols=half), lot.again, strikes=strikes)
            for half in (symbols[:middle], symbols[middle:])
        ]
        self._replace(lot, halves)
        return Next(halves, {}, 0.0)

    def _replace(self, lot: Lot, lots: list[Lot]) -> None:
        self.lots.remove(lot)
        self.lots += lots

    def _set_aside(self, streams: Iterable[Stream], now_ns: int, *, proved: bool) -> float:
        """Have ``streams`` asked for again, all at once; return in how many seconds."""
        asides = [self._aside.setdefault(stream, _Aside()) for stream in streams]
        for aside in asides:
            aside.refusals += proved
            aside.tries += not proved
        timeouts = self._timeouts
        times = max((each.refusals if proved else each.tries for each in asides), default=1)
        base, cap = timeouts.backoff_base_s, timeouts.backoff_cap_s
        if proved:
            base, cap = timeouts.refused_base_s, timeouts.refused_cap_s
        pause_s = retry_delay(times, self._rng, base=base, cap=cap)
        for aside in asides:
            aside.due_ns = now_ns + round(pause_s * 1e9)
        return pause_s


def named_in(words: str, asked: ConnectionPurpose) -> dict[Stream, str]:
    """Return the streams of the symbols that a venue's words name, each with those words.

    Words that name all of several symbols blame none of them: they repeat what was asked.
    """
    named = [
        symbol
        for symbol in asked.symbols
        if re.search(rf"(?<![\w/-]){re.escape(symbol)}(?![\w/-])", words)
    ]
    if len(named) == len(asked.symbols) > 1:
        return {}
    return {(channel, symbol): words for symbol in named for channel in asked.channels}
