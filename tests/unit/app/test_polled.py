"""What follows from processes that answer, have not answered yet, and do not answer any more."""

from __future__ import annotations

from pathlib import Path

from forebay.app.processes.system import (
    AWAY_AFTER,
    STARTING,
    PolledProcess,
    Rising,
    checks,
    fallbacks,
    not_ready,
    services,
)
from forebay.ops.view import ProcessReport
from forebay.resilience import ServiceHealth, SystemState, assess

S = 1_000_000_000
CAPTURE = (
    ServiceHealth("capture", up=True, critical=True),
    ServiceHealth("journal", up=True, critical=True, depends_on=("capture",)),
    ServiceHealth("coinbase-rest", up=False, depends_on=("capture",), reason="open: Transient"),
)


def seen(
    role: str = "capture", *told: ServiceHealth, failures: int = 0, why: str = ""
) -> PolledProcess:
    found = PolledProcess(role, Path("none"))
    found.answered(ProcessReport(role, 7, why, services=told, fallbacks=("cache",)), 5 * S, S)
    for _ in range(failures):
        found.missed(6 * S, 2 * S)
    return found


def starting(role: str = "capture", failures: int = 1) -> PolledProcess:
    found = PolledProcess(role, Path("none"))
    for _ in range(failures):
        found.missed(6 * S, 2 * S)
    return found


def test_a_process_that_answers_speaks_for_its_services() -> None:
    assert services([seen("capture", *CAPTURE)], ()) == list(CAPTURE)


def test_one_that_starts_or_is_started_again_is_not_down() -> None:
    assert services([starting(failures=STARTING)], ()) == []
    restarted = seen("capture", *CAPTURE, failures=AWAY_AFTER)
    assert services([restarted], ()) == list(CAPTURE)
    assert not restarted.fresh
    assert assess(services([starting()], ())).state is SystemState.HEALTHY


def test_one_that_is_away_takes_its_services_along_and_is_counted_once() -> None:
    away = seen("capture", *CAPTURE, failures=AWAY_AFTER + 1)
    found = services([away, seen("deliver", ServiceHealth("deliver", up=True, critical=True))], ())

    assert [service.name for service in found if not service.up] == [
        "capture", "journal", "coinbase-rest",
    ]  # fmt: skip
    health = assess(found)
    assert health.roots == ("capture",)
    assert health.state is SystemState.CRITICAL
    assert services([starting(failures=STARTING + 1)], ()) == [
        ServiceHealth("capture", up=False, critical=True, reason="does not answer")
    ]


def test_an_answer_ends_the_row_of_failures() -> None:
    found = seen("capture", *CAPTURE, failures=AWAY_AFTER + 1)
    assert found.away
    found.answered(ProcessReport("capture", 8, ""), 9 * S, S)
    assert (found.away, found.fresh, found.failures, found.pid) == (False, True, 0, 8)


def test_the_configuration_makes_services_critical_and_none_less() -> None:
    found = services([seen("capture", *CAPTURE)], ("coinbase-rest",))
    assert [service.critical for service in found] == [True, True, True]
    assert [s.critical for s in services([seen("capture", *CAPTURE)], ())] == [True, True, False]


def test_ready_is_whether_the_job_can_be_done() -> None:
    ready, lame = seen("deliver"), seen("capture", why="no source is subscribed")
    assert not_ready([ready], SystemState.CRITICAL) == ""
    assert not_ready([ready, lame], SystemState.HEALTHY) == "no source is subscribed"
    assert not_ready([starting("capture")], SystemState.HEALTHY) == "capture does not answer"
    assert not_ready([seen(failures=1)], SystemState.HEALTHY) == "capture does not answer"
    assert "EMERGENCY" in not_ready([ready], SystemState.EMERGENCY)


def test_checks_say_when_and_how_long() -> None:
    process, journal, rest = checks([seen("capture", *CAPTURE)])
    assert (process.name, process.ok, process.last_check_ns, process.duration_s) == (
        "capture", True, 5 * S, 1.0,
    )  # fmt: skip
    assert (journal.name, journal.ok) == ("journal", True)
    assert (rest.ok, rest.detail) == (False, "open: Transient")
    again = seen("capture", *CAPTURE)
    again.answered(ProcessReport("capture", 7, "", services=CAPTURE), 6 * S, S)
    assert [check.failures for check in checks([again])] == [0, 0, 2]
    again.answered(ProcessReport("capture", 7, "", services=CAPTURE[:2]), 7 * S, S)
    assert again.down == {}
    (missed,) = checks([seen("capture", *CAPTURE, failures=2)])
    assert (missed.ok, missed.failures, missed.detail) == (False, 2, "does not answer")
    assert (missed.last_check_ns, missed.duration_s) == (6 * S, 2.0)


def test_fallbacks_of_all_processes() -> None:
    assert fallbacks([seen("capture"), starting("deliver"), seen("deliver")]) == ["cache", "cache"]


# ------------------------------------------------------------------------- rates


def test_a_rate_is_of_the_last_ten_looks() -> None:
    counter = Rising()
    assert counter.look(0, 100) is None
    assert counter.look(S, 300) == 200.0
    rates = [counter.look(second * S, 300 + 7 * (second - 1)) for second in range(2, 12)]
    assert rates[-1] == 7.0
    assert counter.total == 370


def test_a_counter_goes_on_though_its_process_begins_again() -> None:
    counter = Rising()
    for second, count in enumerate((500, 900, 40, 140)):
        counter.look(second * S, count)
    assert counter.total == 1_040
    assert counter.look(4 * S, 240) == 160.0


def test_a_clock_that_is_set_back_tells_no_rate() -> None:
    counter = Rising()
    counter.look(5 * S, 1)
    assert counter.look(4 * S, 9) is None


def test_the_status_of_a_process_says_how_fast_it_is() -> None:
    found = PolledProcess("deliver", Path("none"))
    for second in range(3):
        found.answered(ProcessReport("deliver", 1, "", status={"rows": 50 * second}), second * S, 1)
    assert found.report is not None
    assert found.report.status == {"rows": 100, "events_per_s": 50.0}
