"""The ledger: one entry a segment, made from frames, durable, and never twice."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.clock import ManualClock
from forebay.domain.coverage import IdCoverage, StreamKey
from forebay.domain.digest import Digest, digests_by_hour
from forebay.domain.frames import Context, FrameKind
from forebay.domain.intervals import IntervalSet
from forebay.domain.kinds import KINDS
from forebay.domain.ledger import LedgerState, SegmentEntry, record_of
from forebay.errors import ConfigError, Corrupt, JournalFull, Transient
from forebay.journal import (
    OS_DISK,
    Block,
    JournalReader,
    JournalWriter,
    OsDisk,
    PendingBlock,
    Position,
    WriterBusy,
    fsck,
)
from forebay.journal.model import loss_block
from forebay.payloads import Payloads
from forebay.services.ledger import Ledger, durable_end, open_ledger, read_ledger
from forebay.services.ledger_builder import LedgerBuilder, Remembered
from forebay.services.projection import Projection, batches_of
from tests.support.audit_bench import (
    BTC,
    PARSERS,
    bench,
    blocks_until,
    record,
)
from tests.support.frames import match

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from forebay.journal import Disk

LOG = "b" * 32
KEY = StreamKey("coinbase", "spot", "trade", BTC)
T0 = 1_767_225_600_000_000_000


def block(
    first_seq: int,
    natives: Sequence[int],
    *,
    epoch: str = "e1",
    price: str = "1.5",
    received: int | None = None,
) -> Block:
    context = Context(venue="coinbase", source="ws", purpose="live", collector="c", epoch=epoch)
    start = T0 + first_seq if received is None else received
    times = np.arange(start, start + len(natives), dtype=np.int64)
    payloads = [match(each, price=price) for each in natives]
    return Block(
        LOG, first_seq, int(FrameKind.TEXT), context.encode(), times, Payloads.of(payloads)
    )


def account(
    *blocks: Block, end: int | None = None, record: LedgerState | None = None
) -> SegmentEntry:
    position = None if end is None else Position(LOG, end)
    return LedgerBuilder(PARSERS, record or LedgerState(), Remembered(PARSERS)).account(
        blocks, position
    )


def total(entry: SegmentEntry) -> Digest:
    hours = (hour.digest for stream in entry.streams for hour in stream.hours)
    return sum(hours, Digest())


def rows_of(*blocks: Block) -> Digest:
    """Digest of the rows of blocks in which every event is told once."""
    rows = Projection(PARSERS, {}).project(batches_of(blocks)).events["trades"].rows
    return sum(digests_by_hour(rows, KINDS["trade"]).values(), Digest())


def live(record: LedgerState) -> list[tuple[int, int]]:
    """Return the ids of the stream that came live."""
    coverage = record.coverage[KEY]
    assert isinstance(coverage, IdCoverage)
    return list(coverage.live)


def opened(folder: Path, disk: Disk = OS_DISK) -> Ledger:
    """Open a ledger that takes all from frames."""
    return open_ledger(folder, PARSERS, ManualClock(), first_told=Remembered(PARSERS), disk=disk)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with opened(tmp_path / "ledger") as made:
        yield made


# ------------------------------------------------------------------ an entry


def test_an_entry_is_the_account_of_its_frames(tmp_path: Path) -> None:
    with bench(tmp_path / "journal") as whole:
        record(whole)
        with JournalReader(whole.folder) as reader:
            blocks = list(blocks_until(reader, whole.writer.position.seq))

    entry = account(*blocks)

    assert (entry.first, entry.end, entry.lost) == (1, blocks[-1].next_seq, [])
    assert entry.frames == {"yielding": 398, "control": 1, "dead": 1}
    assert len(entry.letters) == 1
    projection = Projection(PARSERS, {})
    projection.adopt(projection.project(batches_of(blocks)))
    (btc,) = [stream for stream in entry.streams if stream.symbol == BTC]
    assert btc.coverage is not None
    assert btc.coverage.coverage == projection.coverage[KEY]
    assert sum(hour.count for hour in btc.hours) == 301


def test_a_repeated_event_counts_once_and_its_first_version(tmp_path: Path) -> None:
    first, again = block(1, [1, 2, 3]), block(4, [2, 3, 4], price="9", epoch="e2")

    entry = account(first, again)

    right = rows_of(first) + rows_of(block(1, [4], price="9"))
    assert total(entry) == right
    (stream,) = entry.streams
    assert [(hour.count > 0) for hour in stream.hours] == [True]


def test_an_event_that_coverage_has_is_not_new() -> None:
    before = LedgerState()
    before.add(account(block(1, [1, 2, 5])))

    entry = account(block(4, [1, 2, 3, 5, 6]), record=before)

    assert total(entry) == rows_of(block(4, [3, 6]))
    assert before.end == 4, "the record stays as it was"
    assert live(before) == [(1, 2), (5, 5)]


def test_an_event_that_history_gave_is_not_new_either() -> None:
    before = LedgerState()
    before.coverage[KEY] = IdCoverage(fill=IntervalSet([(1, 2)]))

    assert total(account(block(4, [1, 2, 3]), record=before)) == rows_of(block(4, [3]))


def test_an_hour_of_repeated_events_is_named_without_a_digest() -> None:
    before = LedgerState()
    before.add(account(block(1, [1])))

    entry = account(block(2, [1], price="2"), record=before)

    assert [(hour.count, hour.digest) for hour in entry.streams[0].hours] == [(0, Digest())]


NATIVES = st.lists(st.integers(1, 12), min_size=1, max_size=5)


@given(st.lists(st.tuples(NATIVES, st.sampled_from(["e1", "e2"]), st.sampled_from("123"))
       , min_size=1, max_size=6), st.data())  # fmt: skip
def test_cuts_do_not_change_what_a_ledger_says(
    told: list[tuple[list[int], str, str]], data: st.DataObject
) -> None:
    """Whatever is repeated, by whom, and wherever segments end: first in the journal wins."""
    blocks, seq = [], 1
    right: dict[int, Digest] = {}
    for natives, epoch, price in told:
        blocks.append(block(seq, natives, epoch=epoch, price=price))
        for each in natives:
            right.setdefault(each, rows_of(block(1, [each], price=price)))
        seq = blocks[-1].next_seq
    cuts = sorted(data.draw(st.sets(st.integers(1, len(blocks)), max_size=3)))
    made = LedgerState()
    for start, end in zip([0, *cuts], [*cuts, len(blocks)], strict=False):
        if blocks[start:end]:
            made.add(account(*blocks[start:end], record=made))

    assert sum(made.hours[KEY].values(), Digest()) == sum(right.values(), Digest())
    assert live(made) == live(record_of([account(*blocks)]))


def test_losses_are_written_down_with_the_receipts_around_them() -> None:
    entry = account(
        block(1, [1], received=100), loss_block(LOG, 2, 5), block(5, [2], received=200), end=8
    )

    assert [msgspec.to_builtins(lost) for lost in entry.lost] == [
        {"first": 2, "last": 4, "after_ns": 100, "before_ns": 200},
        {"first": 6, "last": 7, "after_ns": 200, "before_ns": None},
    ]
    assert (entry.first, entry.end) == (1, 8)
    assert entry.received == (100, 200, 100)
    begins = account(loss_block(LOG, 2, 5), block(5, [2, 3], received=200))
    assert (begins.lost[0].after_ns, begins.lost[0].before_ns) == (None, 200)
    silent = account(block(1, [1], received=100), block(4, [2], received=300))
    assert [(lost.first, lost.last) for lost in silent.lost] == [(2, 3)]


def test_dead_letters_are_told_apart_by_their_ids() -> None:
    payloads = Payloads.of([b"?", b"?", b"?"])
    bad = Block(LOG, 1, 1, block(1, [1]).context, np.array([5, 5, 6]), payloads)

    entry = account(bad)

    assert entry.frames["dead"] == 3
    assert len(entry.letters) == 2, "the same bytes at the same time are one letter"
    assert entry.letters == sorted(entry.letters)


# ------------------------------------------------------------------ a ledger


def test_what_is_recorded_is_there_again(tmp_path: Path) -> None:
    folder, clock = tmp_path / "ledger", ManualClock()
    with opened(folder) as made:
        assert made.reached() is None
        made.record([block(1, [1, 2])], Position(LOG, 3))
        assert made.reached() == Position(LOG, 3)
        made.record([block(3, [2, 3])], Position(LOG, 5))
    with opened(folder) as again:
        assert again.reached() == Position(LOG, 5)
        again.record([block(5, [3, 4])], Position(LOG, 7))

    entries = read_ledger(folder, clock)
    assert [(entry.first, entry.end) for entry in entries] == [(1, 3), (3, 5), (5, 7)]
    assert [total(entry).count for entry in entries] == [2, 1, 1], "coverage was read back"
    assert fsck(folder).ok
    assert durable_end(folder, clock) == 4


def test_the_same_end_is_no_second_entry(ledger: Ledger, tmp_path: Path) -> None:
    for _ in range(2):
        ledger.record([block(1, [1, 2])], Position(LOG, 3))
    ledger.record([block(1, [1])], Position(LOG, 2))

    assert len(read_ledger(tmp_path / "ledger", ManualClock())) == 1
    assert ledger.reached() == Position(LOG, 3)


def test_what_was_recorded_already_is_left_out_of_the_next_entry(
    ledger: Ledger, tmp_path: Path
) -> None:
    ledger.record([block(1, [1, 2])], Position(LOG, 3))
    ledger.record([block(1, [1, 2, 3, 4, 5])], Position(LOG, 5))

    entry = read_ledger(tmp_path / "ledger", ManualClock())[-1]
    assert (entry.first, entry.end, entry.frames["yielding"]) == (3, 5, 2)
    assert total(entry).count == 2


def test_an_empty_segment_moves_the_end(ledger: Ledger) -> None:
    ledger.record([block(1, [1])], Position(LOG, 2))
    ledger.record([], Position(LOG, 4))

    assert ledger.reached() == Position(LOG, 4)


class Full(OsDisk):
    """Refuses to write once it is told to."""

    full = False

    def pwritev(self, fd: int, buffers: Any, offset: int, flags: int = 0, /) -> int:  # noqa: ANN401
        if self.full:
            raise OSError(errno.ENOSPC, "full")
        return super().pwritev(fd, buffers, offset, flags)


def test_a_full_disk_is_transient_and_changes_nothing(tmp_path: Path) -> None:
    disk = Full()
    with opened(tmp_path / "ledger", disk) as made:
        made.record([block(1, [1])], Position(LOG, 2))
        disk.full = True
        with pytest.raises(JournalFull):
            made.record([block(2, [2])], Position(LOG, 3))
        assert made.reached() == Position(LOG, 2)
        disk.full = False
        made.record([block(2, [1, 2])], Position(LOG, 4))
    last = read_ledger(tmp_path / "ledger", ManualClock())[-1]
    assert total(last) == rows_of(block(3, [2]))


def test_blocks_that_cannot_be_read_to_the_end_change_nothing(
    ledger: Ledger, tmp_path: Path
) -> None:
    def broken() -> Iterator[Block]:
        yield block(1, [1])
        raise Transient("The disk failed.")

    with pytest.raises(Transient):
        ledger.record(broken(), Position(LOG, 3))

    assert ledger.reached() is None
    assert read_ledger(tmp_path / "ledger", ManualClock()) == []
    ledger.record([block(1, [1, 2])], Position(LOG, 3))
    assert total(read_ledger(tmp_path / "ledger", ManualClock())[0]).count == 2


class NoWatermark(OsDisk):
    """A disk that, from the second boot on, takes everything but the watermark."""

    def __init__(self) -> None:
        self.refuses = False

    def open(self, path: Path, *, write: bool = False, create: bool = False) -> int:
        if self.refuses and path.name == "watermark" and (write or create):
            raise OSError(errno.EIO, "no watermark")
        return super().open(path, write=write, create=create)

    def rename(self, old: Path, new: Path) -> None:  # type: ignore[override]
        if self.refuses and new.name == "watermark":
            raise OSError(errno.EIO, "no watermark")
        OsDisk.rename(old, new)

    def boot_id(self) -> str:
        return f"boot {1 + self.refuses}"


def test_a_ledger_that_cannot_be_read_to_its_end_is_not_taken_for_empty(tmp_path: Path) -> None:
    disk = NoWatermark()
    with bench(tmp_path / "journal", segment_bytes=4096) as capture:
        record(capture)
        ends = capture.ends()
        with (
            opened(capture.ledger, disk) as ledger,
            JournalReader(capture.folder) as reader,
        ):
            for end in ends[:3]:
                ledger.record(blocks_until(reader, end.seq), end)
        disk.refuses = True

        with pytest.raises(Transient):
            opened(capture.ledger, disk)
        with pytest.raises(Transient):
            read_ledger(capture.ledger, capture.clock, disk=disk)

        disk.refuses = False
        entries = read_ledger(capture.ledger, capture.clock, disk=disk)
    assert [entry.end for entry in entries] == [end.seq for end in ends[:3]]


def test_a_ledger_has_one_writer(ledger: Ledger, tmp_path: Path) -> None:
    with pytest.raises(WriterBusy):
        opened(tmp_path / "ledger")


def test_no_ledger_has_no_entries(tmp_path: Path) -> None:
    assert read_ledger(tmp_path / "none", ManualClock()) == []
    assert durable_end(tmp_path / "none", ManualClock()) == 0
    assert not (tmp_path / "none").exists()


def write(folder: Path, payload: bytes) -> None:
    with JournalWriter.open(folder, clock=ManualClock(), ballast_bytes=0) as writer:
        writer.commit([PendingBlock(1, b"{}", [payload], [0])])


def test_a_newer_ledger_is_refused(tmp_path: Path) -> None:
    write(tmp_path, b'{"version":3,"something":"else"}')

    with pytest.raises(ConfigError, match="version 3"):
        read_ledger(tmp_path, ManualClock())


@pytest.mark.parametrize("payload", [b"?", b'{"version":2}', b"[]"])
def test_what_is_no_entry_is_corrupt(tmp_path: Path, payload: bytes) -> None:
    write(tmp_path, payload)

    with pytest.raises(Corrupt, match="entry that is none"):
        read_ledger(tmp_path, ManualClock())
    with pytest.raises(Corrupt):
        opened(tmp_path)
    write(tmp_path, b"{}")  # the writer's lock was given back


def damage(folder: Path, what: bytes) -> None:
    (segment,) = folder.glob("*.fbj")
    raw = bytearray(segment.read_bytes())
    raw[raw.index(what)] ^= 0xFF
    segment.write_bytes(raw)


def test_a_damaged_entry_is_a_loss_of_its_frames_alone(tmp_path: Path) -> None:
    folder, clock = tmp_path / "ledger", ManualClock()
    with opened(folder) as made:
        for first in (1, 3, 5):
            made.record([block(first, [first, first + 1])], Position(LOG, first + 2))
    damage(folder, b'"first":3,')

    made_of = record_of(read_ledger(folder, clock))

    assert sum(made_of.hours[KEY].values(), Digest()) == rows_of(block(1, [1, 2, 5, 6]))
    assert live(made_of) == [(1, 6)]
    assert not made_of.complete
    assert made_of.end == 7


# ------------------------------------------------------------------ at size


def test_an_entry_does_not_grow_with_events() -> None:
    few = account(block(1, range(1, 100)))
    many = account(
        *[block(1 + 1000 * at, range(1 + 1000 * at, 1001 + 1000 * at)) for at in range(9)]
    )

    assert total(many).count == 9000
    assert len(many.encode()) < len(few.encode()) + 40
