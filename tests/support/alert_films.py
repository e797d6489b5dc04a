"""The trouble that each alert is about, as series over time that promtool plays to the rules."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from tests.support.servers import needed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

STEP_S = 15
"""Between two scrapes, and two evaluations."""
LEAD = 4
"""Steps of calm before the trouble begins."""


@dataclass(frozen=True)
class Case:
    """A trouble: by series, the values of a step that fires, and the nearest that does not."""

    series: dict[str, tuple[float, float]]
    after_s: int = 0
    """How long it must last."""
    quiet: tuple[dict[str, float], ...] = ()
    """Other values that must not fire, however long they last."""


@dataclass(frozen=True)
class Rise:
    """A counter that rises by ``fires`` in one step, and by ``below`` does not fire."""

    series: str
    window_s: int
    fires: int = 1
    below: int = 0
    sustained_s: int = 0
    """How long it must go on rising."""
    brief_s: int = 0
    """How long it may go on rising."""
    by_one: bool = False
    """Whether it rises by 1 as often, every third step."""


@dataclass(frozen=True)
class Share:
    """Two counters: one that rises in a step by ``fires`` is too large a share of the other."""

    part: str
    whole: str
    fires: int
    below: int
    window_s: int = 900
    rises: int = 200
    """By how much the whole rises in a step."""


TARGET = ("instance", "job")
OF_A_JOB = ("ForebayGatherersFew", "ForebayGatherersAlarm")
"""Alerts about all instances of a job together."""
BREAKER = "forebay_circuit_breaker_state"
LIVE = 'forebay_told_total{venue="v",source="ws"}'
CASES: dict[str, Case | Rise | Share] = {
    "ForebayDown": Case({"up": (0, 1)}, 60, ({'up{job="other"}': 0},)),
    "ForebayEmergency": Case(
        {'forebay_system_state{state="emergency"}': (1, 0)},
        15,
        ({'forebay_system_state{state="critical"}': 1},),
    ),
    "ForebayProcessDown": Case(
        {'forebay_service_up{service="deliver"}': (0, 1)},
        60,
        ({'forebay_service_up{service="store"}': 0},),
    ),
    "ForebayRestarting": Rise(
        'forebay_process_start_time_seconds{service="deliver"}', 900, 4, 3, by_one=True
    ),
    "ForebayServiceDown": Case({'forebay_service_up{service="deliver"}': (0, 1)}, 60),
    "ForebayHealthCheckFailing": Case({'forebay_health_check_failures{check="store"}': (4, 3)}),
    "ForebayBreakerTripping": Rise(
        'forebay_circuit_breaker_trips_total{breaker="store"}', 900, 4, 3
    ),
    "ForebayBreakerOpen": Case(
        {f'{BREAKER}{{breaker="store",state="open"}}': (1, 0)},
        quiet=({f'{BREAKER}{{breaker="store",state="half_open"}}': 1},),
    ),
    "ForebayBreakerOpenLong": Case(
        {f'{BREAKER}{{breaker="store",state="open"}}': (1, 0)},
        300,
        ({f'{BREAKER}{{breaker="store",state="closed"}}': 1},),
    ),
    "ForebayBufferedToDisk": Rise("forebay_buffered_to_disk_total", 300),
    "ForebayBufferLarge": Case({"forebay_buffer_size": (10_001, 10_000)}, 60),
    "ForebayBufferFilling": Case({'forebay_buffer_utilisation{resource="disk"}': (0.81, 0.8)}, 60),
    "ForebayLag": Case({"forebay_store_lag_seconds": (30.5, 30)}, 60),
    "ForebayLagLarge": Case({"forebay_store_lag_seconds": (300.5, 300)}, 60),
    "ForebayPublishLag": Case({'forebay_publish_lag_seconds{transport="kafka"}': (300.5, 300)}, 60),
    "ForebayPublishBufferFilling": Case(
        {'forebay_publish_waiting_share{transport="kafka"}': (0.81, 0.8)}, 60
    ),
    "ForebayDatabaseErrors": Rise(
        'forebay_database_connection_errors_total{store="duckdb"}', 180, 1, 0, 300, 90
    ),
    "ForebayDeadLetters": Rise('forebay_dead_letters_total{venue="v",reason="malformed"}', 900),
    "ForebayRejected": Share(
        'forebay_dead_letters_total{venue="v",reason="malformed"}', LIVE, 4, 2
    ),
    "ForebayDuplicates": Share('forebay_duplicates_total{venue="v",source="ws"}', LIVE, 102, 100),
    "ForebayFlagged": Share(
        'forebay_flagged_total{venue="v",source="ws",flag="late"}', LIVE, 12, 10
    ),
    "ForebayConflicts": Rise("forebay_conflicts_total", 900),
    "ForebayGapsOpen": Case(
        {'forebay_coverage_gaps{state="open"}': (1, 0)},
        900,
        ({'forebay_coverage_gaps{state="permanent"}': 9},),
    ),
    "ForebayBarsUnlikeSource": Case(
        {'forebay_bars_unlike_source{difference="missing"}': (1, 0)},
        7200,
        ({'forebay_bars_unlike_source{difference="extra"}': 9},),
    ),
    "ForebayBridgeLaneWaits": Case(
        {'forebay_bridge_lane_waits_seconds{lane="quote_archive/0"}': (60.5, 60)}, 60
    ),
    "ForebayBridgeBehind": Case({'forebay_bridge_lag_seconds{lane="a"}': (300.5, 300)}, 60),
    "ForebayBridgeLettersKept": Case({"forebay_bridge_letters_kept": (1, 0)}, 900),
    "ForebayNoWebsocket": Case({"forebay_ws_client_connected": (0, 1)}, 30),
    "ForebayWebsocketsMissing": Case(
        {"forebay_websocket_connections": (2, 3), "forebay_websocket_connections_wanted": (3, 3)},
        60,
    ),
    "ForebayStreamsNotHeard": Case(
        {'forebay_streams{venue="v",state="refused"}': (1, 0)},
        300,
        (
            {'forebay_streams{venue="v",state="heard"}': 2},
            {'forebay_streams{venue="v",state="asked"}': 2},
        ),
    ),
    "ForebayReconnecting": Rise("forebay_reconnections_total", 600, 31, 30),
    "ForebayGatherersFew": Case(
        {"forebay_collectors_ready": (2, 3), "forebay_collectors_wanted": (3, 3)},
        60,
        ({"forebay_collectors_ready": 1, "forebay_collectors_wanted": 1},),
    ),
    "ForebayGatherersAlarm": Case(
        {"forebay_collectors_ready": (1, 2), "forebay_collectors_wanted": (3, 3)},
        60,
        ({"forebay_collectors_ready": 1, "forebay_collectors_wanted": 2},),
    ),
    "ForebayNoGatherer": Case(
        {"forebay_collectors_ready": (0, 1), "forebay_collectors_wanted": (1, 1)},
        30,
        ({"forebay_collectors_ready": 0, "forebay_collectors_wanted": 0},),
    ),
    "ForebayJournalFull": Case({"forebay_journal_full": (1, 0)}, 10),
    "ForebayHostClock": Case({"forebay_host_clock_skew_seconds": (-1.5, -1)}, 60),
    "ForebayVenueClock": Case(
        {'forebay_venue_clock_skew_seconds{venue="v"}': (1.5, 1)},
        60,
        (
            {
                'forebay_venue_clock_skew_seconds{venue="v"}': 9,
                "forebay_host_clock_skew_seconds": 9,
            },
        ),
    ),
    "ForebayProcessClock": Case(
        {'forebay_process_clock_skew_seconds{service="deliver"}': (-1.5, -1)}
    ),
    "ForebayDiskFilling": Case(
        {"forebay_disk_free_bytes": (14, 15), "forebay_disk_total_bytes": (100, 100)}, 60
    ),
    "ForebayDiskFull": Case(
        {"forebay_disk_free_bytes": (4, 5), "forebay_disk_total_bytes": (100, 100)}, 60
    ),
    "ForebayMemoryShort": Case(
        {"forebay_memory_available_bytes": (9, 10), "forebay_memory_total_bytes": (100, 100)}, 300
    ),
    "ForebayDescriptorsShort": Case(
        {
            'forebay_process_open_fds{service="capture"}': (81, 80),
            'forebay_process_max_fds{service="capture"}': (100, 100),
        },
        60,
    ),
    "ForebayCaptureBusy": Rise(
        'forebay_process_cpu_seconds_total{service="capture"}',
        300,
        15,
        13,
        sustained_s=600,
        brief_s=450,
    ),
}


# -------------------------------------------------------------------- promtool


Value = float | Literal["stale"]
STALE: Value = "stale"
"""What Prometheus writes for every series of a scrape that failed or does not have it any more."""


@dataclass
class Film:
    """Series over time, and at which step an alert fires or does not."""

    alert: str
    """Its name; without one, any that is critical."""
    series: Mapping[str, Sequence[Value]]
    looks: dict[int, bool] = field(default_factory=dict)

    def input_series(self, instance: str) -> list[dict[str, str]]:
        return [
            {
                "series": labelled(series, instance),
                "values": " ".join(map(str, values)),
            }
            for series, values in self.series.items()
        ]

    def expectations(self, instance: str) -> list[dict[str, Any]]:
        which = f'alertname="{self.alert}"' if self.alert else 'severity="critical"'
        where = "job" if self.alert in OF_A_JOB else "instance"
        which = f'{which},alertstate="firing",{where}="{instance}"'
        return [
            {
                "expr": f"count(ALERTS{{{which}}}) > bool 0 or vector(0)",
                "eval_time": f"{step * STEP_S}s",
                "exp_samples": [{"labels": "{}", "value": int(fires)}],
            }
            for step, fires in self.looks.items()
        ]


def labelled(series: str, instance: str) -> str:
    """Give a series the labels of a target; each instance has a job of its own, named alike."""
    name, _, labels = series.partition("{")
    own = "".join(f'{label}="{instance}",' for label in TARGET if f"{label}=" not in labels)
    return f"{name}{{{own}{labels or '}'}"


def steps(seconds: int) -> int:
    return -(-seconds // STEP_S)


def films(alert: str, case: Case | Rise | Share) -> list[Film]:
    """The trouble and its end, and what is nearest to it and must not fire."""
    if isinstance(case, Share):
        return _sharing(alert, case)
    return _lasting(alert, case) if isinstance(case, Case) else _rising(alert, case)


def _lasting(alert: str, case: Case) -> list[Film]:
    fires_at = LEAD + steps(case.after_s)
    ends_at = fires_at + 4
    after = steps(case.after_s) + 4
    trouble = {
        series: [calm] * LEAD + [bad] * (ends_at - LEAD) + [calm] * after
        for series, (bad, calm) in case.series.items()
    }
    looks = {LEAD - 1: False, fires_at: True, ends_at - 1: True, ends_at + 1: False}
    if case.after_s:
        looks[fires_at - 1] = False
    below = {series: [calm] * after for series, (_, calm) in case.series.items()}
    others = [
        Film(
            alert, {series: [value] * after for series, value in values.items()}, {after - 1: False}
        )
        for values in case.quiet
    ]
    return [Film(alert, trouble, looks), Film(alert, below, {after - 1: False}), *others]


def _rising(alert: str, case: Rise) -> list[Film]:
    lead, after = steps(case.window_s), steps(case.window_s) + 2

    def rise(by: int, times: int) -> Sequence[Value]:
        if case.by_one:
            return [0.0] * lead + [1 + n // 3 for n in range(3 * by)] + [by] * after
        return [0.0] * lead + [by * n for n in range(1, times + 1)] + [by * times] * after

    times = 3 * case.fires if case.by_one else steps(case.sustained_s) + 1
    top = lead + times - 1
    looks = {lead - 1: False, top: True, top + after: False}
    quiet = dict.fromkeys(range(lead, lead + after), False)
    found = [
        Film(alert, {case.series: rise(case.fires, times)}, looks),
        Film(alert, {case.series: rise(case.below, times)}, quiet),
    ]
    if case.brief_s:
        brief = rise(case.fires, steps(case.brief_s))
        found.append(Film(alert, {case.series: brief}, dict.fromkeys(range(len(brief)), False)))
    return found


def _sharing(alert: str, case: Share) -> list[Film]:
    window = steps(case.window_s) + 1

    def risen(*by: int) -> list[Value]:
        """A counter that was there before, and rises by each for a window."""
        values = [10_000.0]
        for each in by:
            values += [values[-1] + each * n for n in range(1, window + 1)]
        return [*values]

    def film(looks: dict[int, bool], whole: int, *part: int) -> Film:
        series = {case.whole: risen(*[whole] * len(part)), case.part: risen(*part)}
        return Film(alert, series, looks)

    quiet = dict.fromkeys(range(2, window), False)
    return [
        film(
            {window: False, 2 * window: True, 3 * window: False},
            case.rises,
            case.below,
            case.fires,
            0,
        ),
        film(quiet, case.rises, case.below),
        film(quiet, 1, 1),
    ]


def promtool(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [needed("promtool"), *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )


def played(folder: Path, text: str, films: list[Film]) -> subprocess.CompletedProcess[str]:
    """Play all films at once, each as an instance of its own, to the rules of ``text``."""
    cast = {f"forebay-{number}": film for number, film in enumerate(films)}
    (folder / "rules.yml").write_text(text, encoding="utf-8")
    test = {
        "interval": f"{STEP_S}s",
        "input_series": [s for name, film in cast.items() for s in film.input_series(name)],
        "promql_expr_test": [e for name, film in cast.items() for e in film.expectations(name)],
    }
    document = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": f"{STEP_S}s",
        "tests": [test],
    }
    (folder / "tests.yml").write_text(json.dumps(document), encoding="utf-8")  # JSON is YAML
    return promtool(folder, "test", "rules", "tests.yml")


def probing() -> Film:
    """A breaker that is open for a minute, tries, fails and is open again, for six minutes."""
    half_open = [float(step % 5 == 4) for step in range(steps(360))]
    series = {
        f'{BREAKER}{{breaker="store",state="open"}}': [1 - value for value in half_open],
        f'{BREAKER}{{breaker="store",state="half_open"}}': [*half_open],
    }
    long = steps(300)
    return Film("ForebayBreakerOpenLong", series, {long - 1: False, long: True, long + 3: True})


def all_films() -> list[Film]:
    return [probing(), *(film for alert, case in CASES.items() for film in films(alert, case))]


def failed(result: subprocess.CompletedProcess[str]) -> set[str]:
    """The alerts whose films ended otherwise than they should."""
    assert "Unit Testing:  tests.yml" in result.stdout
    return set(re.findall(r'expr: "count\(ALERTS\{alertname=\\"(\w+)', result.stdout))
