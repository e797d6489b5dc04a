"""A kind of event that no venue has: that something answered, and how soon."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from forebay.domain.kinds import EventKind

if TYPE_CHECKING:
    from forebay.domain.kinds.checks import Checks


def check_ping(checks: Checks) -> None:
    """Reject pings without a whole number of microseconds, or that came by neither way."""
    checks.integer("took_us")
    checks.choice("way", ("near", "far"))


PING = EventKind(
    channel="ping",
    table="pings",
    columns=pa.schema([("took_us", pa.int64()), ("way", pa.string())]),
    check=check_ping,
)
