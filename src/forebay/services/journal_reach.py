"""Up to where a journal is stored from all lanes of a transport, whoever reads them.

It follows from the cursors of the lanes, and is a cursor of its own, so that a store can be audited
by it. Any bridge of a group may say it, none need to: it only ever moves on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.errors import Transient
from forebay.journal import Position
from forebay.ports import Commit
from forebay.services.lane_bridge import journal_cursor

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from forebay.ports import Store
    from forebay.services.bridge import Bridge

LOOK_S = 30.0
"""How often it is looked how far the lanes of others are stored, and which lanes there are."""
BUSY_S = 5.0
"""How often it is said at most while lanes have much to store, or others have some of them."""


class JournalReach:
    """Says how far the lanes of one bridge and those of others are together."""

    def __init__(self, bridge: Bridge, store: Store, every_s: float) -> None:
        """It is said as often as ``every_s`` while something is stored."""
        self._bridge = bridge
        self._store = store
        self._every_s = every_s
        self.moved: set[str] = set()
        """Logs of which a lane has moved on since it was said."""
        self._said_ns = self._looked_ns = bridge.clock.monotonic_ns()

    def tell(self, *, now: bool, idle: bool) -> None:
        """Store it, if it moves on and it is time; no failure of that is one of the lanes.

        It is time sooner if there is nothing else to store, and nobody to be asked for.
        """
        bridge, now_ns = self._bridge, self._bridge.clock.monotonic_ns()
        alone = bridge.all_lanes() <= bridge.lanes.keys()
        every_s = self._every_s if idle and alone else max(self._every_s, BUSY_S)
        look = not alone and now_ns - self._looked_ns >= LOOK_S * 1e9
        waits = now_ns - self._said_ns < every_s * 1e9 and not now
        if not look and (waits or not self.moved):
            return
        self._said_ns = now_ns
        try:
            if look:
                self._looked_ns = now_ns
                bridge.learn_lanes()
            bridge.guard(lambda: self._say(alone=alone))
        except Transient:
            return  # it is said the next time

    def _say(self, *, alone: bool) -> None:
        positions = {**(self._bridge.positions if alone else self._store.load().positions)}
        logs = set(self.moved) if alone else self.moved | logs_in(positions)
        if not alone:
            self._say_without(positions, logs)
        for log_id in sorted(logs):
            end = self._least(log_id, positions, alone=alone)
            if end is None:
                continue
            cursor = journal_cursor(log_id)
            known = positions.get(cursor)
            if known is None or known.seq < end.seq:
                self._store.commit(Commit({cursor: end}, expected={cursor: known}))
                self._bridge.positions[cursor] = end
            self.moved.discard(log_id)

    def _least(
        self, log_id: str, positions: Mapping[str, Position], *, alone: bool
    ) -> Position | None:
        """Return up to where a journal is stored from all lanes; None if nobody knows.

        A lane that was read to its end and has nothing of the journal is taken to be without it,
        until its first step comes.
        """
        ends = []
        for name in self._bridge.all_lanes():
            known = positions.get(journal_cursor(log_id, name))
            if known is not None:
                ends.append(known.seq)
            elif not alone or not self._bridge.lanes[name].without(log_id):
                return None
        told = [end for end in ends if end]
        return Position(log_id, min(told)) if told else None

    def _say_without(self, positions: dict[str, Position], logs: Iterable[str]) -> None:
        """Say to other bridges which lanes of this one have nothing of some journals."""
        for name, lane in self._bridge.lanes.items():
            cursors = {log_id: journal_cursor(log_id, name) for log_id in sorted(logs)}
            lacking = [
                log_id
                for log_id, cursor in cursors.items()
                if cursor not in positions and lane.without(log_id)
            ]
            if lane.begun and lacking:
                lane.say_without(lacking)
                positions |= {cursors[log_id]: Position(log_id, 0) for log_id in lacking}


def logs_in(cursors: Iterable[str]) -> set[str]:
    """Return the journals that some cursors of lanes are of."""
    parts = (cursor.split("/", 2) for cursor in cursors)
    return {each[1] for each in parts if each[0] == "journal" and len(each) > 2}  # noqa: PLR2004
