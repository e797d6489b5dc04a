"""NATS: JetStream, which keeps what it acknowledges, and core, which tells whoever listens now."""

from forebay.drivers import Driven
from forebay.transports.kind import TransportKind

__all__ = ["TRANSPORT"]
_OPENING = Driven(f"{__name__}.opening", "nats", "nats")

TRANSPORT = TransportKind(
    name="nats",
    open=_OPENING.at("open_nats"),
    probe=_OPENING.at("probe_nats"),
    durable=lambda config: config.mode != "core",
)
