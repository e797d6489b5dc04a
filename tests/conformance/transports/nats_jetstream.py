"""JetStream, of one real server for each test."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from forebay.transports.kind import TransportConfig
from forebay.transports.nats.connection import NatsConnection
from forebay.transports.nats.streams import StreamLimits
from forebay.transports.nats.transport import NatsTransport
from tests.conformance.transports import Sitting
from tests.support.nats import connected, serving_nats

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TITLE = "NATS JetStream"


@contextlib.contextmanager
def sit(folder: Path) -> Iterator[Sitting]:
    with serving_nats(folder) as lab, connected(lab) as beside:

        def delete(topic: str) -> None:
            beside.run(beside.ask(f"STREAM.DELETE.{topic}"))

        def connect() -> NatsTransport:
            return NatsTransport(NatsConnection(lab.urls, {}), StreamLimits(session_ns=10**9))

        config = TransportConfig(kind="nats", servers=lab.servers.url(), options={"session": "1s"})
        yield Sitting(connect, delete, config=config)
