"""The exam without processes, quick enough to be sat by broken code: what fails is named.

Each edition tells some lines over one connection, and the last of them again over a second one at
the same time. Delivery gives the ledger its sums for the first half; the rest is made up from
frames, and the frames of the whole are gone at last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.clock import ManualClock
from forebay.journal import OS_DISK, JournalReader, Position
from forebay.journal.segments import list_segments, segment_path
from forebay.services.deliver import Deliverer
from forebay.services.ledger import open_ledger
from forebay.services.ledger_builder import LiveSums
from forebay.stores.duckdb import DuckDBAudited, DuckDBStore
from tests.exam.judging import audit
from tests.exam.made.protocol import EDITIONS
from tests.exam.offline import journal, parsers, stored, tell
from tests.exam.spoiling import ALTERED, DOUBLED, DROPPED, INTACT, SPOILED, spoil
from tests.exam.wire import STREAMS, line, lines

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pyarrow as pa

    from tests.exam.judging import Findings
    from tests.exam.made.protocol import Edition

COUNT, AGAIN = 240, 80
EXPECTED = {DROPPED: {"missing"}, DOUBLED: {"doubled"}, ALTERED: {"mutated"}, INTACT: set()}
NAMES = {DROPPED: "dropped", DOUBLED: "doubled", ALTERED: "altered", INTACT: "intact"}


def sit(root: Path, editions: Sequence[Edition] = EDITIONS) -> set[str]:
    """Return the guarantees that do not hold for ``editions``; none if the code is right."""
    return {*_stored(root / "stored", editions), *_on_the_way(root / "way", editions)}


def _stored(root: Path, editions: Sequence[Edition]) -> set[str]:
    folder, failed, store = root / "journal", set(), DuckDBStore(None)
    writer = journal(folder, editions, lines(COUNT), segment_bytes=1 << 13)
    live = LiveSums()
    deliverer = Deliverer(folder, store, parsers(editions), sums=live)
    deliverer.drain()
    for edition in editions:
        tell(writer, edition, lines(COUNT)[-AGAIN:], epoch="e2", first=COUNT - AGAIN)
    ledger = open_ledger(
        root / "ledger",
        parsers(editions),
        ManualClock(),
        first_told=store.first_told,
        live=live,
    )
    ends = [Position(writer.position.log_id, seq) for seq in list_segments(OS_DISK, folder)[1:]]

    def record() -> None:
        reached = ledger.reached()
        for end in ends:
            with JournalReader(folder, start=reached) as reader:
                ledger.record(reader.read(max_frames=1 << 20), end)

    record_half = Position(writer.position.log_id, deliverer.position.seq)  # type: ignore[union-attr]
    ledger.record((), record_half)
    deliverer.drain()
    asked = DuckDBAudited(lambda statement: _query(store, statement))
    if not _pristine(audit(asked, folder), editions):
        failed.add("pristine")
    if not _pristine(audit(asked, folder, "auto", root / "ledger"), editions):
        failed.add("the ledger and a tail")
    live.stop()
    record()
    if not _pristine(audit(asked, folder, "auto", root / "ledger"), editions):
        failed.add("the ledger")
    spoil(store._session.connection)  # spoiling has no door of its own
    found = audit(asked, folder)
    failed |= {
        NAMES[stream]
        for stream, problems in EXPECTED.items()
        for edition in editions
        if found.problems(edition, stream) != problems
    }
    for seq in list_segments(OS_DISK, folder)[:-1]:
        segment_path(folder, seq).unlink()
    found = audit(asked, folder, "ledger", root / "ledger")
    failed |= {
        f"{NAMES[stream]} without frames"
        for stream, problems in EXPECTED.items()
        for edition in editions
        if found.problems(edition, stream) != ({"unlike_ledger"} if problems else set())
    }
    ledger.close()
    store.close()
    writer.close()
    return failed


def _query(store: DuckDBStore, statement: str) -> pa.Table:
    with store.connection() as connection:
        return connection.sql(statement).to_arrow_table()


def _pristine(found: Findings, editions: Sequence[Edition]) -> bool:
    """Whether all is well, and as many events are stored as there were."""
    each = COUNT // len(STREAMS)
    return found.report.ok and all(
        found.stream(edition, stream).events
        == each + (AGAIN // len(STREAMS) if edition.identity in ("session", "observation") else 0)
        for edition in editions
        for stream in STREAMS
    )


def _on_the_way(root: Path, editions: Sequence[Edition]) -> set[str]:
    told, left, again = lines(COUNT), line(*DROPPED, SPOILED), line(*DOUBLED, SPOILED)
    told.remove(left)
    told.insert(told.index(again) + 1, again)
    store = DuckDBStore(None)
    journal(root, editions, told).close()
    stored(root, store, editions)
    found = audit(DuckDBAudited(lambda statement: _query(store, statement)), root)
    store.close()
    return {name for edition in editions for name in _wrong_on_the_way(found, edition)}


def _wrong_on_the_way(found: Findings, edition: Edition) -> set[str]:
    failed = set()
    counted = edition.unit in ("id", "seq")
    if found.problems(edition, DROPPED) != ({"gap_open"} if counted else set()):
        failed.add("left out")
    identified = edition.identity in ("native", "session")
    if found.stream(edition, DOUBLED).events != COUNT // len(STREAMS) + (not identified):
        failed.add("told twice")
    return failed
