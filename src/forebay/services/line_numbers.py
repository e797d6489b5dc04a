"""Follows the numbers that venues give what they tell over a connection; tells what is missing.

It is part of normalising: what it remembers is kept wherever ordinals are, and what it finds out
goes on as records of the connection. So whoever is told a part of the events, such as a lane of a
transport, learns of every hole.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from forebay.domain.coverage import StreamKey
from forebay.domain.frames import EVERY_SYMBOL, EpochClosed, NumbersMissed
from forebay.domain.intervals import IntervalSet
from forebay.domain.lines import ConnectionLines, name_of_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from forebay.domain.frames import Context, FrameBatch, MissedNumbers
    from forebay.domain.ordinals import StreamOrdinals
    from forebay.domain.parsed import CountedMessages

    Changed = dict[StreamKey, StreamOrdinals | ConnectionLines]


class LineArrival(NamedTuple):
    """Numbers of a line that came with one batch."""

    context: Context
    log_id: str
    received_ns: int
    seq: int
    """Of the last of them."""
    numbers: IntervalSet


class LineFinding(NamedTuple):
    """What is missing of a line has changed, and by which batch that was found."""

    by: LineArrival
    said: NumbersMissed


@dataclass(slots=True)
class _Touched:
    before: list[MissedNumbers]
    """The holes that it had."""
    came: list[LineArrival] = field(default_factory=list)


class LineFollower:
    """Follows lines through the batches of one step; ``changed`` has what is new of them."""

    def __init__(self, stored: Mapping[StreamKey, ConnectionLines], changed: Changed) -> None:
        self._stored = stored
        self._changed = changed
        self._touched: dict[tuple[StreamKey, str], _Touched] = {}
        self._closed: list[Context] = []

    def add(self, batch: FrameBatch, counted: CountedMessages, dead: set[int]) -> None:
        """Take the numbers of a batch; those of ``dead`` frames are missing as if none had come."""
        context = batch.context
        if context.purpose != "live" or context.partial:
            return
        key = StreamKey(context.venue, context.market, "", EVERY_SYMBOL)
        name = name_of_line(context.epoch, counted.line)
        lines = self._lines(key)
        if (touched := self._touched.get((key, name))) is None:
            touched = self._touched[key, name] = _Touched(lines.holes(name))
        lines.carry(name, counted.kinds)
        frames = np.asarray(counted.frames, dtype=np.int64)
        numbers = np.asarray(counted.numbers, dtype=np.int64)
        if dead:
            alive = ~np.isin(frames, list(dead))
            frames, numbers = frames[alive], numbers[alive]
        if len(frames):
            came = IntervalSet(lines.add(name, numbers, batch.received_ns[frames]))
            last = int(frames[-1])
            place = int(batch.received_ns[last]), int(batch.seqs[last])
            touched.came.append(LineArrival(context, batch.log_id, *place, came))

    def hear(self, context: Context, control: object) -> None:
        """Forget the lines of a connection that is over, once this step has been taken."""
        if isinstance(control, EpochClosed):
            self._closed.append(context)

    def found(self) -> Iterator[LineFinding]:
        """Return what has changed of what is missing, and forget the lines that are over."""
        for (key, name), touched in self._touched.items():
            lines = self._lines(key)
            yield from _found(name, touched, lines.lines[name].kinds, lines.holes(name))
        for context in self._closed:
            for key, held in {**self._stored, **self._changed}.items():
                if key.venue == context.venue and isinstance(held, ConnectionLines):
                    for name in held.of(context.epoch):
                        self._lines(key).lines.pop(name, None)

    def _lines(self, key: StreamKey) -> ConnectionLines:
        held = self._changed.get(key)
        if not isinstance(held, ConnectionLines):
            known = self._stored.get(key)
            held = self._changed[key] = known.copy() if known else ConnectionLines()
        return held


def _found(
    name: str, touched: _Touched, kinds: tuple[str, ...], now: list[MissedNumbers]
) -> Iterator[LineFinding]:
    """Return the holes that came and went, each by the batch that has what is behind the hole.

    If none of these has, it came earlier, and what is before the hole late: by the batch of that.
    Of a line of which nobody said what it carries, it may be all that the connection does.
    """
    before, after = {*touched.before}, {*now}  # there may be thousands
    over = tuple(hole for hole in touched.before if hole not in after)
    new: dict[int, list[MissedNumbers]] = {}
    for hole in now:
        if hole not in before:
            new.setdefault(_place(touched.came, hole), []).append(hole)
    if over and not new:
        new[-1] = []
    for place, holes in sorted(new.items()):
        by = touched.came[place]
        said = NumbersMissed(name, kinds or tuple(sorted(by.context.channels)), tuple(holes), over)
        yield LineFinding(by, said)
        over = ()


def _place(came: list[LineArrival], hole: MissedNumbers) -> int:
    for beside in (hole.last + 1, hole.first - 1):
        for place, each in enumerate(came):
            if beside in each.numbers:
                return place
    return -1
