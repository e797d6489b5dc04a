"""NATS: JetStream, which keeps what it acknowledges, and core, which tells whoever listens now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.errors import ConfigError
from forebay.transports.kind import TransportConfig, TransportKind

if TYPE_CHECKING:
    from types import ModuleType

    from forebay.ports import Transport
    from forebay.telemetry import Observer

__all__ = ["TRANSPORT"]


def _opening() -> ModuleType:
    try:
        from forebay.transports.nats import opening  # noqa: PLC0415 - the client is an extra
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "nats":
            raise
        message = "The client of NATS is not installed."
        raise ConfigError(message, hint='Run: pip install "forebay[nats]"') from error
    return opening


def _open(config: TransportConfig, observer: Observer) -> Transport:
    made: Transport = _opening().open_nats(config, observer)
    return made


def _probe(config: TransportConfig) -> str:
    said: str = _opening().probe_nats(config)
    return said


TRANSPORT = TransportKind(
    name="nats", open=_open, probe=_probe, durable=lambda config: config.mode != "core"
)
