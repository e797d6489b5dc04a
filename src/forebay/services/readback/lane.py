"""One lane as it is read back: sums by stretches of the journal, and which steps are whole."""

from __future__ import annotations

import contextlib
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from forebay.domain.digest import Digest, HashedRows, StreamHour, digests_by_hour
from forebay.domain.intervals import IntervalSet
from forebay.domain.kinds import kind_of_table
from forebay.domain.messages import EventsTold, Message
from forebay.errors import Transient
from forebay.services.lane_bridge import listen
from forebay.services.ledger_builder import Remembered, first_rows
from forebay.services.projection import CoverageBook
from forebay.services.readback.tellings import STRETCH, Tellings
from forebay.services.steps import Steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy.typing as npt

    from forebay.ports import Parser, Received, Subscription, Transport
    from forebay.services.publisher import LaneTold
    from forebay.services.steps import WholeStep

GROUP = "audit"
"""The group that reads; it commits nothing, so it begins at the oldest record each time."""
ROWS_AT_ONCE = 1 << 15
LOOK_S, LOOKS = 0.02, 1_500
"""How long it takes to look again for what is there and does not come, and how often that is."""


@dataclass(slots=True)
class StretchSum:
    """What a lane has of one stretch."""

    first: int
    last: int
    """Offsets of the first and the last message with rows of it."""
    digest: Digest = field(default_factory=Digest)
    """Of all its tellings; of one that is there twice it counts both."""


