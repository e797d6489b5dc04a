"""Whether a commit may go on from where a store is: plain decisions about cursors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.errors import CursorMoved

if TYPE_CHECKING:
    from collections.abc import Mapping

    from forebay.journal import Position
    from forebay.ports import Commit


def has_happened(commit: Commit, now: Mapping[str, Position]) -> bool:
    """Return whether the cursors ``now`` say that a commit is stored already.

    ``now`` must be read in the transaction of the commit. Raises
    :class:`~forebay.errors.CursorMoved` if a cursor is neither where the commit expects it nor
    where the commit moves it.
    """
    moved = [name for name, where in commit.expected.items() if now.get(name) != where]
    if not moved:
        return False
    if all(now.get(name) == where for name, where in commit.positions.items()):
        return True
    name = moved[0]
    message = f"The cursor {name} is at {_named(now.get(name))}, not at"
    raise CursorMoved(f"{message} {_named(commit.expected[name])}; nothing was stored.")


def moves_on(commit: Commit, now: Mapping[str, Position]) -> bool:
    """Return whether a commit moves every cursor forward, or into another log."""
    return all(_is_past(now.get(name), where) for name, where in commit.positions.items())


def _is_past(now: Position | None, where: Position) -> bool:
    return now is None or now.log_id != where.log_id or now.seq < where.seq


def _named(position: Position | None) -> str:
    return f"{position.log_id}:{position.seq}" if position else "no place"
