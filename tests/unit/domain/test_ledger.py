"""Entries add up to a record: totals, coverage, and what receipt times can prove."""

from __future__ import annotations

from typing import get_args

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.domain.channels import Unit
from forebay.domain.coverage import COVERAGES, Arrival, Coverage, IdCoverage, StreamKey
from forebay.domain.digest import Digest
from forebay.domain.intervals import IntervalSet
from forebay.domain.ledger import (
    Covered,
    Hour,
    JournalRange,
    LedgerState,
    LostRange,
    SegmentEntry,
    StreamEntry,
    decode_entry,
    record_of,
)

LOG = "a" * 32
BTC = StreamKey("coinbase", "spot", "trade", "BTC-USD")


def entry(first: int, end: int, **changed: object) -> SegmentEntry:
    """An entry whose frames were received at ten times their sequence number."""
    fields: dict[str, object] = {
        "log_id": LOG,
        "first": first,
        "end": end,
        "received": (10 * first, 10 * (end - 1), 10 * first),
        "frames": {"yielding": end - first, "control": 0, "dead": 0},
        "letters": [],
        "lost": [],
        "streams": [],
    }
    return SegmentEntry(**(fields | changed))  # type: ignore[arg-type]


def stream(*hours: Hour, coverage: Coverage | None = None) -> StreamEntry:
    return StreamEntry(*BTC, list(hours), Covered.of(coverage) if coverage else None)


def coverage(*live: tuple[int, int]) -> IdCoverage:
    made = IdCoverage(live=IntervalSet(live), known=IntervalSet([(3, 99)]))
    made.fill.add(200, 205)
    made.absent.add(50)
    made.span("e2", 7, 9)
    made.span("e1", 1, 5)
    return made


# ------------------------------------------------------------------ writing down


def test_an_entry_reads_back() -> None:
    hour = Hour.of(490_896, Digest(3, 2**128 - 1, 7))
    told = entry(
        5,
        9,
        streams=[stream(hour, coverage=coverage((1, 5), (7, 9)))],
        lost=[LostRange(6, 7, 50, 80)],
    )

    assert decode_entry(told.encode()) == told
    assert hour.digest == Digest(3, 2**128 - 1, 7)
    assert hour.ids == "f" * 32


def test_a_coverage_is_written_whole() -> None:
    made = coverage((1, 5), (7, 9))

    again = Covered.of(made).coverage

    assert again == made
    assert list(again.epochs) == ["e2", "e1"], "the order in which they spoke"
    raw = msgspec.json.encode(Covered.of(made))
    assert msgspec.json.decode(raw, type=Covered).coverage == made


@pytest.mark.parametrize("known", [[], [(4, 4)]])
def test_a_coverage_of_nothing_is_written_too(known: list[tuple[int, int]]) -> None:
    made = IdCoverage(known=IntervalSet(known))

    assert Covered.of(made).coverage == made


@pytest.mark.parametrize("unit", get_args(Unit))
def test_a_coverage_of_any_unit_is_written_whole(unit: Unit) -> None:
    made = COVERAGES[unit]()
    for epoch, numbers in (("e1", [5, 6, 9]), ("e2", [40, 41])):
        times = np.array(numbers) * 1000
        made.opened(epoch, numbers[0] * 1000 - 1)
        made.see(Arrival(epoch, live=True, numbers=np.array(numbers), received_ns=times))
    made.finished(10_000, 20_000, [(11_000, 12_000)])
    again = Covered.of(made)

    assert again.unit == unit
    assert again.coverage == made
    raw = msgspec.json.encode(again)
    assert msgspec.json.decode(raw, type=Covered).coverage == made


def test_the_streams_of_an_entry_have_a_market() -> None:
    spot, perpetual = (
        StreamEntry("v", market, "trade", "A-B", [], None) for market in ("spot", "perpetual")
    )
    again = decode_entry(entry(1, 2, streams=[spot, perpetual]).encode())
    assert [each.key for each in again.streams] == [
        StreamKey("v", market, "trade", "A-B") for market in ("spot", "perpetual")
    ]


def test_what_is_no_entry_is_refused() -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_entry(b'{"version":1}')


# ------------------------------------------------------------------ adding up


