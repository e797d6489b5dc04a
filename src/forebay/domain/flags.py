"""What an event may be marked with, beside being stored."""

from __future__ import annotations

FLAGS = (
    *("backfill", "late", "out_of_order", "skewed", "crossed", "partial", "closed_hours"),
    "ambiguous",
)
"""Names of the flags; flag ``i`` is bit ``1 << i``.

``backfill``: came from the venue's history. ``late``: received over 60 s after it happened.
``out_of_order``: a later event of the stream came first on this connection.
``skewed``: the venue's time is over 5 s ahead of ours. ``crossed``: its bid is not below its ask.
``partial``: came from a recording that was filtered, so its neighbours say nothing.
``closed_hours``: nothing happened in it, and its market was closed: filler, and no coverage.
``ambiguous``: a connection began, or a page of history began or ended, within the event's
instant, so equal ones may be missing.
"""

BACKFILL, LATE, OUT_OF_ORDER, SKEWED, CROSSED, PARTIAL, CLOSED_HOURS, AMBIGUOUS = (
    1 << bit for bit in range(len(FLAGS))
)


def bits_of(text: str) -> int:
    """Return the bits of flags that are named in ``text``, joined by commas."""
    return sum(1 << FLAGS.index(name) for name in text.split(",") if name)
