"""The audit on the ledger: what is recorded is verified by digests, with frames or without."""

# ruff: noqa: S608 - statements that spoil a store of our own

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from forebay.domain.digest import HOUR_NS
from forebay.errors import ConfigError
from forebay.journal import PendingBlock
from tests.support.audit_bench import (
    BTC,
    ETH,
    LAST,
    Bench,
    bench,
    event,
    native,
    record,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from forebay.services.audit import AuditReport, Use

SEGMENT = 5000
ALL: tuple[Use, ...] = ("frames", "auto", "ledger")


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Bench]:
    """Recorded, delivered, and every whole segment in the ledger; frames are all there."""
    with bench(tmp_path / "journal", segment_bytes=SEGMENT) as whole:
        record(whole)
        whole.deliver()
        assert len(whole.keep_ledger()) > 5
        yield whole


@pytest.fixture
def gone(kept: Bench) -> Bench:
    """Likewise, and only what is not recorded still has frames."""
    kept.forget(kept.ends()[-1].seq)
    assert len(list(kept.folder.glob("*.fbj"))) == 1
    return kept


def wrong(report: AuditReport) -> dict[str, int]:
    kinds: dict[str, int] = {}
    for problem in report.problems:
        kinds[problem.kind] = kinds.get(problem.kind, 0) + problem.count
    assert report.ok is not bool(kinds)
    return kinds


def where(index: int, symbol: str = BTC) -> str:
    return f"WHERE symbol = '{symbol}' AND trade_id = '{native(index, symbol)}'"


def hour_of(index: int) -> int:
    return event(index).event_ts // HOUR_NS


def alike(one: AuditReport, other: AuditReport) -> None:
    """Both say the same of the events; they may differ in how they know."""
    assert (one.ok, one.frames, one.dead_letters) == (other.ok, other.frames, other.dead_letters)
    assert one.gaps == other.gaps
    assert [problem.text for problem in one.problems] == [
        problem.text for problem in other.problems
    ]
    for mine, theirs in zip(one.streams, other.streams, strict=True):
        assert mine.stages == theirs.stages
        assert (mine.verified_from, mine.verified_to, mine.basis, mine.missing) == (
            theirs.verified_from, theirs.verified_to, theirs.basis, theirs.missing)  # fmt: skip


# ------------------------------------------------------------------ the same verdict


def test_ledger_and_frames_say_the_same_of_a_whole_store(kept: Bench) -> None:
    frames, auto, ledger = (kept.audit(source=source) for source in ALL)

    assert wrong(frames) == {}
    alike(frames, auto)
    alike(frames, ledger)
    assert frames.verified_by == ["frames"]
    assert auto.verified_by == ["ledger", "frames"], "the last segment is not recorded"
    assert [stream.verified_by for stream in auto.streams] == [["ledger", "frames"], ["ledger"]]
    assert auto.notes == []
    assert kept.asked == ["account"] * 3, "digests that agree need no look at the rows"


SPOIL = {
    "missing": f"DELETE FROM trades {where(180)}",
    "missing hour": f"DELETE FROM trades WHERE symbol = '{BTC}' AND trade_id::BIGINT BETWEEN "
    f"{native(110)} AND {native(240)}",
    "doubled": f"INSERT INTO trades SELECT * FROM trades {where(130)}",
    "mutated": f"UPDATE trades SET price = price + 0.000000000000000001 {where(222)}",
    "moved": f"UPDATE trades SET event_ts = event_ts + INTERVAL 3 HOUR {where(222)}",
    "elsewhere": f"UPDATE trades SET symbol = '{ETH}' {where(222)}",
    "spurious": "INSERT INTO trades SELECT * REPLACE (('ebeba404-b774-867a-8000-' || "
    f"lpad(to_hex({native(5000)}), 12, '0'))::UUID AS event_id, '{native(5000)}' AS trade_id, "
    f"{native(5000)} AS venue_seq) FROM trades {where(222)}",
    "claimed": f"UPDATE coverage SET last = last + 5 WHERE symbol = '{BTC}' AND last = "
    f"{native(LAST)} AND origin = 'live'",
    "letters": "DELETE FROM dead_letters",
    "gap": "DELETE FROM gaps",
}


