"""Publishing behind a breaker: who is idle notices too, and the journal says how full it is."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from forebay.clock import ManualClock
from forebay.domain.frames import FrameKind
from forebay.errors import Transient
from forebay.journal import JournalWriter, PendingBlock, Position, StateFile
from forebay.resilience import BreakerConfig, CircuitBreaker, State
from forebay.services.guarded_publishing import GuardedPublishing, waiting_share
from forebay.services.publisher import LOOK_S, Publisher
from forebay.telemetry import TelemetryEvent, TopicMadeAnew, TransportUnavailable
from tests.support.delivery import PARSERS
from tests.support.frames import LOG, T0, context, match
from tests.support.memory_transport import Broker, MemoryTransport

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from forebay.domain.messages import Message


class Fickle(MemoryTransport):
    """A broker that is away as long as it is told to be."""

    away = False

    def lanes(self, topic: str) -> list[str]:
        self._be_there()
        return super().lanes(topic)

    def publish(self, lane: str, messages: Sequence[Message]) -> None:
        self._be_there()
        super().publish(lane, messages)

    def _be_there(self) -> None:
        if self.away:
            raise Transient("away")


class Rig:
    """A journal, a publisher behind a breaker, and a broker."""

    def __init__(self, folder: Path, writer: JournalWriter) -> None:
        self.writer = writer
        self.clock = ManualClock()
        self.broker = Broker()
        self.transport = Fickle(self.broker)
        self.told: list[TelemetryEvent] = []
        self.breaker = CircuitBreaker(
            "kafka", BreakerConfig(failure_threshold=2, recovery_timeout=30.0), clock=self.clock
        )
        publisher = Publisher(
            folder,
            self.transport,
            PARSERS,
            StateFile(folder.with_name("p.state")),
            clock=self.clock,
            observer=self.told.append,
        )
        self.guarded = GuardedPublishing(
            publisher,
            folder,
            clock=self.clock,
            rng=random.Random(1),
            breaker=self.breaker,
            observer=self.told.append,
        )

    def put(self, number: int) -> None:
        block = PendingBlock(
            FrameKind.TEXT, context().encode(), [match(number)], [T0 + number], (0, 0)
        )
        self.writer.commit([block])


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    folder = tmp_path / "journal"
    with JournalWriter.open(
        folder, clock=ManualClock(), ballast_bytes=0, random_id=lambda: LOG
    ) as writer:
        yield Rig(folder, writer)


async def test_a_publisher_that_has_nothing_to_tell_notices_that_its_broker_is_away(
    rig: Rig,
) -> None:
    rig.put(1)
    assert (await rig.guarded.step()).frames == 1
    rig.transport.away = True
    assert (await rig.guarded.step()).taken, "it is not looked at all the time"
    rig.clock.advance(LOOK_S)
    for _ in range(2):
        assert not (await rig.guarded.step()).taken
    assert rig.breaker.state is State.OPEN
    unavailable = [each for each in rig.told if isinstance(each, TransportUnavailable)]
    assert {(each.transport, each.reason) for each in unavailable} == {("kafka", "away")}
    assert (await rig.guarded.step()).taken, "nothing waits, so nothing is asked"


async def test_nothing_is_asked_before_there_is_something_to_tell(rig: Rig) -> None:
    rig.transport.away = True
    rig.clock.advance(LOOK_S)
    assert (await rig.guarded.step()).taken
    rig.put(1)
    assert not (await rig.guarded.step()).taken
    seen = await rig.guarded.measure()
    assert (seen.backlog, seen.waited, seen.flushed, seen.database_errors) == (1, 1, 0, 1)
    rig.transport.away = False
    assert (await rig.guarded.step()).frames == 1
    assert (await rig.guarded.measure()).flushed == 1


async def test_an_idle_publisher_tells_a_topic_again_that_was_made_anew(rig: Rig) -> None:
    rig.put(1)
    await rig.guarded.step()
    rig.broker.delete("trade_archive")
    rig.clock.advance(LOOK_S)
    assert not (await rig.guarded.step()).taken
    assert (await rig.guarded.step()).frames == 1
    assert TopicMadeAnew("trade_archive") in rig.told


def test_what_waits_is_compared_with_the_bound_of_the_journal(tmp_path: Path, rig: Rig) -> None:
    rig.put(1)
    folder = tmp_path / "journal"
    size = sum(path.stat().st_size for path in folder.glob("*.fbj"))
    everything = waiting_share(folder, None, 10 * size)
    assert everything == pytest.approx(0.1)
    assert waiting_share(folder, Position(LOG, 2), 10 * size) == everything, "a segment is whole"
    assert waiting_share(folder, None, size) == pytest.approx(1.0)
    assert waiting_share(folder, None, None) < everything, "the disk has more than ten times that"


def test_segments_that_the_transport_has_do_not_wait(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    with JournalWriter.open(
        folder, clock=ManualClock(), ballast_bytes=0, segment_bytes=4096, random_id=lambda: LOG
    ) as writer:
        for number in range(1, 101):
            block = PendingBlock(
                FrameKind.TEXT, context().encode(), [match(number)], [T0 + number], (0, 0)
            )
            writer.commit([block])
        shares = [waiting_share(folder, Position(LOG, seq), 1 << 20) for seq in (1, 40, 70, 101)]
    assert shares == sorted(shares, reverse=True)
    assert len(set(shares)) == len(shares)
