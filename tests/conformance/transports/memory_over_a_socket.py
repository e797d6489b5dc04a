"""The broker in memory, as another process has it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from forebay.transports.kind import TransportConfig
from tests.conformance.transports.memory import sitting
from tests.support.memory_socket import RemoteBroker, serving
from tests.support.memory_transport import MemoryTransport
from tests.support.socket_transport import PLUGIN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conformance.transports import Sitting

TITLE = "memory over a socket"


@contextlib.contextmanager
def sit(folder: Path) -> Iterator[Sitting]:
    path = folder / "broker.sock"
    broker, seen = sitting(lambda _: MemoryTransport(RemoteBroker(path)))
    seen.config = TransportConfig(plugin=PLUGIN, servers=str(path))
    seen.expel = broker.expel
    with serving(broker, path):
        yield seen
