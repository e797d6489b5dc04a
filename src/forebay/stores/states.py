"""From statements to states: from when to when what was said held, as a view in any SQL.

A statement says all of something or a part of it. Its state is what was said last of each column,
and holds until the next statement. It begins when the venue changed it, or when it was received if
that is not told, or is the latest change that was told before; the first one begins with what it is
about. Under one name there may be one thing after another: see
:attr:`~forebay.domain.kinds.checks.EventKind.begins`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from forebay.domain import schema
from forebay.domain.kinds.statement import OF_ONE

if TYPE_CHECKING:
    from collections.abc import Callable

    from forebay.domain.kinds import EventKind

_KEY = ("venue", "market", "symbol")
_TIMES = pa.schema([("valid_from", schema.TIME), ("valid_to", schema.TIME)])
_PLACE = ("log_id", "seq", "event_id")


def state_columns(kind: EventKind) -> pa.Schema:
    """Return the columns of the view of a kind's states."""
    keys = [pa.field(name, pa.string()) for name in _KEY]
    return pa.schema([*keys, *_TIMES, *kind.columns, pa.field("event_id", pa.uuid())])


def state_query(
    kind: EventKind, rows: str, quoted: Callable[[str], str], last: Callable[[str], str]
) -> str:
    """Return the query of a kind's states, from ``rows``, which are its statements.

    ``last`` writes the last value of a column in a window that is not null, without its window.
    ``valid_to`` is null while nothing else was said.
    """
    key, place = ", ".join(_KEY), ", ".join(("received_ts", *_PLACE))
    order = f"ORDER BY valid_from, {place}"
    begun = "NULL"
    if kind.begins:
        name = quoted(kind.begins)
        window = f"PARTITION BY {key} {order} ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"
        first = f"min({name}) OVER (PARTITION BY {key})"
        begun = f"coalesce({last(name)} OVER ({window}), {first})"
    told = f"PARTITION BY {key}, begun {order} ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"
    names = [field.name for field in kind.columns]
    cells = ", ".join(
        quoted(name)
        if name in OF_ONE
        else f"{last(f'said.{quoted(name)}')} OVER ({told}) AS {quoted(name)}"
        for name in names
    )
    columns = ", ".join(map(quoted, names))
    return f"""
SELECT {key}, valid_from, valid_to, {columns}, event_id FROM (
    SELECT *, lead(valid_from) OVER (PARTITION BY {key} {order}) AS valid_to FROM (
        SELECT {key}, valid_from, {cells}, received_ts, {", ".join(_PLACE)} FROM (
            SELECT *, {begun} AS begun FROM (
                SELECT *, CASE
                    WHEN place = 1 THEN least(event_ts, received_ts)
                    WHEN changed_ts IS NULL OR changed_ts = changed_before THEN received_ts
                    ELSE changed_ts
                END AS valid_from FROM (
                    SELECT *,
                        row_number() OVER (PARTITION BY {key} ORDER BY {place}) AS place,
                        max(changed_ts) OVER (
                            PARTITION BY {key} ORDER BY {place}
                            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
                        ) AS changed_before
                    FROM {rows}
                ) AS placed
            ) AS timed
        ) AS said
    ) AS told
) AS held
WHERE valid_to IS NULL OR valid_to > valid_from"""  # noqa: S608 - our own names
