"""The audit without a truth: every way to spoil a store turns it red, by name and number."""

# ruff: noqa: S608 - statements that spoil a store of our own

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import msgspec
import pytest

from forebay.domain.digest import HOUR_NS, Digest
from forebay.domain.frames import FrameKind
from forebay.errors import Transient
from forebay.journal import JournalReader, Position
from forebay.lab.truth import TruthDigest
from forebay.ports import Commit
from forebay.services.audit.report import iso
from forebay.services.projection import Projection, batches_of
from forebay.sources.coinbase.protocol import CoinbaseParser
from tests.support.audit_bench import (
    BLOCK,
    BTC,
    ETH,
    LAST,
    MARKET,
    PARSERS,
    Bench,
    bench,
    event,
    native,
    record,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from forebay.domain.frames import FrameBatch
    from forebay.domain.parsed import Parsed
    from forebay.services.audit import AuditReport


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[Bench]:
    """Everything recorded and delivered, nothing spoiled yet."""
    with bench(tmp_path / "journal") as whole:
        record(whole)
        whole.deliver()
        yield whole


def wrong(report: AuditReport) -> dict[str, int]:
    """Problems by kind, with their counts."""
    kinds: dict[str, int] = {}
    for problem in report.problems:
        kinds[problem.kind] = kinds.get(problem.kind, 0) + problem.count
    assert report.ok is not bool(kinds)
    return kinds


def only(report: AuditReport, kind: str) -> list[str]:
    """The examples of the one problem of this kind."""
    (problem,) = [each for each in report.problems if each.kind == kind]
    return problem.examples


def where(index: int, symbol: str = BTC) -> str:
    return f"WHERE symbol = '{symbol}' AND trade_id = '{native(index, symbol)}'"


# ------------------------------------------------------------------ nothing wrong


def test_a_whole_store_is_ok_and_says_what_it_verified(stored: Bench) -> None:
    report = stored.audit()

    assert wrong(report) == {}
    assert (report.missing, report.doubled, report.mutated, report.spurious) == (0, 0, 0, 0)
    assert report.frames == {"yielding": 398, "control": 1, "dead": 1}
    btc, eth = report.streams
    assert (btc.venue, btc.channel, btc.symbol) == ("coinbase", "trade", BTC)
    assert (btc.events, btc.basis, btc.missing) == (LAST - 99 + 1, "id", 0)
    assert btc.verified_from == "2026-01-01T00:59:24.000000000Z"
    assert btc.verified_to is not None
    assert btc.verified_to.startswith(event(LAST).time[:19])
    assert eth.events == 101
    assert btc.stages.keys() == {"journal", "store"}


def test_digests_are_those_of_an_independent_computation(stored: Bench) -> None:
    report = stored.audit()

    for stream, last in zip(report.streams, (LAST, 199), strict=True):
        right = TruthDigest.of(MARKET[stream.symbol].events(99, last + 1)).document()
        for stage in stream.stages.values():
            assert {"count": stage.count, "ids": stage.ids, "rows": stage.rows} == right
    assert report.streams[0].stages["store"].ids != f"{Digest().ids:032x}"


def test_gaps_are_reported_with_reason_and_state(stored: Bench) -> None:
    gaps = [(gap.first, gap.last, gap.reason, gap.state) for gap in stored.audit().gaps]

    assert gaps == [
        (native(250), native(254), "between_connections", "filled"),
        (native(300), native(300), "in_connection", "filled"),
        (native(310), native(310), "in_connection", "filled"),
    ]


def test_the_json_is_the_contract(stored: Bench) -> None:
    document = msgspec.json.decode(stored.audit().encode())

    assert {"ok", "missing", "doubled", "mutated", "spurious", "ambiguous"} <= document.keys()
    assert document["dead_letters"] == 1
    names = {"venue", "channel", "symbol", "unit", "first", "last", "reason", "state"}
    assert document["gaps"][0].keys() == names | {
        "market",
        "epoch",
        "accepted_by",
        "accepted_reason",
    }
    stream = document["streams"][0]
    told = {"venue", "channel", "symbol", "events", "verified_from", "verified_to", "basis"}
    assert told | {"market", "unseeable"} <= stream.keys()
    assert stream["stages"]["store"].keys() == {"count", "ids", "rows"}


def test_repetition_and_overlap_in_the_journal_are_no_fault(stored: Bench) -> None:
    stored.begin(200, "again")
    stored.live(range(201, 260), "again")
    stored.deliver()

    report = stored.audit()

    assert wrong(report) == {}
    assert report.streams[0].events == 301
    assert report.streams[0].stages["journal"] == report.streams[0].stages["store"]
    assert stored.asked == ["account"], "equal digests need no look at the rows"


def test_progress_ends_at_all_bytes(stored: Bench) -> None:
    told: list[tuple[int, int]] = []
    stored.audit(progress=lambda done, total: told.append((done, total)))

    total = sum(path.stat().st_size for path in stored.folder.glob("*.fbj"))
    assert total > 0
    assert told[-1] == (total, total)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert 0 < told[0][0] <= total


# ------------------------------------------------------------------ missing


def test_a_dropped_last_batch_is_missing_while_its_coverage_is_left(stored: Bench) -> None:
    stored.sql(f"DELETE FROM trades WHERE symbol = '{BTC}' AND trade_id >= '{native(380)}'")

    report = stored.audit()

    assert wrong(report) == {"missing": 20}
    assert report.missing == 20
    assert only(report, "missing") == [str(native(index)) for index in range(380, 400)]
    assert report.streams[0].missing == 20
    assert report.streams[0].verified_to is None
    assert report.streams[1].verified_to is not None


def test_a_dropped_last_batch_is_missing_though_its_coverage_is_gone_as_well(
    stored: Bench,
) -> None:
    stored.sql(f"DELETE FROM trades WHERE symbol = '{BTC}' AND trade_id >= '{native(380)}'")
    stored.sql(f"DELETE FROM coverage WHERE symbol = '{BTC}' AND origin = 'known'")
    stored.sql(
        f"UPDATE coverage SET last = {native(379)} WHERE symbol = '{BTC}' AND last >= {native(380)}"
    )

    report = stored.audit()

    assert wrong(report) == {"missing": 20, "coverage_unlike": 21}
    assert only(report, "missing")[0] == str(native(380))


def test_a_stream_of_which_nothing_is_stored_is_missing(stored: Bench) -> None:
    for table in ("trades", "coverage", "gaps"):
        stored.sql(f"DELETE FROM {table} WHERE symbol = '{ETH}'")

    report = stored.audit()

    assert wrong(report) == {"missing": 101, "coverage_unlike": 101}
    assert report.streams[1].missing == 101


def coverage_problem(report: AuditReport) -> str:
    (problem,) = [each for each in report.problems if each.kind == "coverage_unlike"]
    return problem.text


def test_coverage_that_claims_what_was_never_received_is_named(stored: Bench) -> None:
    stored.sql(
        f"UPDATE coverage SET last = {native(LAST + 5)} "
        f"WHERE symbol = '{BTC}' AND origin = 'live' AND last = {native(LAST)}"
    )

    report = stored.audit()

    assert wrong(report) == {"coverage_unlike": 5}
    said = f"it has live {native(LAST + 1)} to {native(LAST + 5)}."
    assert coverage_problem(report).endswith(said)


@pytest.mark.parametrize("how", ["as many others", "others with the same sum"])
def test_coverage_of_as_many_other_ids_is_seen(stored: Bench, how: str) -> None:
    live = f"WHERE symbol = '{ETH}' AND origin = 'live'"
    first, last = native(99, ETH), native(199, ETH)
    if how == "as many others":
        stored.sql(f"UPDATE coverage SET first = first + 2, last = last + 2 {live}")
        lacks, has = f"{first} to {first + 1}", f"{last + 1} to {last + 2}"
    else:
        for edge in (first - 1, last + 1):
            stored.sql(
                f"INSERT INTO coverage SELECT * REPLACE ({edge} AS first, {edge} AS last) "
                f"FROM coverage {live} AND first = {first}"
            )
        stored.sql(
            f"UPDATE coverage SET first = first + 1, last = last - 1 {live} AND first = {first} "
            f"AND last = {last}"
        )
        lacks, has = f"{first}, {last}", f"{first - 1}, {last + 1}"

    report = stored.audit()

    assert wrong(report) == {"coverage_unlike": 4}
    assert f"it lacks live {lacks}; it has live {has}" in coverage_problem(report)


def test_coverage_of_what_a_heartbeat_told_is_compared(stored: Bench) -> None:
    stored.sql(f"UPDATE coverage SET last = last + 1 WHERE symbol = '{BTC}' AND origin = 'known'")

    assert wrong(stored.audit()) == {"coverage_unlike": 1}


def test_a_deleted_gap_row_is_named(tmp_path: Path) -> None:
    with bench(tmp_path / "journal") as short:
        short.begin(99)
        short.live((*range(100, 150), *range(160, 200)))
        short.deliver()
        short.sql("DELETE FROM gaps")

        report = short.audit()

        assert wrong(report) == {"gap_undeclared": 10}
        assert only(report, "gap_undeclared")[0] == str(native(150))


class Deaf(CoinbaseParser):
    """Ignores one type of message."""

    def __init__(self, kind: bytes) -> None:
        super().__init__()
        self._kind = b'"type":"%s"' % kind

    def parse(self, batch: FrameBatch) -> Parsed:
        heard = [
            b'{"type":"subscriptions"}' if self._kind in payload.replace(b" ", b"") else payload
            for payload in batch.payloads
        ]
        batch = type(batch)(
            batch.context, batch.kind, heard, batch.received_ns, batch.log_id, batch.seqs
        )
        return super().parse(batch)


@pytest.mark.parametrize(("kind", "count"), [(b"last_match", 3), (b"match", 392)])
def test_an_ignored_frame_type_is_missing(tmp_path: Path, kind: bytes, count: int) -> None:
    with bench(tmp_path / "journal", delivering={"coinbase": Deaf(kind)}) as deaf:
        record(deaf)
        deaf.deliver()

        report = deaf.audit()

        assert report.missing == count
        assert wrong(report)["missing"] == count
        assert wrong(report)["coverage_unlike"] >= count


# ------------------------------------------------------------------ doubled


def test_a_trade_stored_twice_is_doubled_and_nothing_else(stored: Bench) -> None:
    stored.sql(f"INSERT INTO trades SELECT * FROM trades {where(130)}")

    report = stored.audit()

    assert wrong(report) == {"doubled": 1}
    assert only(report, "doubled") == [str(native(130))]
    assert (report.doubled, report.streams[0].doubled, report.streams[1].doubled) == (1, 1, 0)
    stages = report.streams[0].stages
    assert stages["store"] == stages["journal"], "digests are over distinct ids"


def test_a_table_stored_three_times_counts_every_extra_row(stored: Bench) -> None:
    stored.sql("INSERT INTO trades SELECT t.* FROM trades t, range(2)")

    report = stored.audit()

    assert report.doubled == 2 * (301 + 101)
    assert len(only_of(report, "doubled", BTC)) == 20


def only_of(report: AuditReport, kind: str, symbol: str) -> list[str]:
    stream = f"coinbase/trade/{symbol}"
    (problem,) = [each for each in report.problems if (each.kind, each.stream) == (kind, stream)]
    return problem.examples


@pytest.mark.parametrize("change", ["price + 1 AS price", "event_ts + INTERVAL 3 HOUR AS event_ts"])
def test_a_double_with_another_content_is_mutated_too(stored: Bench, change: str) -> None:
    stored.sql(f"INSERT INTO trades SELECT * REPLACE ({change}) FROM trades {where(130)}")

    report = stored.audit()

    assert wrong(report) == {"doubled": 1, "mutated": 1}
    stages = report.streams[0].stages
    assert stages["store"] == stages["journal"], "of several rows the right one counts"


def test_an_event_in_both_hours_that_it_was_told_of_is_doubled(stored: Bench) -> None:
    """Either hour has a version of it by the journal, but it is one event."""
    tell_again(stored, 120, at=320)
    stored.sql(
        "INSERT INTO trades SELECT * REPLACE (1.5 AS price, 1 AS size, 'sell' AS side, "
        f"make_timestamp_ns({event(320).event_ts}) AS event_ts) FROM trades {where(120)}"
    )

    report = stored.audit()

    assert wrong(report) == {"doubled": 1}
    assert only(report, "doubled") == [str(native(120))]


def tell_again(told: Bench, index: int, *, at: int) -> None:
    """The venue tells an event once more, with another content and at the time of another."""
    frame = (
        f'{{"type":"match","trade_id":{native(index)},"product_id":"{BTC}","price":"1.5",'
        f'"size":"1","side":"buy","time":"{event(at).time}"}}'
    )
    now = event(LAST).event_ts + 8_000_000
    told.write([frame.encode()], FrameKind.TEXT, now, told.context("e9"))
    told.deliver()


# ------------------------------------------------------------------ mutated


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ("price = price + 0.000000000000000001", "price"),
        ("size = size * 2", "size"),
        ("side = CASE side WHEN 'buy' THEN 'sell' ELSE 'buy' END", "side"),
        ("event_ts = event_ts + INTERVAL 1 MICROSECOND", "event_ts"),
        ("event_ts = event_ts + INTERVAL 3 HOUR", "event_ts"),
        ("event_ts = event_ts - INTERVAL 3 DAY", "event_ts"),
        ("trade_id = trade_id || '0'", "trade_id"),
    ],
)
def test_one_altered_value_is_mutated_and_named(stored: Bench, change: str, column: str) -> None:
    stored.sql(f"UPDATE trades SET {change} {where(222)}")

    report = stored.audit()

    assert wrong(report) == {"mutated": 1}
    (example,) = only(report, "mutated")
    assert example.startswith(f"{native(222)}: {column} is ")
    assert (report.missing, report.mutated, report.spurious) == (0, 1, 0)


