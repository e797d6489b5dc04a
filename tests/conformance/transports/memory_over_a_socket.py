"""The broker in memory, as another process has it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tests.conformance.transports.memory import sitting
from tests.support.memory_socket import RemoteBroker, serving
from tests.support.memory_transport import MemoryTransport

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conformance.transports import Sitting

TITLE = "memory over a socket"


@contextlib.contextmanager
def sit(folder: Path) -> Iterator[Sitting]:
    path = folder / "broker.sock"
    broker, seen = sitting(lambda _: MemoryTransport(RemoteBroker(path)))
    with serving(broker, path):
        yield seen
