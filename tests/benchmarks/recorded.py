"""Frames that are stored and recorded in the ledger: its sums from delivery, or by parsing again.

Frames a CPU second from the journal to rows in DuckDB and a durable entry in the ledger. Beside it
the way that is taken after a restart: the ledger projects every frame once more.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from forebay.clock import ManualClock, SystemClock
from forebay.domain.frames import Context, FrameKind
from forebay.journal import JournalWriter, PendingBlock, Position, iter_blocks
from forebay.services.deliver import Deliverer
from forebay.services.ledger import open_ledger
from forebay.services.ledger_builder import LiveSums
from forebay.sources.coinbase.protocol import VENUE, CoinbaseParser
from forebay.stores.duckdb import DuckDBStore
from tests.benchmarks.frames import matches
from tests.benchmarks.harness import OURS, Goal, Row, alternate, cpu_seconds

if TYPE_CHECKING:
    from collections.abc import Iterator

PEER = "parsed again for the ledger"
_CONTEXT = Context(venue=VENUE, source="ws", purpose="live", collector="bench", epoch="e1").encode()
_GROUP = 4096
_RECEIVED_NS = 1_767_225_700 * 10**9
"""Beside the simulator's own time."""


def write_journal(folder: Path, frames: int) -> None:
    """Write a journal of matches as the simulator sends them."""
    payloads = list(matches(frames))
    with JournalWriter.open(folder, clock=ManualClock(), ballast_bytes=0) as writer:
        for at in range(0, frames, _GROUP):
            group = payloads[at : at + _GROUP]
            times = [_RECEIVED_NS] * len(group)
            writer.commit([PendingBlock(int(FrameKind.TEXT), _CONTEXT, group, times, (0, 0))])


def _frames_per_cpu_second(journal: Path, frames: int, *, live: LiveSums | None) -> float:
    parsers, clock = {VENUE: CoinbaseParser()}, SystemClock()
    with tempfile.TemporaryDirectory(prefix="forebay-bench-") as made:
        store = DuckDBStore(Path(made, "bench.duckdb"))
        began = cpu_seconds()
        deliverer = Deliverer(journal, store, parsers, sums=live)
        deliverer.drain()
        end = deliverer.position
        assert end is not None
        folder = Path(made, "ledger")
        with open_ledger(folder, parsers, clock, first_told=store.first_told, live=live) as ledger:
            ledger.record(iter_blocks(journal, Position(end.log_id, 1)), end)
            assert ledger.reached() == end
        took = cpu_seconds() - began
        store.close()
    return frames / took


def run(*, frames: int = 100_000) -> Iterator[Row]:
    """Measure both ways in turn."""
    with tempfile.TemporaryDirectory(prefix="forebay-bench-") as made:
        journal = Path(made, "journal")
        write_journal(journal, frames)
        rounds = alternate(
            {
                OURS: lambda: _frames_per_cpu_second(journal, frames, live=LiveSums()),
                PEER: lambda: _frames_per_cpu_second(journal, frames, live=None),
            }
        )
        yield rounds.row("stored and recorded", "frames/CPU s", Goal(ratio=1.2), PEER)