def test_an_event_in_another_stream_is_mutated_and_not_missing(stored: Bench) -> None:
    stored.sql(f"UPDATE trades SET symbol = '{ETH}' {where(222)}")

    report = stored.audit()

    assert wrong(report) == {"mutated": 1}
    assert only(report, "mutated") == [f"{native(222)}: symbol is {ETH} and should be {BTC}"]
    assert [stream.mutated for stream in report.streams] == [1, 0]


def test_what_is_not_content_may_differ(stored: Bench) -> None:
    stored.sql(
        "UPDATE trades SET exchange_ts = NULL, received_ts = received_ts + INTERVAL 1 SECOND, "
        "flags = 'late'"
    )

    assert wrong(stored.audit()) == {}


def test_two_versions_in_the_journal_allow_either(stored: Bench) -> None:
    tell_again(stored, 222, at=222)

    report = stored.audit()
    assert wrong(report) == {}
    assert report.conflicts == 1

    stored.sql(f"UPDATE trades SET price = 1.5, size = 1, side = 'sell' {where(222)}")
    assert wrong(stored.audit()) == {}
    stored.sql(f"UPDATE trades SET price = 1.6 {where(222)}")
    assert wrong(stored.audit()) == {"mutated": 1}


# ------------------------------------------------------------------ spurious


