"""The audit with a truth: bounds, events and withheld indices come from the simulator."""

# ruff: noqa: S608 - statements that spoil a store of our own

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from forebay.domain.digest import HOUR_NS
from tests.support.audit_bench import (
    BTC,
    ETH,
    LAST,
    Bench,
    TruthServer,
    bench,
    event,
    native,
    record,
    truth_server,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from forebay.services.audit import AuditReport


@pytest.fixture
def truth() -> Iterator[TruthServer]:
    with truth_server() as server:
        yield server


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[Bench]:
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


def where(index: int, symbol: str = BTC) -> str:
    return f"WHERE symbol = '{symbol}' AND trade_id = '{native(index, symbol)}'"


# ------------------------------------------------------------------ nothing wrong


def test_a_whole_store_equals_the_truth(stored: Bench, truth: TruthServer) -> None:
    report = stored.audit(truth=truth.url)

    assert wrong(report) == {}
    assert report.notes == []
    for stream in report.streams:
        assert stream.stages["truth"] == stream.stages["store"] == stream.stages["journal"]
    asked = [path for path in truth.asked if path.startswith("/events")]
    assert all(path.endswith("from=0&to=1") for path in asked), "equal digests need no events"


def test_a_truth_that_goes_on_is_named(stored: Bench, truth: TruthServer) -> None:
    truth.finished = False

    report = stored.audit(truth=truth.url)

    assert report.ok
    (note,) = report.notes
    assert note.startswith("The simulator goes on: what it sends from now on is not owed yet; ")


# ------------------------------------------------------------------ events


def test_a_lost_tail_is_missing_though_nobody_received_it(
    tmp_path: Path, truth: TruthServer
) -> None:
    with bench(tmp_path / "journal") as cut:
        cut.begin(99)
        cut.live(range(100, 390))
        cut.deliver()
        truth.bounds = {BTC: (100, LAST)}
        truth.withheld = {}

        assert cut.audit().ok, "nothing can be known of it without a truth"
        report = cut.audit(truth=truth.url)

        assert wrong(report) == {"missing": 10}
        assert report.problems[0].examples[0] == str(native(390))
        assert report.streams[0].stages["truth"].count == 301


def test_a_symbol_that_was_never_stored_is_missing(stored: Bench, truth: TruthServer) -> None:
    for table in ("trades", "coverage", "gaps"):
        stored.sql(f"DELETE FROM {table} WHERE symbol = '{ETH}'")

    assert stored.audit(truth=truth.url).missing == 101, "the journal has one before the bounds"


def test_history_before_the_bounds_is_not_owed_but_must_be_right(
    stored: Bench, truth: TruthServer
) -> None:
    truth.bounds[BTC] = (150, LAST)
    assert stored.audit(truth=truth.url).ok

    stored.sql(f"UPDATE trades SET price = price + 1 {where(120)}")
    assert wrong(stored.audit(truth=truth.url)) == {"mutated": 1}


def test_a_symbol_nobody_subscribed_to_owes_nothing(stored: Bench, truth: TruthServer) -> None:
    truth.bounds["SOL-USD"] = (None, 99)

    report = stored.audit(truth=truth.url)

    assert wrong(report) == {}
    assert [stream.symbol for stream in report.streams] == [BTC, ETH]


def altered_everywhere(stored: Bench, change: str) -> None:
    """Alter what the collector received: journal and store agree, and both are wrong."""
    frame = f'{{"type":"match","trade_id":{native(LAST + 1)},"product_id":"{BTC}",{change}'
    now = event(LAST).event_ts + 8_000_000
    from forebay.domain.frames import FrameKind

    stored.write([frame.encode()], FrameKind.TEXT, now, stored.context("e2"))
    stored.deliver()


@pytest.mark.parametrize(
    ("field", "value"), [("price", "1.5"), ("size", "77"), ("side", "?"), ("time", "?")]
)
def test_what_the_collector_altered_is_mutated(
    stored: Bench, truth: TruthServer, field: str, value: str
) -> None:
    right = event(LAST + 1)
    maker = {"buy": "sell", "sell": "buy"}
    fields = {"price": right.price, "size": right.size, "side": maker[right.side]}
    fields["time"] = right.time
    fields[field] = {"side": right.side, "time": event(LAST + 2).time}.get(field, value)
    altered_everywhere(stored, ",".join(f'"{k}":"{v}"' for k, v in fields.items()) + "}")
    truth.bounds[BTC] = (100, LAST + 1)

    assert stored.audit().ok, "journal and store agree"
    report = stored.audit(truth=truth.url)

    column = {"time": "event_ts"}.get(field, field)
    assert wrong(report) == {"mutated": 1}
    assert report.problems[0].examples[0].startswith(f"{native(LAST + 1)}: {column} is ")


def test_an_event_that_never_happened_is_spurious(stored: Bench, truth: TruthServer) -> None:
    right = event(LAST + 1)
    altered_everywhere(stored, f'"price":"1","size":"1","side":"buy","time":"{right.time}"}}')

    assert stored.audit().ok, "it was received"
    report = stored.audit(truth=truth.url)

    assert wrong(report) == {"spurious": 1}
    assert report.problems[0].examples == [str(native(LAST + 1))]


def test_a_symbol_that_the_market_does_not_have_is_spurious(
    stored: Bench, truth: TruthServer
) -> None:
    del truth.bounds[ETH]

    assert wrong(stored.audit(truth=truth.url)) == {"spurious": 101}


@pytest.mark.parametrize(
    ("spoil", "kinds"),
    [
        (f"DELETE FROM trades {where(140)}", {"missing": 1}),
        (f"INSERT INTO trades SELECT * FROM trades {where(140)}", {"doubled": 1}),
        (f"UPDATE trades SET size = size + 1 {where(140)}", {"mutated": 1}),
        (f"UPDATE trades SET event_ts = event_ts + INTERVAL 9 HOUR {where(140)}", {"mutated": 1}),
        (f"UPDATE trades SET side = 'unknown' {where(140)}", {"mutated": 1}),
    ],
)
def test_what_journal_and_truth_both_find_counts_once(
    stored: Bench, truth: TruthServer, spoil: str, kinds: dict[str, int]
) -> None:
    stored.sql(spoil)

    assert wrong(stored.audit(truth=truth.url)) == kinds


def test_the_last_batch_dropped_with_its_cursor_is_missing(
    tmp_path: Path, truth: TruthServer
) -> None:
    with bench(tmp_path / "journal") as late:
        late.begin(99)
        late.live(range(100, 300))
        late.deliver()
        late.live(range(300, LAST + 1))
        truth.bounds = {BTC: (100, LAST)}
        truth.withheld = {}

        report = late.audit(truth=truth.url)

        assert wrong(report) == {"missing": 100}


# ------------------------------------------------------------------ gaps


@pytest.mark.parametrize("state", ["open", "permanent", "filled"])
def test_declaring_everything_lost_is_red(stored: Bench, truth: TruthServer, state: str) -> None:
    for table in ("trades", "coverage", "gaps"):
        stored.sql(f"DELETE FROM {table} WHERE symbol = '{BTC}'")
    stored.sql(
        f"INSERT INTO gaps VALUES ('coinbase', 'spot', 'trade', '{BTC}', 'id', '', {native(99)}, "
        f"{native(LAST)}, 'between_connections', '{state}')"
    )

    found = wrong(stored.audit(truth=truth.url))

    assert found["gap_unfounded"] > 280
    assert ("gap_unfilled" in found) is (state != "filled")


def test_declaring_everything_lost_is_red_by_the_truth_alone(
    tmp_path: Path, truth: TruthServer
) -> None:
    """A collector that received nothing and declares all of it."""
    with bench(tmp_path / "journal") as lazy:
        lazy.begin(99)
        lazy.heartbeat(LAST)
        lazy.fill(100, LAST, without=range(100, LAST + 1))
        lazy.deliver()
        truth.bounds = {BTC: (100, LAST)}
        truth.withheld = {}

        assert lazy.audit().ok, "without a truth a permanent gap is only on record"
        report = lazy.audit(truth=truth.url)

        assert wrong(report) == {"gap_unfilled": 300, "gap_unfounded": 300}
        assert report.missing == 0


def test_what_was_withheld_must_be_declared(stored: Bench, truth: TruthServer) -> None:
    truth.withheld[BTC]["certain"] = [
        [200, 204, "drop"],
        [250, 254, ""],
        [300, 300, ""],
        [310, 310, ""],
    ]

    report = stored.audit(truth=truth.url)

    assert wrong(report) == {"withheld_undeclared": 5}
    assert report.problems[0].examples == [str(native(index)) for index in range(200, 205)]


def test_what_was_delivered_must_not_be_declared(stored: Bench, truth: TruthServer) -> None:
    truth.withheld[BTC]["certain"] = [[250, 254, ""], [310, 310, ""]]

    report = stored.audit(truth=truth.url)

    assert wrong(report) == {"gap_unfounded": 1}
    assert report.problems[0].examples == [str(native(300))]


def test_what_is_in_doubt_may_be_declared_or_not(stored: Bench, truth: TruthServer) -> None:
    truth.withheld[BTC]["certain"] = [[250, 254, ""], [310, 310, ""]]
    truth.withheld[BTC]["in_doubt"] = [[300, 300, "closed"], [350, 352, "closed"]]

    assert wrong(stored.audit(truth=truth.url)) == {}


@pytest.mark.parametrize(
    ("certain", "kinds"),
    [
        ([249, 255], {}),
        ([251, 253], {}),
        ([248, 254], {"withheld_undeclared": 1}),
        ([250, 256], {"withheld_undeclared": 1}),
        ([252, 253], {"gap_unfounded": 1}),
        ([251, 252], {"gap_unfounded": 1}),
    ],
)
def test_one_neighbour_either_side_is_tolerated(
    stored: Bench, truth: TruthServer, certain: list[int], kinds: dict[str, int]
) -> None:
    truth.withheld[BTC]["certain"] = [[*certain, "outage"], [300, 300, ""], [310, 310, ""]]

    assert wrong(stored.audit(truth=truth.url)) == kinds


def test_a_gap_that_history_could_fill_must_not_stay(tmp_path: Path, truth: TruthServer) -> None:
    with bench(tmp_path / "journal") as gone:
        gone.begin(99)
        gone.live((*range(100, 250), *range(255, LAST + 1)))
        gone.fill(250, 254, without=(252,))
        gone.deliver()
        truth.bounds = {BTC: (100, LAST)}
        truth.withheld = {
            BTC: {**truth.withheld[BTC], "certain": [[250, 254, "drop"]], "poison": []}
        }

        assert gone.audit().ok
        assert wrong(gone.audit(truth=truth.url)) == {"gap_unfilled": 1}


# ------------------------------------------------------------------ poison


@pytest.mark.parametrize(
    ("poison", "doubtful", "red"),
    [
        ([310], [], False),
        ([], [310], False),
        ([310], [311], False),
        ([], [], True),
        ([310, 320], [], True),
    ],
)
def test_dead_letters_equal_the_injected_poison(
    stored: Bench, truth: TruthServer, poison: list[int], doubtful: list[int], red: bool
) -> None:
    truth.withheld[BTC] |= {"poison": poison, "poison_in_doubt": doubtful}

    assert wrong(stored.audit(truth=truth.url)) == ({"dead_letters": 1} if red else {})


# ------------------------------------------------------------------ time ranges


def test_a_time_range_is_compared_with_the_truth_of_its_hours(
    stored: Bench, truth: TruthServer
) -> None:
    hour = event(220).event_ts // HOUR_NS
    inside = [index for index in range(99, 400) if event(index).event_ts // HOUR_NS == hour]

    def audit() -> AuditReport:
        return stored.audit(truth=truth.url, since_ns=hour * HOUR_NS, until_ns=hour * HOUR_NS + 1)

    report = audit()

    assert wrong(report) == {}
    stages = report.streams[0].stages
    assert stages["truth"].count == report.streams[0].events == len(inside)
    assert stages["journal"] == stages["store"] == stages["truth"]
    stored.sql(f"DELETE FROM trades {where(inside[0] - 1)}")
    assert audit().ok
    stored.sql(f"DELETE FROM trades {where(inside[0])}")
    assert wrong(audit()) == {"missing": 1}


# ------------------------------------------------------------------ both move


def test_a_truth_and_a_store_that_move_on_are_no_loss(stored: Bench, truth: TruthServer) -> None:
    truth.bounds[BTC] = (100, LAST)
    at = LAST + 1

    def move() -> None:
        nonlocal at
        stored.live(range(at, at + 5), "e2")
        stored.deliver()
        at += 5
        truth.bounds[BTC] = (100, at)

    report = stored.audit(truth=truth.url, before=move)

    assert wrong(report) == {}
    assert report.streams[0].events == 306


def test_what_a_moving_store_has_beyond_the_truth_that_was_seen_is_not_held_against_it(
    stored: Bench, truth: TruthServer
) -> None:
    truth.bounds[BTC] = (100, LAST)
    stored.sql(f"UPDATE trades SET price = price + 1 {where(LAST)}")
    at = LAST + 1

    def move() -> None:
        nonlocal at
        stored.live(range(at, at + 5), "e2")
        stored.deliver()
        at += 5

    assert wrong(stored.audit(truth=truth.url, after=move)) == {"mutated": 1}
