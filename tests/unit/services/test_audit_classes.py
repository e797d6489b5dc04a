"""The audit of every identity class and unit of coverage, with frames and without.

Two connections of the exam's venue tell the same lines, one a little behind the other, so that
either side of the ledger's end tells what the other told as well.
"""

# ruff: noqa: S608 - statements that spoil a store of our own

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from forebay.clock import ManualClock
from forebay.domain.digest import HOUR_NS
from forebay.domain.frames import (
    Context,
    EpochAccepted,
    EpochClosed,
    EpochOpened,
    FrameKind,
    encode_control,
)
from forebay.domain.kinds import KINDS
from forebay.journal import OS_DISK, JournalReader, JournalWriter, PendingBlock, Position
from forebay.journal.segments import list_segments, segment_path
from forebay.services.audit import journal_stage, run_audit
from forebay.services.audit.compare import Comparison
from forebay.services.deliver import Deliverer
from forebay.services.ledger import open_ledger
from forebay.services.projection import Projection
from forebay.stores.duckdb import DuckDBStore
from forebay.stores.duckdb.audit import DuckDBAudited
from tests.exam.made.protocol import EDITIONS, Edition
from tests.exam.offline import parsers, received_ns
from tests.exam.ping import PING
from tests.exam.wire import STREAMS, SYMBOLS, lines
from tests.support.audit_bench import blocks_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import pyarrow as pa

    from forebay.domain.digest import StreamHour
    from forebay.domain.frames import Control
    from forebay.services.audit import AuditReport, Use

COUNT, BLOCK, BEHIND = 480, 40, 3
"""Lines; lines in a block; how many blocks the second connection is behind the first."""
DROPPED, DOUBLED, ALTERED = STREAMS[0], STREAMS[2], STREAMS[1]
UNTIL_LOST, SINCE_LOST = 200, 240
"""Which lines nobody was connected for, where it is so."""

every_edition = pytest.mark.parametrize(
    "edition",
    [
        pytest.param(edition, id=edition.venue, marks=[pytest.mark.drill] * (number % 2))
        for number, edition in enumerate(EDITIONS)
    ],
)
"""Of the audit's exam; every other one is with the drills."""
each_unit = pytest.mark.parametrize(
    "edition",
    [
        *(Edition("native", "id"), Edition("session", "seq")),
        *(Edition("content", "time"), Edition("observation", "none")),
    ],
    ids=lambda edition: edition.venue,
)
content = pytest.mark.parametrize(
    "edition",
    [edition for edition in EDITIONS if edition.identity == "content"],
    ids=lambda edition: edition.venue,
)


@pytest.fixture(autouse=True)
def _ping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, PING.channel, PING)


