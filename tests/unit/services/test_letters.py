"""Letters of a bridge: told, or kept until they can be, and attempts that outlive the process."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from forebay.clock import ManualClock
from forebay.domain.letters import RecordPlace, refused_letters, unreadable_letter
from forebay.domain.messages import Head, LettersTold, Mark, Message, Step
from forebay.errors import Corrupt, ForebayError, Permanent, RowsRefused, Transient, Unreachable
from forebay.journal import StateFile
from forebay.services.bridge import Bridge
from forebay.services.letters import RETRY_S, Attempts, GivenUp, LetterBox, LetterSpool
from forebay.telemetry import LettersKept, LettersSent, LossFound, TelemetryEvent
from tests.support.frames import LOG, Told, rows_of
from tests.support.memory_store import MemoryStore
from tests.support.memory_transport import Broker, MemoryTransport
from tests.support.sim_disk import Killed, SimDisk

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from forebay.journal import Disk

TOPIC = "trade_archive"
DLQ = "trade_archive_dlq"
FOLDER = Path("/letters")
LARGE = 1_000_000
"""Bytes that a topic takes at most."""


def letter(number: int, payload: bytes = b"{") -> pa.Table:
    """Return the letter of a record that cannot be read."""
    place = RecordPlace(f"{TOPIC}/0", "of a test", number)
    return unreadable_letter(place, payload, "it is no JSON", attempts=3, now_ns=number)


def ids(rows: pa.Table) -> list[str]:
    return [str(each) for each in rows["letter_id"].to_pylist()]


class Limited(MemoryTransport):
    """A transport that takes no large messages, and may be away."""

    def __init__(self, broker: Broker) -> None:
        super().__init__(broker)
        self.largest = LARGE
        self.away: ForebayError | None = None
        self.gone = False
        self.calls = 0

    def lanes(self, topic: str) -> list[str]:
        if self.gone:
            raise Permanent(f"The topic {topic} is gone and may not be made.")
        return super().lanes(topic)

    def publish(self, lane: str, messages: Sequence[Message]) -> None:
        self.calls += 1
        if self.away:
            raise self.away
        rows = (message.rows for message in messages)
        if sum(0 if each is None else each.nbytes for each in rows) > self.largest:
            raise Permanent("The message is too large.")
        super().publish(lane, messages)

    def told(self) -> list[str]:
        """Return the letters of the topic as whoever reads it all has them, told again or not."""
        found: list[str] = []
        for received in super().subscribe(super().lanes(DLQ)[0], "of a test").read():
            assert received.message is not None
            if received.message.rows is not None:
                found += ids(received.message.rows)
        return found


class Post:
    """A box and all that it needs; made again, it is another process in the same folder."""

    def __init__(self, disk: Disk | None = None, most: int = 10) -> None:
        self.transport = Limited(Broker())
        self.clock = ManualClock()
        self.said: list[TelemetryEvent] = []
        self.disk = disk or SimDisk(random.Random(1))
        self.most = most
        self.box = self.again()

    def again(self) -> LetterBox:
        self.spool = LetterSpool(FOLDER, self.disk, most=self.most)
        self.box = LetterBox(
            self.transport, self.spool, clock=self.clock, observer=self.said.append
        )
        return self.box

    def kept(self) -> list[str]:
        return [name for name, _ in LetterSpool(FOLDER, self.disk).letters()]


# ------------------------------------------------------------------------------ the box


def test_what_its_topic_takes_is_told_there_and_kept_nowhere() -> None:
    post = Post()
    post.box.put(TOPIC, pa.concat_tables([letter(1), letter(2)]))
    assert post.transport.told() == ids(letter(1)) + ids(letter(2))
    assert post.kept() == []
    assert post.said == []


def test_letters_of_a_lane_of_letters_stay_in_its_topic() -> None:
    post = Post()
    post.box.put(DLQ, letter(1))
    assert post.transport.told() == ids(letter(1))


def test_a_letter_that_is_too_large_is_kept_alone_and_told_once_it_fits() -> None:
    post = Post()
    large = letter(2, b"x" * 1_200_000)
    post.box.put(TOPIC, pa.concat_tables([letter(1), large, letter(3)]))
    assert post.transport.told() == ids(letter(1)) + ids(letter(3))
    assert post.kept() == ids(large)
    assert post.said == [LettersKept(1, TOPIC, "The message is too large.")]
    assert post.box.deliver() == 0
    post.transport.largest *= 2
    assert post.box.deliver() == 0, "its turn has not come"
    post.clock.advance(RETRY_S)
    assert post.again().deliver() == 1
    assert post.box.deliver() == 0
    assert post.transport.told() == ids(letter(1)) + ids(letter(3)) + ids(large)
    assert post.kept() == []
    assert post.said[-1] == LettersSent(1)


def test_letters_of_a_topic_that_is_gone_wait_for_it() -> None:
    post = Post()
    post.transport.gone = True
    post.box.put(TOPIC, pa.concat_tables([letter(1), letter(2)]))
    assert sorted(post.kept()) == sorted(ids(letter(1)) + ids(letter(2)))
    post.transport.gone = False
    assert post.again().deliver() == 2
    assert sorted(post.transport.told()) == sorted(ids(letter(1)) + ids(letter(2)))


def test_an_outage_costs_one_try_and_what_is_kept_goes_out_after_it() -> None:
    post = Post()
    post.transport.away = Unreachable("Kafka does not answer.")
    for number in range(3):
        post.box.put(TOPIC, pa.concat_tables([letter(2 * number), letter(2 * number + 1)]))
    assert post.transport.calls == 3
    post.box.deliver()
    assert post.transport.calls == 4, "the first that fails ends it"
    post.transport.away = None
    post.clock.advance(RETRY_S)
    assert post.box.deliver() == 6
    assert len(set(post.transport.told())) == 6


def test_a_full_folder_lets_nothing_be_passed_over() -> None:
    post = Post(most=2)
    post.transport.gone = True
    post.box.put(TOPIC, pa.concat_tables([letter(1), letter(2)]))
    with pytest.raises(Transient, match="no more may be"):
        post.box.put(TOPIC, letter(3))
    post.box.put(TOPIC, letter(2))  # it is there already
    assert len(post.kept()) == 2


def test_a_letter_that_was_given_up_is_told_no_more_and_stays_on_record() -> None:
    post = Post()
    post.transport.gone = True
    post.box.put(TOPIC, letter(1))
    given_up = GivenUp("me", "a test", 7)
    post.spool.give_up(ids(letter(1))[0], given_up)
    post.transport.gone = False
    assert post.again().deliver() == 0
    assert [each.given_up for _, each in post.spool.letters()] == [given_up]


def test_a_damaged_letter_is_named() -> None:
    post = Post()
    post.transport.gone = True
    post.box.put(TOPIC, letter(1))
    (name,) = (each for each in post.disk.listdir(FOLDER) if each.endswith(".letter"))
    assert isinstance(post.disk, SimDisk)
    post.disk.flip(FOLDER / name, 400)
    with pytest.raises(Corrupt):
        post.again().deliver()


class KillAt:
    """Kills at the ``n``-th operation that changes something, and all that would tidy up."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self, operation: str) -> None:
        del operation
        self.left -= 1
        if self.left <= 0:
            raise Killed


