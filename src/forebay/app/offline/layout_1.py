"""What a database of a folder of layout 1 has, read to tell whether its journal has it all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from forebay.domain.coverage import StreamKey
from forebay.domain.digest import HOUR_NS
from forebay.domain.intervals import IntervalSet
from forebay.domain.kinds import kind_of_table
from forebay.services.rebuild import Counted

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from forebay.domain.digest import StreamHour

_OF_THIS_LAYOUT = """
SELECT 1 FROM information_schema.columns WHERE table_name = 'coverage' AND column_name = 'market'"""
_ARRIVED = """
SELECT venue, channel, symbol, first, last FROM coverage WHERE origin IN ('live', 'fill')"""
_TABLES = """
SELECT table_name FROM information_schema.columns WHERE column_name = 'event_ts'"""
_HOURS = """
SELECT venue, symbol, epoch_ns(event_ts) // {hour} AS hour, count(*) FROM "{table}" GROUP BY ALL"""
_RARITIES = """
SELECT letter_id::VARCHAR, '' FROM dead_letters
UNION ALL SELECT event_id::VARCHAR, incoming FROM conflicts"""


class Layout1(NamedTuple):
    """See :class:`~.rebuild.State`; all its streams were spot, and counted ids."""

    arrived: dict[Counted, IntervalSet]
    events: dict[StreamHour, int]
    rarities: frozenset[tuple[str, str]]


def read_layout_1(query: Callable[[str], pa.Table]) -> Layout1 | None:
    """Return what a database has, which ``query`` asks; None if it is not of layout 1.

    Raises :class:`~forebay.errors.ForebayError` if it cannot be read.
    """
    if _rows(query(_OF_THIS_LAYOUT)):
        return None
    arrived: dict[Counted, IntervalSet] = {}
    for venue, channel, symbol, first, last in _rows(query(_ARRIVED)):
        stream = StreamKey(str(venue), "spot", str(channel), str(symbol))
        numbers = arrived.setdefault(Counted(stream, "id", ""), IntervalSet())
        numbers.add(first, last)
    events = {
        (StreamKey(str(venue), "spot", kind_of_table(table).channel, str(symbol)), hour): count
        for (table,) in _rows(query(_TABLES))
        for venue, symbol, hour, count in _rows(query(_HOURS.format(table=table, hour=HOUR_NS)))
    }
    return Layout1(arrived, events, frozenset(_rows(query(_RARITIES))))


def _rows(table: pa.Table) -> list[tuple[Any, ...]]:
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))
