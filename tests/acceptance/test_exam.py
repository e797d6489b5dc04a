"""The exam of the house: whatever a venue declares, captured and stored, is proved or refuted.

A venue and a kind of event that are not in the tree are captured by the product's own processes, in
every edition: each pair of identity class and unit of coverage that a channel may declare. What was
stored, in DuckDB and in memory, is audited as it is and after it was spoiled, with frames and after
they are gone. See :mod:`tests.exam`.
"""

from __future__ import annotations

import contextlib
import shutil
from decimal import Decimal
from typing import TYPE_CHECKING

import duckdb
import pytest

from forebay.clock import ManualClock, SystemClock
from forebay.domain.channels import UNITS_OF
from forebay.domain.kinds import KINDS
from forebay.journal import OS_DISK, Position
from forebay.journal.housekeeping import Housekeeper
from forebay.journal.retention import Rules
from forebay.journal.segments import list_segments
from forebay.services.ledger import open_ledger
from forebay.stores.duckdb import DuckDBAudited, DuckDBReader, DuckDBStore
from tests.exam.capturing import capture
from tests.exam.judging import audit
from tests.exam.made.protocol import EDITIONS
from tests.exam.offline import journal, parsers, stored, tell
from tests.exam.ping import PING
from tests.exam.spoiling import ALTERED, DOUBLED, DROPPED, INTACT, SPOILED, spoil
from tests.exam.wire import STREAMS, line, lines
from tests.support.memory_store import MemoryAudited, MemoryStore
from tests.tiers import count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from forebay.app.wiring.data_folder import DataFolder
    from forebay.ports import Audited
    from forebay.services.audit import Use
    from tests.exam.judging import Findings
    from tests.exam.made.protocol import Edition

EVENTS = min(count("events of an edition"), 5_000)
"""Of each edition, in four streams."""
SOAK_EVENTS = count("events of an edition")
SOAK_MS = 10_000

every_edition = pytest.mark.parametrize("edition", EDITIONS, ids=lambda edition: edition.venue)


@pytest.fixture(scope="module", autouse=True)
def _ping() -> Iterator[None]:
    """The tests know the exam's kind, as its processes do."""
    KINDS[PING.channel] = PING
    yield
    del KINDS[PING.channel]


@contextlib.contextmanager
def opened(database: Path) -> Iterator[Audited]:
    reader = DuckDBReader.of_file(database)
    try:
        yield DuckDBAudited(reader.query)
    finally:
        reader.close()


# ------------------------------------------------------------------------- captured for real


@pytest.fixture(scope="module")
def captured(tmp_path_factory: pytest.TempPathFactory) -> DataFolder:
    return capture(tmp_path_factory.mktemp("exam"), EDITIONS, EVENTS)


@pytest.fixture(scope="module")
def pristine(captured: DataFolder) -> Findings:
    with opened(captured.database("duckdb")) as store:
        return audit(store, captured.journal)


