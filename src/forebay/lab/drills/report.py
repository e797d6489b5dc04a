"""What a drill says: the shape of its JSON, which scripts hold on to."""

from __future__ import annotations

import msgspec


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


class DrillReport(msgspec.Struct, kw_only=True):
    """One run of one drill, filled in while it goes on; ``ok`` exactly if every check is."""

    name: str
    ok: bool = False
    seed: int
    fault_happened: bool = False
    fault_hits: int = 0
    """How often the fault struck."""
    produced: int = 0
    """Events that happened while somebody was subscribed for the first time, and after."""
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
        """The report as one JSON document."""
        return msgspec.json.encode(self)
