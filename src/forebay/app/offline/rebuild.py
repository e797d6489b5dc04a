"""A data folder's database made anew from its journal, and put in the place of the old one.

So is a folder of an earlier layout moved to this one: what is not the journal is set aside and
made again, and the mark is written last.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple

from forebay.app.querying import MAX_QUERY_S
from forebay.app.wiring import stores
from forebay.app.wiring.data_folder import LAYOUT
from forebay.app.wiring.journaling import open_journal
from forebay.app.wiring.venues import parsers
from forebay.domain.coverage import StreamKey
from forebay.domain.digest import HOUR_NS
from forebay.domain.intervals import IntervalSet
from forebay.domain.kinds import kind_of_table
from forebay.errors import ForebayError
from forebay.journal import OS_DISK, JournalReader
from forebay.journal.disk import translated
from forebay.ports import Span
from forebay.services.deliver import CONSUMER
from forebay.services.rebuild import Absence, Counted, absences, arrived, rebuild

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import pyarrow as pa

    from forebay.app.wiring.config import Config
    from forebay.app.wiring.data_folder import DataFolder
    from forebay.clock import Clock
    from forebay.domain.digest import StreamHour
    from forebay.ports import ReadableStore
    from forebay.services.deliver import Delivered
    from forebay.stores.kind import StoreConfig, StoreKind
    from forebay.telemetry import Observer

OLDEST = 1
"""The oldest layout whose journal can be read."""
_COUNTED = ("frames", "stored", "duplicates", "conflicts", "dead_letters")
NO_HOUR = Span(0, 0)
"""Nothing is hashed: hours are counted alone."""
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


def rebuild_database(
    folder: DataFolder,
    config: Config,
    *,
    clock: Clock,
    observer: Observer,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> dict[str, Any]:
    """Make the database anew and return the account of it.

    The old one is replaced at the very end, by one rename: a kill before leaves it as it was, and
    the next try begins anew. If it has what the journal has not, or cannot be read, it is kept
    beside under the name that the account says, and so are the Parquet files of its hours: they
    would be made anew from less. Those of an earlier layout are kept in any case, and its ledger.

    Raises :class:`~forebay.errors.Unreachable` while a capture holds the folder.
    """
    with folder.existing(oldest=OLDEST).owned(), contextlib.ExitStack() as held:
        moves = folder.layout() != LAYOUT
        writer = held.enter_context(
            contextlib.closing(open_journal(folder, config, clock, observer))
        )
        end = writer.position.seq
        kind = stores.kind_of(config.store)
        wanted, old = config.store, folder.database(kind.name)
        new = _sibling(old, "rebuilding")
        _remove(new, kind)
        told = functools.partial(rebuild, folder.journal, parsers=parsers(), observer=observer)
        with contextlib.closing(kind.open(wanted, new)) as store:
            delivered = told(store, progress=lambda seq: progress(seq - 1, end - 1))
            after = said(store, kind)
        there = old.exists()
        before = _state(old, kind, wanted, moves=moves) if there else None
        missing = absences(before.arrived, after.arrived) if before else []
        lacks = there and (before is None or bool(missing) or before.exceeds(after))
        if lacks or moves:
            _set_aside(folder.parquet)
        if moves:
            _set_aside(folder.ledger)
        earlier = before is not None and before.layout != LAYOUT
        kept = _swap(old, new, kind, keep=lacks or earlier)
        if moves:
            with translated(f"write the mark of {folder.root}"):
                folder.mark(OS_DISK)
        return _account(folder, delivered, missing, kept, complete=not lacks)


class DatabaseState(NamedTuple):
    """What a database has."""

    layout: int
    arrived: Mapping[Counted, IntervalSet]
    events: Mapping[StreamHour, int]
    """How many. Of streams that count nothing it is all that tells."""
    rarities: frozenset[tuple[str, str]]
    """Which dead letters and conflicts: their number would hide a loss for which as many new ones
    came."""

    def exceeds(self, other: DatabaseState) -> bool:
        """Return whether it has more events of an hour, or rarities that the other has not."""
        more = any(count > other.events.get(hour, 0) for hour, count in self.events.items())
        return more or bool(self.rarities - other.rarities)


def _state(
    path: Path, kind: StoreKind, wanted: StoreConfig, *, moves: bool
) -> DatabaseState | None:
    """Return what a database has; None if it cannot be read.

    One of this layout is in one file afterwards, without log. In a folder that moves to it there
    may be one already, if the move was ended before the mark was written.
    """
    try:
        if moves:
            with contextlib.closing(kind.read(wanted, path, wanted.memory_limit_mb)) as reader:
                earlier = _layout_1(functools.partial(reader.query, timeout_s=MAX_QUERY_S))
            if earlier is not None:
                return earlier
        with contextlib.closing(kind.open(wanted, path)) as store:
            return said(store, kind)
    except ForebayError:
        return None


def said(store: ReadableStore, kind: StoreKind) -> DatabaseState:
    """Return what a database has, as it says itself."""
    with contextlib.closing(store.reader()) as reader:
        query = functools.partial(reader.query, timeout_s=MAX_QUERY_S)
        hours = kind.audited(query, CONSUMER).account(NO_HOUR).hours
    events = {hour: account.events for hour, account in hours.items()}
    return DatabaseState(LAYOUT, arrived(store.load().coverage), events, store.rarities())


def _sibling(path: Path, what: str) -> Path:
    return path.with_name(f"{path.name}.{what}")


def _remove(path: Path, kind: StoreKind) -> None:
    """Remove what a killed predecessor left; it may be of another version of the parsers."""
    with translated(f"remove {path}"):
        for file in (path, *(_sibling(path, ending) for ending in kind.beside)):
            file.unlink(missing_ok=True)


def _unused(path: Path) -> Path:
    names = (_sibling(path, f"before-{number}") for number in itertools.count(1))
    return next(name for name in names if not name.exists())


def _set_aside(files: Path) -> None:
    if files.exists():
        with translated(f"keep {files}"):
            OS_DISK.rename(files, _unused(files))
            OS_DISK.fsync_dir(files.parent)


def _swap(old: Path, new: Path, kind: StoreKind, *, keep: bool) -> Path | None:
    """Put ``new`` in the place of ``old``; return where the old one is kept, if it is."""
    kept = None
    with translated(f"put {new} in the place of {old}"):
        if keep:
            kept = _unused(old)
            kept.hardlink_to(old)
        for ending in kind.beside:
            log = _sibling(old, ending)
            if kept and log.exists():
                OS_DISK.rename(log, _sibling(kept, ending))
            # One that stays would be replayed into the new database.
            log.unlink(missing_ok=True)
        fd = OS_DISK.open(new, write=True)
        OS_DISK.fdatasync(fd)
        OS_DISK.close(fd)
        OS_DISK.fsync_dir(old.parent)
        OS_DISK.rename(new, old)
        OS_DISK.fsync_dir(old.parent)
    return kept


def _account(
    folder: DataFolder,
    delivered: Delivered,
    missing: list[Absence],
    kept: Path | None,
    *,
    complete: bool,
) -> dict[str, Any]:
    with JournalReader(folder.journal) as reader:
        first = reader.position.seq
    return {
        **{name: getattr(delivered, name) for name in _COUNTED},
        "oldest_frame": first,
        "not_in_journal": [asdict(absence) for absence in missing],
        "complete": complete,
        "kept": None if kept is None else str(kept),
    }


def _layout_1(query: Callable[[str], pa.Table]) -> DatabaseState | None:
    """Return what a database has whose streams were all spot and counted ids; None of another."""
    if _rows(query(_OF_THIS_LAYOUT)):
        return None
    told: dict[Counted, IntervalSet] = {}
    for venue, channel, symbol, first, last in _rows(query(_ARRIVED)):
        stream = StreamKey(str(venue), "spot", str(channel), str(symbol))
        numbers = told.setdefault(Counted(stream, "id", ""), IntervalSet())
        numbers.add(first, last)
    events = {
        (StreamKey(str(venue), "spot", kind_of_table(table).channel, str(symbol)), hour): count
        for (table,) in _rows(query(_TABLES))
        for venue, symbol, hour, count in _rows(query(_HOURS.format(table=table, hour=HOUR_NS)))
    }
    return DatabaseState(1, told, events, frozenset(_rows(query(_RARITIES))))


def _rows(table: pa.Table) -> list[tuple[Any, ...]]:
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))
