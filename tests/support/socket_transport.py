"""A kind of transport for processes under test: the broker in memory that another one serves.

A table names it as ``plugin = "tests.support.socket_transport:TRANSPORT"``, with the path of the
socket as its servers.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from forebay.transports.kind import TransportKind
from tests.support.memory_socket import RemoteBroker
from tests.support.memory_transport import MemoryTransport

if TYPE_CHECKING:
    from forebay.telemetry import Observer
    from forebay.transports.kind import TransportConfig

PLUGIN = f"{__name__}:TRANSPORT"


def _open(config: TransportConfig, _: Observer) -> MemoryTransport:
    return MemoryTransport(RemoteBroker(Path(config.servers)))


def _probe(config: TransportConfig) -> str:
    with contextlib.closing(RemoteBroker(Path(config.servers))) as broker:
        broker.ping()
    return "a broker in memory"


TRANSPORT = TransportKind(
    name="memory", open=_open, probe=_probe, durable=lambda config: config.mode != "core"
)
