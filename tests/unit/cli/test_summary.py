"""A capture in six lines and in one, for people."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest

from forebay.cli.run import shown
from forebay.cli.status import SystemStatus, fitting, flat, line, lines, span
from forebay.cli.status_flows import listed
from forebay.ops.view import ProcessReport, StreamReport, SystemReport
from forebay.resilience import ServiceHealth, SystemHealth, assess
from forebay.telemetry import Stopped

S = 1_000_000_000
CAPTURE = {
    "next_seq": 6_282,
    "connected": 1,
    "wanted": 2,
    "reconnects": 3,
    "p99_ms": 20.481,
    "frames_per_s": 202.3,
}
DELIVER = {
    "seq": 6_114,
    "dead_letters": 28,
    "gaps": {"open": 1, "filled": 472, "permanent": 2},
    "lag_s": 0.31,
    "events_per_s": 1_200.9,
}
JOURNAL = {
    "bytes": 1_500_000_000,
    "gb_per_day": 12.345,
    "gb_per_day_on_disk": 3.1,
    "days_until_full": 41.2,
}


def stream(symbol: str, **said: Any) -> StreamReport:  # noqa: ANN401 - fields of all types
    return StreamReport(venue="coinbase", market="spot", channel="trade", symbol=symbol, **said)


def told(
    health: SystemHealth | None = None,
    *,
    capture: dict[str, Any] | None = CAPTURE,
    deliver: dict[str, Any] | None = DELIVER,
    not_ready: str = "",
) -> SystemStatus:
    processes = [
        ProcessReport(name, 1, "", status=status)
        for name, status in (
            ("supervisor", {"since": "2026-11-29T02:12:07Z"}),
            ("capture", capture),
            ("deliver", deliver),
        )
        if status is not None
    ]
    report = SystemReport(
        at_ns=1_795_918_327 * S + 12_000 * S,
        health=health or assess(()),
        not_ready=not_ready,
        checks=(),
        processes=processes,
    )
    return SystemStatus(report, "http://127.0.0.1:8080")


def test_a_capture_that_is_well_is_six_lines() -> None:
    assert list(lines(told(), JOURNAL, "DIR")) == [
        "state         healthy since 2026-11-29T02:12:07Z (3 h 20 min)",
        "connected     1 of 2, 3 reconnects",
        "events        1,201/s stored, 202 frames/s captured, 0.8 s behind (168 frames)",
        "gaps          1 open, 2 permanent, 472 filled",
        "dead letters  28 since the start",
        "disk          journal 1.50 GB, 12.3 GB a day, full in 41 days",
    ]


def test_what_is_wrong_is_said_on_as_many_lines_as_it_takes() -> None:
    reason = "the disk of the journal is full, " * 5
    health = assess([ServiceHealth("journal", up=False, critical=True, reason=reason)])
    text = list(lines(told(health, not_ready="deliver does not answer"), JOURNAL, "DIR"))
    assert max(map(len, text)) <= 80
    whole = " ".join(part.strip() for part in text)
    assert "state         critical since" in text[0]
    assert "deliver does not answer" in whole


def asking(*streams: StreamReport) -> SystemStatus:
    report = told().report
    asks, *others = report.processes
    asks = dataclasses.replace(asks, streams=streams)
    return SystemStatus(dataclasses.replace(report, processes=[asks, *others]), "")


def test_a_symbol_that_does_not_come_is_a_line_of_its_own() -> None:
    now_ns = told().report.at_ns
    text = list(
        lines(
            asking(
                stream("BTC-USD", asked_ns=1, ever=True),
                stream("BTC-USDX", asked_ns=1, refused="not a valid product"),
                stream("ETH-USD", asked_ns=now_ns - 61 * S, ever=False),
                stream("SOL-USD", asked_ns=now_ns - 59 * S, ever=False),
            ),
            None,
            "",
        )
    )
    assert "connected     1 of 2, 4 symbols asked for, 1 heard, 3 reconnects" in text
    assert text[-2:] == [
        "refused       coinbase BTC-USDX: not a valid product",
        "silent        coinbase ETH-USD: nothing was ever heard",
    ]


def test_of_many_symbols_that_do_not_come_some_are_named() -> None:
    many = [stream(f"A{number}-USD", asked_ns=1, refused="no") for number in range(50)]
    text = list(lines(asking(*many), None, ""))
    assert sum(each.startswith("refused") for each in text) == 10
    assert text[-1].strip() == "and 40 more"


def test_a_process_that_is_away_is_named() -> None:
    text = list(lines(told(deliver=None), None, "DIR"))
    assert "events        deliver not answering" in text
    assert not any(each.startswith("gaps") for each in text)


def test_what_is_not_running_is_said_with_its_folder() -> None:
    short = {**JOURNAL, "days_until_full": None}
    assert list(lines(None, short, "DIR")) == [
        "state         not running in DIR",
        "disk          journal 1.50 GB; how fast it grows is not known yet",
    ]


def test_keys_that_wait_for_a_restart_are_listed() -> None:
    waiting = dataclasses.replace(told().report, restart_needed=("http.port", "collector"))
    (last,) = [
        each for each in lines(SystemStatus(waiting, ""), None, "") if each.startswith("changed")
    ]
    assert last == "changed       http.port, collector: waits for a restart"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1.0, "0 s"),
        (59.4, "59 s"),
        (60.0, "1 min 0 s"),
        (3_599.9, "1 h 0 min"),
        (12_000.0, "3 h 20 min"),
        (180_000.0, "2 d 2 h"),
    ],
)
def test_a_time_is_told_in_two_units(seconds: float, text: str) -> None:
    assert span(seconds) == text


# ------------------------------------------------------------------------- one line


@pytest.mark.parametrize("width", range(10, 140, 7))
def test_the_line_is_cut_between_its_parts_only(width: int) -> None:
    whole = line(told(), 1_000)
    cut = line(told(), width)
    assert len(cut) <= width
    assert whole == cut or whole.startswith(f"{cut} · ")
    assert whole.endswith("p99 20.5 ms")


def test_the_first_part_is_there_however_narrow_it_is() -> None:
    assert fitting(["healthy", "2 connected"], 3) == "hea"


def supervisor(report: SystemReport, *, stopping: bool) -> Any:  # noqa: ANN401 - a stand-in
    return SimpleNamespace(
        system=SimpleNamespace(last=report), stop=SimpleNamespace(is_set=lambda: stopping)
    )


def test_the_first_word_of_a_run_is_starting_and_the_last_is_stopping() -> None:
    silent = told(capture=None, deliver=None).report
    assert shown(supervisor(silent, stopping=False), 80) == "starting"
    assert shown(supervisor(told().report, stopping=False), 80).startswith("healthy · 1/2 conn")
    assert shown(supervisor(told().report, stopping=True), 80).startswith("stopping")
    assert shown(supervisor(silent, stopping=True), 80).startswith("stopping")


@pytest.mark.parametrize(
    ("ended", "text"),
    [
        (Stopped(327_750, 0, 0), "Stopped. 327,750 events captured and stored, 0 gaps open."),
        (Stopped(1, 0, 1), "Stopped. 1 event captured and stored, 1 gap open."),
        (
            Stopped(5, 1, 2),
            "Stopped. 5 events captured and stored, 1 frame waiting in the journal, 2 gaps open.",
        ),
    ],
)
def test_the_farewell_says_what_came_of_it(ended: Stopped, text: str) -> None:
    assert str(ended) == text


# ------------------------------------------------------------------------- details


def test_details_are_written_as_people_write_them() -> None:
    found = {
        "outcomes": {"yielding": 2568, "dead": {"a": 0}},
        "full": False,
        "behind": True,
        "log_id": None,
        "p99_ms": 1234.567,
        "names": ("a", "b"),
        "seq": 7,
    }
    assert list(flat(found)) == [
        ("outcomes.yielding", "2568"),
        ("outcomes.dead.a", "0"),
        ("full", "no"),
        ("behind", "yes"),
        ("log_id", ""),
        ("p99_ms", "1,234.57"),
        ("names", "a, b"),
        ("seq", "7"),
    ]


def test_markets_that_come_and_go_are_counted_by_venue() -> None:
    counts = {"open": 1200, "coming": 3, "ended": 0, "wanted": 1201}
    assert [*listed({"markets": {"kalshi": counts}})] == [
        "kalshi: 1,200 open, 3 coming, 0 ended; 1,201 captured"
    ]
    assert not [*listed({"connected": 1})], "a venue of fixed symbols says nothing of them"