def survives(at: int, kill: Callable[[SimDisk], None]) -> bool:
    """Kill a box at a moment, and have another one go on; return whether it was killed at all.

    Whoever was not told that a letter is kept offers it again, as a bridge does.
    """
    disk = SimDisk(random.Random(at), fault=KillAt(at))
    post = Post(disk)
    post.transport.gone = True
    offered, killed = [letter(1), letter(2)], False
    try:
        while offered:
            post.box.put(TOPIC, offered[0])
            offered.pop(0)
        post.transport.gone = False
        post.box.deliver()
    except Killed:
        killed = True
        kill(disk)
        disk.fault = lambda _: None
        for each in offered:
            post.again().put(TOPIC, each)
    post.transport.gone = False
    post.clock.advance(RETRY_S)
    post.again().deliver()
    assert set(post.transport.told()) == {*ids(letter(1)), *ids(letter(2))}
    assert post.kept() == []
    return killed


@pytest.mark.parametrize("kill", [SimDisk.kill, SimDisk.lose_power])
def test_no_kill_and_no_power_cut_loses_a_letter(kill: Callable[[SimDisk], None]) -> None:
    moments = 0
    while survives(moments + 1, kill):
        moments += 1
    assert moments > 10


# --------------------------------------------------------------------- through a bridge


def test_a_bridge_stores_letters_once_and_sees_no_loss_in_them() -> None:
    post = Post()
    post.box.put(TOPIC, letter(1))
    post.transport.away = Transient("The answer was lost.")
    post.box.put(TOPIC, letter(2))
    post.transport.away = None
    post.box.put(TOPIC, letter(2))  # the bridge was killed before its offset was stored
    assert post.box.deliver() == 1
    assert post.transport.told() == ids(letter(1)) + 2 * ids(letter(2))
    store = MemoryStore()
    said: list[TelemetryEvent] = []
    Bridge(post.transport, store, topics=[DLQ], observer=said.append).drain()
    assert ids(store.table("dead_letters")) == ids(letter(1)) + ids(letter(2))
    assert [event for event in said if isinstance(event, LossFound)] == []


