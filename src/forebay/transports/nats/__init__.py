"""NATS: JetStream, which keeps what it acknowledges, and core, which tells whoever listens now."""

from forebay.transports.kind import TransportKind
from forebay.transports.nats.opening import CORE, open_nats, probe_nats

TRANSPORT = TransportKind(
    name="nats",
    open=open_nats,
    probe=probe_nats,
    durable=lambda config: config.mode != CORE,
)

__all__ = ["TRANSPORT"]