def test_entries_add_up() -> None:
    one, other = Digest(2, 30, 40), Digest(1, 5, 6)
    record = record_of(
        [
            entry(1, 5, streams=[stream(Hour.of(7, one), coverage=coverage((1, 5)))]),
            entry(5, 6, streams=[stream(Hour.of(7, other), Hour.of(8, one))]),
            entry(6, 9, streams=[stream(Hour.of(9, Digest()), coverage=coverage((1, 6)))]),
        ]
    )

    assert record.hours[BTC] == {7: one + other, 8: one}
    assert record.coverage[BTC] == coverage((1, 6))
    assert record.frames == {"yielding": 8, "control": 0, "dead": 0}
    assert (record.log_id, record.end, record.complete) == (LOG, 9, True)
    assert record.parts[BTC, 7] == [JournalRange(LOG, 1, 5), JournalRange(LOG, 5, 6)]
    assert record.parts[BTC, 9] == [JournalRange(LOG, 6, 9)], "repeated events are to be found, too"


def test_a_record_does_not_share_what_an_entry_says() -> None:
    told = entry(1, 5, streams=[stream(coverage=coverage((1, 5)))])
    record = record_of([told])
    changed = record.coverage[BTC]
    assert isinstance(changed, IdCoverage)
    changed.live.add(1000)

    assert record_of([told]).coverage[BTC] == coverage((1, 5))


# ------------------------------------------------------------------ what was seen


def seen(record: LedgerState, *times: int) -> list[bool]:
    return [record.sees(ns) for ns in times]


def test_receipts_within_the_entries_were_seen() -> None:
    record = record_of([entry(1, 5), entry(5, 9)])

    assert seen(record, 9, 10, 40, 45, 80, 10_000) == [False, True, True, True, True, True]


def test_a_loss_within_an_entry_is_blind() -> None:
    record = record_of([entry(1, 9, lost=[LostRange(3, 4, 20, 50)])])

    assert seen(record, 19, 20, 35, 50, 51) == [True, False, False, False, True]
    assert not record.complete


def test_a_loss_at_an_edge_reaches_to_the_neighbouring_entry() -> None:
    ends_lost = entry(1, 5, received=(10, 30, 10), lost=[LostRange(4, 4, 30, None)])
    begins_lost = entry(5, 9, received=(60, 80, 60), lost=[LostRange(5, 5, None, 60)])
    for one, other, latest in (
        (ends_lost, entry(5, 9, received=(60, 80, 60)), 30),
        (entry(1, 5), begins_lost, 40),
        (ends_lost, begins_lost, 30),
    ):
        record = record_of([one, other])

        assert seen(record, latest - 1, latest + 1, 59, 60, 61) == [True, False, False, False, True]
        assert not record.complete


def test_a_loss_at_the_end_lasts_until_there_are_frames_again() -> None:
    record = record_of([entry(1, 5), entry(5, 7, received=None, lost=[LostRange(5, 6)])])
    assert seen(record, 30, 41) == [True, False]

    record.add(entry(7, 8))
    assert seen(record, 40, 55, 70, 71) == [False, False, False, True]


def test_entries_that_do_not_follow_on_another_are_a_loss() -> None:
    record = record_of([entry(3, 5), entry(8, 9)])

    assert seen(record, 10, 29, 31, 60, 81) == [False, False, True, False, True]
    assert not record.complete


@pytest.mark.parametrize("lost", [LostRange(3, 4, 50, 20), LostRange(3, 4, 20, 50)])
def test_when_the_clock_went_back_within_a_loss_no_receipt_proves_anything(lost: LostRange) -> None:
    record = record_of([entry(1, 9, lost=[lost])])

    assert seen(record, 15, 55, 10_000) == [lost.after_ns == 20] * 3


def test_the_earliest_receipt_counts_and_not_the_first() -> None:
    record = record_of([entry(1, 5, received=(30, 40, 12))])

    assert seen(record, 11, 12, 29) == [False, True, True]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_any_prefix_of_the_entries_is_a_record(lengths: list[int]) -> None:
    ends = [1 + sum(lengths[: at + 1]) for at in range(len(lengths))]
    entries = [
        entry(first, end, streams=[stream(Hour.of(at, Digest(end - first, 1, 1)))])
        for at, (first, end) in enumerate(zip([1, *ends], ends, strict=False))
    ]
    record = LedgerState()
    for at, each in enumerate(entries):
        record.add(each)
        assert record == record_of(entries[: at + 1])
        assert record.complete
        assert sum(digest.count for digest in record.hours[BTC].values()) == record.end - 1
