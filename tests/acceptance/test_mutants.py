"""The auditor is audited: a store that was tampered with turns ``forebay audit`` red."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from tests.support import made_recording as made
from tests.support.commands import capture, forebay, simulator

if TYPE_CHECKING:
    from pathlib import Path

COUNTS = ("missing", "doubled", "mutated", "spurious")
EVENTS = 600


def tampered(original: Path, copy: Path, *statements: str) -> Path:
    """Copy a data folder and run SQL on the copy's database, behind everybody's back."""
    shutil.copytree(original, copy, ignore=shutil.ignore_patterns("*.sock"))
    with duckdb.connect(str(copy / "forebay.duckdb")) as database:
        for statement in statements:
            database.execute(statement)
    return copy


def audit(data: Path, *flags: str) -> tuple[int, dict[str, Any]]:
    answer = forebay("audit", "--data", data, "--json", *flags)
    report: dict[str, Any] = answer.json
    assert report["ok"] is (report["problems"] == [])
    return answer.code, report


def counts(report: dict[str, Any]) -> dict[str, int]:
    return {name: report[name] for name in COUNTS if report[name]}


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder whose audit is green: a recording without holes."""
    folder = tmp_path_factory.mktemp("green")
    file = folder / "calm.rec"
    file.write_bytes(made.rec(first=90, end=150))
    answer = forebay("replay", file, "--venue", "coinbase", "--data", folder / "data")
    assert answer.code == 0, answer.stderr
    return folder / "data"


LAST = "(SELECT max(received_ts) FROM trades)"
ALTERED = "UPDATE trades SET {} WHERE symbol = 'BTC-USD' AND trade_id = '120'"
TAMPERINGS: dict[str, tuple[tuple[str, ...], dict[str, int]]] = {
    "the last batch dropped": (
        ("DELETE FROM trades WHERE received_ts > " + LAST + " - INTERVAL 5 SECOND",),  # noqa: S608
        {"missing": 10},
    ),
    "a price altered": ((ALTERED.format("price = price + 0.01"),), {"mutated": 1}),
    "a time altered": (
        (ALTERED.format("event_ts = event_ts + INTERVAL 1 MICROSECOND"),),
        {"mutated": 1},
    ),
    "a market altered": ((ALTERED.format("market = 'perpetual'"),), {"mutated": 1}),
    "coverage that claims too much": (
        ("UPDATE coverage SET last = last + 1 WHERE origin = 'live'",),
        {},
    ),
    "a trade stored twice": (
        ("INSERT INTO trades FROM trades WHERE symbol = 'BTC-USD' AND trade_id = '120'",),
        {"doubled": 1},
    ),
    "a trade that nobody sent": (
        (
            (
                "INSERT INTO trades SELECT * REPLACE (uuid() AS event_id, '99' AS trade_id) "
                "FROM trades WHERE symbol = 'ETH-USD' AND trade_id = '640'"
            ),
        ),
        {"spurious": 1},
    ),
    "everything declared a gap": (
        (
            (
                "INSERT INTO gaps SELECT 'coinbase', 'spot', 'trade', symbol, 'id', '', "
                "min(trade_id::BIGINT), max(trade_id::BIGINT), 'in_connection', 'permanent' "
                "FROM trades GROUP BY symbol"
            ),
            "DELETE FROM coverage",
            "DELETE FROM trades",
        ),
        {"missing": 120},
    ),
}


def test_untouched_it_is_green(replayed: Path) -> None:
    code, report = audit(replayed)
    assert (code, report["ok"], counts(report)) == (0, True, {})
    assert sum(stream["events"] for stream in report["streams"]) == 120
    assert {stream["basis"] for stream in report["streams"]} == {"id"}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_tampering_turns_it_red(name: str, replayed: Path, tmp_path: Path) -> None:
    statements, expected = TAMPERINGS[name]
    code, report = audit(tampered(replayed, tmp_path / "data", *statements))
    assert code == 1
    assert not report["ok"]
    assert counts(report) == expected


def test_against_a_simulators_truth_a_lost_tail_is_missing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    flags = ("--rate", 300, "--events", EVENTS, "--start", "now")
    with simulator(*flags) as lab:
        with capture(data, *lab.flags) as running:
            running.until(lambda told: told["deliver"]["rows"] >= EVENTS, "the whole market")
            assert running.stop() == 0
        code, report = audit(data, "--truth", lab.truth_url)
        assert (code, report["problems"]) == (0, [])
        told = [stream["stages"]["truth"]["count"] for stream in report["streams"]]
        assert told == [EVENTS // 2 + 1] * 2  # and the last match before the market began

        last = "(SELECT max(trade_id::BIGINT) FROM trades WHERE symbol = 'BTC-USD')"
        where = "symbol = 'BTC-USD' AND trade_id::BIGINT > " + last + " - 7"
        drop = "DELETE FROM trades WHERE " + where  # noqa: S608 - our own words
        code, report = audit(tampered(data, tmp_path / "tail", drop), "--truth", lab.truth_url)
        assert code == 1
        assert counts(report) == {"missing": 7}