def invent(stored: Bench, index: int) -> None:
    """Store a trade that never was, as like the others as can be."""
    high = f"(SELECT (event_id::VARCHAR)[1:18] FROM trades {where(222)})"
    low = f"{(0b10 << 62) | native(index):016x}"
    stored.sql(
        f"INSERT INTO trades SELECT * REPLACE (({high} || '-{low[:4]}-{low[4:]}')::UUID "
        f"AS event_id, '{native(index)}' AS trade_id, {native(index)} AS venue_seq) "
        f"FROM trades {where(222)}"
    )


def test_a_stored_trade_that_was_never_received_is_spurious(stored: Bench) -> None:
    invent(stored, 5000)

    report = stored.audit()

    assert wrong(report) == {"spurious": 1}
    assert only(report, "spurious") == [str(native(5000))]
    assert report.spurious == 1


def test_what_is_older_than_the_journal_is_said_not_to_be_compared(stored: Bench) -> None:
    invent(stored, 5000)
    stored.sql(f"UPDATE trades SET received_ts = TIMESTAMP_NS '2020-01-01' {where(5000)}")
    stored.sql(
        f"INSERT INTO coverage SELECT * REPLACE ({native(5000)} AS first, {native(5000)} AS last) "
        f"FROM coverage WHERE symbol = '{BTC}' AND origin = 'live' LIMIT 1"
    )
    stored.sql(
        "INSERT INTO gaps SELECT * REPLACE "
        f"({native(LAST + 1)} AS first, {native(4999)} AS last, 'open' AS state) FROM gaps LIMIT 1"
    )

    report = stored.audit()

    assert wrong(report) == {"gap_open": 4999 - LAST}, "by its own coverage"
    (note,) = report.notes
    assert note.startswith("1 stored events were not compared: the journal does not hold ")


