"""What ClickHouse has of the rows of a batch: asked by ids, compared here."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from forebay.domain.digest import id_bytes
from forebay.domain.kinds import kind_of_table
from forebay.stores.clickhouse.ddl import CONFLICT_ROWS, rows_of
from forebay.stores.lookups import Lookup
from forebay.stores.rows import AMBIGUOUS
from forebay.text import identifier

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from forebay.stores.clickhouse.session import ClickHouseSession
    from forebay.stores.lookups import Mask, Rows


def ids_of(rows: pa.Table) -> list[bytes]:
    """Return the ids of rows, 16 bytes each."""
    every = id_bytes(rows)
    return [every[start : start + 16] for start in range(0, len(every), 16)]


def among(ids: Iterable[bytes]) -> str:
    """Return what SQL compares ids with; as a list of literals it would take four times as long."""
    texts = "\\n".join(
        f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
        for text in (each.hex() for each in ids)
    )
    return f"(SELECT id FROM format(TSV, 'id UUID', '{texts}'))"


def between(begin_ns: int, end_ns: int, column: str = "event_ts") -> str:
    """Return a condition on a time, both ends included."""
    ends = (f"fromUnixTimestamp64Nano(toInt64({end}), 'UTC')" for end in (begin_ns, end_ns))
    return f"{column} BETWEEN {' AND '.join(ends)}"


def column_as(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Return a column as our schemas have it: the server's texts are binary, its times in UTC."""
    if kind == pa.uuid():
        if isinstance(column.type, pa.BaseExtensionType):
            return column
        return column.cast(pa.binary(16)).cast(kind)
    if pa.types.is_dictionary(kind):
        return column.cast(pa.string()).dictionary_encode().cast(kind)
    return column.cast(kind)


