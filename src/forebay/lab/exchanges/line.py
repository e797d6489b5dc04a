"""One connection of the simulated exchange: what it is subscribed to and what it is sent."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from forebay.lab.faults import Ending

if TYPE_CHECKING:
    from forebay.lab.exchanges.model import Topic
    from forebay.lab.exchanges.socket import Wire
    from forebay.lab.faults import Emission
    from forebay.lab.ledger import DeliveryLedger


class Line:
    """One connection."""

    def __init__(self, wire: Wire, ledger: DeliveryLedger, now_ns: int) -> None:
        self.wire = wire
        self.opened_ns = now_ns
        self.topics: dict[Topic, None] = {}
        self.subscribed_once = False
        self.ended = False
        self.muted_ns: int | None = None
        self._ledger = ledger
        self._account = ledger.open_account()
        self._swapped: dict[str, Emission] = {}  # by feed: trades change places with trades
        self._held: list[tuple[int, int, Emission]] = []
        self._holds = 0

    @property
    def muted(self) -> bool:
        """Whether the line is half-open: silent for good, and not closed."""
        return self.muted_ns is not None

    def say(self, payload: bytes) -> None:
        """Send a message that is no event."""
        self.wire.text(payload)

    def send(self, emission: Emission) -> None:
        """Send the whole frame now, and what waited for it."""
        self._put(emission)
        if waiting := self._swapped.pop(emission.feed, None):
            self._put(waiting)

    def send_torn(self, emission: Emission, length: int) -> None:
        """Send only the first ``length`` bytes, as a complete websocket message."""
        self.wire.text(emission.frame[:length])
        self._account.wrote(emission.stream, emission.index, torn=True)

    def swap(self, emission: Emission) -> None:
        """Send the frame after the next one."""
        if emission.feed not in self._swapped:
            self._swapped[emission.feed] = emission
        else:
            self.send(emission)

    def hold(self, emission: Emission, until_ns: int) -> None:
        """Send the frame when the monotonic clock has reached ``until_ns``."""
        self._holds += 1
        heapq.heappush(self._held, (until_ns, self._holds, emission))

    def mute(self, now_ns: int) -> None:
        """Never send anything again, and stay open."""
        self.muted_ns = now_ns
        self._forget()

    def end(self, ending: Ending, emission: Emission) -> None:
        """Close; :attr:`Ending.CUT` leaves part of the frame on the wire."""
        if ending is Ending.CUT:
            self.over("disconnect")
            self.wire.cut(emission.frame)
        else:
            self.close(ending.value, "disconnect")

    def close(self, code: int, reason: str) -> None:
        """Close in an orderly way; ``reason`` is for the ledger."""
        self.over(reason)
        self.wire.close(code)

    def over(self, reason: str) -> None:
        """The connection is over; what it did not confirm is in doubt. Idempotent."""
        self.ended = True
        self._forget()
        self._ledger.close_account(self._account, reason)

    def tick(self, now_ns: int) -> None:
        """Send what was held back long enough."""
        while self._held and self._held[0][0] <= now_ns:
            self._put(heapq.heappop(self._held)[2])

    def ping(self, now_ns: int) -> None:
        """Ask the peer to prove what it has read."""
        self.wire.ping(b"%d" % self._account.ping(now_ns))

    def ponged(self, payload: bytes, now_ns: int) -> None:
        """The peer answered a ping, or sent a pong of its own, which means nothing."""
        if payload.isdigit():
            self._account.pong(int(payload), now_ns)

    def release(self) -> None:
        """Send events that wait for their successors."""
        for emission in self._swapped.values():
            self._put(emission)
        self._swapped.clear()

    def holding(self) -> list[Emission]:
        """What is kept back and will be sent if the connection lives."""
        return [*(emission for _, _, emission in self._held), *self._swapped.values()]

    def _put(self, emission: Emission) -> None:
        self.wire.text(emission.frame)
        self._account.wrote(emission.stream, emission.index)

    def _forget(self) -> None:
        self._swapped.clear()
        self._held.clear()