# ------------------------------------------------------------------ gaps and letters


def test_an_open_gap_is_red(tmp_path: Path) -> None:
    with bench(tmp_path / "journal") as open_gap:
        open_gap.begin(99)
        open_gap.live((*range(100, 150), *range(155, 200)))
        open_gap.deliver()

        report = open_gap.audit()

        assert wrong(report) == {"gap_open": 5}
        assert only(report, "gap_open")[0] == str(native(150))
        assert report.problems[0].text.endswith("5 ids in open gaps; run `forebay gaps fill`.")
        assert report.missing == 0


def test_a_tail_that_only_a_heartbeat_knew_of_is_red(tmp_path: Path) -> None:
    with bench(tmp_path / "journal") as tail:
        tail.begin(99)
        tail.live(range(100, 150))
        tail.heartbeat(160)
        tail.deliver()

        assert wrong(tail.audit()) == {"gap_open": 11}


def test_a_permanent_gap_is_on_record_and_green_without_a_truth(tmp_path: Path) -> None:
    with bench(tmp_path / "journal") as gone:
        gone.begin(99)
        gone.live((*range(100, 150), *range(155, 200)))
        gone.fill(150, 154, without=(152,))
        gone.deliver()

        report = gone.audit()

        assert wrong(report) == {}
        states = [(gap.first, gap.last, gap.state) for gap in report.gaps]
        assert (native(152), native(152), "permanent") in states


