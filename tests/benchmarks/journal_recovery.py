"""Opening a journal after its writer was killed: every byte of the last segment is checked."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from forebay.clock import SystemClock
from forebay.journal import JournalWriter, PendingBlock
from forebay.journal.watermark import FILE_NAME
from tests.benchmarks.harness import OURS, Goal, Row, alternate, seconds
from tests.benchmarks.journal_append import groups

if TYPE_CHECKING:
    from collections.abc import Iterator


def run(*, count: int = 1_000_000) -> Iterator[Row]:
    """Measure megabytes scanned a second of wall time, with the file in the page cache."""
    clock = SystemClock()
    with tempfile.TemporaryDirectory(prefix="forebay-bench-") as name:
        folder = Path(name)
        with JournalWriter.open(folder, clock=clock, segment_bytes=1 << 40) as writer:
            for group in groups(count):
                writer.commit([PendingBlock(1, b"{}", group, [1] * len(group))])
        (segment,) = folder.glob("*.fbj")

        def recover() -> float:
            (folder / FILE_NAME).unlink()  # without a watermark nothing may be taken on trust
            size = segment.stat().st_size
            return size / 1e6 / seconds(lambda: JournalWriter.open(folder, clock=clock).close())

        yield alternate({OURS: recover}).row(
            "journal recovery scan", "MB/s", Goal(least=500), note="last segment, page cache"
        )
