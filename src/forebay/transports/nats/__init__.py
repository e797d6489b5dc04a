"""NATS: JetStream, which keeps what it acknowledges, and core, which tells whoever listens now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.transports.kind import TransportConfig, TransportKind, brought_in

if TYPE_CHECKING:
    from forebay.ports import SharedLanes
    from forebay.telemetry import Observer

__all__ = ["TRANSPORT"]
_DRIVEN = f"{__name__}.opening", "nats", "nats"


def _open(config: TransportConfig, observer: Observer) -> SharedLanes:
    made: SharedLanes = brought_in(*_DRIVEN).open_nats(config, observer)
    return made


def _probe(config: TransportConfig) -> str:
    said: str = brought_in(*_DRIVEN).probe_nats(config)
    return said


TRANSPORT = TransportKind(
    name="nats",
    open=_open,
    probe=_probe,
    durable=lambda config: config.mode != "core",
)
