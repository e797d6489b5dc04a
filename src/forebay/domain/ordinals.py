"""Ordinals: which of several equal events an event of class ``content`` is.

Where a venue gives no id, the same facts told twice in one connection are two events: real pages
hold 13 identical trades in one microsecond. Each gets the number of equal ones that its stream
told before it on its connection, 0 for the first. So what two connections both saw has the same
ids, and the store keeps as many as the one that saw most: the maximum, in any order.

Counting must survive a kill, so the counts travel in the transaction of rows and cursor. They
are bounded: an event is equal to an earlier one only if fewer than :data:`REMEMBERED` events of
its stream and epoch lie between. It depends on the epoch's events and on nothing else, neither on
a clock nor on where a step ends. What comes later than that begins at 0 again, and so is taken
for the one that is stored.

An answer of a REST request is an epoch of its own, whole in one frame: nothing is remembered.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

REMEMBERED = 1024
"""Events of one stream and epoch within which equal ones are counted together."""
EPOCHS = 8
"""Connections of one stream that are remembered at once, those that spoke last."""


class EpochOrdinals(msgspec.Struct, array_like=True):
    """What one connection has told of one stream, as far as it is remembered."""

    first_ns: int
    """``event_ts`` of the first event: the connection may have begun within this instant."""
    told: int = 0
    groups: dict[bytes, tuple[int, int]] = msgspec.field(default_factory=dict)
    """By content, the place of the last equal event and how many there were; in order of place."""

    def copy(self) -> EpochOrdinals:
        return EpochOrdinals(self.first_ns, self.told, self.groups.copy())

    def count(self, contents: Sequence[bytes]) -> list[int]:
        """Return the ordinal of each event, told in this order after all before."""
        groups, distinct = self.groups, set(contents)
        if len(distinct) == len(contents) and groups.keys().isdisjoint(distinct):
            ordinals = [0] * len(contents)
            recent = contents[-REMEMBERED:]
            first = self.told + len(contents) - len(recent)
            groups.update((content, (place, 1)) for place, content in enumerate(recent, first))
        else:
            ordinals = self._count(contents)
        self.told += len(ordinals)
        for content in list(islice(groups, max(len(groups) - REMEMBERED, 0))):
            del groups[content]
        return ordinals

    def _count(self, contents: Iterable[bytes]) -> list[int]:
        """Count events of which some are equal, or were told before."""
        groups, ordinals = self.groups, []
        for place, content in enumerate(contents, self.told):
            last, count = groups.pop(content, (place, 0))
            ordinal = count if place - last <= REMEMBERED else 0
            groups[content] = (place, ordinal + 1)
            ordinals.append(ordinal)
        return ordinals


class StreamOrdinals(msgspec.Struct, array_like=True):
    """What the connections of one stream have told; :meth:`copy` shares no change."""

    epochs: dict[str, EpochOrdinals] = msgspec.field(default_factory=dict)
    """In the order in which they spoke last."""

    def copy(self) -> StreamOrdinals:
        """Return an independent copy: :meth:`count` and :meth:`close` change one alone.

        It is made when a step begins: connections are forgotten between two steps and never within
        one, where records of their ends come behind all frames.
        """
        kept = islice(self.epochs.items(), max(len(self.epochs) - EPOCHS, 0), None)
        return StreamOrdinals(dict(kept))

    def count(
        self, epoch: str, contents: Sequence[bytes], event_ns: Sequence[int]
    ) -> tuple[list[int], list[bool]]:
        """Return of each event its ordinal, and whether it is of the epoch's first instant."""
        known = self.epochs.pop(epoch, None)
        counted = known.copy() if known else EpochOrdinals(event_ns[0])
        self.epochs[epoch] = counted
        return counted.count(contents), [moment == counted.first_ns for moment in event_ns]

    def close(self, epoch: str) -> None:
        self.epochs.pop(epoch, None)

    def encode(self) -> bytes:
        """MessagePack, as a store keeps it."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def decode(cls, raw: bytes) -> StreamOrdinals:
        """Read what :meth:`encode` wrote; raises ``msgspec.DecodeError`` if it cannot be."""
        return msgspec.msgpack.decode(raw, type=cls)


def count_page(contents: Sequence[bytes], event_ns: Sequence[int]) -> tuple[list[int], list[bool]]:
    """Return of each event of one REST answer its ordinal, and whether it is at an edge."""
    seen: dict[bytes, int] = {}
    ordinals = []
    for content in contents:
        ordinals.append(seen.get(content, 0))
        seen[content] = ordinals[-1] + 1
    edges = {min(event_ns), max(event_ns)}
    return ordinals, [moment in edges for moment in event_ns]
