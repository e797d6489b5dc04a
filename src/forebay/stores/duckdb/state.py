"""Coverage, gaps, epochs, ordinals and cursors: the state of streams and consumers.

Every statement costs about as much as inserting a thousand rows, so there are few, and what
has not changed is not written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from forebay.domain.coverage import Gap, StreamKey
from forebay.journal import Position
from forebay.stores.rows import coverage_from, coverage_rows, epoch_rows, gap_rows, ordinal_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    import pyarrow as pa

    from forebay.domain.coverage import Coverage
    from forebay.stores.duckdb.session import SqlSession

T = TypeVar("T")


def read_positions(session: SqlSession) -> dict[str, Position]:
    """Return every consumer's cursor."""
    rows = session.run("SELECT consumer, log_id, seq FROM cursors")
    return {consumer: Position(log_id, seq) for consumer, log_id, seq in rows}


def read_coverage(session: SqlSession) -> dict[StreamKey, Coverage]:
    """Return the coverage of every stream."""
    coverage = session.run("SELECT * FROM coverage")
    return coverage_from(coverage, session.run("SELECT * FROM stream_epochs"))


def read_ordinals(session: SqlSession) -> dict[StreamKey, bytes]:
    """Return the ordinals of every stream."""
    return {StreamKey(*row[:4]): row[4] for row in session.run("SELECT * FROM stream_ordinals")}


def read_gaps(session: SqlSession) -> list[Gap]:
    """Return every gap, in order."""
    return sorted(Gap(*row) for row in session.run("SELECT * FROM gaps"))


class Written:
    """Streams as they are stored, so that a commit writes no more than what changed."""

    def __init__(self, coverage: Mapping[StreamKey, Coverage], gaps: Collection[Gap]) -> None:
        self._epochs = _epochs(coverage)
        self._gaps: dict[StreamKey, tuple[Gap, ...]] = {}
        for gap in gaps:
            self._gaps[gap.key] = (*self._gaps.get(gap.key, ()), gap)

    def write_streams(
        self,
        session: SqlSession,
        coverage: Mapping[StreamKey, Coverage],
        ordinals: Mapping[StreamKey, bytes],
    ) -> None:
        """Replace coverage, gaps, epochs and ordinals of the given streams."""
        gaps = {key: tuple(stream.gaps(key)) for key, stream in coverage.items()}
        epochs = _epochs(coverage)
        moved = [key for key in coverage if gaps[key] != self._gaps.get(key, ())]
        begun = [key for key in coverage if epochs[key] != self._epochs.get(key, frozenset())]
        _replace(session, "coverage", coverage, coverage_rows)
        _replace(session, "gaps", {key: coverage[key] for key in moved}, gap_rows)
        _replace(session, "stream_epochs", {key: coverage[key] for key in begun}, epoch_rows)
        _replace(session, "stream_ordinals", ordinals, ordinal_rows)
        self._gaps |= gaps
        self._epochs |= epochs


def write_positions(
    session: SqlSession, positions: Mapping[str, Position], now: Collection[str]
) -> None:
    """Move cursors; ``now`` are those that there are, as read in this transaction."""
    for consumer, position in positions.items():
        statement = "INSERT INTO cursors (log_id, seq, consumer) VALUES (?, ?, ?)"
        if consumer in now:
            statement = "UPDATE cursors SET log_id = ?, seq = ? WHERE consumer = ?"
        session.run(statement, [position.log_id, position.seq, consumer])


def _replace(
    session: SqlSession,
    table: str,
    streams: Mapping[StreamKey, T],
    rows_of: Callable[[Mapping[StreamKey, T]], pa.Table],
) -> None:
    """Put the rows of ``streams`` in the place of all that ``table`` has of them."""
    if not streams:
        return
    theirs = ", ".join(["(?, ?, ?, ?)"] * len(streams))
    session.run(
        f"DELETE FROM {table} WHERE (venue, market, channel, symbol) IN ({theirs})",
        [part for key in streams for part in key],
    )
    if len(rows := rows_of(streams)):
        session.run(f"INSERT INTO {table} FROM incoming", incoming=rows)


def _epochs(coverage: Mapping[StreamKey, Coverage]) -> dict[StreamKey, frozenset[str]]:
    return {key: frozenset(stream.epochs) for key, stream in coverage.items()}
