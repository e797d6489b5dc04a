"""The exam without processes, across a transport: the second store is as the first, and as true.

Each edition tells its lines over one connection and the last of them again over a second one; the
journal's blocks become durable one by one. Publisher and bridge are killed over and over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.services.deliver import Deliverer
from forebay.services.lane_bridge import journal_cursor
from forebay.stores.duckdb import DuckDBAudited, DuckDBStore
from tests.exam.judging import audit
from tests.exam.made.protocol import EDITIONS
from tests.exam.offline import BLOCK, parsers, tell
from tests.exam.spoiling import ALTERED, DOUBLED, DROPPED, INTACT, SPOILED, spoil
from tests.exam.wire import line, lines
from tests.support.crossing import Crossing, Fuse, content, fused
from tests.support.memory_store import MemoryAudited, MemoryStore

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pyarrow as pa

    from forebay.journal import PendingBlock
    from tests.exam.made.protocol import Edition

COUNT, AGAIN = 240, 80
EXPECTED = {DROPPED: {"missing"}, DOUBLED: {"doubled"}, ALTERED: {"mutated"}, INTACT: set()}
NAMES = {DROPPED: "dropped", DOUBLED: "doubled", ALTERED: "altered", INTACT: "intact"}
KILLS = range(5, 100_000, 61)
"""Every so many operations somebody dies: more than a step of all lanes has."""


class _Taken:
    """A journal's writer whose every block is published at once, and stored now and then.

    Both processes begin anew every other block, beside being killed.
    """

    def __init__(self, crossing: Crossing) -> None:
        self._crossing = crossing
        self._blocks = 0

    def commit(self, drafts: Sequence[PendingBlock]) -> int:
        after = self._crossing.writer.commit(drafts)
        self._crossing.publish()
        self._blocks += 1
        if self._blocks % 3 == 0:
            self._crossing.store_step()
        if self._blocks % 2 == 0:
            self._crossing.restart()
        return after


def sit_across(root: Path, editions: Sequence[Edition] = EDITIONS) -> set[str]:
    """Return the guarantees that do not hold for ``editions``; none if the code is right."""
    fuse = Fuse(*KILLS)
    store = DuckDBStore(None)
    crossing = Crossing(root, parsers(editions), fused(store, fuse), fuse, partitions=2)
    writer, told = _Taken(crossing), lines(COUNT)
    told.insert(told.index(line(*DOUBLED, SPOILED)), line(*DOUBLED, SPOILED))
    told.remove(line(*INTACT, SPOILED))
    told.insert(BLOCK, told[BLOCK - 2])  # equal events on both sides of a step's edge
    for edition in editions:
        tell(writer, edition, told)
        tell(writer, edition, lines(COUNT)[-AGAIN:], epoch="e2", first=COUNT - AGAIN)
    crossing.drain()
    failed = _unlike(crossing, store)
    if crossing.kills < 2:
        failed.add("nobody was killed")
    failed |= _judged(crossing, store, editions)
    store.close()
    crossing.close()
    return failed


def _unlike(crossing: Crossing, store: DuckDBStore) -> set[str]:
    """Return what of the second store is not as in one that had the journal itself."""
    first = MemoryStore()
    Deliverer(crossing.folder, first, crossing.parsers).drain()
    ours, theirs = content(store), content(first)
    failed = {name for name, rows in theirs.items() if ours[name] != rows}
    reports = (
        audit(_asked(crossing, store), crossing.folder),
        audit(MemoryAudited(first), crossing.folder),
    )
    one, other = ({**_plain(found.report), "took_ms": 0} for found in reports)
    if one != other:
        failed.add("the audit")
    return failed


def _plain(report: object) -> dict[str, object]:
    return {name: getattr(report, name) for name in report.__struct_fields__}  # type: ignore[attr-defined]


def _judged(crossing: Crossing, store: DuckDBStore, editions: Sequence[Edition]) -> set[str]:
    """Return what of the second store an audit does not find right, or not find spoiled."""
    asked, failed = _asked(crossing, store), set()
    before = audit(asked, crossing.folder)
    spoil(store._session.connection)  # spoiling has no door of its own
    after = audit(asked, crossing.folder)
    for edition in editions:
        for stream, problems in EXPECTED.items():
            owed = before.problems(edition, stream)
            if owed - {"gap_open"}:
                failed.add("pristine")
            if after.problems(edition, stream) - owed != problems:
                failed.add(NAMES[stream])
        counted = edition.unit in ("id", "seq")
        if counted is not ("gap_open" in before.problems(edition, INTACT)):
            failed.add("left out")
    return failed


def _asked(crossing: Crossing, store: DuckDBStore) -> DuckDBAudited:
    def query(statement: str) -> pa.Table:
        with store.connection() as connection:
            return connection.sql(statement).to_arrow_table()

    return DuckDBAudited(query, journal_cursor(crossing.writer.position.log_id))