FOUND: dict[str, dict[str, int]] = {
    "missing": {"missing": 1},
    "missing hour": {"missing": 131},
    "doubled": {"doubled": 1},
    "mutated": {"mutated": 1},
    "moved": {"mutated": 1},
    "elsewhere": {"mutated": 1},
    "spurious": {"spurious": 1},
    "claimed": {"coverage_unlike": 5},
    "letters": {"dead_letters": 1},
    "gap": {"gap_undeclared": 7},
}


@pytest.mark.parametrize("how", SPOIL)
def test_the_ledger_finds_what_frames_find_and_names_it(kept: Bench, how: str) -> None:
    kept.sql(SPOIL[how])

    frames, auto = kept.audit(source="frames"), kept.audit()

    assert wrong(frames) == FOUND[how]
    assert [problem.examples for problem in frames.problems] == [
        problem.examples for problem in auto.problems
    ]
    alike(frames, auto)


def test_a_time_range_is_verified_by_the_ledger_too(kept: Bench) -> None:
    hour = [index for index in range(99, 300) if hour_of(index) == hour_of(150)]

    def audit(source: Use) -> AuditReport:
        inside = event(150).event_ts
        return kept.audit(since_ns=inside, until_ns=inside + 1, source=source)

    alike(audit("frames"), audit("auto"))
    kept.sql(f"DELETE FROM trades {where(hour[-1] + 1)}")
    assert wrong(audit("auto")) == {}, "outside"
    kept.sql(f"DELETE FROM trades {where(hour[-1])}")
    kept.sql(f"UPDATE trades SET price = 7 {where(hour[0])}")
    assert wrong(audit("auto")) == {"missing": 1, "mutated": 1}, "whole hours"
    alike(audit("frames"), audit("auto"))


# ------------------------------------------------------------------ frames that are gone


def test_without_frames_the_ledger_proves_all_of_it(gone: Bench) -> None:
    report = gone.audit()

    assert wrong(report) == {}
    assert report.notes == []
    assert report.frames == {"yielding": 398, "control": 1, "dead": 1}
    assert report.streams[0].events == report.streams[0].stages["journal"].count == 301
    assert report.streams[0].verified_from == "2026-01-01T00:59:24.000000000Z"
    frames = gone.audit(source="frames")
    assert frames.notes
    assert frames.streams[0].stages["journal"].count < 301


@pytest.mark.parametrize(
    ("spoil", "said", "examples"),
    [
        (SPOIL["mutated"], "the same ids with other content", []),
        (SPOIL["missing"], "other ids", [str(native(180))]),
        (SPOIL["doubled"], "101 events stored and 100 in the ledger, other ids", []),
    ],
)
def test_without_frames_an_hour_is_named_and_what_coverage_owes_to_it(
    gone: Bench, spoil: str, said: str, examples: list[str]
) -> None:
    gone.sql(spoil)

    report = gone.audit()

    assert wrong(report).keys() == {"unlike_ledger"}
    problem = report.problems[0]
    assert "the hour from 2026-01-01T0" in problem.text
    assert said in problem.text
    assert problem.examples == examples
    stages = report.streams[0].stages
    assert stages["store"] != stages["journal"]


def test_without_frames_an_event_at_another_time_was_received_all_the_same(gone: Bench) -> None:
    gone.sql(SPOIL["moved"])

    report = gone.audit()

    assert wrong(report) == {"mutated": 1, "unlike_ledger": 1}
    assert report.problems[0].examples == [f"{native(222)}: it was received with another time"]


def test_two_alterations_that_compensate_are_seen(gone: Bench) -> None:
    """The same sums of prices, of sizes and of times; the digest is of whole rows."""
    gone.sql(f"UPDATE trades SET price = price + 1 {where(210)}")
    gone.sql(f"UPDATE trades SET price = price - 1 {where(211)}")

    assert wrong(gone.audit()) == {"unlike_ledger": 1}


