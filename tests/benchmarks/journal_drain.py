"""Reading frames back in batches, with a cursor that is durable after each batch.

Twice: as delivery takes them, which wants the bytes of many frames and where each ends, beside
peers that give record after record and keep none; and with a list of bytes objects, one a frame,
made by every contender for every batch.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections import deque
from itertools import chain, count, islice
from pathlib import Path
from typing import TYPE_CHECKING

from forebay.journal import CursorFile, JournalReader
from tests.benchmarks import journal_append
from tests.benchmarks.harness import OURS, Goal, Row, alternate, seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from forebay.journal import Block

    Take = Callable[[Iterable[bytes]], int]

BATCH = 32_768
"""Frames of one batch: 8 MB, as delivery reads them."""
_GOALS = {"lmdb": 2.5, "SQLite WAL": 6.0}


def each(frames: Iterable[bytes]) -> int:
    """Take frame after frame and keep none, at the pace of C; answer how many there were."""
    counter = count()
    deque(zip(frames, counter, strict=False), maxlen=0)
    return next(counter)


def listed(frames: Iterable[bytes]) -> int:
    """Make a list of all frames; answer how many there were."""
    return len(list(frames))


def _whole(blocks: list[Block]) -> int:
    """Take blocks as delivery does: all bytes, and where each frame ends."""
    assert all(block.payloads.ends[-1] == len(block.payloads.data) for block in blocks)
    return sum(len(block.payloads) for block in blocks)


def journal(folder: Path, take: Take) -> int:
    """Blocks, and the cursor in its two slots."""
    cursor, drained = CursorFile(folder / "bench.cursor"), 0
    with JournalReader(folder / "journal") as reader:

        def step() -> int:
            blocks = reader.read(max_frames=BATCH)
            if take is each:
                return _whole(blocks)
            return take(chain.from_iterable(block.payloads for block in blocks))

        while frames := step():
            drained += frames
            cursor.store(reader.position)
    cursor.close()
    return drained


def lmdb(folder: Path, take: Take) -> int:
    """A range of keys, and the cursor in a synced transaction of its own.

    Values are copied into bytes: with ``buffers=True`` a view of each costs more at this size.
    """
    import lmdb

    with lmdb.open(str(folder / "lmdb"), map_size=4 << 30, max_dbs=2) as environment:
        rows, places, drained = (*map(environment.open_db, (b"frames", b"cursors")), 0)
        while True:
            with environment.begin(db=rows) as transaction, transaction.cursor() as cursor:
                if not cursor.set_range(drained.to_bytes(8, "big")):
                    return drained
                drained += take(islice(cursor.iternext(keys=False), BATCH))
            with environment.begin(write=True) as transaction:
                transaction.put(b"bench", drained.to_bytes(8, "big"), db=places)


def sqlite(folder: Path, take: Take) -> int:
    """A range of rows, and the cursor in a synced transaction of its own."""
    database = sqlite3.connect(folder / "frames.sqlite", isolation_level=None)
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE IF NOT EXISTS cursors (name TEXT PRIMARY KEY, seq INTEGER)")
    drained = 0
    query = "SELECT payload FROM frames WHERE seq >= ? ORDER BY seq LIMIT ?"
    while frames := take(database.execute(query, (drained, BATCH))):
        drained += frames
        database.execute("INSERT OR REPLACE INTO cursors VALUES ('bench', ?)", (drained,))
    database.close()
    return drained


_DRAINS = {OURS: journal, "lmdb": lmdb, "SQLite WAL": sqlite}


def run(*, frames: int = 400_000) -> Iterator[Row]:
    """Measure frames a second of wall time, over what each has written itself."""
    todo = journal_append.groups(frames)
    with tempfile.TemporaryDirectory(prefix="forebay-bench-") as name:
        folder = Path(name)
        for peer in _DRAINS:
            journal_append.CONTENDERS[peer](folder, todo)
        del todo
        yield from _rows(folder, frames, each, "journal drain", _GOALS)
        yield from _rows(folder, frames, listed, "journal drain, an object a frame")


def _rows(
    folder: Path, frames: int, take: Take, name: str, goals: dict[str, float] | None = None
) -> Iterator[Row]:
    def once(drain: Callable[[Path, Take], int]) -> Callable[[], float]:
        def measured() -> float:
            drained: list[int] = []
            took = seconds(lambda: drained.append(drain(folder, take)))
            assert drained == [frames], "frames are missing"
            return frames / took

        return measured

    rounds = alternate({peer: once(drain) for peer, drain in _DRAINS.items()})
    for peer in _GOALS:
        goal = Goal(ratio=goals[peer]) if goals else None
        yield rounds.row(f"{name} / {peer}", "frames/s", goal, peer)