@dataclass(slots=True)
class LaneAccount:
    """What a lane holds of one journal."""

    lane: str
    told: LaneTold
    identity: str
    """That it has now."""
    oldest: int | None = None
    """All that was told of frames from this one on is kept; None: nothing is."""
    first_step: int | None = None
    """Where the oldest step begins that is there, at least in part."""
    stretches: dict[int, StretchSum] = field(default_factory=dict)
    whole: IntervalSet = field(default_factory=IntervalSet)
    """Frames of steps of which every message is there."""
    marked: IntervalSet = field(default_factory=IntervalSet)
    """Likewise of steps that have their mark: of those a reader takes what there is."""
    rows: int = 0
    unreadable: int = 0
    """Messages that are none that we know."""

    @property
    def anew(self) -> bool:
        """Whether it was made anew since it was told."""
        return self.identity != self.told.identity

    @property
    def end(self) -> int:
        """Before this frame it was told everything of its own."""
        return self.told.all_before

    def note(self, received: Received) -> None:
        """Take note where a message of the journal is."""
        head = received.message.head if received.message else None
        if head is None or head.repair:
            return
        if self.first_step is None:
            self.first_step = head.step.begin
        if self.oldest is None:
            # Of a step that lacks its begin, what is lacking has been deleted by its age.
            self.oldest = head.step.begin if head.part == 0 else head.step.end

    def add(self, offset: int, seqs: npt.NDArray[np.int64]) -> None:
        for stretch in np.unique(seqs // STRETCH).tolist():
            held = self.stretches.setdefault(stretch, StretchSum(offset, offset))
            held.last = offset

    def take(self, step: WholeStep) -> None:
        """Note a step that has its mark."""
        begin, end = step.step.begin, step.step.end
        if begin < end:
            self.marked.add(begin, end - 1)
            if not step.lacking:
                self.whole.add(begin, end - 1)

    def lacking_steps(self, begin: int) -> tuple[IntervalSet, IntervalSet]:
        """Return the frames from ``begin`` on whose steps are not there whole, or have no mark."""
        end = self.told.end
        begin = max(begin, end if self.first_step is None else self.first_step)
        if begin >= end:
            return IntervalSet(), IntervalSet()
        return self.whole.holes(begin, end - 1), self.marked.holes(begin, end - 1)


class DistinctEvents:
    """Digests of the events that some lanes hold, by stream and hour, each event once."""

    def __init__(self, parsers: Mapping[str, Parser]) -> None:
        self._book = CoverageBook({}, {})
        self._remembered = Remembered(parsers)
        self.hours: dict[StreamHour, Digest] = defaultdict(Digest)

    def add(self, messages: list[Message]) -> Iterator[tuple[Tellings, HashedRows]]:
        """Add the events of ``messages``, and return all their rows."""
        projected = self._book.enter(listen(messages))
        self._book.adopt(projected)
        for table, events in projected.events.items():
            kind = kind_of_table(table)
            hashed = HashedRows.of_events(events.rows, kind)
            first = first_rows(table, events, self._remembered)
            tellings = Tellings(events.rows, kind)
            new = tellings if first.all() else tellings.filtered(first)
            for place, digest in digests_by_hour(new.rows, kind, hashed.where(first)).items():
                self.hours[place] += digest
            yield tellings, hashed


class LaneReading:
    """Reads a lane to its end, once for its sums and again where rows are wanted."""

    def __init__(self, transport: Transport, log_id: str, told: tuple[str, LaneTold]) -> None:
        self._transport = transport
        self._log_id = log_id
        lane, state = told
        self.account = LaneAccount(lane, state, transport.identity(lane))

    def read(
        self, events: DistinctEvents, progress: Callable[[int], object], *, expired: bool
    ) -> LaneAccount:
        """Account for all that the lane holds now; ``progress`` is told the frame it is at.

        With ``expired``, what was deleted because of its age is owed like all the rest.
        """
        account, steps = self.account, Steps()
        with contextlib.closing(self._transport.subscribe(account.lane, GROUP)) as reading:
            if expired or not reading.extent().trimmed:
                account.oldest = 1
        waiting, weight = list[Message](), 0
        for received in self._messages():
            account.note(received)
            message = received.message
            if message is None:
                account.unreadable += 1
                continue
            bare = received._replace(message=Message(message.head))
            whole = steps.add(bare)
            if whole is not None:
                account.take(whole)
            tellings = Tellings.of(message.head.told, message.rows)
            if tellings is not None:
                account.add(received.offset, tellings.seqs)
                account.rows += len(tellings.rows)
                waiting.append(message)
                weight += len(tellings.rows)
            if weight >= ROWS_AT_ONCE:
                self._add(waiting, events)
                waiting, weight = [], 0
                progress(message.head.step.end)
        self._add(waiting, events)
        return account

    def rows(self, stretches: set[int]) -> Iterator[tuple[int, Tellings]]:
        """Return what the lane has of some stretches, each part with its stretch."""
        held = [self.account.stretches[each] for each in stretches & self.account.stretches.keys()]
        if not held:
            return
        first, last = min(each.first for each in held), max(each.last for each in held)
        for received in self._messages(first, last):
            message = received.message
            tellings = Tellings.of(message.head.told, message.rows) if message else None
            if tellings is not None:
                yield from (part for part in split(tellings) if part[0] in stretches)

    def _messages(self, first: int | None = None, last: int | None = None) -> Iterator[Received]:
        """Return the messages of the journal, and those that cannot be read."""
        with contextlib.closing(self._transport.subscribe(self.account.lane, GROUP)) as reading:
            reading.seek(None if first is None else reading.position_at(first))
            for received in _to_end(reading, self.account.lane):
                message = received.message
                if message is None or message.head.step.log_id == self._log_id:
                    yield received
                if last is not None and received.offset >= last:
                    return

    def _add(self, messages: list[Message], events: DistinctEvents) -> None:
        told = [each for each in messages if isinstance(each.head.told, EventsTold)]
        letters = [each for each in messages if not isinstance(each.head.told, EventsTold)]
        for tellings, hashed in [*(events.add(told) if told else ()), *_hashed(letters)]:
            wanted = self._wanted(tellings.seqs)
            sums = hashed.where(wanted).by_group(tellings.seqs[wanted] // STRETCH)
            for stretch, digest in sums.items():
                self.account.stretches[stretch].digest += digest

    def _wanted(self, seqs: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        return (seqs >= (self.account.oldest or 0)) & (seqs < self.account.end)


def _to_end(reading: Subscription, lane: str) -> Iterator[Received]:
    """Return all that a lane has, though it may take a while to come."""
    nothing = 0
    while nothing < LOOKS:
        batch = reading.read()
        yield from batch
        if batch:
            nothing = 0
            continue
        if not reading.extent().left:
            return
        nothing += 1
        threading.Event().wait(LOOK_S)
    message = f"The lane {lane} does not give what it has."
    raise Transient(message, hint="Are all of its servers up?")


def _hashed(messages: list[Message]) -> Iterator[tuple[Tellings, HashedRows]]:
    for message in messages:
        tellings = Tellings.of(message.head.told, message.rows)
        if tellings is not None:
            yield tellings, tellings.hashed()


def split(tellings: Tellings) -> Iterator[tuple[int, Tellings]]:
    """Return rows by the stretch that they are of."""
    stretches = tellings.seqs // STRETCH
    for stretch in np.unique(stretches).tolist():
        mine = stretches == stretch
        yield stretch, tellings if mine.all() else tellings.filtered(mine)