class ClickHouseLookup(Lookup):
    """The rows of one batch that the table has, and what it has of those that differ."""

    def __init__(self, session: ClickHouseSession, name: str, rows: pa.Table) -> None:
        super().__init__(rows)
        self._session = session
        self._table = session.name(rows_of(name))
        self._kind = kind_of_table(name)
        self._ids = ids_of(rows)
        self._plain: dict[bytes, int] = {}
        """When events happened that are stored and not flagged as ambiguous, by id."""
        streams = rows.select(["venue", "market", "symbol"])
        self._streams = ", ".join(
            sorted(
                f"({', '.join(map(quoted, stream))})"
                for stream in set(zip(*(column.to_pylist() for column in streams), strict=True))
            )
        )

    def look(self, which: Rows, between_ns: tuple[int, int] | None) -> None:
        """See :meth:`forebay.stores.lookups.Lookup.look`."""
        columns = [*dict.fromkeys((*self._kind.content, "flags", "log_id", "seq"))]
        times = f" AND {between(*between_ns)}" if between_ns else ""
        wanted = among(dict.fromkeys(self._ids[row] for row in which.tolist()))
        stored = self._session.rows(
            f"SELECT event_id, {', '.join(map(identifier, columns))} FROM {self._table} "
            f"WHERE (venue, market, symbol) IN ({self._streams}){times} AND event_id IN {wanted} "
            "ORDER BY rank",
            events=self._kind.table,
        )
        if not len(stored):
            return
        place = {stored_id: index for index, stored_id in enumerate(ids_of(stored))}
        pairs = [(row, place[self._ids[row]]) for row in which.tolist() if self._ids[row] in place]
        rows, places = (np.array(side, dtype=np.int64) for side in zip(*pairs, strict=True))
        self._compare(rows, self.rows.take(pa.array(rows)), stored.take(pa.array(places)))

    def _compare(self, which: Rows, came: pa.Table, stored: pa.Table) -> None:
        """Compare rows with what is stored under their ids, side by side."""
        stored = pa.table(
            {
                name: column_as(stored[name], self.rows.schema.field(name).type)
                for name in stored.column_names
            }
        )
        self.found[which] = True
        same = np.ones(len(which), dtype=np.bool_)
        for name in ("log_id", "seq"):
            same &= ~differing(stored[name], came[name])
        self.same_frame[which] |= same
        flags = stored["flags"].to_pylist()
        for row, text, time_ns in zip(
            which.tolist(), flags, stored["event_ts"].cast(pa.int64()).to_pylist(), strict=True
        ):
            if AMBIGUOUS not in text.split(","):
                self._plain[self._ids[row]] = time_ns
        differs = np.zeros(len(which), dtype=np.bool_)
        for name in self._kind.content:
            differs |= differing(stored[name], came[name])
        for index in np.flatnonzero(differs).tolist():
            told = (self._spelled(rows.slice(index, 1)) for rows in (stored, came))
            ours, theirs = told
            self.conflicts[int(which[index])] = (ours, theirs)

    def compare_within(self, which: Rows, at: Rows) -> None:
        """Compare rows with those of the same batch that told their events first, at ``at``."""
        if len(which):
            came, told = (self.rows.take(pa.array(rows)) for rows in (which, at))
            self._compare(which, came, told)

    def conflict_rows(self, name: str) -> pa.Table:
        """Return what was told differently under a known id, once each."""
        if not self.conflicts:
            return CONFLICT_ROWS.empty_table()
        which = self.rows.take(pa.array(self.conflicts))
        received = which["received_ts"].cast(pa.int64()).to_pylist()
        told: dict[tuple[bytes, str], tuple[int, str]] = {}
        for event_id, time_ns, (stored, came) in zip(
            ids_of(which), received, self.conflicts.values(), strict=True
        ):
            seen = told.setdefault((event_id, came), (time_ns, stored))
            told[event_id, came] = min(seen, (time_ns, stored))
        ids, incoming = zip(*told, strict=True)
        times, stored_texts = zip(*told.values(), strict=True)
        columns = [ids, [name] * len(ids), times, stored_texts, incoming]
        return pa.table(
            [
                pa.array(cells, field.type)
                for cells, field in zip(columns, CONFLICT_ROWS, strict=True)
            ],
            schema=CONFLICT_ROWS,
        )

    def unflagged(self, ambiguous: Mask) -> pa.Table:
        """Return ids and times of stored events that are not flagged as ambiguous, and are now."""
        told = {self._ids[row]: None for row in np.flatnonzero(ambiguous).tolist()}
        found = {event_id: self._plain[event_id] for event_id in told if event_id in self._plain}
        ids = pa.array(list(found), pa.binary(16))
        return pa.table({"event_id": ids, "event_ns": pa.array(list(found.values()), pa.int64())})

    def _spelled(self, row: pa.Table) -> str:
        texts = {name: _text(row[name]) for name in self._kind.content}
        return json.dumps(texts, separators=(",", ":"), ensure_ascii=False)


def _text(cell: pa.ChunkedArray) -> str | None:
    if pa.types.is_list(cell.type):
        return f"[{', '.join(map(str, cell[0].as_py() or []))}]"
    text: str | None = cell.cast(pa.string())[0].as_py()
    return text


def differing(ours: pa.ChunkedArray, theirs: pa.ChunkedArray) -> Mask:
    """Return where two columns differ; what is absent is like what is absent. Shape (n,)."""
    if pa.types.is_list(ours.type):
        pairs = zip(ours.to_pylist(), theirs.to_pylist(), strict=True)
        return np.array([one != other for one, other in pairs], dtype=np.bool_)
    if pa.types.is_dictionary(ours.type):
        ours, theirs = (side.cast(pa.string()) for side in (ours, theirs))
    unequal = pc.fill_null(pc.not_equal(ours, theirs), fill_value=False)
    absent = pc.not_equal(pc.is_null(ours), pc.is_null(theirs))
    found: npt.NDArray[np.bool_] = pc.or_(unequal, absent).to_numpy()
    return found


def quoted(text: str) -> str:
    """Return a text as ClickHouse has it, where it takes no parameter."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
