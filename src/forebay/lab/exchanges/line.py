"""One connection of the simulated exchange: what it is subscribed to and what it is sent."""

from __future__ import annotations

import heapq
from collections import deque
from typing import TYPE_CHECKING

from forebay.lab.faults import Ending

if TYPE_CHECKING:
    from forebay.lab.exchanges.model import Dialogue, Topic
    from forebay.lab.exchanges.socket import Wire
    from forebay.lab.faults import Emission
    from forebay.lab.ledger import DeliveryLedger


class Line:
    """One connection."""

    def __init__(self, wire: Wire, ledger: DeliveryLedger, now_ns: int, dialogue: Dialogue) -> None:
        self.wire = wire
        self.opened_ns = now_ns
        self.dialogue = dialogue
        self.topics: tuple[Topic, ...] = ()
        """What it is sent, each once."""
        self.pinged_ns = now_ns
        """When it last got a heartbeat of the venue's."""
        self.subscribed_once = False
        self.ended = False
        self.muted_ns: int | None = None
        self._ledger = ledger
        self._account = ledger.open_account()
        self._swapped: dict[str, Emission] = {}  # by feed: trades change places with trades
        self._held: list[tuple[int, int, Emission]] = []
        self._holds = 0
        self._slow_until_ns: int | None = None
        self._slow: deque[tuple[int, Emission | bytes]] = deque()

    @property
    def muted(self) -> bool:
        """Whether the line is half-open: silent for good, and not closed."""
        return self.muted_ns is not None

    def say(self, payload: bytes) -> None:
        """Send a message that is no event."""
        if self._slow_until_ns is None and not self._slow:
            self.wire.text(payload)
        else:
            self._slow.append((self._slow_until_ns or 0, payload))

    def slow(self, until_ns: int | None) -> None:
        """Send what comes from now on when the monotonic clock is there, in order; None: at once.

        It never gets earlier from one call to the next, but for None.
        """
        self._slow_until_ns = until_ns

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
        until_ns = self._slow_until_ns
        while self._slow and (until_ns is None or self._slow[0][0] <= now_ns):
            _, waiting = self._slow.popleft()
            if isinstance(waiting, bytes):
                self.wire.text(waiting)
            else:
                self._write(waiting)
        while self._held and self._held[0][0] <= now_ns:
            self._put(heapq.heappop(self._held)[2])

    @property
    def confirmed(self) -> bool:
        """Whether the peer has proved that it read all it was sent."""
        return self._account.confirmed

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
        slow = [each for _, each in self._slow if not isinstance(each, bytes)]
        return [*slow, *(emission for _, _, emission in self._held), *self._swapped.values()]

    def _put(self, emission: Emission) -> None:
        if self._slow_until_ns is None and not self._slow:
            self._write(emission)
        else:
            self._slow.append((self._slow_until_ns or 0, emission))

    def _write(self, emission: Emission) -> None:
        self.wire.text(emission.frame)
        self._account.wrote(emission.stream, emission.index)

    def _forget(self) -> None:
        self._swapped.clear()
        self._held.clear()
        self._slow.clear()