@dataclass
class Rig:
    """What some connections of one edition told, stored."""

    root: Path
    edition: Edition
    writer: JournalWriter
    store: DuckDBStore

    # ------------------------------------------------------------ capturing

    def say(self, epoch: str, control: Control, at: int) -> None:
        self._write(epoch, FrameKind.CONTROL, [encode_control(control)], [received_ns(at)])

    def tell(self, epoch: str, first: int, payloads: Sequence[bytes]) -> None:
        """Write one block, whose first line is number ``first``."""
        times = [received_ns(first + place) for place in range(len(payloads))]
        self._write(epoch, FrameKind.TEXT, payloads, times)

    def _write(
        self, epoch: str, kind: FrameKind, payloads: Sequence[bytes], times: list[int]
    ) -> None:
        context = Context(
            venue=self.edition.venue,
            source="ws",
            purpose="live",
            collector="c1",
            epoch=epoch,
            symbols=SYMBOLS,
            channels=("quote", "ping"),
        ).encode()
        self.writer.commit([PendingBlock(int(kind), context, list(payloads), times, (0, 0))])

    def capture(self, again: int = 0) -> None:
        """Let two connections tell all lines, and one of them the first few ``again``."""
        told = [(at, lines(COUNT)[at : at + BLOCK]) for at in range(0, COUNT, BLOCK)]
        for epoch in ("e1", "e2"):
            self.say(epoch, EpochOpened(), 0)
            self.say(epoch, EpochAccepted(), 0)
        for place in range(len(told) + BEHIND):
            for epoch, block in (("e1", place), ("e2", place - BEHIND)):
                if 0 <= block < len(told):
                    self.tell(epoch, *told[block])
        if again:
            self.tell("e1", COUNT, lines(again))
        for epoch in ("e1", "e2"):
            self.say(epoch, EpochClosed("done", silent_ns=0), COUNT + again)
        self.deliver()

    def deliver(self) -> None:
        Deliverer(self.root / "journal", self.store, parsers([self.edition])).drain()

    def record(self, share: int = 1) -> list[Position]:
        """Put one in ``share`` of the segments into the ledger; return where each of them ends."""
        firsts = list_segments(OS_DISK, self.root / "journal")[1:]
        assert len(firsts) > 3
        ends = [Position(self.writer.position.log_id, first) for first in firsts]
        ends = ends[: len(ends) // share]
        ledger = open_ledger(
            self.root / "ledger",
            parsers([self.edition]),
            ManualClock(),
            first_told=self.store.first_told,
        )
        with ledger, JournalReader(self.root / "journal") as reader:
            for end in ends:
                ledger.record(blocks_until(reader, end.seq), end)
        return ends

    def retire(self, ends: Sequence[Position]) -> None:
        """Remove the frames before the last of ``ends``."""
        for first in list_segments(OS_DISK, self.root / "journal"):
            if first < ends[-1].seq:
                segment_path(self.root / "journal", first).unlink()

    # ------------------------------------------------------------- auditing

    def run(self, statement: str, stream: tuple[str, str], number: int = 7) -> None:
        """Spoil the stored event that a stream told as ``number``."""
        kind, symbol = stream
        table = KINDS[kind].table
        this = (
            f"event_id = (SELECT event_id FROM {table} WHERE symbol = '{symbol}' "
            f"ORDER BY seq, event_ts LIMIT 1 OFFSET {number - 1})"
        )
        self.sql(statement.format(table=table, this=this))

    def spoil(self) -> None:
        """Drop, double and alter one event of a stream each."""
        self.run("DELETE FROM {table} WHERE {this}", DROPPED)
        self.run("INSERT INTO {table} SELECT * FROM {table} WHERE {this}", DOUBLED)
        self.run("UPDATE {table} SET ask_price = ask_price + 1 WHERE {this}", ALTERED)

    def sql(self, statement: str) -> None:
        self.store._session.connection.execute(statement).fetchall()

    def audit(self, source: Use = "auto", hour: int | None = None) -> AuditReport:
        def query(statement: str) -> pa.Table:
            with self.store.connection() as connection:
                return connection.sql(statement).to_arrow_table()

        return run_audit(
            DuckDBAudited(query),
            self.root / "journal",
            parsers([self.edition]),
            ledger_folder=self.root / "ledger",
            source=source,
            since_ns=None if hour is None else hour * HOUR_NS,
            until_ns=None if hour is None else (hour + 1) * HOUR_NS,
            clock=ManualClock(),
        )


@pytest.fixture
def rig(edition: Edition, tmp_path: Path) -> Iterator[Rig]:
    writer = JournalWriter.open(
        tmp_path / "journal", clock=ManualClock(), ballast_bytes=0, segment_bytes=6000
    )
    store = DuckDBStore(None)
    yield Rig(tmp_path, edition, writer, store)
    store.close()
    writer.close()


def wrong(report: AuditReport) -> dict[tuple[str, str], set[str]]:
    """Kinds of problems by channel and symbol."""
    kinds: dict[tuple[str, str], set[str]] = {}
    for problem in report.problems:
        stream = next(each for each in STREAMS if problem.stream.endswith("/".join(each)))
        kinds.setdefault(stream, set()).add(problem.kind)
    assert report.ok is not bool(kinds)
    return kinds


def alike(report: AuditReport) -> bool:
    """Whether store and journal have the same digests."""
    assert len(report.streams) == len(STREAMS)
    return all(each.stages["store"] == each.stages["journal"] for each in report.streams)


# ----------------------------------------------------------------------------- as captured


@every_edition
def test_as_captured_it_is_green_on_its_own_basis(rig: Rig) -> None:
    rig.capture()

    report = rig.audit("frames")

    assert wrong(report) == {}
    assert alike(report)
    unit = rig.edition.unit
    for stream in report.streams:
        assert stream.basis == unit
        assert stream.missing == (0 if unit in ("id", "seq") else None)
        assert (stream.verified_from is None) is (unit == "none")
        assert stream.unseeable


@every_edition
def test_a_row_that_is_deleted_doubled_or_altered_is_named(rig: Rig) -> None:
    rig.capture()
    rig.spoil()

    report = rig.audit("frames")

    assert wrong(report) == {DROPPED: {"missing"}, DOUBLED: {"doubled"}, ALTERED: {"mutated"}}
    numbered = rig.edition.unit in ("id", "seq")
    for problem in report.problems:
        (example,) = problem.examples
        assert problem.count == 1
        assert example.startswith("7") if numbered else len(example) >= 36
    assert alike(report) is False
    doubled = next(each for each in report.streams if each.doubled)
    assert doubled.stages["store"] == doubled.stages["journal"], "digests are of different events"


@each_unit
def test_a_row_at_another_time_or_in_another_stream_is_mutated(rig: Rig) -> None:
    rig.capture()
    rig.run("UPDATE {table} SET event_ts = event_ts + INTERVAL 3 HOUR WHERE {this}", DROPPED)
    rig.run(f"UPDATE {{table}} SET symbol = '{SYMBOLS[1]}' WHERE {{this}}", DOUBLED)

    report = rig.audit("frames")

    assert wrong(report) == {DROPPED: {"mutated"}, DOUBLED: {"mutated"}}
    assert [problem.count for problem in report.problems] == [1, 1]


@each_unit
def test_a_row_that_nobody_told_is_spurious(rig: Rig) -> None:
    rig.capture()
    rig.run(
        "INSERT INTO {table} SELECT * REPLACE (uuid() AS event_id) FROM {table} WHERE {this}",
        DROPPED,
    )

    assert wrong(rig.audit("frames")) == {DROPPED: {"spurious"}}


# ------------------------------------------------------------------------------ the ledger


@every_edition
def test_a_ledger_of_all_is_green_and_names_the_hour_without_frames(rig: Rig) -> None:
    rig.capture()
    ends = rig.record()
    assert wrong(rig.audit("ledger")) == {}
    rig.retire(ends)

    report = rig.audit("ledger")
    assert wrong(report) == {}
    assert alike(report)
    assert report.notes == []

    rig.spoil()
    report = rig.audit("ledger")
    assert wrong(report) == {each: {"unlike_ledger"} for each in (DROPPED, DOUBLED, ALTERED)}
    assert "the hour from 2026-01-01T00:00:00" in report.problems[0].text


@every_edition
@pytest.mark.parametrize("frames", ["there", "gone"])
def test_what_both_sides_of_the_ledgers_end_told_counts_once(rig: Rig, frames: str) -> None:
    rig.capture()
    ends = rig.record(share=2)
    if frames == "gone":
        rig.retire(ends)

    report = rig.audit()

    assert wrong(report) == {}
    assert alike(report)
    assert report.verified_by == ["ledger", "frames"]


@every_edition
@pytest.mark.parametrize("frames", ["there", "gone"])
def test_a_row_that_both_sides_of_the_ledgers_end_told_is_missed(rig: Rig, frames: str) -> None:
    rig.capture()
    ends = rig.record(share=2)
    if frames == "gone":
        rig.retire(ends)
    for _ in range(30):
        rig.run("DELETE FROM {table} WHERE {this}", DROPPED, 40)

    report = rig.audit()

    kinds = {"there": {"missing"}, "gone": {"unlike_ledger"}}
    assert wrong(report) == {DROPPED: kinds[frames]}
    assert frames == "gone" or report.missing == 30


@every_edition
@pytest.mark.parametrize("place", [0.2, 0.8])
def test_a_damaged_journal_is_no_witness_against_the_store(rig: Rig, place: float) -> None:
    rig.capture(again=20)
    first, *_ = sorted((rig.root / "journal").glob("*.fbj"))
    raw = bytearray(first.read_bytes())
    raw[int(len(raw) * place)] ^= 0xFF
    first.write_bytes(raw)

    report = rig.audit("frames")

    assert wrong(report) == {}
    assert any("not in the journal any more" in note for note in report.notes)


# ----------------------------------------------------------------------- coverage and gaps


def lose(rig: Rig) -> None:
    """Let a connection end and the next one begin later."""
    told = lines(COUNT)
    for epoch, first, end in (("e1", 0, UNTIL_LOST), ("e2", SINCE_LOST, COUNT)):
        rig.say(epoch, EpochOpened(), first)
        rig.say(epoch, EpochAccepted(), first)
        for at in range(first, end, BLOCK):
            rig.tell(epoch, at, told[at : min(at + BLOCK, end)])
        rig.say(epoch, EpochClosed("done", silent_ns=0), end - 1)
    rig.deliver()


@each_unit
def test_an_open_gap_says_what_it_counts(rig: Rig) -> None:
    lose(rig)

    report = rig.audit("frames")

    if rig.edition.unit != "id":
        assert report.ok
        return
    assert wrong(report) == {each: {"gap_open"} for each in STREAMS}
    problem = report.problems[0]
    first, last = UNTIL_LOST // len(STREAMS) + 1, SINCE_LOST // len(STREAMS)
    assert problem.examples == [str(number) for number in range(first, last + 1)]
    assert f"{last - first + 1} ids in open gaps; run `forebay gaps fill`" in problem.text


@each_unit
def test_a_hole_that_no_history_can_fill_is_declared_and_stands(rig: Rig) -> None:
    lose(rig)

    report = rig.audit("frames")

    if rig.edition.unit in ("seq", "time"):
        times = received_ns(UNTIL_LOST - 1) + 1, received_ns(SINCE_LOST) - 1
        assert report.ok
        assert {(gap.channel, gap.symbol) for gap in report.gaps} == {*STREAMS}
        assert {(gap.first, gap.last, gap.state) for gap in report.gaps} == {(*times, "permanent")}


@each_unit
@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("DELETE FROM gaps", "gap_undeclared"),
        ("UPDATE gaps SET state = 'filled'", "gap_unfounded"),
        ("UPDATE coverage SET last = last - 1 WHERE origin LIKE '%live'", "coverage_unlike"),
        ("DELETE FROM coverage", "coverage_unlike"),
    ],
)
def test_gaps_and_coverage_that_do_not_follow_from_the_journal_are_red(
    rig: Rig, statement: str, kind: str
) -> None:
    lose(rig)
    rig.sql(statement)

    report = rig.audit("frames")

    if rig.edition.unit == "none":
        assert report.ok
    else:
        assert all(kind in kinds for kinds in wrong(report).values())
        assert wrong(report).keys() == {*STREAMS}


