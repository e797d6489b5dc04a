"""Coverage from event rows alone: for whoever has a topic or a table of events, and no frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from forebay.domain.coverage import COVERAGES, Arrival, StreamKey
from forebay.domain.kinds import kind_of_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from forebay.domain.channels import Channel
    from forebay.domain.coverage import Coverage

_GROUPS = ("venue", "market", "symbol", "epoch")
_NOT_LIVE = r"(^|,)(backfill|partial)(,|$)"
"""Flags of what came from history or from a filtered recording, whose neighbours say nothing."""


def coverage_of(
    tables: Mapping[str, pa.Table], channels: Mapping[tuple[str, str], Channel]
) -> dict[StreamKey, Coverage]:
    """Return the coverage of each stream of which ``tables``, by name, have rows.

    Rows may be in any order, and an event told over several connections has a row of each, as on
    a topic: in a store, which keeps one, what others told counts for that one alone. Rows say
    nothing of what acceptance and end of a connection, heartbeats and the absences of history add.
    ``channels`` are what venues declare, by venue and kind; what nobody declares is not counted.
    """
    found: dict[StreamKey, Coverage] = {}
    for name, rows in tables.items():
        for key, arrival in _arrivals(kind_of_table(name).channel, rows):
            channel = channels.get((key.venue, key.channel))
            unit = channel.unit if channel else "none"
            found.setdefault(key, COVERAGES[unit]()).see(arrival)
    for key, coverage in found.items():
        channel = channels.get((key.venue, key.channel))
        if channel is None or not channel.history:
            coverage.give_up()
    return found


def _arrivals(channel: str, rows: pa.Table) -> Iterator[tuple[StreamKey, Arrival]]:
    """Return what each stream got over each connection; who spoke last comes last."""
    numbers = pc.fill_null(rows["venue_seq"], 0).to_numpy()
    received_ns = rows["received_ts"].cast(pa.int64()).to_numpy()
    columns = {name: rows[name].cast(pa.string()) for name in _GROUPS}
    columns["live"] = pc.invert(pc.match_substring_regex(rows["flags"], _NOT_LIVE))
    columns["place"] = pa.array(np.arange(len(rows)))
    groups = pa.table(columns).group_by([*_GROUPS, "live"], use_threads=False)
    told = groups.aggregate([("place", "list"), ("place", "max")]).sort_by("place_max")
    for group in range(len(told)):
        venue, market, symbol, epoch = (told[name][group].as_py() for name in _GROUPS)
        places = told["place_list"][group].values.to_numpy()
        live = told["live"][group].as_py()
        arrival = Arrival(epoch, live, numbers[places], received_ns[places])
        yield StreamKey(venue, market, channel, symbol), arrival
