"""Channels that are asked for by REST, again and again: live, though nothing is connected."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.domain.frames import EpochAccepted, EpochClosed, EpochOpened
from forebay.errors import Permanent, Transient
from forebay.telemetry import PollFailed, StreamRefused, SubscriptionAccepted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from forebay.clock import Clock
    from forebay.ports import EpochSink, FrameSink
    from forebay.sources.venue import Poll
    from forebay.telemetry import Observer

_NS = 1_000_000_000
SKIPPED = 60
"""A symbol that is refused again and again is asked for after so many rounds at the latest."""


def next_round(poll: Poll, now_ns: int) -> int:
    """Return when the first round after ``now_ns`` begins, UTC nanoseconds."""
    every_ns, after_ns = round(poll.every_s * _NS), round(poll.after_s * _NS)
    return ((now_ns - after_ns) // every_ns + 1) * every_ns + after_ns


class Poller:
    """Asks for one channel of all symbols, one after the other, a round at once and then on time.

    Its epoch is the time in which every answer came: one that failed ends it, and with the next
    answer another begins. A symbol that the venue refuses is asked for ever more seldom.
    """

    def __init__(
        self,
        venue: str,
        channel: str,
        poll: Poll,
        symbols: Sequence[str],
        *,
        ask: Callable[[str, str, str, FrameSink], Awaitable[None]],
        begin: Callable[[str, FrameSink], EpochSink],
        epoch: Callable[[], str],
        clock: Clock,
        observer: Observer,
    ) -> None:
        """Poll ``symbols``.

        ``ask`` has the answer to a path captured for an epoch and a symbol; ``begin`` opens an
        epoch, for its control records; ``epoch`` makes up its name.
        """
        self._venue = venue
        self._channel = channel
        self._poll = poll
        self._symbols = tuple(symbols)
        self._rest: dict[str, tuple[int, int]] = {}
        """By symbol that was refused: rounds to leave out still, and how many there were."""
        self._ask = ask
        self._open = begin
        self._new_epoch = epoch
        self._clock = clock
        self._observe = observer
        self._epoch = ""
        self._control: EpochSink | None = None
        self._accepted: set[str] = set()

    async def run(self, sink: FrameSink) -> None:
        """Poll until cancelled."""
        now_ns = self._clock.wall_ns()
        try:
            while True:
                for symbol in self._symbols:
                    if self._is_due(symbol):
                        await self._one(symbol, now_ns, sink)
                await sink.flushed()  # a journal that takes nothing must not fill the memory
                due_ns = next_round(self._poll, max(now_ns, self._clock.wall_ns()))
                await self._clock.sleep(max(0, due_ns - self._clock.wall_ns()) / _NS)
                now_ns = max(due_ns, self._clock.wall_ns())
        finally:
            self._close("stopped")

    def _is_due(self, symbol: str) -> bool:
        left, rounds = self._rest.get(symbol, (0, 0))
        if left:
            self._rest[symbol] = left - 1, rounds
        return not left

    async def _one(self, symbol: str, now_ns: int, sink: FrameSink) -> None:
        target = self._poll.request(symbol, now_ns)
        if self._control is None:
            self._begin(sink)
        try:
            await self._ask(self._epoch, symbol, target, sink)
        except Permanent as error:
            _, rounds = self._rest.get(symbol, (0, 0))
            rounds = min(2 * rounds or 1, SKIPPED)
            self._rest[symbol] = rounds, rounds
            told = self._venue, self._epoch, self._channel, symbol, str(error)
            self._observe(StreamRefused(*told))
        except Transient as error:
            self._observe(PollFailed(self._venue, self._channel, symbol, str(error)))
            self._close(f"a poll failed: {error.message}")
        else:
            self._answered(symbol)

    def _begin(self, sink: FrameSink) -> None:
        self._epoch = self._new_epoch()
        self._control = self._open(self._epoch, sink)
        self._control.control(EpochOpened())

    def _answered(self, symbol: str) -> None:
        self._rest.pop(symbol, None)
        if self._control is not None and symbol not in self._accepted:
            self._control.control(EpochAccepted(((self._channel, symbol),)))
            if not self._accepted:
                self._observe(SubscriptionAccepted(self._venue, self._epoch))
            self._accepted.add(symbol)

    def _close(self, reason: str) -> None:
        control, self._control = self._control, None
        if control is not None:
            control.control(EpochClosed(reason))
        self._accepted.clear()