def test_prices_that_two_events_exchanged_are_seen(gone: Bench) -> None:
    gone.sql(
        "UPDATE trades t SET price = o.price, size = o.size, side = o.side FROM trades o "
        f"WHERE t.symbol = '{BTC}' AND o.symbol = '{BTC}' AND "
        f"((t.trade_id = '{native(210)}' AND o.trade_id = '{native(213)}') OR "
        f"(t.trade_id = '{native(213)}' AND o.trade_id = '{native(210)}'))"
    )

    assert wrong(gone.audit()) == {"unlike_ledger": 1}


@pytest.mark.parametrize("source", ["auto", "frames"])
def test_a_double_does_not_hide_a_missing_row_of_its_hour(kept: Bench, source: Use) -> None:
    """The hour's count is right, whatever is doubled for what is gone."""
    kept.sql(f"INSERT INTO trades SELECT * FROM trades {where(130)}")
    kept.sql(f"DELETE FROM trades {where(131)}")

    assert wrong(kept.audit(source=source)) == {"doubled": 1, "missing": 1}


@pytest.mark.parametrize("source", ["auto", "frames"])
def test_doubles_do_not_hide_missing_ids_with_the_same_sum(kept: Bench, source: Use) -> None:
    """Count and sum of ids are right: 130 + 133 = 131 + 132."""
    kept.sql(f"INSERT INTO trades SELECT * FROM trades {where(130)}")
    kept.sql(f"INSERT INTO trades SELECT * FROM trades {where(133)}")
    kept.sql(f"DELETE FROM trades {where(131)}")
    kept.sql(f"DELETE FROM trades {where(132)}")

    report = kept.audit(source=source)

    assert wrong(report) == {"doubled": 2, "missing": 2}
    (missing,) = [problem for problem in report.problems if problem.kind == "missing"]
    assert missing.examples == [str(native(131)), str(native(132))]


# ------------------------------------------------------------------ a ledger that does not fit


def test_a_ledger_is_insisted_on(tmp_path: Path) -> None:
    with bench(tmp_path / "journal") as bare:
        record(bare)
        bare.deliver()

        assert bare.audit().verified_by == ["frames"]
        with pytest.raises(ConfigError, match="no ledger"):
            bare.audit(source="ledger")


def test_a_ledger_of_another_journal_is_said_and_left(kept: Bench, tmp_path: Path) -> None:
    with bench(tmp_path / "other" / "journal", segment_bytes=SEGMENT) as other:
        record(other)
        other.deliver()
        kept.ledger.rename(other.ledger)

        report = other.audit()

        assert wrong(report) == {}
        assert report.verified_by == ["frames"]
        assert "is of another journal" in report.notes[0]
        with pytest.raises(ConfigError, match="another journal"):
            other.audit(source="ledger")


def test_a_ledger_that_ends_before_the_oldest_frame_is_said(tmp_path: Path) -> None:
    with bench(tmp_path / "journal", segment_bytes=SEGMENT) as holed:
        record(holed)
        holed.deliver()
        ends = holed.keep_ledger(holed.ends()[:2])
        holed.forget(holed.ends()[3].seq)

        report = holed.audit()

        assert "The ledger ends at" in report.notes[0]
        assert f"{ends[-1].seq} and the journal begins at" in report.notes[0]
        assert wrong(report) == {}, "what is in neither is not compared"
        assert "were not compared" in report.notes[-1]


def test_a_store_that_is_behind_the_ledger_is_compared_as_far_as_it_is(tmp_path: Path) -> None:
    with bench(tmp_path / "journal", segment_bytes=SEGMENT) as behind:
        behind.begin(99)
        behind.live(range(100, 150))
        behind.deliver()
        behind.live(range(150, 250))
        assert len(behind.keep_ledger()) > 1

        report = behind.audit()

        assert wrong(report) == {}
        assert report.streams[0].events == report.streams[0].stages["journal"].count == 51


# ------------------------------------------------------------------ told again


