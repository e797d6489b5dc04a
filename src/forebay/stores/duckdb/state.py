"""Coverage, gaps, epochs and cursors: the state of streams and consumers.

Every statement costs about as much as inserting a thousand rows, so there are few, and what
has not changed is not written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.domain.coverage import Gap, StreamCoverage, StreamKey
from forebay.journal import Position
from forebay.stores.rows import coverage_from, coverage_rows, epoch_rows, gap_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from forebay.stores.duckdb.session import Session

_THEIR_STREAMS = "(venue, channel, symbol) IN (SELECT venue, channel, symbol FROM incoming)"


def read_positions(session: Session) -> dict[str, Position]:
    """Answer every consumer's cursor."""
    rows = session.run("SELECT consumer, log_id, seq FROM cursors")
    return {consumer: Position(log_id, seq) for consumer, log_id, seq in rows}


def read_coverage(session: Session) -> dict[StreamKey, StreamCoverage]:
    """Answer the coverage of every stream."""
    coverage = session.run("SELECT * FROM coverage")
    return coverage_from(coverage, session.run("SELECT * FROM stream_epochs"))


def read_gaps(session: Session) -> list[Gap]:
    """Answer every gap, in order."""
    return sorted(Gap(*row) for row in session.run("SELECT * FROM gaps"))


def write_coverage(session: Session, coverage: Mapping[StreamKey, StreamCoverage]) -> None:
    """Replace the coverage of the given streams."""
    with session.incoming(coverage_rows(coverage)):
        session.run(f"DELETE FROM coverage WHERE {_THEIR_STREAMS}")
        session.run("INSERT INTO coverage SELECT * FROM incoming")


def write_gaps(session: Session, coverage: Mapping[StreamKey, StreamCoverage]) -> None:
    """Replace the gaps of the given streams."""
    with session.incoming(epoch_rows(coverage)):
        session.run(f"DELETE FROM gaps WHERE {_THEIR_STREAMS}")
    with session.incoming(gap_rows(coverage)):
        session.run("INSERT INTO gaps SELECT * FROM incoming")


def write_epochs(session: Session, coverage: Mapping[StreamKey, StreamCoverage]) -> None:
    """Replace, of the given streams, which connection spoke last and how far it had got."""
    with session.incoming(epoch_rows(coverage)):
        session.run(f"DELETE FROM stream_epochs WHERE {_THEIR_STREAMS}")
        session.run("INSERT INTO stream_epochs SELECT * FROM incoming")


def write_position(session: Session, consumer: str, position: Position) -> None:
    """Move a consumer's cursor."""
    session.run("DELETE FROM cursors WHERE consumer = ?", [consumer])
    session.run("INSERT INTO cursors VALUES (?, ?, ?)", [consumer, position.log_id, position.seq])
