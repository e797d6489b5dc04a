"""From a journal over a real NATS server into a store, which is as one that needed no transport."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from forebay.errors import CursorMoved, Transient
from forebay.services.deliver import Deliverer
from forebay.transports.nats.connection import NatsConnection
from forebay.transports.nats.transport import NatsTransport
from tests.support.crossing import Crossing, content
from tests.support.delivery import PARSERS
from tests.support.memory_store import MemoryStore
from tests.support.nats import Lab, serving_nats
from tests.support.rough_traffic import rough_chunks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class NatsCrossing(Crossing):
    """One that goes on where it is told to, as the processes do."""

    def __init__(self, folder: Path, lab: Lab) -> None:
        super().__init__(folder, PARSERS, MemoryStore())
        self.transport = NatsTransport(NatsConnection(lab.urls, {}))  # type: ignore[assignment]
        self.moved = 0

    def _alive(self, work: Callable[[], int]) -> int:
        while True:
            try:
                return super()._alive(work)
            except CursorMoved:
                self.moved += 1

    def close(self) -> None:
        super().close()
        self.transport.close()


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with serving_nats(tmp_path / "servers") as running:
        yield running


@pytest.fixture
def crossing(lab: Lab, tmp_path: Path) -> Iterator[NatsCrossing]:
    made = NatsCrossing(tmp_path, lab)
    yield made
    made.close()


def require_equal(crossing: Crossing) -> None:
    direct = MemoryStore()
    Deliverer(crossing.folder, direct, crossing.parsers).drain()
    stored, expected = content(crossing.store), content(direct)
    assert [name for name, rows in expected.items() if stored[name] != rows] == []
    assert all(stored[name] for name in ("trades", "gaps", "dead_letters", "conflicts"))


def test_kills_of_the_server_change_nothing(lab: Lab, crossing: NatsCrossing) -> None:
    (node,) = lab.servers.nodes
    for number, chunk in enumerate(rough_chunks()):
        crossing.writer.commit(chunk)
        if number % 3 == 0:
            lab.run(node.kill())
            with pytest.raises(Transient):
                crossing.publish()
            lab.run(node.start())
        crossing.publish()
        crossing.store_step()
    crossing.drain()
    require_equal(crossing)


def test_an_older_copy_of_the_disk_is_told_everything_again(
    lab: Lab, crossing: NatsCrossing, tmp_path: Path
) -> None:
    (node,) = lab.servers.nodes
    chunks = rough_chunks()
    crossing.run(chunks[:3])
    lab.run(node.kill())
    shutil.copytree(node.data, tmp_path / "older")
    lab.run(node.start())
    for chunk in chunks[3:6]:
        crossing.writer.commit(chunk)
        crossing.publish()
    lab.run(node.swap(tmp_path / "older"))
    crossing.writer.commit(chunks[6])
    with pytest.raises(Transient, match="has lost what it had acknowledged"):
        crossing.publish()
    crossing.run(chunks[7:])
    assert crossing.moved
    require_equal(crossing)


def test_a_topic_that_is_made_anew_is_told_everything_again(
    lab: Lab, crossing: NatsCrossing
) -> None:
    chunks = rough_chunks()
    for chunk in chunks[:4]:
        crossing.writer.commit(chunk)
        crossing.publish()
    beside = NatsConnection(lab.urls, {})
    beside.run(beside.ask("STREAM.DELETE.trade_archive"))
    beside.close()
    crossing.restart()
    crossing.run(chunks[4:])
    require_equal(crossing)
