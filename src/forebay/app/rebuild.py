"""A data folder's database made anew from its journal, and put in the place of the old one."""

from __future__ import annotations

import itertools
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from forebay.app.journaling import open_journal
from forebay.app.venues import parsers
from forebay.errors import ForebayError
from forebay.journal import OS_DISK, JournalReader
from forebay.journal.disk import translated
from forebay.services.rebuild import Absence, absences, rebuild
from forebay.stores.duckdb import DuckDBStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from forebay.app.config import Config
    from forebay.app.data_folder import DataFolder
    from forebay.clock import Clock
    from forebay.ports import StoreState
    from forebay.services.deliver import Delivered
    from forebay.telemetry import Observer


def rebuild_database(
    folder: DataFolder,
    config: Config,
    *,
    clock: Clock,
    observer: Observer,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> dict[str, Any]:
    """Make the database anew and answer the account of it.

    The old one is replaced at the very end, by one rename: a kill before leaves it as it was, and
    the next try begins anew. If it has what the journal has not, or cannot be read, it is kept
    beside under the name that the account says, and so are the Parquet files of its hours: they
    would be made anew from less.

    Raises :class:`~forebay.errors.Unreachable` while a capture holds the folder.
    """
    with folder.existing().owned():
        writer = open_journal(folder, config, clock, observer)
        try:
            end = writer.position.seq
            new = _sibling(folder.database, "rebuilding")
            _remove(new)
            delivered, after = _build(
                folder, config, new, observer, lambda seq: progress(seq - 1, end - 1)
            )
            before = _state(folder.database, config) if folder.database.exists() else None
            missing = [] if before is None else absences(before[0].coverage, after[0].coverage)
            lacking = before is None or before[1] > after[1] or bool(before[2] - after[2])
            keep = folder.database.exists() and (bool(missing) or lacking)
            if keep:
                _set_aside(folder.parquet)
            kept = _swap(folder.database, new, keep=keep)
            return _account(folder, delivered, missing, kept)
        finally:
            writer.close()


State = tuple["StoreState", int, frozenset[tuple[str, str]]]
"""Cursor and coverage, how many trades, and which dead letters and conflicts. Counts of those
would hide a loss for which as many new ones came; of trades, coverage tells."""


def _build(
    folder: DataFolder,
    config: Config,
    path: Path,
    observer: Observer,
    progress: Callable[[int], None],
) -> tuple[Delivered, State]:
    store = DuckDBStore(path, memory_limit_mb=config.store.memory_limit_mb)
    try:
        delivered = rebuild(folder.journal, store, parsers(), observer=observer, progress=progress)
        return delivered, _said(store)
    finally:
        store.close()


def _state(path: Path, config: Config) -> State | None:
    """What a database has; None if it cannot be read. Afterwards it is in one file, without log."""
    try:
        store = DuckDBStore(path, memory_limit_mb=config.store.memory_limit_mb)
    except ForebayError:
        return None
    try:
        return _said(store)
    except ForebayError:
        return None
    finally:
        store.close()


def _said(store: DuckDBStore) -> State:
    return store.load(), store.counts(["trades"])["trades"], store.rarities()


def _sibling(path: Path, what: str) -> Path:
    return path.with_name(f"{path.name}.{what}")


def _remove(path: Path) -> None:
    """Remove what a killed predecessor left; it may be of another version of the parsers."""
    with translated(f"remove {path}"):
        for file in (path, _sibling(path, "wal")):
            file.unlink(missing_ok=True)


def _unused(path: Path) -> Path:
    names = (_sibling(path, f"before-{number}") for number in itertools.count(1))
    return next(name for name in names if not name.exists())


def _set_aside(files: Path) -> None:
    if files.exists():
        with translated(f"keep {files}"):
            OS_DISK.rename(files, _unused(files))
            OS_DISK.fsync_dir(files.parent)


def _swap(old: Path, new: Path, *, keep: bool) -> Path | None:
    """Put ``new`` in the place of ``old``; answer where the old one is kept, if it is."""
    kept = None
    with translated(f"put {new} in the place of {old}"):
        log = _sibling(old, "wal")
        if keep:
            kept = _unused(old)
            kept.hardlink_to(old)
            if log.exists():
                OS_DISK.rename(log, _sibling(kept, "wal"))
        # A log that stays would be replayed into the new database.
        log.unlink(missing_ok=True)
        fd = OS_DISK.open(new, write=True)
        OS_DISK.fdatasync(fd)
        OS_DISK.close(fd)
        OS_DISK.fsync_dir(old.parent)
        OS_DISK.rename(new, old)
        OS_DISK.fsync_dir(old.parent)
    return kept


def _account(
    folder: DataFolder, delivered: Delivered, missing: list[Absence], kept: Path | None
) -> dict[str, Any]:
    with JournalReader(folder.journal) as reader:
        first = reader.position.seq
    return {
        "frames": delivered.frames,
        "stored": {"trades": delivered.rows},
        "duplicates": delivered.duplicates,
        "conflicts": delivered.conflicts,
        "dead_letters": delivered.dead_letters,
        "oldest_frame": first,
        "not_in_journal": [asdict(absence) for absence in missing],
        "kept": None if kept is None else str(kept),
    }
