"""What a drill is: a market, a configuration, a fault and what must come of it; and its report."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from forebay.lab.exchanges import NAMES

if TYPE_CHECKING:
    from forebay.lab.drills.history import HistoryStage
    from forebay.lab.drills.stage import Stage
    from forebay.services.audit import AuditReport

VENUE: Final = NAMES[0]
"""The simulated venue that drills capture."""
REST: Final = f"{VENUE}-rest"
"""The breaker around its REST."""
WEBSOCKET: Final = f"{VENUE}-websocket"
"""The breaker around its websocket."""

Value = str | int | float | bool | list[str] | dict[str, str]
Act = Callable[["Stage"], Awaitable[None]]
"""Brings the fault about, watches what must happen meanwhile, and takes the fault away."""


Check = Callable[["Stage", "AuditReport"], Awaitable[None]]
"""Holds what is stored against what happened, beside the audit."""

HistoryAct = Callable[["HistoryStage"], Awaitable[None]]
"""The same around a download of history."""


async def no_check(stage: Stage, audit: AuditReport) -> None:
    """Leave it at the audit."""
    del stage, audit


async def no_act(stage: Stage) -> None:
    """Bring about no fault but those that go on all the time."""
    del stage


@dataclass(frozen=True, slots=True)
class Timing:
    """How long each part of a drill lasts, in seconds."""

    healthy_s: float = 2.0
    """Before the fault, and again after the recovery."""
    fault_s: float = 3.0
    """How long the fault goes on after the breaker has tripped."""
    patience_s: float = 60.0
    """How long anything that must happen is waited for."""


@dataclass(frozen=True, slots=True)
class Brokers:
    """Real brokers that a capture publishes to, each a transport of the name of its kind."""

    kafka: int = 0
    """Nodes."""
    nats: int = 0
    """Nodes."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Of Kafka, where they are to differ."""
    disk_mb: int = 0
    """Size of a disk of Kafka's own, in MiB; 0 for none."""
    tables: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    """By transport, keys of its table beside those that every drill has."""


@dataclass(frozen=True, slots=True)
class Bridging:
    """Bridges from what a capture publishes to a ClickHouse, each a ``forebay run`` of its own."""

    via: str = "kafka"
    """Name of the transport that they read."""
    bridges: int = 1
    mirrors: tuple[str, ...] = ()
    """Names of as many ClickHouses that the capture itself fills, each alone; no bridge then."""
    disk_mb: int = 0
    """Size of a disk of ClickHouse's own, in MiB; 0 for none."""
    config: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    """Tables of each bridge's ``forebay.toml`` beside those that every drill has."""
    instead: Callable[[str, int], Sequence[str]] | None = None
    """Returns the command of a process that bridges instead of ours, from Kafka's servers and the
    port of ClickHouse."""


@dataclass(frozen=True, slots=True)
class Drill:
    """One drill."""

    name: str
    about: str = ""
    """One sentence."""
    act: Act = no_act
    breakers: tuple[str, ...] = ()
    """Those that must trip, and be CLOSED again at the end."""
    alerts: tuple[str, ...] = ()
    """Those that must fire and clear."""
    exchange: str = VENUE
    """The simulated venue."""
    checked: Check = no_check
    """What is held against the truth at the end."""
    requirements: str = ""
    """Identifiers of the failures that this is the drill of."""
    rate: int = 2000
    """Events a second over all symbols."""
    symbols: tuple[str, ...] = ("BTC-USD", "ETH-USD")
    events: int = 0
    """Events over all symbols, then the market closes; 0 is without end."""
    faults: str = ""
    """As ``forebay lab serve --faults`` takes them; they go on all the time."""
    config: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    """Tables of ``forebay.toml`` beside those that every drill has."""
    venue: Mapping[str, Value] = field(default_factory=dict)
    """Keys of the venue."""
    disk_mb: int = 0
    """Size of a disk of the data folder's own, in MiB; 0 for none."""
    least_s: float = 0.0
    """The fault goes on for so long at least, whatever :attr:`Timing.fault_s` says."""
    gaps: bool = False
    """Whether the fault makes holes that must be declared, and filled from history."""
    lasting: bool = False
    """Whether there are holes beside them that no history can fill."""
    history: HistoryAct | None = None
    """Instead of :attr:`act`: no market is captured then, history is downloaded."""
    bars: int = 0
    """Of a minute, that a simulated Massive has of each symbol."""
    line_kbit: int = 0
    """Kilobits a second of a line of the drill's own, shared by all; 0 for none."""
    needs: Callable[[], None] = lambda: None
    """Raises :class:`~forebay.errors.Unreachable` where the fault cannot be brought about."""
    brokers: Brokers | None = None
    """Of whose topics it is held against the store what they have."""
    bridging: Bridging | None = None
    """What is then in ClickHouse is held against the store, too."""


