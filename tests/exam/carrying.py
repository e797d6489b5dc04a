"""Real processes on both sides of a transport: a journal's publisher, and a second store's bridge.

``python -m tests.exam.carrying publish DATA`` serves a broker in memory and publishes the journal
of a data folder to it; ``… bridge DATA`` stores what that broker has. Both end on SIGTERM.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from forebay.app.wiring.data_folder import DataFolder
from forebay.clock import SystemClock
from forebay.domain.kinds import KINDS
from forebay.errors import ForebayError, Transient
from forebay.journal import OS_DISK, CursorFile, StateFile
from forebay.journal.watermark import WatermarkReader
from forebay.services.bridge import CONSUMER, Bridge
from forebay.services.guarded_delivery import GuardedDelivery
from forebay.services.lanes import all_topics
from forebay.services.publisher import Publisher
from forebay.stores.duckdb import DuckDBStore
from tests.benchmarks.harness import ROOT, environment
from tests.exam.made.protocol import EDITIONS
from tests.exam.offline import parsers
from tests.exam.ping import PING
from tests.support.commands import wait_for
from tests.support.memory_socket import RemoteBroker, serving
from tests.support.memory_transport import Broker, MemoryTransport

if TYPE_CHECKING:
    from collections.abc import Iterator

POLL_S = 0.05
STOP_S = 30


def socket_of(folder: DataFolder) -> Path:
    """Return where the broker is."""
    return folder.root / "broker.sock"


def second_of(folder: DataFolder) -> Path:
    """Return the store behind the transport."""
    return folder.root / "second.duckdb"


def _cursor(folder: DataFolder) -> CursorFile:
    return CursorFile(folder.root / "cursors" / "publisher.cursor")


# ------------------------------------------------------------------------ the processes


class _Life:
    """Ends on SIGTERM, with all that there is published."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.orphaned = False
        self.frames = 0
        self.stopping = False
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.stop.set)


async def publish(folder: DataFolder) -> None:
    """Publish what is captured, behind a breaker as delivery is."""
    broker = Broker()
    publisher = Publisher(
        folder.journal,
        MemoryTransport(broker),
        parsers(EDITIONS),
        StateFile(folder.root / "cursors" / "publisher.state"),
        clock=SystemClock(),
        cursor=_cursor(folder),
    )
    guarded = GuardedDelivery(publisher, folder.journal, clock=SystemClock(), rng=random.Random(1))
    life = _Life()
    with serving(broker, socket_of(folder)):
        await guarded.run(life, life)


def bridge(folder: DataFolder) -> None:
    """Store what is published until told to stop."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    store = DuckDBStore(second_of(folder))
    pump: Bridge | None = None
    while not stop.is_set():
        try:
            pump = pump or Bridge(MemoryTransport(RemoteBroker(socket_of(folder))), store)
            if not pump.step():
                stop.wait(POLL_S)
        except Transient:
            stop.wait(POLL_S)
    store.close()


# ----------------------------------------------------------------------------- the test


@contextlib.contextmanager
def carried(folder: DataFolder) -> Iterator[None]:
    """Carry the journal of ``folder`` to a second store while the block runs, and to its end.

    The bridge is killed once it has stored something, and another one goes on.
    """
    with _running("publish", folder), contextlib.ExitStack() as bridges:
        first = bridges.enter_context(_running("bridge", folder))

        def replace() -> None:
            wait_for(lambda: _stored(folder) > 0 or None, "something stored", 60.0)
            first.kill()
            first.wait()
            bridges.enter_context(_running("bridge", folder))

        replacing = threading.Thread(target=replace)
        replacing.start()
        yield
        replacing.join()
        assert first.returncode == -signal.SIGKILL
        wait_for(lambda: _carried(folder), "all that is captured stored", 60.0)


@contextlib.contextmanager
def _running(role: str, folder: DataFolder) -> Iterator[subprocess.Popen[bytes]]:
    """Run one process until the block ends; then it finishes its work, unless it was killed."""
    command = [sys.executable, "-m", "tests.exam.carrying", role, str(folder.root)]
    process = subprocess.Popen(command, cwd=ROOT, env=environment())
    try:
        yield process
        if process.poll() is None:
            process.terminate()
            assert process.wait(STOP_S) in (0, -signal.SIGTERM)  # it may have begun just now
        assert process.returncode in (0, -signal.SIGTERM, -signal.SIGKILL)
    finally:
        process.kill()
        process.wait()


def _stored(folder: DataFolder) -> int:
    """Return how many messages the broker was told to be stored."""
    broker = _broker(folder)
    with contextlib.suppress(ForebayError):
        return sum(broker.join(lane, CONSUMER)[1] for lane in _lanes(broker))
    return 0


def _lanes(broker: RemoteBroker) -> list[str]:
    return [lane for topic in all_topics() for lane in broker.lanes(topic)]


def _carried(folder: DataFolder) -> bool | None:
    """Whether the publisher is at the journal's end, and the bridge at that of every lane."""
    reader = WatermarkReader(OS_DISK, folder.journal)
    try:
        mark = reader.read()
    finally:
        reader.close()
    reached = _cursor(folder).load()
    if mark is None or reached is None or reached.seq < mark.next_seq:
        return None
    broker = _broker(folder)
    for lane in _lanes(broker):
        identity, offset = broker.join(lane, CONSUMER)
        if broker.fetch(lane, identity, offset, 1, 1)[1]:
            return None
    return True


def _broker(folder: DataFolder) -> RemoteBroker:
    return RemoteBroker(socket_of(folder))


if __name__ == "__main__":
    KINDS[PING.channel] = PING
    place = DataFolder(Path(sys.argv[2]))
    if sys.argv[1] == "publish":
        asyncio.run(publish(place))
    else:
        bridge(place)
