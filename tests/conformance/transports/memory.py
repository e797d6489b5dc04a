"""The broker in memory, in this process."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from forebay.domain.messages import Message, encode_message
from tests.conformance.transports import Sitting
from tests.support.memory_transport import Broker, MemoryTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from forebay.ports import SharedLanes

TITLE = "memory"
CAPACITY = 8192
"""Some messages of the exam fill a lane."""


def sitting(connect: Callable[[Broker], SharedLanes]) -> tuple[Broker, Sitting]:
    """Return a broker whose lanes say at once that they are full, and the exam's view of it."""
    broker = Broker(capacity=CAPACITY, wait_s=0)

    def wait() -> None:
        broker._wait_s = 60

    return broker, Sitting(lambda: connect(broker), broker.delete, size=_size, wait=wait)


def _size(message: Message) -> int:
    return len(encode_message(message))


@contextlib.contextmanager
def sit(_: Path) -> Iterator[Sitting]:
    yield sitting(MemoryTransport)[1]
