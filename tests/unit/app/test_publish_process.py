"""A publish process: when an open breaker is tried again, and when it is degraded."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from forebay.app.processes.process_breakers import ProcessBreakers
from forebay.app.processes.publish_process import LOOK_S, PublisherRun
from forebay.app.processes.samples import CountingObserver
from forebay.app.processes.worker import roles
from forebay.app.wiring.config import BreakerLimits, Config, ResilienceConfig
from forebay.app.wiring.data_folder import Consumer, DataFolder
from forebay.app.wiring.transports import consumers
from forebay.clock import ManualClock
from forebay.errors import Transient
from forebay.journal import JournalWriter, StateFile
from forebay.resilience import State
from forebay.services.guarded_publishing import NEARLY_FULL, OFTENER, GuardedPublishing
from forebay.services.publisher import Publisher
from forebay.telemetry import ignore
from forebay.transports.kind import TransportConfig
from tests.support.delivery import PARSERS
from tests.support.memory_transport import Broker, MemoryTransport
from tests.support.socket_transport import PLUGIN, TRANSPORT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EVERY_S = 300
FAILURES = 5


class Asked(ManualClock):
    """Tells when somebody sleeps."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: asyncio.Queue[float] = asyncio.Queue()

    async def sleep(self, seconds: float) -> None:
        self.asked.put_nowait(seconds)
        await super().sleep(seconds)


class Rig:
    """A publisher whose breaker has opened for longer than a test lasts."""

    def __init__(self, folder: DataFolder, config: Config) -> None:
        self.clock = Asked()
        tally = CountingObserver(ignore)
        guarding = ProcessBreakers(
            "publish-kafka", config, clock=self.clock, rng=random.Random(1), observer=tally
        )
        self.breaker = guarding.breaker("memory", "transport")
        transport, state = MemoryTransport(Broker()), StateFile(folder.root / "p.state")
        publisher = Publisher(folder.journal, transport, PARSERS, state, clock=self.clock)
        publishing = GuardedPublishing(
            publisher,
            folder.journal,
            clock=self.clock,
            rng=random.Random(1),
            breaker=self.breaker,
        )
        said = TransportConfig(name="memory", plugin=PLUGIN, drain_every=f"{EVERY_S}s")
        self.running = PublisherRun(
            said, TRANSPORT, publisher, publishing, guarding, folder, self.clock, tally
        )
        for _ in range(FAILURES):
            with pytest.raises(Transient):
                self.breaker.call(self.fail)
        assert self.breaker.state is State.OPEN

    @staticmethod
    def fail() -> None:
        raise Transient("away")

    async def looks(self, count: int) -> None:
        """Let so many looks pass."""
        async with self.running.draining():
            for _ in range(count):
                await self.clock.asked.get()
                self.clock.advance(LOOK_S)
            await self.clock.asked.get()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[DataFolder]:
    made = DataFolder(tmp_path / "data").create()
    with JournalWriter.open(made.journal, clock=ManualClock(), ballast_bytes=0):
        yield made


def config(*, auto_recovery: bool = True) -> Config:
    """Return one whose breakers wait for longer than the interval."""
    limits = BreakerLimits(recovery_timeout_s=600.0, failure_threshold=FAILURES)
    return Config(resilience=ResilienceConfig(auto_recovery=auto_recovery, transport=limits))


LOOKS = int(EVERY_S / LOOK_S)


async def test_an_open_breaker_is_tried_again_on_the_interval(folder: DataFolder) -> None:
    rig = Rig(folder, config())
    await rig.looks(LOOKS - 1)
    states = [rig.breaker.state]
    await rig.looks(LOOKS)
    assert [*states, rig.breaker.state] == [State.OPEN, State.HALF_OPEN]


async def test_it_is_tried_oftener_when_the_journal_is_nearly_full(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(folder, config())
    assert rig.running.nearly_full() == ""
    monkeypatch.setattr(
        "forebay.app.processes.publish_process.waiting_share", lambda *_: NEARLY_FULL
    )
    await rig.looks(LOOKS // OFTENER)
    assert rig.breaker.state is State.HALF_OPEN
    assert rig.running.nearly_full() == "what waits for memory takes 80% of the journal's bound"


async def test_an_operator_who_is_to_decide_decides(folder: DataFolder) -> None:
    rig = Rig(folder, config(auto_recovery=False))
    await rig.looks(LOOKS)
    assert rig.breaker.state is State.OPEN


def test_each_transport_has_a_process_and_a_cursor_that_counts_if_it_is_required() -> None:
    tables = (
        TransportConfig(name="a", plugin=PLUGIN),
        TransportConfig(name="b", plugin=PLUGIN, required=False),
        TransportConfig(name="c", plugin=PLUGIN, mode="core"),
    )
    said = Config(transports=tables)
    assert roles(said) == ("capture", "deliver", "publish-a", "publish-b", "publish-c")
    assert consumers(said) == [
        Consumer("publish-a"),
        Consumer("publish-b", required=False),
        Consumer("publish-c", required=False),
    ]