@pytest.mark.parametrize("state", ["open", "permanent"])
def test_declaring_everything_lost_is_red(stored: Bench, state: str) -> None:
    stored.sql(f"DELETE FROM trades WHERE symbol = '{BTC}'")
    stored.sql(f"DELETE FROM coverage WHERE symbol = '{BTC}'")
    stored.sql(f"DELETE FROM gaps WHERE symbol = '{BTC}'")
    stored.sql(
        f"INSERT INTO gaps VALUES ('coinbase', 'spot', 'trade', '{BTC}', 'id', '', {native(99)}, "
        f"{native(LAST)}, 'between_connections', '{state}')"
    )

    report = stored.audit()

    assert not report.ok
    assert wrong(report)["gap_unfounded"] == 301
    assert report.missing == 301, "the journal has them, whatever the gaps say"


def test_a_lost_dead_letter_is_red(stored: Bench) -> None:
    stored.sql("DELETE FROM dead_letters")

    report = stored.audit()

    assert wrong(report) == {"dead_letters": 1}
    assert report.dead_letters == 0


def test_an_invented_dead_letter_is_red(stored: Bench) -> None:
    stored.sql("INSERT INTO dead_letters SELECT * REPLACE (uuid() AS letter_id) FROM dead_letters")

    assert wrong(stored.audit()) == {"dead_letters": 1}


# ------------------------------------------------------------------ time ranges


def hour_of(index: int) -> int:
    return event(index).event_ts // HOUR_NS


def in_hour(hour: int) -> list[int]:
    """Which events are of so many hours after the first."""
    return [index for index in range(99, 400) if hour_of(index) == hour_of(0) + hour]


