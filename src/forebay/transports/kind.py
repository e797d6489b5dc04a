"""How transports of one kind are opened: the descriptor that a package of a transport hands out."""

from __future__ import annotations

from collections.abc import Callable  # noqa: TC003 - the configuration is read by its types
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from forebay.times import SPAN

if TYPE_CHECKING:
    from forebay.ports import SharedLanes
    from forebay.telemetry import Observer

AtLeastOne = Annotated[int, Meta(ge=1)]


class TransportConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where events are published; repeat the table for more transports."""

    kind: str = ""
    """What it is: kafka or nats."""
    name: str = ""
    """What it is called in metrics, breakers and cursors; left out: its kind."""
    servers: str = ""
    """HOST:PORT of its servers, separated by commas; left out: the usual one on this host."""
    required: bool = True
    """Whether the journal keeps what it has not acknowledged; without it, it may miss some."""
    drain_every: Annotated[str, Meta(pattern=SPAN)] = "300s"
    """How often it is tried to empty the journal while the transport is away."""
    mode: str = ""
    """How it is used, where a kind leaves the choice: jetstream or core; left out: jetstream."""
    partitions: AtLeastOne = 1
    """Lanes of a topic that is made, where a kind has several."""
    replicas: AtLeastOne = 1
    """Servers that keep each event, of a topic that is made."""
    min_insync: AtLeastOne = 1
    """Servers that must have an event before it is acknowledged, where a kind lets one say so."""
    retain: Annotated[str, Meta(pattern=SPAN)] = "7d"
    """How long a topic keeps its events."""
    options: dict[str, str] = {}
    """More for the kind's driver, by its own names."""
    credentials_file: str = ""
    """A TOML file of secrets for the driver, one KEY = "…" a line."""
    plugin: str = ""
    """A kind of your own instead: package.module:TRANSPORT."""


@dataclass(frozen=True, slots=True)
class TransportKind:
    """Transports of one kind.

    The package that has it brings its driver in when one is opened or probed, and not before: the
    supervisor reads this, and opens none.
    """

    name: str
    """As ``kind`` says it; also of its breaker and its part of the metrics."""
    open: Callable[[TransportConfig, Observer], SharedLanes]
    """Make one that is configured, without asking any server: that comes with its first call.

    Raises :class:`~forebay.errors.ConfigError` for what no server could ever take. The observer
    hears what the transport notices, from any thread.
    """
    probe: Callable[[TransportConfig], str]
    """Reach the server and return what answered, in some words: ``Apache Kafka, 3 brokers``.

    Changes nothing there. Raises :class:`~forebay.errors.Unreachable` if nobody answers, and
    :class:`~forebay.errors.Permanent` if they refuse.
    """
    durable: Callable[[TransportConfig], bool]
    """Returns whether what is acknowledged is kept, also for who reads it later."""