# ------------------------------------------------------- the JSON that scripts hold on to


class ServerUsed(msgspec.Struct, frozen=True):
    """A part that was not ours; ``substitute`` says what stood in for the real one, if so."""

    name: str
    version: str
    substitute: str = ""


class DrillCheck(msgspec.Struct, frozen=True):
    """Something that had to be so."""

    what: str
    ok: bool


class AlertSeen(msgspec.Struct, frozen=True):
    """An alert that was expected, and what Alertmanager delivered of it."""

    name: str
    fired: bool
    cleared: bool


class TransportHeld(msgspec.Struct, frozen=True, kw_only=True):
    """What the topics of a transport have, read back, beside what is stored."""

    transport: str
    events: int
    """By id, each once."""
    lost: int
    """Stored, and in no topic."""
    doubled: int
    """In a topic, and not stored: under a second id, or of nobody."""
    again: int
    """Records that were sent again, because it was not known whether they had arrived: they have
    the ids that they had."""
    displaced: int
    """Events before which a later one of their symbol and their connection came."""
    unread: int
    """Messages that cannot be read."""


class BridgedHeld(msgspec.Struct, frozen=True, kw_only=True):
    """What a store that bridges write to has, beside what the capture has stored."""

    store: str
    raw: int
    """Rows of events, as they lie there."""
    events: int
    """Distinct ids of those."""
    final: int
    """Rows of what is read: the views."""
    lost: int
    """Stored by the capture, and not read there."""
    doubled: int
    """Read there twice, or stored by nobody else."""
    mutated: int
    """Read there with another content."""
    letters: int = 0
    """Dead letters of the bridge, or of whatever stands in for it."""
    good_letters: int = 0
    """Of those, events that nothing was wrong with."""
    healthy_rss_mb: float = 0.0
    """Of the bridge that has most memory: before the fault."""
    peak_rss_mb: float = 0.0
    """The same, at most."""
    drained_per_s: float = 0.0
    """Rows a second while it caught up after the fault."""

    @property
    def doubled_raw(self) -> int:
        """Rows beyond one an id."""
        return self.raw - self.events


class DrillReport(msgspec.Struct, kw_only=True):
    """One run of one drill, filled in while it goes on; ``ok`` exactly if every check is."""

    name: str
    ok: bool = False
    seed: int
    fault_happened: bool = False
    fault_hits: int = 0
    """How often the fault struck."""
    produced: int = 0
    """Events that happened while somebody was subscribed for the first time, and after; of a
    download, bars that history has."""
    withheld: int = 0
    """Events that the simulated exchange sent to nobody, or cannot prove to have been read."""
    stored: int = 0
    missing: int = 0
    doubled: int = 0
    mutated: int = 0
    recovery_s: float | None = None
    """From the end of the fault until all is as before; None if that did not happen."""
    peak_rss_mb: float = 0.0
    """Of all processes of ``forebay run`` together."""
    healthy_rss_mb: float = 0.0
    """The same before the fault."""
    peak_disk_mb: float = 0.0
    """Of the data folder."""
    servers: list[ServerUsed] = []
    transports: list[TransportHeld] = []
    """Of a capture that publishes."""
    bridged: list[BridgedHeld] = []
    """Of each ClickHouse that is filled."""
    breakers: dict[str, list[str]] = {}
    """By breaker, the states it went to, in order."""
    states: list[str] = []
    """Of the whole system, in order."""
    alerts: list[AlertSeen] = []
    alerts_skipped: str = "not asked for"
    """Why alerts were not looked at; empty if they were."""
    checks: list[DrillCheck] = []
    took_s: float = 0.0
    folder: str

    def encode(self) -> bytes:
        return msgspec.json.encode(self)
