"""A journal that crosses a transport into a store, by processes that may be killed at any step."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, TypeVar

from forebay.clock import ManualClock
from forebay.domain.kinds import KINDS
from forebay.journal import CursorFile, JournalWriter, OsDisk, StateFile
from forebay.services.bridge import Bridge
from forebay.services.publisher import Publisher
from tests.support.delivery import plain_rows
from tests.support.frames import LOG
from tests.support.memory_transport import Broker, MemoryTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from forebay.journal import PendingBlock
    from forebay.ports import Commit, Committed, Parser, Store
    from forebay.telemetry import TelemetryEvent
    from tests.support.delivery import TableStore

Chunk = list["PendingBlock"]


class Killed(BaseException):
    """The process is gone; what it had in memory too."""


class Fuse:
    """Kills whoever does operation number ``at``, counted from 1 on; never, if it is 0."""

    def __init__(self, *at: int) -> None:
        self.at = set(at)
        self.count = 0

    def burn(self) -> None:
        self.count += 1
        if self.count in self.at:
            raise Killed


class FusedBroker(Broker):
    """A process may die before its call arrives, or before the answer does."""

    def __init__(self, fuse: Fuse, partitions: int = 1) -> None:
        super().__init__(partitions=partitions)
        self._fuse = fuse

    def append(self, lane: str, messages: Sequence[bytes]) -> None:
        self._fuse.burn()
        super().append(lane, messages)
        self._fuse.burn()

    def fetch(
        self, lane: str, identity: str, offset: int, max_messages: int, max_bytes: int
    ) -> tuple[int, list[bytes]]:
        first, found = super().fetch(lane, identity, offset, min(max_messages, 3), max_bytes)
        if found:
            self._fuse.burn()
        return first, found

    def commit(self, lane: str, identity: str, group: str, offset: int, claim: int = 0) -> None:
        self._fuse.burn()
        super().commit(lane, identity, group, offset, claim)
        self._fuse.burn()


class FusedDisk(OsDisk):
    """A process may die before or after whatever makes a file durable."""

    def __init__(self, fuse: Fuse) -> None:
        self._fuse = fuse

    def fdatasync(self, fd: int) -> None:  # type: ignore[override]
        self._fuse.burn()
        OsDisk.fdatasync(fd)

    def rename(self, old: Path, new: Path) -> None:  # type: ignore[override]
        self._fuse.burn()
        OsDisk.rename(old, new)
        self._fuse.burn()


AnyStore = TypeVar("AnyStore", bound="Store")


def fused(store: AnyStore, fuse: Fuse) -> AnyStore:
    """Return ``store``, whose writer may die before a commit, or before its answer."""
    plain = store.commit

    def commit(commit: Commit) -> Committed:
        fuse.burn()
        done = plain(commit)
        fuse.burn()
        return done

    store.commit = commit  # type: ignore[method-assign]
    return store


class Crossing:
    """A journal, a publisher, a broker, a bridge and a store; both pumps come back when killed."""

    def __init__(
        self,
        folder: Path,
        parsers: Mapping[str, Parser],
        store: TableStore,
        fuse: Fuse | None = None,
        *,
        partitions: int = 1,
    ) -> None:
        self.fuse = fuse or Fuse()
        self.folder = folder / "journal"
        self.parsers = parsers
        self.store = store
        self.told: list[TelemetryEvent] = []
        self.writer = JournalWriter.open(
            self.folder, clock=ManualClock(), ballast_bytes=0, random_id=lambda: LOG
        )
        self.broker = FusedBroker(self.fuse, partitions)
        self.transport = MemoryTransport(self.broker)
        self.kills = 0
        self._disk = FusedDisk(self.fuse)
        self._cursors = folder / "cursors"
        self.publisher: Publisher | None = None
        self.bridge: Bridge | None = None

    def publish(self) -> int:
        """Let the publisher make a step; again from what is durable, if it is killed."""
        return self._alive(lambda: self._publishing().step())

    def store_step(self) -> int:
        """Let the bridge make a step, likewise."""
        return self._alive(lambda: self._bridging().step())

    def drain(self) -> None:
        """Let both go on until nothing is left."""
        while self.publish() or self.store_step():
            pass
        self._alive(lambda: self._publishing().tell_ends())
        while self.store_step():
            pass

    def run(self, chunks: Sequence[Chunk]) -> None:
        """Write chunk by chunk; the publisher takes each alone, the bridge some together."""
        for chunk, turn in zip(chunks, itertools.cycle((True, False, True, True)), strict=False):
            self.writer.commit(chunk)
            self.publish()
            if turn:
                self.store_step()
        self.drain()

    def restart(self) -> None:
        """Forget what both pumps have in memory."""
        for pump in (self.publisher, self.bridge):
            if pump is not None:
                pump.close()
        self.publisher = self.bridge = None

    def close(self) -> None:
        self.restart()
        self.writer.close()

    def _alive(self, work: Callable[[], int]) -> int:
        while True:
            try:
                return work()
            except Killed:
                self.kills += 1
                self.restart()  # a process that ended has no files open

    def _publishing(self) -> Publisher:
        if self.publisher is None:
            self.publisher = Publisher(
                self.folder,
                self.transport,
                self.parsers,
                StateFile(self._cursors / "publisher.state", self._disk),
                clock=ManualClock(),
                cursor=CursorFile(self._cursors / "publisher.cursor", self._disk),
            )
        return self.publisher

    def _bridging(self) -> Bridge:
        if self.bridge is None:
            self.bridge = Bridge(self.transport, self.store, observer=self.told.append)
        return self.bridge


def content(store: TableStore) -> dict[str, list[tuple[object, ...]]]:
    """Return all that a store has but its cursors; how it spells a conflict is its own matter."""
    names = [*(kind.table for kind in KINDS.values()), "coverage", "gaps", "dead_letters"]
    found = {name: plain_rows(store.table(name)) for name in names}
    conflicts = store.table("conflicts")
    ids = [str(told) for told in conflicts["event_id"].to_pylist()] if len(conflicts) else []
    return {**found, "conflicts": [(told,) for told in sorted(ids)]}