def test_a_publisher_and_a_box_share_a_topic_without_loss() -> None:
    broker = Broker()
    post = Post()
    post.transport = Limited(broker)
    post.again()
    rows = letter(7).set_column(4, "log_id", pa.array([LOG]))
    mine = [
        Message(Head(Step(LOG, 1, 9), 0, LettersTold(TOPIC)), rows.cast(letter(1).schema)),
        Message(Head(Step(LOG, 1, 9), 1, Mark(1, {}, {}))),
    ]
    lane = post.transport.lanes(DLQ)[0]
    post.transport.publish(lane, mine[:1])
    post.box.put(TOPIC, letter(1))
    post.transport.publish(lane, mine[1:])
    store = MemoryStore()
    said: list[TelemetryEvent] = []
    Bridge(post.transport, store, topics=[DLQ], observer=said.append).drain()
    assert sorted(ids(store.table("dead_letters"))) == sorted(ids(letter(1)) + ids(letter(7)))
    assert [event for event in said if isinstance(event, LossFound)] == []


# ------------------------------------------------------------------------------ letters


def test_the_letter_of_a_refused_row_is_the_row_whenever_it_is_refused() -> None:
    rows = rows_of(Told(1), Told(2), Told(3))
    refused = [(1, "Constraint `positive` is violated")]
    once = refused_letters("trades", rows, refused, place="trade_archive/3@517", attempts=3)
    again = refused_letters("trades", rows.slice(1), [(0, "other")], place="", attempts=1)
    assert ids(once) == ids(again)
    (row,) = once.to_pylist()
    assert row["error"] == "trades: Constraint `positive` is violated"
    assert (row["epoch"], row["source"], row["attempts"]) == ("trade_archive/3@517", "bridge", 3)
    assert row["log_id"] == LOG
    assert b'"trade_id":"2"' in row["payload"]
    assert b'"event_ts":"' in row["payload"]


# ----------------------------------------------------------------------------- attempts


def attempts(path: Path, most: int = 4096) -> Attempts:
    return Attempts(StateFile(path / "attempts"), most)


def test_attempts_are_counted_over_restarts_and_forgotten_when_done(tmp_path: Path) -> None:
    refused = RowsRefused("A row is refused.")
    assert attempts(tmp_path).failed("one", refused) == 1
    assert attempts(tmp_path).failed("one", refused) == 2
    assert attempts(tmp_path).failed("other", refused) == 1
    assert attempts(tmp_path).of("one") == 2
    attempts(tmp_path).forget("one", "never seen")
    assert [attempts(tmp_path).of(key) for key in ("one", "other")] == [0, 1]


def test_an_outage_of_ten_minutes_is_no_attempt(tmp_path: Path) -> None:
    clock, tried = ManualClock(), attempts(tmp_path)
    begun, tries = clock.monotonic_ns(), 0
    while clock.monotonic_ns() - begun < 600 * 10**9:
        assert tried.failed("step", Unreachable("ClickHouse does not answer.")) == 0
        tries += 1
        clock.advance(0.5)
    assert tries == 1200
    assert tried.failed("step", Permanent("It is refused.")) == 1


def test_what_is_counted_is_bounded_and_the_latest_stay(tmp_path: Path) -> None:
    tried = attempts(tmp_path, most=3)
    for key in "abca":
        tried.failed(key, Permanent("no"))
    assert tried.failed("d", Permanent("no")) == 1
    assert [attempts(tmp_path).of(key) for key in "abcd"] == [2, 0, 1, 1]


@pytest.mark.parametrize("kill", [SimDisk.kill, SimDisk.lose_power])
def test_a_count_that_was_told_survives_any_kill(kill: Callable[[SimDisk], None]) -> None:
    for at in range(1, 40):
        disk = SimDisk(random.Random(at), fault=KillAt(at))
        told = 0
        try:
            tried = Attempts(StateFile(FOLDER / "attempts", disk))
            while told < 5:
                told = tried.failed("step", Permanent("no"))
        except Killed:
            kill(disk)
        disk.fault = lambda _: None
        assert Attempts(StateFile(FOLDER / "attempts", disk)).of("step") in (told, told + 1)
