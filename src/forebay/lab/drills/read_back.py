"""What the topics of a transport have, read back as any reader would, and held against the store.

The store was proved by the audit; so what it has is what the topics must have.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from forebay.app.reader import Data
from forebay.app.wiring.transports import kind_of, name_of
from forebay.domain.digest import bytes_of
from forebay.domain.kinds import KINDS
from forebay.domain.messages import EventsTold
from forebay.errors import Transient
from forebay.lab.commands import POLL_S
from forebay.lab.drills.plan import TransportHeld
from forebay.services.lanes import DEAD, all_topics
from forebay.telemetry import ignore
from forebay.transports.kind import TransportConfig

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pyarrow as pa

    from forebay.app.wiring.data_folder import DataFolder
    from forebay.lab.drills.plan import Value
    from forebay.ports import Received, Subscription, Transport

GROUP = "forebay-drill"
TRIES = 10
_ID_BYTES = 16
QUIET_S, PATIENCE_S = 0.5, 10.0
"""Lanes from which nothing came for so long are read to their ends: the latter, while some event
was not found yet."""


@dataclass(slots=True)
class TopicTally:
    """Counts the events of lanes, each by its id."""

    ids: set[bytes] = field(default_factory=set)
    again: int = 0
    displaced: int = 0
    unread: int = 0
    _last: dict[tuple[str, ...], int] = field(default_factory=dict)
    """Of each symbol in each epoch, the frame of the last event that came first."""

    def take(self, received: Received) -> int:
        """Count a message; return of how many records it was."""
        message = received.message
        if message is None:
            self.unread += 1
            return 0
        rows = message.rows
        if isinstance(message.head.told, EventsTold) and rows is not None:
            self._count(rows)
        return 1 + (0 if rows is None else len(rows))

    def _count(self, rows: pa.Table) -> None:
        ids = bytes_of(rows["event_id"].combine_chunks())
        # What is filled from history has an epoch of its own, and comes beside what is live.
        names = ("log_id", "epoch", "venue", "market", "symbol")
        keys = zip(*(rows[name].to_pylist() for name in names), strict=True)
        for place, (key, seq) in enumerate(zip(keys, rows["seq"].to_pylist(), strict=True)):
            event_id = ids[place * _ID_BYTES : (place + 1) * _ID_BYTES]
            if event_id in self.ids:
                self.again += 1
                continue
            self.ids.add(event_id)
            self.displaced += seq < self._last.get(key, 0)
            self._last[key] = seq

    def held(self, transport: str, stored: set[bytes]) -> TransportHeld:
        """Return what was counted beside the ids that are stored."""
        return TransportHeld(
            transport=transport,
            events=len(self.ids),
            lost=len(stored - self.ids),
            doubled=len(self.ids - stored),
            again=self.again,
            displaced=self.displaced,
            unread=self.unread,
        )


def read_back(table: Mapping[str, Value], stored: set[bytes]) -> TransportHeld:
    """Read every topic of events of the transport that a ``[[transports]]`` table describes.

    A broker that was started again says for a while that it knows no groups yet, so it is tried
    some times. Raises as :meth:`forebay.ports.Transport.subscribe`.
    """
    config = msgspec.convert(dict(table), TransportConfig)
    for again in range(TRIES - 1, -1, -1):
        transport = kind_of(config).open(config, ignore)
        try:
            return _read(transport, stored).held(name_of(config), stored)
        except Transient:
            if not again:
                raise
        finally:
            transport.close()
        threading.Event().wait(QUIET_S)
    raise AssertionError


def _read(transport: Transport, stored: set[bytes]) -> TopicTally:
    tally = TopicTally()
    lanes = [_Lane(transport.subscribe(lane, GROUP), tally) for lane in _lanes(transport)]
    for lane in lanes:
        lane.subscription.seek(None)
    quiet_s = 0.0
    while quiet_s < (QUIET_S if tally.ids >= stored else PATIENCE_S):
        if any([lane.read() for lane in lanes]):  # noqa: C419 - all of them
            quiet_s = 0.0
            continue
        threading.Event().wait(POLL_S)
        quiet_s += POLL_S
    for lane in lanes:
        tally.again += lane.left_over
        lane.subscription.close()
    return tally


@dataclass(slots=True)
class _Lane:
    """One that is read."""

    subscription: Subscription
    tally: TopicTally
    first: int = -1
    end: int = 0
    records: int = 0

    def read(self) -> bool:
        """Count what comes; return whether anything did."""
        came = self.subscription.read()
        for received in came:
            self.first = received.offset if self.first < 0 else self.first
            self.end = max(self.end, received.resume)
            self.records += self.tally.take(received)
        return bool(came)

    @property
    def left_over(self) -> int:
        """Records of messages that were left unfinished, and sent again as a whole."""
        return max(0, self.end - self.first - self.records) if self.first >= 0 else 0


def _lanes(transport: Transport) -> Iterator[str]:
    for topic in all_topics():
        if not topic.endswith(DEAD):
            yield from transport.lanes(topic)


def stored_ids(folder: DataFolder) -> set[bytes]:
    """Return the ids of all events that are stored."""
    tables = sorted({kind.table for kind in KINDS.values()})
    query = " UNION ALL ".join(f"SELECT event_id::VARCHAR AS id FROM {name}" for name in tables)  # noqa: S608
    with Data(folder.root) as data:
        found: list[Any] = data.sql(query)["id"].to_pylist()
    return {bytes.fromhex(text.replace("-", "")) for text in found}
