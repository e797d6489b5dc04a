"""Gaps with what other tables say of them: when they were, and who accepted them."""

from __future__ import annotations

import contextlib
from string import Template
from typing import TYPE_CHECKING

import duckdb

from forebay.domain import schema
from forebay.domain.frames import EVERY_SYMBOL
from forebay.domain.kinds import KINDS
from forebay.text import identifier

if TYPE_CHECKING:
    from forebay.domain.kinds import EventKind

_NAMES = ", ".join(f"g.{name}" for name in schema.GAPS.names)
_STREAM = ("venue", "market", "channel", "symbol")


def _beside(kind: EventKind) -> str:
    """Return a query for the events at either end of a gap, within and without."""
    return f"""
        SELECT venue, market, '{kind.channel}' AS channel, symbol, epoch,
            venue_seq AS number, event_ts, received_ts
        FROM $here.main.{kind.table} WHERE venue_seq IN (
            SELECT unnest([first - 1, first, last, last + 1]) FROM $here.main.gaps
            WHERE unit <> 'time' AND channel = '{kind.channel}')"""


def _marks() -> str:
    """Return a query for gaps with what coverage has of each: looks, acceptances, receipts."""
    where = " AND ".join(f"c.{name} = g.{name}" for name in _STREAM)
    return f"""
        SELECT {_NAMES},
            max(c.epoch) FILTER (c.origin IN ('looked', 'time_looked')) AS looked,
            min(c.epoch) FILTER (c.origin IN ('accepted', 'time_accepted')) AS accepted,
            make_timestamp_ns(min(c.first) FILTER (c.origin = 'time_missed')) AS missed_ts,
            make_timestamp_ns(max(c.last) FILTER (c.origin = 'time_missed')) AS went_on_ts
        FROM $here.main.gaps g LEFT JOIN $here.main.coverage c ON {where} AND (
            c.origin IN ('looked', 'time_looked', 'accepted', 'time_accepted')
            AND (c.origin IN ('time_looked', 'time_accepted'))
                = (c.unit = 'seq' AND g.unit = 'time')
            AND (c.origin = 'looked' OR c.origin = 'time_looked'
                OR split_part(c.epoch, chr(31), 2) = g.epoch)
            AND c.first <= g.last AND c.last >= g.first
            OR c.origin = 'time_missed' AND g.symbol = '{EVERY_SYMBOL}'
            AND c.epoch = concat_ws(chr(31), g.epoch, g.first, g.last))
        GROUP BY ALL"""


def _view() -> str:
    told = " UNION ALL ".join(_beside(kind) for kind in KINDS.values())
    same = " AND ".join(f"t.{name} = g.{name}" for name in _STREAM)
    return f"""
CREATE OR REPLACE TEMP VIEW gaps AS
WITH told AS ({told}),
marks AS ({_marks()}),
ends AS (
    SELECT g.*,
        max(t.event_ts) FILTER (t.number = g.first - 1) AS before_ts,
        min(t.event_ts) FILTER (t.number = g.last + 1) AS behind_ts,
        min(t.received_ts) FILTER (t.number = g.last + 1) AS seen_ts,
        max(t.received_ts) FILTER (t.number IN (g.first, g.last)) AS filled_ts
    FROM marks g LEFT JOIN told t ON {same} AND (g.epoch = '' OR t.epoch = g.epoch)
        AND t.number IN (g.first - 1, g.first, g.last, g.last + 1)
    GROUP BY ALL
)
SELECT {_NAMES},
    CASE g.unit WHEN 'time' THEN make_timestamp_ns(g.first) ELSE coalesce(missed_ts, before_ts) END
        AS from_ts,
    CASE g.unit WHEN 'time' THEN make_timestamp_ns(g.last) ELSE coalesce(went_on_ts, behind_ts) END
        AS to_ts,
    CASE g.unit WHEN 'time' THEN make_timestamp_ns(g.last) ELSE coalesce(went_on_ts, seen_ts) END
        AS opened_ts,
    CASE g.state
        WHEN 'filled' THEN filled_ts
        WHEN 'permanent'
            THEN coalesce(went_on_ts, make_timestamp_ns(split_part(looked, chr(31), 2)::BIGINT))
        WHEN 'accepted' THEN make_timestamp_ns(split_part(accepted, chr(31), 1)::BIGINT)
    END AS closed_ts,
    coalesce(split_part(looked, chr(31), 1)::INTEGER, 0) AS looks,
    make_timestamp_ns(split_part(looked, chr(31), 2)::BIGINT) AS looked_ts,
    CASE g.state WHEN 'accepted' THEN split_part(accepted, chr(31), 3) END AS accepted_by,
    CASE g.state WHEN 'accepted' THEN split_part(accepted, chr(31), 4) END AS accepted_reason
FROM ends g"""


_VIEW = Template(_view())


def show_gaps(connection: duckdb.DuckDBPyConnection) -> None:
    """Have ``gaps`` mean the table with all that is known, to this connection alone."""
    with contextlib.suppress(duckdb.Error):  # of a database of other tables
        (name,) = connection.execute("SELECT current_database()").fetchone() or ("",)
        connection.execute(_VIEW.substitute(here=identifier(name))).fetchall()