@pytest.fixture(scope="module")
def spoiled(captured: DataFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("spoiled") / "spoiled.duckdb"
    shutil.copy(captured.database("duckdb"), copy)
    with duckdb.connect(str(copy)) as connection:
        spoil(connection)
    return copy


@pytest.fixture(scope="module")
def judged(captured: DataFolder, spoiled: Path) -> Findings:
    with opened(spoiled) as store:
        return audit(store, captured.journal)


@pytest.fixture(scope="module")
def retired(captured: DataFolder, tmp_path_factory: pytest.TempPathFactory) -> DataFolder:
    """The same folder once its frames are recorded and gone, but those of the last segment."""
    root = tmp_path_factory.mktemp("retired") / "data"
    shutil.copytree(captured.root, root, ignore=shutil.ignore_patterns("*.sock", "*.lock"))
    folder = type(captured)(root)
    store = DuckDBStore(folder.database("duckdb"))
    position = store.load().positions["store"]
    ledger = open_ledger(
        folder.ledger, parsers(EDITIONS), ManualClock(), first_told=store.first_told
    )
    keeper = Housekeeper(
        folder.journal,
        clock=SystemClock(),
        cursors=lambda: [Position(position.log_id, position.seq)],
        ledger=ledger,
        rules=Rules(0, None),
    )
    while keeper.step():
        pass
    keeper.close()
    ledger.close()
    store.close()
    assert len(list_segments(OS_DISK, folder.journal)) == 1
    return folder


@every_edition
def test_what_is_captured_is_green(pristine: Findings, edition: Edition) -> None:
    assert pristine.only_refused(), pristine.report.problems
    for stream in STREAMS:
        report = pristine.stream(edition, stream)
        assert report.events == EVENTS // len(STREAMS)
        assert report.basis == edition.unit
        assert (report.verified_from is None) is (edition.unit == "none")
        assert report.unseeable


def test_every_pair_that_may_be_declared_is_in_the_exam() -> None:
    declared = {(edition.identity, edition.unit) for edition in EDITIONS}
    assert declared == {(each, unit) for each, units in UNITS_OF.items() for unit in units}
    assert {edition.unit for edition in EDITIONS if edition.texts} == {"seq", "time", "none"}


@every_edition
def test_an_event_that_was_dropped_doubled_or_altered_is_named(
    judged: Findings, edition: Edition
) -> None:
    assert judged.problems(edition, DROPPED) == {"missing"}
    assert judged.stream(edition, DROPPED).missing == 1
    assert judged.problems(edition, DOUBLED) == {"doubled"}
    assert judged.stream(edition, DOUBLED).doubled == 1
    assert judged.problems(edition, ALTERED) == {"mutated"}
    assert judged.stream(edition, ALTERED).mutated == 1
    assert judged.problems(edition, INTACT) == set()


@pytest.mark.parametrize("source", ["auto", "ledger"])
def test_the_ledger_is_green_with_and_without_its_frames(
    captured: DataFolder, retired: DataFolder, source: Use
) -> None:
    with opened(captured.database("duckdb")) as store:
        for journal_folder in (captured.journal, retired.journal):
            found = audit(store, journal_folder, source, retired.ledger)
            assert found.only_refused(), found.report.problems


@every_edition
def test_without_frames_the_ledger_names_the_hours(
    retired: DataFolder, without_frames: Findings, edition: Edition
) -> None:
    for stream in (DROPPED, DOUBLED, ALTERED):
        assert without_frames.problems(edition, stream) == {"unlike_ledger"}
    assert without_frames.problems(edition, INTACT) == set()


@pytest.fixture(scope="module")
def without_frames(retired: DataFolder, spoiled: Path) -> Findings:
    with opened(spoiled) as store:
        return audit(store, retired.journal, "ledger", retired.ledger)


# ------------------------------------------------------------------------------- in memory


def test_a_store_in_memory_is_proved_and_refuted_as_well(captured: DataFolder) -> None:
    store = MemoryStore()
    stored(captured.journal, store, EDITIONS)
    assert audit(MemoryAudited(store), captured.journal).only_refused()
    rows = store._events  # spoiling has no door of its own
    for edition in EDITIONS:
        for kind, symbol in (DROPPED, ALTERED):
            table = rows[KINDS[kind].table]
            theirs = [
                i for i, r in table.items() if (r["venue"], r["symbol"]) == (edition.venue, symbol)
            ]
            if (kind, symbol) == DROPPED:
                del table[theirs[SPOILED]]
            else:
                table[theirs[SPOILED]]["ask_price"] = Decimal(7)
    found = audit(MemoryAudited(store), captured.journal)
    for edition in EDITIONS:
        assert found.problems(edition, DROPPED) == {"missing"}
        assert found.problems(edition, ALTERED) == {"mutated"}
        assert found.problems(edition, INTACT) == set()


# ------------------------------------------------------------------------------- on the way

FEW = 400
"""Lines that are spoiled on the way to us."""


def spoiled_on_the_way(tmp_path: Path, edition: Edition, payloads: list[bytes]) -> Findings:
    folder = tmp_path / "journal"
    journal(folder, [edition], payloads).close()
    return audit(MemoryAudited(stored(folder, MemoryStore(), [edition])), folder)


@every_edition
def test_what_the_venue_left_out_is_a_gap_or_unseeable(tmp_path: Path, edition: Edition) -> None:
    told = lines(FEW)
    told.remove(line(*DROPPED, SPOILED))
    found = spoiled_on_the_way(tmp_path, edition, told)
    if edition.unit in ("id", "seq"):
        assert found.problems(edition, DROPPED) == {"gap_open"}
        (gap,) = found.report.gaps
        assert (gap.unit, gap.first, gap.last) == (edition.unit, SPOILED, SPOILED)
        assert gap.epoch == ("e1" if edition.unit == "seq" else "")
    else:
        assert found.report.ok, found.report.problems
        missing = "left out" if edition.unit == "time" else "never came"
        assert missing in found.stream(edition, DROPPED).unseeable


@every_edition
def test_what_the_venue_told_twice_is_one_event_or_unseeable(
    tmp_path: Path, edition: Edition
) -> None:
    told = lines(FEW)
    again = line(*DOUBLED, SPOILED)
    told.insert(told.index(again) + 1, again)
    found = spoiled_on_the_way(tmp_path, edition, told)
    assert found.report.ok, found.report.problems
    report = found.stream(edition, DOUBLED)
    identified = edition.identity in ("native", "session")
    assert report.events == FEW // len(STREAMS) + (not identified)
    assert identified is ("told twice" not in report.unseeable)


@every_edition
def test_what_the_venue_tells_otherwise_is_a_conflict_or_unseeable(
    tmp_path: Path, edition: Edition
) -> None:
    told = lines(FEW)
    right = line(*ALTERED, SPOILED)
    told.insert(told.index(right) + 1, right[:-1] + b"0" + right[-1:])
    found = spoiled_on_the_way(tmp_path, edition, told)
    assert "another content" in found.stream(edition, ALTERED).unseeable
    assert found.report.conflicts == (edition.identity in ("native", "session"))


@every_edition
def test_between_two_connections_what_was_lost_is_a_gap_or_nothing_is_owed(
    tmp_path: Path, edition: Edition
) -> None:
    folder, told = tmp_path / "journal", lines(FEW)
    writer = journal(folder, [edition], told[: FEW // 2])
    rest = told[FEW // 2 + 40 :]
    tell(writer, edition, rest, epoch="e2", first=FEW // 2 + 40)
    writer.close()
    found = audit(MemoryAudited(stored(folder, MemoryStore(), [edition])), folder)
    for stream in STREAMS:
        gaps = [gap for gap in found.report.gaps if (gap.channel, gap.symbol) == stream]
        if edition.unit == "none":
            assert not gaps
            assert found.report.ok
            continue
        (gap,) = gaps
        assert gap.unit == ("id" if edition.unit == "id" else "time")
        assert gap.reason == "between_connections"
        assert gap.state == ("open" if edition.history else "permanent")
        assert found.problems(edition, stream) == ({"gap_open"} if edition.history else set())


# ------------------------------------------------------------------------------------- soak


@pytest.mark.soak
@every_edition
def test_a_hundred_thousand_events_are_green_in_ten_seconds(
    tmp_path: Path, edition: Edition, record_property: Callable[[str, object], None]
) -> None:
    folder = capture(tmp_path, [edition], SOAK_EVENTS)
    with opened(folder.database("duckdb")) as store:
        found = audit(store, folder.journal)
    assert found.report.ok, found.report.problems
    took = f"{edition.venue}: {found.report.took_ms} ms"
    record_property("summary", f"audit of {SOAK_EVENTS} events, {took}")
    assert found.report.took_ms <= SOAK_MS