def tell_again(told: Bench, index: int, *, hours: int, price: str = "1.5") -> None:
    """The venue tells an event once more, with another content and at another time."""
    at = event(index + hours * 100)
    frame = (
        f'{{"type":"match","trade_id":{native(index)},"product_id":"{BTC}","price":"{price}",'
        f'"size":"1","side":"buy","time":"{at.time}"}}'
    )
    now = event(LAST).event_ts + 8_000_000
    context = told.context("e9").encode()
    told.writer.commit([PendingBlock(1, context, [frame.encode()], [now], (0, 0))])
    told.deliver()


@pytest.mark.parametrize("source", ["auto", "frames"])
@pytest.mark.parametrize("hours", [0, 1, 2])
def test_an_event_told_again_is_a_conflict_and_not_mutated(
    kept: Bench, source: Use, hours: int
) -> None:
    tell_again(kept, 120, hours=hours)
    kept.live(range(LAST + 1, LAST + 50), "e2")
    kept.deliver()
    kept.keep_ledger()

    report = kept.audit(source=source)

    assert wrong(report) == {}
    assert report.conflicts == 1
    kept.sql(f"DELETE FROM trades {where(121)}")
    kept.sql(f"DELETE FROM trades {where(120 + hours * 100 + 1)}")
    spoiled = kept.audit(source=source)
    assert wrong(spoiled) == {"missing": 1 if hours == 0 else 2}, "hours of both versions differ"


@pytest.mark.parametrize("source", ["auto", "frames"])
def test_the_later_version_is_as_right_as_the_first(kept: Bench, source: Use) -> None:
    tell_again(kept, 120, hours=2)
    at = event(320).event_ts
    kept.sql(
        f"UPDATE trades SET price = 1.5, size = 1, side = 'sell', "
        f"event_ts = make_timestamp_ns({at}) {where(120)}"
    )

    assert wrong(kept.audit(source=source)) == {}
    kept.sql(f"UPDATE trades SET price = 1.6 {where(120)}")
    assert wrong(kept.audit(source=source)) == {"mutated": 1}


# ------------------------------------------------------------------ while capturing


def test_undelivered_frames_are_said_and_are_no_failure(kept: Bench) -> None:
    kept.live(range(LAST + 1, LAST + 18), "e2")

    report = kept.audit()

    assert wrong(report) == {}
    assert report.undelivered == 17
    assert report.notes == ["17 captured frames are not delivered yet."]
    kept.deliver()
    assert kept.audit().undelivered == 0


@pytest.mark.parametrize("source", ["auto", "frames"])
def test_a_store_that_moves_between_statements_is_no_loss(kept: Bench, source: Use) -> None:
    kept.sql(f"UPDATE trades SET price = price + 1 {where(150)}")
    kept.sql(f"DELETE FROM trades {where(LAST - 1)}")
    at = LAST + 1

    def move() -> None:
        nonlocal at
        kept.live(range(at, at + 7), "e2")
        kept.deliver()
        at += 7

    report = kept.audit(after=move, source=source)

    assert len(kept.asked) >= 4, "rows were compared while the store moved on"
    assert wrong(report) == {"mutated": 1, "missing": 1}
    assert report.streams[0].stages["journal"].count == 301


def test_the_ledger_may_grow_while_an_audit_runs(kept: Bench) -> None:
    kept.sql(f"UPDATE trades SET price = price + 1 {where(150)}")

    def grow() -> None:
        kept.live(range(LAST + 1, LAST + 60), "e2")
        kept.deliver()
        kept.keep_ledger()

    report = kept.audit(after=grow)

    assert wrong(report) == {"mutated": 1}


# ------------------------------------------------------------------- a damaged ledger


@pytest.mark.parametrize("frames", ["there", "gone"])
@pytest.mark.parametrize("place", [0.2, 0.5, 0.8])
def test_a_flipped_bit_in_the_ledger_accuses_no_event(
    kept: Bench, frames: str, place: float
) -> None:
    (file,) = kept.ledger.glob("*.fbj")
    raw = bytearray(file.read_bytes())
    raw[int(len(raw) * place)] ^= 0x20
    file.write_bytes(raw)
    if frames == "gone":
        kept.forget(kept.ends()[-1].seq)

    report = kept.audit()

    assert wrong(report) == {}
    assert report.notes
