"""Reading frames back in batches, with a cursor that is durable after each batch."""

from __future__ import annotations

import sqlite3
import tempfile
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from forebay.journal import CursorFile, JournalReader
from tests.benchmarks import journal_append
from tests.benchmarks.harness import OURS, Goal, Row, alternate, seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BATCH = 32_768
"""Frames of one batch: 8 MB, as delivery reads them."""
_GOALS = {"lmdb": 2.5, "SQLite WAL": 6.0}


def journal(folder: Path) -> int:
    """Blocks, and the cursor in its two slots."""
    cursor, drained = CursorFile(folder / "bench.cursor"), 0
    with JournalReader(folder / "journal") as reader:
        while blocks := reader.read(max_frames=BATCH):
            drained += sum(len(block.payloads) for block in blocks)
            cursor.store(reader.position)
    cursor.close()
    return drained


def lmdb(folder: Path) -> int:
    """A range of keys, and the cursor in a synced transaction of its own."""
    import lmdb

    with lmdb.open(str(folder / "lmdb"), map_size=4 << 30, max_dbs=2) as environment:
        rows, places, drained = (*map(environment.open_db, (b"frames", b"cursors")), 0)
        while True:
            with environment.begin(db=rows) as transaction, transaction.cursor() as cursor:
                if not cursor.set_range(drained.to_bytes(8, "big")):
                    return drained
                drained += len(list(islice(cursor.iternext(keys=False), BATCH)))
            with environment.begin(write=True) as transaction:
                transaction.put(b"bench", drained.to_bytes(8, "big"), db=places)


def sqlite(folder: Path) -> int:
    """A range of rows, and the cursor in a synced transaction of its own."""
    database = sqlite3.connect(folder / "frames.sqlite", isolation_level=None)
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE IF NOT EXISTS cursors (name TEXT PRIMARY KEY, seq INTEGER)")
    drained = 0
    query = "SELECT payload FROM frames WHERE seq >= ? ORDER BY seq LIMIT ?"
    while frames := database.execute(query, (drained, BATCH)).fetchall():
        drained += len(frames)
        database.execute("INSERT OR REPLACE INTO cursors VALUES ('bench', ?)", (drained,))
    database.close()
    return drained


def run(*, count: int = 400_000) -> Iterator[Row]:
    """Measure frames a second of wall time, over what each has written itself."""
    todo = journal_append.groups(count)
    drains = {OURS: journal, "lmdb": lmdb, "SQLite WAL": sqlite}
    with tempfile.TemporaryDirectory(prefix="forebay-bench-") as name:
        folder = Path(name)
        for peer in drains:
            journal_append.CONTENDERS[peer](folder, todo)

        def once(drain: Callable[[Path], int]) -> Callable[[], float]:
            def measured() -> float:
                drained: list[int] = []
                took = seconds(lambda: drained.append(drain(folder)))
                assert drained == [count], "frames are missing"
                return count / took

            return measured

        rounds = alternate({peer: once(drain) for peer, drain in drains.items()})
    for peer, ratio in _GOALS.items():
        yield rounds.row(f"journal drain / {peer}", "frames/s", Goal(ratio=ratio), peer)
