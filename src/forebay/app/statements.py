"""Statements of whoever reads, in SQL that every store takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.domain.kinds import KINDS
from forebay.text import literal
from forebay.times import in_sql

if TYPE_CHECKING:
    from forebay.domain.coverage import Gap

_OF_A_BAR = 'PARTITION BY venue, market, symbol, timeframe, session, "of", adjusted, open_ts'
ONE_BAR = (
    f" QUALIFY row_number() OVER ({_OF_A_BAR} ORDER BY state = 'final' DESC, revision DESC, "
    "received_ts DESC, seq DESC, event_id) = 1"
)
REVISED = (
    " REPLACE (greatest(revision, CAST(count(DISTINCT (open, high, low, close, volume)) FILTER "
    f"(WHERE state = 'final') OVER ({_OF_A_BAR}) AS BIGINT)) AS revision)"
)
"""A telling does not know of the others: how many different ones of a bar were final is counted."""

_BESIDE = "event_id, venue_seq, event_ts, received_ts, collector, epoch"


def symbols_query() -> str:
    """Return the query for the symbols of all streams."""
    tables = ("coverage", "gaps", *(kind.table for kind in KINDS.values()))
    parts = (f"SELECT DISTINCT symbol FROM {table}" for table in tables)  # noqa: S608 - our own
    return f"SELECT DISTINCT symbol FROM ({' UNION ALL '.join(parts)}) ORDER BY symbol"  # noqa: S608


def overview_query() -> str:
    """Return the query for how many streams and rows there are, and from when to when."""
    parts = (
        f"SELECT count(*) AS c, min(event_ts) AS low, max(event_ts) AS high, "  # noqa: S608 - our own
        f"count(DISTINCT (venue, market, symbol)) AS s FROM {kind.table}"
        for kind in KINDS.values()
    )
    return (
        "SELECT sum(s)::BIGINT AS streams, sum(c)::BIGINT AS n, min(low) AS low, "  # noqa: S608 - our own
        f"max(high) AS high FROM ({' UNION ALL '.join(parts)}) AS parts WHERE c > 0"
    )


def beside_query(gap: Gap) -> str:
    """Return the query for the events on both sides of a gap, at most one on each."""
    named = f"venue = {literal(gap.venue)} AND market = {literal(gap.market)}"
    named += f" AND symbol = {literal(gap.symbol)}"
    if gap.unit == "time":
        place, before, after = "received_ts", *map(in_sql, (gap.first, gap.last))
    else:
        place, before, after = "venue_seq", str(gap.first), str(gap.last)
    if gap.epoch:
        named += f" AND epoch = {literal(gap.epoch)}"
    sides = [
        f"(SELECT {_BESIDE} FROM {KINDS[gap.channel].table} WHERE {named} AND {place} {side} "  # noqa: S608 - quoted above
        f"ORDER BY {place} {order} LIMIT 1)"
        for side, order in ((f"< {before}", "DESC"), (f"> {after}", "ASC"))
    ]
    return f"SELECT * FROM ({' UNION ALL '.join(sides)}) AS sides ORDER BY {place}"  # noqa: S608