@each_unit
def test_an_hour_shows_the_gaps_that_concern_it(rig: Rig) -> None:
    lose(rig)
    hour = received_ns(0) // HOUR_NS

    here, later = rig.audit("frames", hour), rig.audit("frames", hour + 2)

    assert len(here.gaps) == (0 if rig.edition.unit == "none" else len(STREAMS))
    assert later.gaps == []
    assert later.ok


# ------------------------------------------------------------------------- the audit spoiled


@content
def test_an_audit_that_forgets_ordinals_accuses_the_innocent(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.capture(again=20)
    rig.record()
    rig.spoil()
    assert rig.audit().spurious == 0

    def anew(parsers: Mapping[str, object], coverage: Mapping[object, object], _: object) -> object:
        return Projection(parsers, coverage)  # type: ignore[arg-type]

    monkeypatch.setattr(journal_stage, "Projection", anew)

    assert rig.audit().spurious == 20


def _never(self: Comparison, places: Iterable[StreamHour]) -> None:
    """Take the ledger's word for all of an hour."""
    for key, hour in places:
        self._case.hours[key][hour] = self._journal.recorded[key][hour]


@content
@pytest.mark.parametrize(
    "count_once",
    [
        pytest.param(lambda _self, _places: None, id="tail counts again"),
        pytest.param(_never, id="tail never counts"),
    ],
)
def test_an_audit_that_counts_the_tail_otherwise_accuses_the_innocent(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, count_once: Callable[..., object]
) -> None:
    rig.capture()
    rig.retire(rig.record(share=2))
    monkeypatch.setattr(Comparison, "_count_once", count_once)

    assert not rig.audit().ok
