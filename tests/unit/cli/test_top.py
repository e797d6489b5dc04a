"""What `forebay top` shows of two looks."""

from __future__ import annotations

import dataclasses
import io

from rich.console import Console

from forebay.app.asking import Told
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


def told(at_s: int, captured: int, rows: int) -> Told:
    capture = {
        "captured": captured,
        "next_seq": captured + 1,
        "connected": 2,
        "wanted": 2,
        "p99_ms": 12.34,
    }
    deliver = {
        "rows": rows,
        "seq": rows + 1,
        "gaps": {"open": 1, "filled": 2, "permanent": 3},
    }
    return Told(
        SystemReport(
            at_ns=at_s * S,
            health=assess(SERVICES),
            not_ready="",
            checks=(),
            processes=(
                ProcessReport("capture", 1, "", status=capture),
                ProcessReport("deliver", 2, "", breakers=(STORE,), status=deliver),
            ),
        ),
        "http://127.0.0.1:8080",
    )


def shown(before: Told | None, now: Told) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(picture(before, now))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert isinstance(text, str)
    return text


def test_rates_are_of_the_time_between_two_looks() -> None:
    text = shown(told(10, 1_000, 900), told(12, 5_000, 1_900))
    assert "2,000 frames/s captured" in text
    assert "500 events/s stored" in text
    assert "lag 3,100 frames" in text
    assert "gaps 1 open, 2 filled, 3 permanent" in text
    assert "http://127.0.0.1:8080" in text


def test_the_first_look_knows_no_rate() -> None:
    assert "0 frames/s captured" in shown(None, told(10, 1_000, 900))
    assert "0 frames/s captured" in shown(told(10, 1, 1), told(10, 1_000, 900))


def test_a_service_that_is_down_says_why_and_whose_fault_that_is() -> None:
    lines = {
        line.split()[0]: line for line in shown(None, told(1, 1, 1)).splitlines() if line.split()
    }
    assert "critical" in lines["critical"]
    assert "does not answer" in lines["deliver"]
    assert "away (deliver)" in lines["store"] or "open 42 s" in lines["store"]
    assert "up" in lines["coinbase-rest"]


def test_a_breaker_shows_its_state_and_how_long() -> None:
    text = shown(None, told(1, 1, 1))
    assert "open 42 s" in text
    assert "1,234" in text
    assert "29" in text


def test_a_process_that_does_not_answer() -> None:
    now = told(1, 1, 1)
    report = dataclasses.replace(now.report, processes=now.report.processes[:1])
    assert "deliver not answering" in shown(None, Told(report, ""))