def test_a_time_range_is_of_whole_hours(stored: Bench) -> None:
    inside = in_hour(2)
    middle = event(inside[5]).event_ts

    def audit() -> AuditReport:
        return stored.audit(since_ns=middle, until_ns=middle + 1)

    report = audit()

    assert wrong(report) == {}
    assert report.streams[0].events == len(inside)
    assert (report.since, report.until) == (
        iso((hour_of(0) + 2) * HOUR_NS),
        iso((hour_of(0) + 3) * HOUR_NS),
    )
    assert report.streams[0].verified_from == iso(event(inside[0]).event_ts)
    assert report.streams[0].verified_to == iso(event(inside[-1]).event_ts)
    assert all(native(inside[0]) <= gap.last <= native(inside[-1]) for gap in report.gaps)
    for index in (inside[0] - 1, inside[0], inside[-1], inside[-1] + 1):
        stored.sql(f"DELETE FROM trades {where(index)}")
    assert only(audit(), "missing") == [str(native(inside[0])), str(native(inside[-1]))]
    assert stored.audit(until_ns=event(99).event_ts + 1).ok


def test_a_time_range_that_lies_in_a_gap_shows_the_gap(tmp_path: Path) -> None:
    with bench(tmp_path / "journal") as short:
        short.begin(99)
        short.live((*range(100, 150), *range(350, 400)))
        short.deliver()

        inside = short.audit(since_ns=event(250).event_ts, until_ns=event(250).event_ts)
        outside = short.audit(until_ns=event(99).event_ts)

        assert wrong(inside) == {"gap_open": 200}
        assert len(inside.gaps) == 1
        assert wrong(outside) == {}
        assert outside.gaps == []


def test_a_gap_at_either_edge_of_a_time_range_is_seen(tmp_path: Path) -> None:
    first, last = in_hour(2)[0], in_hour(2)[-1]
    with bench(tmp_path / "journal") as short:
        short.begin(99)
        kept = (range(100, first - 5), range(first + 5, last - 5), range(last + 5, 390))
        short.live([*itertools.chain(*kept), *range(395, 400)])
        short.deliver()

        middle = event(first + 30).event_ts
        report = short.audit(since_ns=middle, until_ns=middle)

        assert wrong(report) == {"gap_open": 20}
        assert len(report.gaps) == 2


def test_an_event_that_was_moved_out_of_the_time_range_is_mutated(stored: Bench) -> None:
    stored.sql(f"UPDATE trades SET event_ts = event_ts + INTERVAL 9 HOUR {where(222)}")

    middle = event(222).event_ts
    report = stored.audit(since_ns=middle, until_ns=middle + 1)

    assert wrong(report) == {"mutated": 1}
    (example,) = only(report, "mutated")
    assert example.startswith(f"{native(222)}: event_ts is ")


def test_an_event_that_was_moved_into_the_time_range_is_mutated(stored: Bench) -> None:
    stored.sql(f"UPDATE trades SET event_ts = event_ts + INTERVAL 1 HOUR {where(222)}")

    middle = event(222).event_ts + HOUR_NS
    report = stored.audit(since_ns=middle, until_ns=middle + 1)

    assert wrong(report) == {"mutated": 1}
    assert only(report, "mutated") == [f"{native(222)}: it was received with another time"]


def test_a_time_range_may_hold_the_first_version_of_an_event_or_the_second(stored: Bench) -> None:
    tell_again(stored, 120, at=320)
    stored.sql(f"DELETE FROM trades {where(321)}")

    middle = event(320).event_ts
    report = stored.audit(since_ns=middle, until_ns=middle + 1)

    assert wrong(report) == {"missing": 1}, "the version of that hour is no other event"


# ------------------------------------------------------------------ nothing to compare with


def test_an_empty_folder_is_not_ok(tmp_path: Path) -> None:
    with bench(tmp_path / "journal") as empty:
        report = empty.audit()

        assert wrong(report) == {"nothing_verified": 0}
        assert report.position is None


def test_nothing_is_said_to_be_complete_without_a_basis(stored: Bench, tmp_path: Path) -> None:
    stored.folder = tmp_path / "elsewhere"

    report = stored.audit()

    assert {"nothing_verified", "journal_short"} <= wrong(report).keys()
    for stream in report.streams:
        assert stream.basis == "none"
        assert stream.missing is None
        assert stream.verified_from is stream.verified_to is None


