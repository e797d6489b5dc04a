"""What a lane has, as whole steps of a journal: enough at once, or whatever has waited long."""

from __future__ import annotations

import contextlib
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from forebay.errors import ForebayError
from forebay.services.steps import Steps, WholeStep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from forebay.clock import Clock
    from forebay.domain.messages import Message
    from forebay.journal import Position
    from forebay.ports import Received, Subscription

ENOUGH = 16384
"""Rows and messages of the steps that are committed together: one step may have few."""
READ_BYTES = 4 << 20
"""Of a lane, read at once."""


class Batching(NamedTuple):
    """When what has come of a lane is stored."""

    rows: int = 1
    """So many rows and messages are stored at once."""
    seconds: float = 0.0
    """Fewer are once the first of them has waited so long."""
    most: int = ENOUGH
    """More than these are not gathered, however many have come meanwhile."""


@dataclass(frozen=True, slots=True)
class LanePiece:
    """Consecutive steps of one journal, or none if there was only what cannot be read."""

    steps: list[WholeStep]
    end: Position
    unreadable: Sequence[Received] = ()
    """What is no message, and was met on the way."""

    @property
    def messages(self) -> Iterator[Message]:
        """All that they tell, in order."""
        return (message for whole in self.steps for message in whole.messages)

    @property
    def oldest_ns(self) -> int:
        return oldest_of(self.messages)


def oldest_of(messages: Iterable[Message]) -> int:
    """Return the receipt of the first row of some messages, wall clock; 0 if they have none."""
    for message in messages:
        if message.rows is not None:
            first = message.rows["received_ts"].slice(0, 1).cast(pa.int64())
            return int(first.to_numpy()[0])
    return 0


class LaneFeed:
    """What whole steps a lane has; see :class:`~forebay.services.pump.PositionedFeed`."""

    def __init__(
        self, subscribe: Callable[[], Subscription], clock: Clock, batching: Batching
    ) -> None:
        self._subscribe = subscribe
        self._clock = clock
        self._batching = batching
        self._subscription: Subscription | None = None
        self._held = False
        self.hurry = False
        """Whether to give what there is, however little."""
        self.ended_ns: int | None = None
        """When it was last seen to have nothing left, monotonic; None: never yet."""
        self._begin()

    def _begin(self) -> None:
        self._steps = Steps()
        self._received: deque[Received] = deque()
        self._ready: deque[WholeStep] = deque()
        self._unreadable: list[Received] = []
        self._since_ns: int | None = None
        self._resume: int | None = None
        self.weight = 0
        """Rows and messages that wait to be given."""

    def _subscribed(self) -> Subscription:
        if self._subscription is None:
            self._subscription = self._subscribe()
        return self._subscription

    def seek(self, position: Position | None) -> None:
        self._begin()
        self._subscribed().seek(position)

    def read(self) -> LanePiece | None:
        subscription = self._subscribed()
        if self._held:
            subscription.resume()
            self._held = False
        self._gather(subscription)
        now_ns = self._clock.monotonic_ns()
        if not self.holds:
            if not self._received:
                self.ended_ns = now_ns
            return None
        if self._since_ns is None:
            self._since_ns = now_ns
        waits = now_ns - self._since_ns < self._batching.seconds * 1e9
        if waits and self.weight < self._batching.rows and not self.hurry:
            return None
        return self._taken(subscription)

    def _gather(self, subscription: Subscription) -> None:
        """Put steps together until they are enough, or nothing follows yet."""
        while self.weight < self._batching.most:
            if not self._received:
                self._received.extend(subscription.read(max_bytes=READ_BYTES))
            if not self._received:
                return
            received = self._received.popleft()
            self._resume = received.resume
            if received.message is None:
                self._unreadable.append(received)
            elif (whole := self._steps.add(received)) is not None:
                self._ready.append(whole)
                self.weight += whole.weight

    def _taken(self, subscription: Subscription) -> LanePiece:
        """Give up and return the steps that can be committed together."""
        steps: list[WholeStep] = []
        log_id = self._ready[0].step.log_id if self._ready else ""
        while self._ready and self._ready[0].step.log_id == log_id:
            steps.append(self._ready.popleft())
            self.weight -= steps[-1].weight
        unreadable, self._unreadable = self._unreadable, []
        if not self._ready:
            self._since_ns = None
        return LanePiece(steps, subscription.position_at(self._end_of(steps)), unreadable)

    def _end_of(self, steps: list[WholeStep]) -> int:
        if self._ready or self._resume is None:
            return steps[-1].resume
        return self._steps.resume(self._resume)

    @property
    def holds(self) -> bool:
        """Whether something is ready and was not given."""
        return bool(self._ready or self._unreadable)

    def place(self) -> Position:
        """Return where it goes on once all that was given is stored; it must hold nothing."""
        subscription = self._subscribed()
        return subscription.position_at(self._steps.resume(self._resume or 0))

    def has(self, log_id: str) -> bool:
        """Return whether something of a journal was read and not given."""
        return self._steps.is_open(log_id) or any(
            whole.step.log_id == log_id for whole in self._ready
        )

    @property
    def oldest_ns(self) -> int:
        """Receipt of the first row that waits to be given, wall clock; 0 if there is none."""
        return oldest_of(message for whole in [*self._ready] for message in whole.messages)

    def hold(self) -> None:
        with contextlib.suppress(ForebayError):  # reading will meet it
            if not self._held:
                self._subscribed().pause()
                self._held = True
            self._subscribed().read()

    def done(self, position: Position) -> None:
        """Let the transport forget what is stored; the store's cursor is what counts."""
        with contextlib.suppress(ForebayError):  # the next one says more
            self._subscribed().commit(position)

    def close(self) -> None:
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None
