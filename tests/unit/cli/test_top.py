"""What `forebay top` shows of two looks."""

from __future__ import annotations

import dataclasses
import io

import pytest
from rich.console import Console

from forebay.cli.status import SystemStatus
from forebay.cli.top import picture
from forebay.ops.view import BreakerReport, ProcessReport, SystemReport
from forebay.resilience import ServiceHealth, assess

S = 1_000_000_000
STORE = BreakerReport(
    name="store",
    process="deliver",
    state="open",
    failure_count=5,
    cause="Transient",
    retry_after_s=41.6,
    last_failure_ns=1,
    opened_ns=1,
    requests=1_234,
    successes=1_200,
    failures=5,
    slow=0,
    not_permitted=29,
    stale=0,
    trips=1,
    transitions={"open": 1},
    latency_sum_s=1.0,
    latency_count=9,
    config={},
)
SERVICES = (
    ServiceHealth("deliver", up=False, critical=True, reason="does not answer"),
    ServiceHealth("store", up=False, critical=True, depends_on=("deliver",), reason="away"),
    ServiceHealth("coinbase-rest", up=True),
)


def told(
    at_s: int, captured: int, rows: int, rates: tuple[float | None, float | None] = (None, None)
) -> SystemStatus:
    capture = {
        "captured": captured,
        "next_seq": captured + 1,
        "connected": 2,
        "wanted": 2,
        "reconnects": 3,
        "p99_ms": 12.34,
        "frames_per_s": rates[0],
    }
    deliver = {
        "rows": rows,
        "seq": rows + 1,
        "gaps": {"open": 1, "filled": 2, "permanent": 3},
        "dead_letters": 4,
        "lag_s": 0.25,
        "events_per_s": rates[1],
    }
    return SystemStatus(
        SystemReport(
            at_ns=at_s * S,
            health=assess(SERVICES),
            not_ready="",
            checks=(),
            processes=(
                ProcessReport("supervisor", 3, "", status={"since": "1970-01-01T00:00:01Z"}),
                ProcessReport("capture", 1, "", status=capture),
                ProcessReport("deliver", 2, "", breakers=(STORE,), status=deliver),
            ),
        ),
        "http://127.0.0.1:8080",
    )


def shown(now: SystemStatus, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, soft_wrap=True)
    lines = console.render_lines(picture(now), pad=False)  # as it is shown live
    return "\n".join("".join(part.text for part in line) for line in lines)


def test_rates_are_those_that_the_capture_tells() -> None:
    text = shown(told(12, 5_000, 1_900, (2_000.0, 500.4)))
    assert "500/s stored, 2,000 frames/s captured, 1.6 s behind (3,100 frames)" in text
    assert "1 open, 3 permanent, 2 filled" in text
    assert "http://127.0.0.1:8080" in text


def test_the_first_look_says_what_is_known() -> None:
    text = shown(told(10, 1_000, 900))
    assert "rates not known yet" in text
    assert "0/s" not in text.replace("900/s", "")


def test_nothing_is_cut_on_eighty_columns() -> None:
    text = shown(told(12, 5_000, 1_900, (2_000.0, 500.4)))
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert "http://127.0.0.1:8080" in text


@pytest.mark.parametrize("width", [40, 60])
def test_nothing_is_cut_on_a_narrow_terminal(width: int) -> None:
    text = shown(told(12, 5_000, 1_900, (2_000.0, 500.4)), width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    assert {"(3,100", "frames)", "http://127.0.0.1:8080", "42"} <= {*text.split()}


def test_a_service_that_is_down_says_why_and_whose_fault_that_is() -> None:
    lines = {line.split()[0]: line for line in shown(told(1, 1, 1)).splitlines() if line.split()}
    assert "critical since" in lines["state"]
    assert "does not answer" in lines["deliver"]
    assert "away (deliver)" in lines["store"] or "open 42 s" in lines["store"]
    assert "up" in lines["coinbase-rest"]


def test_a_breaker_shows_its_state_and_how_long() -> None:
    text = shown(told(1, 1, 1))
    assert "open 42 s" in text
    assert "1,234" in text
    assert "29" in text


def test_a_process_that_does_not_answer() -> None:
    now = told(1, 1, 1)
    report = dataclasses.replace(now.report, processes=now.report.processes[:2])
    assert "deliver not answering" in shown(SystemStatus(report, ""))


@pytest.mark.parametrize("odd", ["[red]x[/red]", "[/]", ":x:"])
def test_what_is_told_is_never_markup(odd: str) -> None:
    services = (ServiceHealth(odd, up=False, critical=True, reason=f"why {odd}"),)
    report = dataclasses.replace(told(1, 1, 1).report, health=assess(services))
    assert shown(SystemStatus(report, "")).count(odd) >= 2
