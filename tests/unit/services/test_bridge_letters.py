"""A bridge meets poison: counted over restarts, told as letters, and the rest is stored."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from forebay.clock import ManualClock
from forebay.domain.letters import refused_letters
from forebay.errors import RowsRefused, Transient, Unreachable
from forebay.journal import StateFile
from forebay.ports import Events, Refused
from forebay.services.bridge import Bridge
from forebay.services.bridge_letters import BridgeLetters
from forebay.services.letters import RETRY_S, Attempts, LetterBox, LetterSpool
from tests.support.memory_store import MemoryStore
from tests.support.memory_transport import Broker, MemoryTransport
from tests.unit.services.test_bridge import step, stored_ids

if TYPE_CHECKING:
    from pathlib import Path

    from forebay.ports import Commit, Committed

TOPIC, DLQ = "trade_archive", "trade_archive_dlq"
READER = "of a test"
CONSTRAINT = "Constraint `positive` is violated"


class Choosy(MemoryStore):
    """Refuses some trades, and is away at times."""

    def __init__(self, *poison: int) -> None:
        super().__init__()
        self.poison = [str(number) for number in poison]
        self.away = False
        self.refusals = 0
        self.calls = 0

    def commit(self, commit: Commit) -> Committed:
        self.calls += 1
        if self.away:
            raise Unreachable("ClickHouse does not answer.")
        trades = commit.events.get("trades")
        if trades is None:
            return super().commit(commit)
        bad = pc.is_in(trades.rows["trade_id"], pa.array(self.poison, pa.string())).to_numpy()
        if bad.any() and not commit.without_refused:
            self.refusals += 1
            raise RowsRefused(CONSTRAINT)
        refused = [Refused(int(row), CONSTRAINT) for row in np.flatnonzero(bad)]
        kept = Events(
            trades.rows.filter(pa.array(~bad)), trades.seen_before[~bad], trades.vouched_new[~bad]
        )
        letters = refused_letters("trades", trades.rows, refused, place="", attempts=3)
        told = replace(commit, events={"trades": kept}, dead_letters=letters if refused else None)
        done = super().commit(told)
        first = np.zeros(len(bad), dtype=np.bool_)
        first[~bad] = done.first["trades"]
        return replace(
            done, first={"trades": first}, refused={"trades": refused} if refused else {}
        )


@dataclass
class Scene:
    """A topic, a store, and the folder and clock of a bridge that may be begun again."""

    folder: Path
    store: Choosy
    broker: Broker = field(default_factory=Broker)
    clock: ManualClock = field(default_factory=ManualClock)

    def __post_init__(self) -> None:
        for lane in self.broker.lanes(DLQ):
            self.broker.join(lane, READER)  # so it keeps what the bridge has read

    def tell(self, begin: int, *ids: int) -> None:
        transport = MemoryTransport(self.broker)
        transport.publish(transport.lanes(TOPIC)[0], step(begin, *ids))

    def bridge(self) -> Bridge:
        transport = MemoryTransport(self.broker)
        box = LetterBox(transport, LetterSpool(self.folder), clock=self.clock)
        attempts = Attempts(StateFile(self.folder / "attempts"))
        letters = BridgeLetters(attempts, box, self.clock, 3)
        topics = [TOPIC, DLQ]
        return Bridge(transport, self.store, topics=topics, clock=self.clock, letters=letters)

    def go_on(self, steps: int = 1) -> None:
        """Run a bridge for some steps, a minute each, and end it."""
        with contextlib.closing(self.bridge()) as bridge:
            for _ in range(steps):
                with contextlib.suppress(Transient):
                    bridge.step(hurry=True)
                self.clock.advance(RETRY_S)

    def letters(self) -> list[tuple[str, str]]:
        """Return what the topic of dead letters has: id and reason of each record."""
        found: list[tuple[str, str]] = []
        transport = MemoryTransport(self.broker)
        for received in transport.subscribe(transport.lanes(DLQ)[0], READER).read():
            if received.message is not None and (rows := received.message.rows) is not None:
                ids, reasons = (rows[name].to_pylist() for name in ("letter_id", "reason"))
                found += [(str(each), reason) for each, reason in zip(ids, reasons, strict=True)]
        return found


def test_poison_is_tried_three_times_over_restarts_and_costs_its_row_alone(tmp_path: Path) -> None:
    scene = Scene(tmp_path, Choosy(517))
    scene.tell(1, *range(1, 1001))
    for restarts in range(1, 3):
        scene.go_on()
        assert scene.store.refusals == restarts
        assert stored_ids(scene.store) == []
    scene.go_on(3)
    assert scene.store.refusals == 3
    assert stored_ids(scene.store) == [each for each in range(1, 1001) if each != 517]
    ((letter, reason),) = scene.letters()
    assert reason == "refused_by_store"
    (stored,) = scene.store.table("dead_letters").to_pylist()
    assert str(stored["letter_id"]) == letter
    assert CONSTRAINT in stored["error"]
    assert b'"trade_id":"517"' in stored["payload"]
    scene.tell(1001, 1001, 1002)
    scene.go_on(3)
    assert scene.store.refusals == 3
    assert stored_ids(scene.store)[-2:] == [1001, 1002]
    assert len(scene.letters()) == len(scene.store.table("dead_letters")) == 1


def test_an_outage_of_ten_minutes_makes_no_letter(tmp_path: Path) -> None:
    scene = Scene(tmp_path, Choosy())
    scene.tell(1, *range(1, 101))
    scene.store.away = True
    begun = scene.clock.monotonic_ns()
    with contextlib.closing(scene.bridge()) as bridge:
        while scene.clock.monotonic_ns() - begun < 600 * 10**9:
            with contextlib.suppress(Transient):
                bridge.step(hurry=True)
            scene.clock.advance(1.0)
    assert scene.store.calls > 10
    scene.store.away = False
    scene.go_on(2)
    assert stored_ids(scene.store) == list(range(1, 101))
    assert scene.letters() == []
    assert not (tmp_path / "attempts").exists()


def test_a_record_that_cannot_be_read_is_a_letter_and_the_lane_goes_on(tmp_path: Path) -> None:
    scene = Scene(tmp_path, Choosy())
    scene.tell(1, 1, 2)
    (lane,) = scene.broker.lanes(TOPIC)
    scene.broker.append(lane, [b"\xff garbage"])
    scene.tell(3, 3, 4)
    scene.go_on(3)
    scene.go_on(3)
    assert stored_ids(scene.store) == [1, 2, 3, 4]
    ((letter, reason),) = scene.letters()
    assert reason == "unreadable_record"
    (stored,) = scene.store.table("dead_letters").to_pylist()
    assert (str(stored["letter_id"]), stored["payload"]) == (letter, b"\xff garbage")
    assert stored["epoch"] == f"{lane}@2"