def test_a_journal_that_ends_before_the_cursor_is_red(stored: Bench) -> None:
    position = stored.deliverer.position
    assert position is not None
    ahead = Position(position.log_id, position.seq + 3)
    stored.store.commit(Commit({"store": ahead}))

    report = stored.audit()

    assert wrong(report) == {"journal_short": 3}
    assert report.position == f"{position.log_id}:{ahead.seq}"


def test_frames_beyond_the_cursor_are_not_owed_yet(stored: Bench) -> None:
    stored.live(range(LAST + 1, LAST + 50), "e2")

    report = stored.audit()

    assert wrong(report) == {}
    assert report.streams[0].stages["journal"].count == 301


def test_a_damaged_journal_is_no_witness_against_the_store(stored: Bench) -> None:
    (segment,) = stored.folder.glob("*.fbj")
    raw = bytearray(segment.read_bytes())
    at = raw.index(b'"trade_id":%d' % native(180))
    raw[at + 2] ^= 0xFF
    segment.write_bytes(raw)

    report = stored.audit()

    assert wrong(report) == {}
    assert len(report.notes) == 2
    stored.sql(f"DELETE FROM trades {where(181)}")
    assert wrong(stored.audit()) == {"missing": 1}


# ------------------------------------------------------------------ a store that moves


def test_a_store_that_moves_between_answers_is_no_loss(tmp_path: Path) -> None:
    with bench(tmp_path / "journal") as moving:
        moving.begin(99)
        moving.live(range(100, 200))
        moving.deliver()
        moving.sql(f"UPDATE trades SET price = price + 1 {where(150)}")
        at = 200

        def move() -> None:
            nonlocal at
            moving.live(range(at, at + 7))
            moving.deliver()
            at += 7

        report = moving.audit(after=move)

        assert moving.asked == ["account", "minutes", "rows", "find"]
        assert wrong(report) == {"mutated": 1}


def test_a_store_that_moves_before_the_journal_is_read_is_no_loss(tmp_path: Path) -> None:
    with bench(tmp_path / "journal") as moving:
        moving.begin(99)
        moving.live(range(100, 200))
        moving.deliver()

        def move() -> None:
            moving.live(range(200, 300))
            moving.fill(200, 250)
            moving.deliver()

        report = moving.audit(after=move)

        assert wrong(report) == {}
        assert report.streams[0].events == 101
        assert moving.asked == ["account"]


def test_a_cursor_inside_a_block_is_an_exact_cut(tmp_path: Path) -> None:
    with bench(tmp_path / "journal") as sliced:
        sliced.begin(99)
        sliced.live(range(100, 160))
        projection = Projection(PARSERS, {})
        reader = JournalReader(sliced.folder)

        def step(frames: int) -> None:
            projected = projection.project(batches_of(reader.read(max_frames=frames)))
            projection.adopt(projected)
            commit = Commit(
                {"store": reader.position},
                events=projected.events,
                coverage=projected.coverage,
            )
            sliced.store.commit(commit)

        step(16)
        assert (reader.position.seq - 4) % BLOCK == 3, "three frames into a block"
        whole = sliced.audit()
        sliced.sql(f"UPDATE trades SET price = price + 1 {where(105)}")
        moving = sliced.audit(after=lambda: step(4))
        reader.close()

        assert wrong(whole) == {}
        assert whole.streams[0].events == 1 + 13
        assert wrong(moving) == {"mutated": 1}


def test_a_store_that_goes_back_is_asked_for_another_audit(stored: Bench) -> None:
    stored.sql(f"UPDATE trades SET price = price + 1 {where(150)}")

    with pytest.raises(Transient, match="went back"):
        stored.audit(after=lambda: stored.sql("UPDATE cursors SET seq = 5"))


def test_frames_that_are_retired_while_they_are_read_accuse_nobody(tmp_path: Path) -> None:
    with bench(tmp_path / "journal", segment_bytes=5000) as retired:
        record(retired)
        retired.deliver()
        retired.sql(f"UPDATE trades SET price = price + 1 {where(150)}")

        def retire(done: int, total: int) -> None:
            if done == total and retired.ends():
                retired.forget(retired.ends()[-1].seq)

        with pytest.raises(Transient, match="retired"):
            retired.audit(progress=retire)
