"""Events and dead letters into their tables, once.

A batch is made idempotent by joining it with what is stored around its own time, one range
of time per cluster of the batch: one range over a batch with a single late row would read
the whole table. Rows that coverage has already are looked up without a range, so that an id
told again with another time is found too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from forebay.domain import schema
from forebay.ports import Committed
from forebay.stores.rows import repeated_in_batch

if TYPE_CHECKING:
    import numpy.typing as npt

    from forebay.stores.duckdb.session import Session

CLUSTER_GAP_NS = 600_000_000_000
"""Rows further apart than this in time are looked up in ranges of their own."""
MAX_CLUSTERS = 16
"""Above this, neighbouring clusters share a range: each costs a query of its own."""


def time_clusters(event_ns: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Answer the ranges of time that the rows lie in, at most :data:`MAX_CLUSTERS` of them."""
    ordered = np.sort(event_ns)
    steps = ordered[1:] - ordered[:-1]
    wide = np.flatnonzero(steps > CLUSTER_GAP_NS)
    if len(wide) >= MAX_CLUSTERS:
        widest = np.argpartition(steps, -(MAX_CLUSTERS - 1))[-(MAX_CLUSTERS - 1) :]
        wide = np.sort(widest)
    firsts = ordered[np.concatenate(([0], wide + 1))]
    lasts = ordered[np.concatenate((wide, [len(ordered) - 1]))]
    return list(zip(firsts.tolist(), lasts.tolist(), strict=True))


def insert_events(
    session: Session,
    name: str,
    rows: pa.Table,
    covered: npt.NDArray[np.bool_],
) -> Committed:
    """Insert what is new; what is known stays as it was and is compared with what came."""
    if not len(rows):
        return Committed()
    again = repeated_in_batch(rows)
    numbered = rows.append_column("row", pa.array(np.arange(len(rows))))
    fresh = np.ones(len(rows), dtype=np.bool_)
    fresh[again] = False
    with session.incoming(numbered):
        fresh[_known_rows(session, name, numbered, covered & fresh)] = False
        if fresh.all():
            session.run(f"INSERT INTO {name} SELECT * EXCLUDE row FROM incoming")
            return Committed(len(rows))
    new = rows.filter(pa.array(fresh))
    with session.incoming(new):
        session.run(f"INSERT INTO {name} SELECT * FROM incoming")
    repeats = numbered.filter(pa.array(~fresh))
    conflicts = _record_conflicts(session, name, repeats) if len(repeats) else 0
    return Committed(len(new), len(repeats) - conflicts, conflicts)


def _known_rows(
    session: Session,
    name: str,
    numbered: pa.Table,
    covered: npt.NDArray[np.bool_],
) -> list[int]:
    """Answer the numbers of the rows of ``incoming`` that the table has.

    Rows of ``covered`` are looked up wherever they are, the others around their own time.
    """
    event_ns = numbered.column("event_ts").cast(pa.int64()).to_numpy()
    known: set[int] = set()
    for first, last in time_clusters(event_ns):
        found = session.run(
            f"SELECT i.row FROM incoming i JOIN {name} t ON i.event_id = t.event_id "
            "WHERE t.event_ts BETWEEN make_timestamp_ns(?) AND make_timestamp_ns(?)",
            [first, last],
        )
        known.update(row for (row,) in found)
    elsewhere = sorted(set(np.flatnonzero(covered).tolist()) - known)
    if elsewhere:
        found = session.run(
            f"SELECT i.row FROM incoming i JOIN {name} t ON i.event_id = t.event_id "
            "WHERE list_contains(?, i.row)",
            [elsewhere],
        )
        known.update(row for (row,) in found)
    return list(known)


def _record_conflicts(session: Session, name: str, repeats: pa.Table) -> int:
    """Keep what was told differently under a known id; answer how many rows did so."""
    content = schema.CONTENT[name]
    differs = " OR ".join(f"i.{column} IS DISTINCT FROM t.{column}" for column in content)
    stored, incoming = (
        "to_json(struct_pack("
        + ", ".join(f"{column} := {alias}.{column}::VARCHAR" for column in content)
        + "))::VARCHAR"
        for alias in "ti"
    )
    with session.incoming(repeats):
        session.run(
            f"CREATE OR REPLACE TEMP TABLE told AS SELECT i.event_id, '{name}' AS \"table\", "
            f"i.received_ts, {stored} AS stored, {incoming} AS incoming "
            f"FROM incoming i JOIN {name} t ON i.event_id = t.event_id WHERE {differs}",
        )
    session.run(
        "INSERT INTO conflicts SELECT DISTINCT ON (event_id, incoming) * FROM told "
        "ANTI JOIN conflicts USING (event_id, incoming) ORDER BY received_ts",
    )
    counted = session.run("SELECT count(*) FROM told")
    return int(counted[0][0])


def insert_letters(session: Session, letters: pa.Table) -> None:
    """Insert dead letters that are not there yet."""
    with session.incoming(letters):
        session.run(
            "INSERT INTO dead_letters SELECT DISTINCT ON (letter_id) * FROM incoming "
            "ANTI JOIN dead_letters USING (letter_id) ORDER BY seq",
        )
