"""Three NATS servers, one of which fails: what was acknowledged is there, in its order."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING

import pytest

from forebay.errors import ForebayError, Transient
from forebay.transports.nats.connection import NatsConnection
from forebay.transports.nats.streams import StreamLimits
from forebay.transports.nats.transport import NatsTransport
from tests.conformance.test_transport import messages, numbers
from tests.support.commands import wait_for
from tests.support.nats import Lab, connected, serving_nats

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from forebay.lab.nats_server import NatsNode

pytestmark = [pytest.mark.drill, pytest.mark.timeout(300)]
LANE = "trade_archive"
BACK_S = 60.0


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with serving_nats(tmp_path, nodes=3) as running:
        yield running


class Telling(threading.Thread):
    """Publishes numbers one behind the other, each until it is acknowledged."""

    def __init__(self, transport: NatsTransport) -> None:
        super().__init__(daemon=True)
        self._transport = transport
        self._stopping = threading.Event()
        self.acknowledged = 0
        self.refused = 0

    def run(self) -> None:
        for number in itertools.count():
            while not self._stopping.is_set():
                try:
                    self._transport.publish(LANE, messages(number))
                except Transient:
                    self.refused += 1
                else:
                    self.acknowledged = number + 1
                    break
            if self._stopping.is_set():
                return

    def more(self, count: int) -> None:
        """Wait until so many more are acknowledged."""
        wanted = self.acknowledged + count
        wait_for(lambda: self.acknowledged >= wanted or None, "acknowledgements", BACK_S)

    def stop(self) -> int:
        self._stopping.set()
        self.join()
        return self.acknowledged


@pytest.fixture
def transport(lab: Lab) -> Iterator[NatsTransport]:
    made = NatsTransport(NatsConnection(lab.urls, {}, answer_s=2), StreamLimits(replicas=3))
    made.lanes(LANE)
    yield made
    made.close()


def leader(lab: Lab) -> NatsNode:
    with connected(lab) as link:
        name = link.run(link.ask(f"STREAM.INFO.{LANE}"))["cluster"]["leader"]
    return next(node for node in lab.servers.nodes if node.name == name)


def told(transport: NatsTransport, last: int) -> list[int]:
    """Read up to number ``last``."""
    found: list[int] = []
    subscription = transport.subscribe(LANE, "g")

    def look() -> bool | None:
        try:
            found.extend(numbers(subscription.read()))
        except ForebayError:
            return None
        return last in found or None

    wait_for(look, f"number {last}", BACK_S)
    return found


def in_order(found: list[int], count: int) -> bool:
    """Whether each number first comes behind all before it; some may come again."""
    return list(dict.fromkeys(found))[:count] == list(range(count))


def test_a_leader_that_is_killed_takes_nothing_with_it(lab: Lab, transport: NatsTransport) -> None:
    telling = Telling(transport)
    telling.start()
    telling.more(50)
    node = leader(lab)
    lab.run(node.kill())
    telling.more(50)
    lab.run(node.start())
    telling.more(50)
    count = telling.stop()
    assert telling.refused, "nobody saw the kill"
    found = told(transport, count - 1)
    assert in_order(found, count)
    assert len(found) <= count + 1, "what was sent again is there once"


def test_a_leader_that_stands_still_is_replaced(lab: Lab, transport: NatsTransport) -> None:
    telling = Telling(transport)
    telling.start()
    telling.more(50)
    node = leader(lab)
    node.freeze()
    telling.more(50)
    node.thaw()
    telling.more(50)
    count = telling.stop()
    assert telling.refused, "nobody saw that it stood still"
    assert in_order(told(transport, count - 1), count)


def test_all_that_was_acknowledged_outlives_the_kill_of_all(
    lab: Lab, transport: NatsTransport
) -> None:
    telling = Telling(transport)
    telling.start()
    telling.more(50)
    identity = transport.identity(LANE)
    for node in lab.servers.nodes:
        lab.run(node.kill())
    for node in lab.servers.nodes:
        lab.run(node.launch())
    telling.more(50)
    count = telling.stop()
    assert in_order(told(transport, count - 1), count)
    assert transport.identity(LANE) == identity
