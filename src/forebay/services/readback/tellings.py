"""Tellings: rows as one message or one part of the journal has them, and what tells them apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from forebay.domain.coverage import StreamKey
from forebay.domain.digest import HashedRows, canonical_rows, id_bytes, id_halves, id_texts
from forebay.domain.kinds import KINDS
from forebay.domain.messages import EventsTold, LettersTold, Told

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from forebay.domain.kinds import EventKind

STRETCH = 1 << 14
"""Frames of the journal that are compared together."""
LETTERS = StreamKey("", "", "dead_letters", "")
"""What stands for the stream of dead letters."""

TellingKey = tuple[int, bytes]
"""The sequence number of a frame, and the id of an event that it told."""


class Tellings(NamedTuple):
    """Rows of one kind."""

    rows: pa.Table
    kind: EventKind | None
    """None: they are dead letters."""

    @classmethod
    def of(cls, told: Told, rows: pa.Table | None) -> Tellings | None:
        """Return what a message tells; None if that is no rows."""
        if rows is None or not len(rows):
            return None
        if isinstance(told, EventsTold):
            return cls(rows, KINDS[told.kind])
        if isinstance(told, LettersTold):
            return cls(rows.rename_columns(["event_id", *rows.column_names[1:]]), None)
        return None

    @property
    def seqs(self) -> npt.NDArray[np.int64]:
        found: npt.NDArray[np.int64] = self.rows["seq"].to_numpy()
        return found

    def hashed(self) -> HashedRows:
        if self.kind is not None:
            return HashedRows.of_events(self.rows, self.kind)
        return HashedRows.of_texts(id_halves(self.rows), self.rows["reason"].combine_chunks())

    def within(self, first: int, end: int) -> Tellings:
        """Return those of frames from ``first`` up to ``end``, which is not included."""
        seqs = self.seqs
        wanted = (seqs >= first) & (seqs < end)
        return self if wanted.all() else self.filtered(wanted)

    def filtered(self, wanted: npt.NDArray[np.bool_]) -> Tellings:
        return self._replace(rows=self.rows.filter(pa.array(wanted)))

    def telling_keys(self) -> list[TellingKey]:
        raw = id_bytes(self.rows)
        ids = (raw[at : at + 16] for at in range(0, len(raw), 16))
        return list(zip(self.seqs.tolist(), ids, strict=True))


class RowTelling(NamedTuple):
    """One row."""

    tellings: Tellings
    place: int
    hashed: bytes

    def _cell(self, name: str) -> object:
        return self.tellings.rows[name][self.place].as_py()

    @property
    def stream(self) -> StreamKey:
        kind = self.tellings.kind
        if kind is None:
            return LETTERS
        names = (str(self._cell(name)) for name in ("venue", "market", "symbol"))
        venue, market, symbol = names
        return StreamKey(venue, market, kind.channel, symbol)

    @property
    def event_ns(self) -> int:
        name = "received_ts" if self.tellings.kind is None else "event_ts"
        found: int = self.tellings.rows[name].cast(pa.int64())[self.place].as_py()
        return found

    @property
    def number(self) -> int | None:
        """Of the event in its stream, if it has one."""
        if self.tellings.kind is None:
            return None
        found: int | None = self.tellings.rows["venue_seq"][self.place].as_py()
        return found

    @property
    def event_id(self) -> str:
        found: str = id_texts(self.tellings.rows.slice(self.place, 1))[0].as_py()
        return found

    @property
    def canonical(self) -> str:
        kind, row = self.tellings.kind, self.tellings.rows.slice(self.place, 1)
        found: str = (row["reason"] if kind is None else canonical_rows(row, kind))[0].as_py()
        return found


def by_key(some: Iterable[Tellings]) -> dict[TellingKey, list[RowTelling]]:
    """Return every row by its frame and its event's id."""
    found: dict[TellingKey, list[RowTelling]] = {}
    for tellings in some:
        raw = np.ascontiguousarray(tellings.hashed().rows).tobytes()
        for index, key in enumerate(tellings.telling_keys()):
            telling = RowTelling(tellings, index, raw[16 * index : 16 * index + 16])
            found.setdefault(key, []).append(telling)
    return found
