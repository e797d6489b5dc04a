"""Following events as they are stored: in the order of the journal, each once.

A store is always at a place of the journal: all that frames before it told is stored, and nothing
that frames behind it told. So events between two such places never change, and a place is all that
has to be remembered to go on: in another process, after a restart, after a rebuild.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from forebay.app.querying import shaped
from forebay.errors import ConfigError, ForebayError, Transient
from forebay.journal import NO_LOG, Position
from forebay.services.deliver import CONSUMER
from forebay.text import literal

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Sequence

    import pyarrow as pa

    from forebay.clock import Clock

FIRST_S = 0.05
LONGEST_S = 1.0
"""Waits between two looks that found nothing grow from the one to the other."""
PATIENCE_S = 60.0
"""How long a store may answer with an error that is not said to pass."""
BEGINNING = Position(NO_LOG, 0)
_POSITION = re.compile(r"([0-9a-f]{32})-([0-9]{1,18})")
_END = f"SELECT log_id, seq FROM cursors WHERE consumer = {literal(CONSUMER)}"  # noqa: S608


def position_of(text: str) -> Position:
    """Read a position; raises :class:`~forebay.errors.ConfigError` if it is none."""
    if (found := _POSITION.fullmatch(text)) is None:
        raise ConfigError(f"{text!r} is no position.", hint="Give the one that a follow told.")
    return Position(found[1], int(found[2]))


@dataclass(slots=True)
class Follow:
    """Iterates over tables of events of one kind; waits for the next ones until it is closed.

    Each table has whole frames, in their order. A capture or a store that is away is waited for.
    """

    query: Callable[[str], pa.Table]
    table: str
    arrival: str
    """What of a row says how early it was stored."""
    where: Sequence[str]
    """Conditions on the events."""
    place: Position | None
    """Where to begin; None: behind all that is stored at the first look."""
    rows: int
    floats: bool
    utc: bool
    stop: threading.Event
    clock: Clock
    wait: Callable[[float], object]
    _closed: bool = False
    _pause_s: float = FIRST_S
    _trouble_ns: int | None = None
    """Since when the store answers with an error that is not said to pass."""

    @property
    def position(self) -> str:
        """Behind what was given last, as ``after`` takes it; empty before the first look."""
        return "" if self.place is None else f"{self.place.log_id}-{self.place.seq}"

    def close(self) -> None:
        """End it, from any thread; the iteration ends at its next look."""
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[pa.Table]:
        return self

    def __next__(self) -> pa.Table:
        while not self._closed and not self.stop.is_set():
            before = self.place
            found = self._look()
            if found is not None and len(found):
                self._pause_s = FIRST_S
                told = shaped(found, floats=self.floats, utc=self.utc)
                return told.replace_schema_metadata({"position": self.position})
            if self.place == before or before is None:
                self.wait(self._pause_s)
                self._pause_s = min(2 * self._pause_s, LONGEST_S)
        raise StopIteration

    def _look(self) -> pa.Table | None:
        try:
            found = self._next()
        except Transient:
            self._trouble_ns = None
        except ForebayError:
            now = self.clock.monotonic_ns()
            self._trouble_ns = self._trouble_ns or now
            if now - self._trouble_ns > PATIENCE_S * 1e9:
                raise
        else:
            self._trouble_ns = None
            return found
        return None

    def _next(self) -> pa.Table | None:
        """Return the next events that are stored, and move behind them."""
        ends = self.query(_END).to_pylist()
        if not ends:
            return None
        end = Position(ends[0]["log_id"], ends[0]["seq"])
        place = self.place
        if place is None:
            self.place = end
        elif place.log_id == end.log_id:
            return self._between(place, end.seq) if place.seq < end.seq else None
        elif (rest := self._between(place, None)) is not None:
            return rest
        else:
            self._turn(place, end)
        return None

    def _between(self, place: Position, end: int | None) -> pa.Table | None:
        """Return events of a log from a place on, at most :attr:`rows` but whole frames."""
        here = [f"log_id = {literal(place.log_id)}", f"seq >= {place.seq}"]
        before = [] if end is None else [f"seq < {end}"]
        found = self.query(f"{self._events(*here, *before)} LIMIT {self.rows + 1}")
        if len(found) <= self.rows:
            after = found["seq"][-1].as_py() + 1 if end is None and len(found) else end
        else:
            seqs = found["seq"].to_numpy()
            after = int(seqs[-1])  # of its frame there may be more
            found = found.slice(0, int((seqs < after).sum()))
            if not len(found):
                found = self.query(self._events(here[0], f"seq = {after}"))
                after += 1
        if after is not None:
            self.place = Position(place.log_id, after)
        return found if len(found) else None

    def _turn(self, place: Position, end: Position) -> None:
        """Go on with the log that came after one that is over."""
        first = f"SELECT log_id, min({self.arrival}) AS first FROM {self.table} GROUP BY log_id"  # noqa: S608
        logs = [row["log_id"] for row in self.query(f"{first} ORDER BY first").to_pylist()]
        later = logs[logs.index(place.log_id) + 1 :] if place.log_id in logs else []
        if place.log_id == NO_LOG:
            later = logs
        self.place = Position(later[0] if later else end.log_id, 0)

    def _events(self, *where: str) -> str:
        conditions = " AND ".join([*self.where, *where])
        return f"SELECT * FROM {self.table} WHERE {conditions} ORDER BY seq, event_ts, event_id"  # noqa: S608
