"""What a commit is about to store, worked out before any of it is: the rows that are new."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from forebay.domain import schema
from forebay.domain.digest import first_of_each_id
from forebay.stores.clickhouse.ddl import (
    CONFLICT_ROWS,
    CONFLICTS,
    LETTER_STATES,
    LETTERS,
    STATE,
    rows_of,
)
from forebay.stores.clickhouse.lookups import ClickHouseLookup, among, ids_of
from forebay.stores.clickhouse.session import encoded
from forebay.stores.lookups import times_of
from forebay.stores.rows import AMBIGUOUS, coverage_rows, epoch_rows, gap_rows

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping

    import numpy.typing as npt

    from forebay.domain.coverage import Coverage, StreamKey
    from forebay.journal import Position
    from forebay.ports import Commit, Events
    from forebay.stores.clickhouse.session import ClickHouseSession
    from forebay.stores.lookups import Mask

EVENTS, FLAGS, OTHERS = "events", "flags", "others"
LAST = (1 << 63) - 1


def rank_of(version: int) -> int:
    """Return the rank of rows of a version: who was first has the greatest."""
    return LAST - version


class IntentPart(NamedTuple):
    """What one request stores."""

    kind: str
    """Events, which a server may refuse; flags, by the ids of their events; or others."""
    table: str
    """The name of the table, or of the view over it for events."""
    part: str
    """Which part of that table: of events the month."""
    body: bytes
    """Its rows, as they are sent."""


@dataclass(slots=True)
class Plan:
    """What is to be stored of a commit, and what is said of it afterwards."""

    parts: list[IntentPart] = field(default_factory=list)
    first: dict[str, Mask] = field(default_factory=dict)
    conflicts: int = 0
    letters: dict[tuple[str, str], int] = field(default_factory=dict)


class Planner:
    """Works out one commit after another; asks the store what it has, and changes nothing."""

    def __init__(self, session: ClickHouseSession) -> None:
        self._session = session

    def plan(
        self,
        commit: Commit,
        version: int,
        *,
        happened: bool,
        trusted: bool,
        left_out: Mapping[str, Container[bytes]],
    ) -> Plan:
        """Return what of ``commit`` is not stored yet.

        If it has ``happened``, letters are there. ``trusted`` says whether what coverage vouches
        for needs no look; rows of the ids ``left_out``, by table, are not to be stored.
        """
        plan, conflicts = Plan(), []
        for name, events in commit.events.items():
            if len(events.rows):
                told = self._events(
                    plan, name, events, version, trusted=trusted, left_out=left_out.get(name, ())
                )
                conflicts += [told] if len(told) else []
        if conflicts:
            plan.parts.append(_others(CONFLICTS, pa.concat_tables(conflicts), version))
        if commit.dead_letters is not None and len(commit.dead_letters):
            self._letters(plan, commit.dead_letters, version, insert=not happened)
        if commit.letter_states is not None and len(commit.letter_states) and not happened:
            plan.parts.append(_others(LETTER_STATES, commit.letter_states, version))
        return plan

    def _events(
        self,
        plan: Plan,
        name: str,
        events: Events,
        version: int,
        *,
        trusted: bool,
        left_out: Container[bytes],
    ) -> pa.Table:
        """Plan the rows of one table; return its conflicts."""
        rows = events.rows
        first = first_of_each_id(rows)
        begins = first == np.arange(len(rows))
        if trusted and begins.all() and events.vouched_new.all():
            plan.first[name] = begins
            plan.parts += _by_month(name, rows, version)
            return CONFLICT_ROWS.empty_table()
        lookup = ClickHouseLookup(self._session, name, rows)
        new = events.vouched_new if trusted else np.zeros_like(events.vouched_new)
        known = lookup.known_ids(first, events.seen_before, new)
        fresh = begins & ~known
        if left_out:
            fresh &= np.array([each not in left_out for each in ids_of(rows)], dtype=np.bool_)
        repeats = np.flatnonzero(~begins & ~known)
        lookup.compare_within(repeats, first[repeats])
        flagged = _ambiguous(rows)
        plan.parts += _by_month(name, _flagged(rows, fresh, first, flagged), version)
        if len(plain := lookup.unflagged(flagged & known)):
            plan.parts.append(IntentPart(FLAGS, name, "all", encoded(plain)))
        plan.first[name] = fresh | begins & lookup.same_frame
        plan.conflicts += len(lookup.conflicts)
        return lookup.conflict_rows(name)

    def _letters(self, plan: Plan, letters: pa.Table, version: int, *, insert: bool) -> None:
        """Plan dead letters that are not there yet, and count those that are of these frames."""
        ids = _letter_ids(letters)
        stored = self._session.rows(
            f"SELECT letter_id, log_id, seq FROM {self._session.name(rows_of(LETTERS))} FINAL "
            f"WHERE letter_id IN {among(dict.fromkeys(ids))}"
        )
        frames: dict[bytes, tuple[str, int]] = {}
        if len(stored):
            logs = stored["log_id"].cast(pa.string()).to_pylist()
            frames = dict(
                zip(
                    _letter_ids(stored),
                    zip(logs, stored["seq"].to_pylist(), strict=True),
                    strict=True,
                )
            )
        logs, seqs = letters["log_id"].to_pylist(), letters["seq"].to_pylist()
        told, fresh = set[bytes](), list[int]()
        sorts = list(zip(letters["venue"].to_pylist(), letters["reason"].to_pylist(), strict=True))
        for row in np.argsort(letters["seq"].to_numpy(), kind="stable").tolist():
            letter, frame = ids[row], (logs[row], seqs[row])
            if letter not in frames and insert:
                frames[letter] = frame
                fresh.append(row)
            if letter not in told and frames.get(letter) == frame:
                told.add(letter)
                plan.letters[sorts[row]] = plan.letters.get(sorts[row], 0) + 1
        if fresh:
            plan.parts.append(_others(LETTERS, letters.take(pa.array(fresh)), version))


def _letter_ids(rows: pa.Table) -> list[bytes]:
    return ids_of(rows.select(["letter_id"]).rename_columns(["event_id"]))


def _ambiguous(rows: pa.Table) -> Mask:
    found: Mask = pc.match_substring(rows["flags"], AMBIGUOUS).to_numpy()
    return found


def _flagged(rows: pa.Table, fresh: Mask, first: npt.NDArray[np.int64], flagged: Mask) -> pa.Table:
    """Return the fresh rows; one is ambiguous if the same event is so further on in its batch."""
    late = np.zeros(len(rows), dtype=np.bool_)
    late[first[flagged]] = True
    late &= ~flagged & fresh
    if late.any():
        flags = pc.utf8_ltrim(
            pc.binary_join_element_wise(rows["flags"], AMBIGUOUS, ","), characters=","
        )
        place = rows.column_names.index("flags")
        rows = rows.set_column(
            place, schema.FLAGS, pc.if_else(pa.array(late), flags, rows["flags"])
        )
    return rows if fresh.all() else rows.filter(pa.array(fresh))


def ranked(rows: pa.Table, version: int) -> pa.Table:
    """Return rows as their table has them: the oldest has the greatest rank."""
    names = [field.name for field in rows.schema if field.type == pa.uuid()]
    for name in names:
        stored = [chunk.storage for chunk in rows[name].chunks]
        column = pa.chunked_array(stored, pa.binary(16))
        rows = rows.set_column(rows.column_names.index(name), name, column)
    rank = pa.array(np.full(len(rows), rank_of(version), dtype=np.int64))
    return rows.append_column("rank", rank)


def _by_month(name: str, rows: pa.Table, version: int) -> Iterator[IntentPart]:
    """Yield rows by the month that they are kept with: one insert must not span several."""
    if not len(rows):
        return
    months = times_of(rows).astype("datetime64[ns]").astype("datetime64[M]")
    rows = ranked(rows, version)
    for month in np.unique(months).tolist():
        mask = months == np.datetime64(month, "M")
        theirs = rows if mask.all() else rows.filter(pa.array(mask))
        yield IntentPart(EVENTS, name, f"{month:%Y%m}", encoded(theirs))


def _others(view: str, rows: pa.Table, version: int) -> IntentPart:
    return IntentPart(OTHERS, rows_of(view), "all", encoded(ranked(rows, version)))


# ---------------------------------------------------------------------------------- state


def state_part(
    mark: tuple[str, int, str],
    version: int,
    positions: Mapping[str, Position],
    coverage: Mapping[StreamKey, Coverage],
    ordinals: Mapping[StreamKey, bytes],
) -> IntentPart:
    """Return what ends a commit: its streams, its cursors, and the ``mark`` that it is applied.

    The mark is its chain, its step and its writer.
    """
    chain, step, writer = mark
    rows = [_row("chain", version, consumer=chain, step=step, writer=writer)]
    for consumer, where in positions.items():
        rows.append(_row("cursor", version, consumer=consumer, log_id=where.log_id, seq=where.seq))
    rows += [_coverage_row(key, held, version) for key, held in coverage.items()]
    rows += [
        _row("ordinals", version, **key._asdict(), ordinals=told) for key, told in ordinals.items()
    ]
    return IntentPart(OTHERS, STATE, "all", encoded(pa.Table.from_pylist(rows, schema=STATE_ROWS)))


_TEXTS = ("kind", "consumer", "venue", "market", "channel", "symbol")
_TEXT_LISTS = ("origins", "epochs", "gap_epochs", "gap_reasons", "gap_states", "spoken")
_NUMBER_LISTS = ("firsts", "lasts", "gap_firsts", "gap_lasts", "spoken_lasts")
STATE_ROWS = pa.schema(
    [
        *((name, pa.string()) for name in (*_TEXTS, "log_id", "writer", "unit")),
        *((name, pa.int64()) for name in ("version", "seq", "step")),
        *((name, pa.list_(pa.string())) for name in _TEXT_LISTS),
        *((name, pa.list_(pa.int64())) for name in _NUMBER_LISTS),
        ("ordinals", pa.binary()),
    ]
)
_EMPTY: dict[str, object] = {
    **dict.fromkeys((*_TEXTS, "log_id", "writer", "unit"), ""),
    **dict.fromkeys(("seq", "step"), 0),
    **dict.fromkeys((*_TEXT_LISTS, *_NUMBER_LISTS), ()),
    "ordinals": b"",
}


def _row(kind: str, version: int, **cells: object) -> dict[str, object]:
    return {**_EMPTY, "kind": kind, "version": version, **cells}


def _coverage_row(key: StreamKey, held: Coverage, version: int) -> dict[str, object]:
    alone = {key: held}
    intervals, gaps, spoke = coverage_rows(alone), gap_rows(alone), epoch_rows(alone)
    return _row(
        "coverage",
        version,
        **key._asdict(),
        unit=held.unit,
        origins=intervals["origin"].to_pylist(),
        epochs=intervals["epoch"].to_pylist(),
        firsts=intervals["first"].to_pylist(),
        lasts=intervals["last"].to_pylist(),
        gap_epochs=gaps["epoch"].to_pylist(),
        gap_firsts=gaps["first"].to_pylist(),
        gap_lasts=gaps["last"].to_pylist(),
        gap_reasons=gaps["reason"].to_pylist(),
        gap_states=gaps["state"].to_pylist(),
        spoken=spoke["epoch"].to_pylist(),
        spoken_lasts=spoke["last"].to_pylist(),
    )
