"""Appending frames durably: the journal beside a raw file, lmdb and SQLite.

All keep the same promise by the same policy: frames of 250 bytes come one by one, and a group
of a megabyte is put on stable storage before the next one is begun. The raw file is what the
machine can do: the same groups joined, written and synced, with nothing to find them by.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from forebay.clock import SystemClock
from forebay.journal import JournalWriter, PendingBlock
from tests.benchmarks.frames import APPENDED_BYTES, payloads
from tests.benchmarks.harness import OURS, Goal, Row, alternate, seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GROUP = (1 << 20) // APPENDED_BYTES
"""Frames of one group: the linger of 10 ms never ends first at this pace."""
_MAP_BYTES = 4 << 30
_CONTEXT = b'{"venue":"bench"}'


def groups(count: int) -> list[list[bytes]]:
    """Make the frames, cut into groups."""
    frames = payloads(count)
    return [frames[at : at + GROUP] for at in range(0, count, GROUP)]


def journal(folder: Path, todo: list[list[bytes]]) -> None:
    """The product's own writer, with a receipt time for each frame."""
    clock = SystemClock()
    with JournalWriter.open(folder / "journal", clock=clock) as writer:
        for group in todo:
            now = clock.monotonic_ns()
            writer.commit([PendingBlock(1, _CONTEXT, group, [now] * len(group))])


def raw(folder: Path, todo: list[list[bytes]]) -> None:
    """Join, write, sync."""
    fd = os.open(folder / "raw", os.O_WRONLY | os.O_CREAT, 0o600)
    for group in todo:
        os.write(fd, b"".join(group))
        os.fdatasync(fd)
    os.close(fd)


def lmdb(folder: Path, todo: list[list[bytes]]) -> None:
    """Append keys in order, one synced transaction a group."""
    import lmdb

    with lmdb.open(str(folder / "lmdb"), map_size=_MAP_BYTES, max_dbs=2) as environment:
        rows, seq = environment.open_db(b"frames"), 0
        for group in todo:
            with (
                environment.begin(db=rows, write=True) as transaction,
                transaction.cursor() as cursor,
            ):
                pairs = [(n.to_bytes(8, "big"), frame) for n, frame in enumerate(group, seq)]
                cursor.putmulti(pairs, append=True)
            seq += len(group)


def sqlite(folder: Path, todo: list[list[bytes]]) -> None:
    """Insert in a WAL, one synced transaction a group."""
    database = sqlite3.connect(folder / "frames.sqlite", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE frames (seq INTEGER PRIMARY KEY, payload BLOB)")
    seq = 0
    for group in todo:
        database.execute("BEGIN")
        database.executemany("INSERT INTO frames VALUES (?, ?)", enumerate(group, seq))
        database.execute("COMMIT")
        seq += len(group)
    database.close()


CONTENDERS: dict[str, Callable[[Path, list[list[bytes]]], None]] = {
    OURS: journal,
    "raw write + fdatasync": raw,
    "lmdb": lmdb,
    "SQLite WAL": sqlite,
}
_GOALS = {"raw write + fdatasync": 0.8, "lmdb": 1.2, "SQLite WAL": 4.0}


def run(*, count: int = 400_000) -> Iterator[Row]:
    """Measure frames a second of wall time: half of the work is the disk's."""
    todo = groups(count)
    with tempfile.TemporaryDirectory(prefix="forebay-bench-") as folder:

        def once(append: Callable[[Path, list[list[bytes]]], None]) -> Callable[[], float]:
            def measured() -> float:
                place = Path(tempfile.mkdtemp(dir=folder))
                took = seconds(lambda: append(place, todo))
                shutil.rmtree(place)
                return count / took

            return measured

        rounds = alternate({name: once(append) for name, append in CONTENDERS.items()})
    for peer, ratio in _GOALS.items():
        yield rounds.row(f"journal append / {peer}", "frames/s", Goal(ratio=ratio), peer)
