"""What an audit says of transports."""

from __future__ import annotations

import msgspec

TRANSPORT_COLUMNS = (
    *("transport", "lanes", "events"),
    *("missing", "mutated", "spurious", "told twice"),
)


class LaneAudit(msgspec.Struct, frozen=True, kw_only=True):
    """One lane of a transport."""

    lane: str
    oldest: int | None
    """The first frame of which all that was told is kept; None: it holds nothing."""
    end: int
    """Before this frame it was told everything of its own."""
    rows: int
    """Events and dead letters, of which some may be there several times."""


class TransportAudit(msgspec.Struct, frozen=True, kw_only=True):
    """What one transport holds, of the journal that was published to it."""

    name: str
    looked_at: bool
    """Whether it could be asked; if not, a note says why."""
    events: int = 0
    """Each counted once."""
    missing: int = 0
    """Acknowledged, kept by its age, and not there."""
    mutated: int = 0
    spurious: int = 0
    again: int = 0
    """Records of what is there already, which is no loss: at least once is what is promised."""
    lanes: list[LaneAudit] = []
    took_ms: int = 0


def transport_cells(each: TransportAudit) -> list[str]:
    """Return one row of the table of transports, in the order of :data:`TRANSPORT_COLUMNS`."""
    if not each.looked_at:
        return [each.name, *("–" for _ in TRANSPORT_COLUMNS[1:])]
    counts = len(each.lanes), each.events, each.missing, each.mutated, each.spurious, each.again
    return [each.name, *(f"{count:,}" for count in counts)]
