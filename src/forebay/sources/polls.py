"""Channels that are asked for by REST, again and again: live, though nothing is connected."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace as replaced

from forebay.domain.frames import EpochAccepted, EpochClosed, EpochOpened
from forebay.errors import Permanent, Transient
from forebay.telemetry import PollFailed, SubscriptionAccepted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from forebay.clock import Clock
    from forebay.domain.frames import Context
    from forebay.ports import EpochSink, FrameSink
    from forebay.sources.roster import Attendance
    from forebay.sources.venue import Poll, Stream
    from forebay.telemetry import Observer

_NS = 1_000_000_000
SKIPPED = 60
"""A symbol that is refused again and again is asked for after so many rounds at the latest."""


def next_round(poll: Poll, now_ns: int) -> int:
    """Return when the first round after ``now_ns`` begins, UTC nanoseconds."""
    every_ns, after_ns = round(poll.every_s * _NS), round(poll.after_s * _NS)
    return ((now_ns - after_ns) // every_ns + 1) * every_ns + after_ns


class Poller:
    """Asks for the channel and symbol of ``context``, at once and then on time.

    An answer that does not come ends the epoch. What the venue refuses is asked for more seldom.
    """

    def __init__(
        self,
        poll: Poll,
        context: Context,
        *,
        ask: Callable[[str, int, Context, FrameSink], Awaitable[object]],
        epoch: Callable[[], str],
        told: Attendance,
        clock: Clock,
        observer: Observer,
    ) -> None:
        """``ask`` has the answer to a path, of some weight, captured; ``epoch`` makes up a name."""
        self._poll = poll
        self._context = context
        self._stream: Stream = (context.channels[0], context.symbols[0])
        self._ask = ask
        self._new_epoch = epoch
        self._told = told
        self._clock = clock
        self._observe = observer
        self._control: EpochSink | None = None
        self._accepted = False
        self.refused = 0
        """How often in a row the venue refused it."""

    async def run(self, sink: FrameSink) -> None:
        """Poll until cancelled."""
        now_ns = self._clock.wall_ns()
        left = 0
        try:
            while True:
                if not left:
                    left = await self._one(now_ns, sink)
                else:
                    left -= 1
                await sink.flushed()  # a journal that takes nothing must not fill the memory
                due_ns = next_round(self._poll, max(now_ns, self._clock.wall_ns()))
                await self._clock.sleep(max(0, due_ns - self._clock.wall_ns()) / _NS)
                now_ns = max(due_ns, self._clock.wall_ns())
        finally:
            self._close("stopped")

    async def _one(self, now_ns: int, sink: FrameSink) -> int:
        """Ask once; return how many rounds are to be left out now."""
        channel, symbol = self._stream
        if self._control is None:
            self._context = replaced(self._context, epoch=self._new_epoch())
            self._control = sink.open(self._context)
            self._control.control(EpochOpened())
        try:
            path = self._poll.request(symbol, now_ns)
            await self._ask(path, self._poll.cost, self._context, sink)
        except Permanent as error:
            left = min(1 << min(self.refused, 62), SKIPPED)
            self.refused += 1
            self._close(f"refused: {error.message}")
            self._told.refuse({self._stream: str(error)}, (left + 1) * self._poll.every_s)
            return left
        except Transient as error:
            self._observe(PollFailed(self._context.venue, channel, symbol, str(error)))
            self._close(f"a poll failed: {error.message}")
        else:
            self.refused = 0
            self._answered()
        return 0

    def _answered(self) -> None:
        if self._control is not None and not self._accepted:
            self._control.control(EpochAccepted((self._stream,)))
            self._told.acknowledge([self._stream])
            self._observe(SubscriptionAccepted(self._context.venue, self._context.epoch))
            self._accepted = True

    def _close(self, reason: str) -> None:
        control, self._control = self._control, None
        if control is not None:
            control.control(EpochClosed(reason))
            self._told.lose([self._stream])
        self._accepted = False
