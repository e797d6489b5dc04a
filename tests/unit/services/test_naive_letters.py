"""Dead letters as the documents had them, beside ours, in the same histories: with figures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from forebay.clock import ManualClock
from forebay.domain.letters import RecordPlace, unreadable_letter
from forebay.errors import ForebayError, RowsRefused, Unreachable
from forebay.journal import StateFile
from forebay.services.deliver import TRIES
from forebay.services.letters import Attempts, LetterBox, LetterSpool
from tests.support.memory_transport import Broker, MemoryTransport

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pyarrow as pa

TOPIC, DLQ = "aggregate_archive", "aggregate_archive_dlq"
RETRIES = 3
"""As the documents have it."""


@dataclass
class World:
    """A topic of numbered records, a store, and what has become of each record."""

    records: int
    poison: frozenset[int] = frozenset()
    away: bool = False
    tries: int = 0
    stored: set[int] = field(default_factory=set)
    letters: set[int] = field(default_factory=set)
    broker: Broker = field(default_factory=Broker)

    def store(self, number: int) -> None:
        self.tries += 1
        if self.away:
            raise Unreachable("ClickHouse does not answer.")
        if number in self.poison:
            raise RowsRefused(f"Row {number} is refused.")
        self.stored.add(number)

    @property
    def told(self) -> set[int]:
        """The letters that are in the topic."""
        transport, found = MemoryTransport(self.broker), list[int]()
        for received in transport.subscribe(transport.lanes(DLQ)[0], "of a test").read():
            if received.message is not None and received.message.rows is not None:
                found += received.message.rows["seq"].to_pylist()
        return set(found)


class Consumer(Protocol):
    """A process that takes a topic into a store."""

    offset: int

    def step(self) -> None:
        """Try the next record."""
        ...


class Documents:
    """Counts in a header of the received message, and does not wait for the dead-letter send."""

    def __init__(self, world: World, offset: int = 0) -> None:
        self.world, self.offset = world, offset
        self.headers: dict[int, int] = {}
        """Of messages in memory: the broker's are as they were."""
        self.queue: list[int] = []
        """What the client of the dead letters has not sent yet."""

    def step(self) -> None:
        try:
            self.world.store(self.offset)
        except ForebayError:
            self.headers[self.offset] = self.headers.get(self.offset, 0) + 1
            if self.headers[self.offset] < RETRIES:
                return
            self.queue.append(self.offset)
        self.offset += 1

    def sent(self) -> None:
        """The client has had time."""
        self.world.letters |= {*self.queue}
        self.queue.clear()


class Ours:
    """Counts in a file, and goes on once a letter is acknowledged or kept."""

    def __init__(self, world: World, folder: Path, offset: int = 0) -> None:
        self.world, self.offset = world, offset
        self.attempts = Attempts(StateFile(folder / "attempts"))
        spool = LetterSpool(folder)
        self.box = LetterBox(MemoryTransport(world.broker), spool, clock=ManualClock())

    def step(self) -> None:
        key = f"{TOPIC}:{self.offset}"
        try:
            self.world.store(self.offset)
        except ForebayError as error:
            if self.attempts.failed(key, error) < TRIES:
                return
            self.box.put(TOPIC, letter(self.offset))
        self.attempts.forget(key)
        self.offset += 1


def letter(number: int) -> pa.Table:
    where = RecordPlace(TOPIC, "made", number)
    return unreadable_letter(where, b"", "it is refused", attempts=TRIES, now_ns=1)


def killed_over_and_over(begin: Callable[[int], Consumer], kills: int) -> int:
    """Kill a consumer after every two steps; return where the last one is."""
    offset = 0
    for _ in range(kills):
        consumer = begin(offset)
        consumer.step()
        consumer.step()
        offset = consumer.offset
    return offset


def test_a_count_in_a_received_header_is_gone_with_the_process(tmp_path: Path) -> None:
    """100 kills: theirs has tried one poison 200 times and is where it was; ours passed it."""
    theirs, ours = (World(10, frozenset({0})) for _ in range(2))
    assert killed_over_and_over(lambda at: Documents(theirs, at), kills=100) == 0
    assert (theirs.tries, theirs.letters, theirs.stored) == (200, set(), set())
    assert killed_over_and_over(lambda at: Ours(ours, tmp_path, at), kills=6) == 10
    assert ours.tries == TRIES + 9
    assert (ours.told, ours.stored) == ({0}, {*range(1, 10)})


def test_a_letter_that_is_not_waited_for_is_lost_with_the_process(tmp_path: Path) -> None:
    """Killed behind each of 20 letters: theirs has lost all 20, ours none."""
    theirs, ours = (World(20, frozenset(range(20))) for _ in range(2))
    offset = 0
    while offset < theirs.records:
        documents = Documents(theirs, offset)
        while documents.offset == offset:
            documents.step()
        offset = documents.offset  # it was committed, and the process ends before the client sent
    assert len({*range(20)} - theirs.letters) == 20
    offset = 0
    while offset < ours.records:
        mine = Ours(ours, tmp_path, offset)
        while mine.offset == offset:
            mine.step()
        offset = mine.offset
    assert len({*range(20)} - ours.told) == 0


def test_an_outage_makes_letters_of_good_data_if_every_failure_counts(tmp_path: Path) -> None:
    """1000 good records, away for the first 600 tries: theirs makes 200 letters, ours none."""
    theirs, ours = World(1000), World(1000)
    documents, mine = Documents(theirs), Ours(ours, tmp_path)
    for world, consumer in ((theirs, documents), (ours, mine)):
        while consumer.offset < world.records:
            world.away = world.tries < 600
            consumer.step()
    documents.sent()
    assert (len(theirs.letters), len(theirs.stored)) == (200, 800)
    assert (len(ours.told), len(ours.stored)) == (0, 1000)
    assert ours.tries == 1600
