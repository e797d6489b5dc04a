"""The alert rules, each fired and cleared by promtool, and what scaling leaves alone."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import yaml  # type: ignore[import-untyped]
from typer.testing import CliRunner

from forebay.ops import alerts
from forebay.ops.catalogue import CATALOGUE
from tests.support.servers import needed

if TYPE_CHECKING:
    from pathlib import Path

STEP_S = 15
"""Between two scrapes, and two evaluations."""
SEVERITIES = {"info", "warning", "alarm", "critical"}
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


BREAKER = "circuit_breaker_state"
CASES: dict[str, Case | Rise] = {
    "ForebayDown": Case({'up{job="forebay-eu"}': (0, 1)}, 60, ({'up{job="other"}': 0},)),
    "ForebayEmergency": Case(
        {'system_state{state="emergency"}': (1, 0)}, 15, ({'system_state{state="critical"}': 1},)
    ),
    "ForebayServiceDown": Case({'service_up{service="deliver"}': (0, 1)}, 60),
    "ForebayHealthCheckFailing": Case({'health_check_failures{check="store"}': (4, 3)}),
    "ForebayBreakerTripping": Rise('circuit_breaker_trips_total{breaker="store"}', 900, 4, 3),
    "ForebayBreakerOpen": Case(
        {f'{BREAKER}{{breaker="store",state="open"}}': (1, 0)},
        quiet=({f'{BREAKER}{{breaker="store",state="half_open"}}': 1},),
    ),
    "ForebayBreakerOpenLong": Case(
        {f'{BREAKER}{{breaker="store",state="open"}}': (1, 0)},
        300,
        ({f'{BREAKER}{{breaker="store",state="closed"}}': 1},),
    ),
    "ForebayBufferedToDisk": Rise("buffered_to_disk_total", 300),
    "ForebayBufferLarge": Case({"buffer_size": (10_001, 10_000)}, 60),
    "ForebayBufferFilling": Case({'buffer_utilisation{resource="disk"}': (0.81, 0.8)}, 60),
    "ForebayLag": Case({"dedup_sync_lag_seconds": (30.5, 30)}, 60),
    "ForebayLagLarge": Case({"dedup_sync_lag_seconds": (300.5, 300)}, 60),
    "ForebayDatabaseErrors": Rise(
        'database_connection_errors_total{store="duckdb"}', 180, 1, 0, 300, 90
    ),
    "ForebayDeadLetters": Rise('dead_letters_total{reason="malformed"}', 900),
    "ForebayConflicts": Rise("conflicts_total", 900),
    "ForebayGapsOpen": Case(
        {'coverage_gaps{state="open"}': (1, 0)}, 900, ({'coverage_gaps{state="permanent"}': 9},)
    ),
    "ForebayNoWebsocket": Case({"ws_client_connected": (0, 1)}, 30),
    "ForebayWebsocketsMissing": Case(
        {"websocket_connections": (2, 3), "websocket_connections_wanted": (3, 3)}, 60
    ),
    "ForebayReconnecting": Rise("reconnections_total", 600, 31, 30),
    "ForebayGatherersFew": Case(
        {"healthy_gatherers": (2, 3), "desired_gatherers": (3, 3)},
        60,
        ({"healthy_gatherers": 1, "desired_gatherers": 1},),
    ),
    "ForebayGatherersAlarm": Case(
        {"healthy_gatherers": (1, 2), "desired_gatherers": (3, 3)},
        60,
        ({"healthy_gatherers": 1, "desired_gatherers": 2},),
    ),
    "ForebayNoGatherer": Case(
        {"healthy_gatherers": (0, 1), "desired_gatherers": (1, 1)},
        30,
        ({"healthy_gatherers": 0, "desired_gatherers": 0},),
    ),
    "ForebayJournalFull": Case({"journal_full": (1, 0)}, 10),
    "ForebayDiskFilling": Case({"disk_free_bytes": (14, 15), "disk_total_bytes": (100, 100)}, 60),
    "ForebayDiskFull": Case({"disk_free_bytes": (4, 5), "disk_total_bytes": (100, 100)}, 60),
    "ForebayMemoryShort": Case(
        {"memory_available_bytes": (9, 10), "memory_total_bytes": (100, 100)}, 300
    ),
    "ForebayDescriptorsShort": Case(
        {
            'process_open_fds{service="capture"}': (81, 80),
            'process_max_fds{service="capture"}': (100, 100),
        },
        60,
    ),
    "ForebayCaptureBusy": Rise(
        'process_cpu_seconds_total{service="capture"}', 300, 15, 13, sustained_s=600, brief_s=450
    ),
}


# -------------------------------------------------------------------- promtool


@dataclass
class Film:
    """Series over time, and at which step an alert fires or does not."""

    alert: str
    series: dict[str, list[float]]
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
        which = f'alertname="{self.alert}",alertstate="firing",instance="{instance}"'
        return [
            {
                "expr": f"count(ALERTS{{{which}}}) or vector(0)",
                "eval_time": f"{step * STEP_S}s",
                "exp_samples": [{"labels": "{}", "value": int(fires)}],
            }
            for step, fires in self.looks.items()
        ]


def labelled(series: str, instance: str) -> str:
    """Give a series another label."""
    name, _, labels = series.partition("{")
    return f'{name}{{instance="{instance}",{labels or "}"}'


def steps(seconds: int) -> int:
    return -(-seconds // STEP_S)


def films(alert: str, case: Case | Rise) -> list[Film]:
    """The trouble and its end, and what is nearest to it and must not fire."""
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

    def rise(by: int, times: int) -> list[float]:
        return [0.0] * lead + [by * n for n in range(1, times + 1)] + [by * times] * after

    times = steps(case.sustained_s) + 1
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


def parsed(text: str) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


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
    cast = {f"i{number}": film for number, film in enumerate(films)}
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
        f'{BREAKER}{{breaker="store",state="half_open"}}': half_open,
    }
    long = steps(300)
    return Film("ForebayBreakerOpenLong", series, {long - 1: False, long: True, long + 3: True})


def all_films() -> list[Film]:
    return [probing(), *(film for alert, case in CASES.items() for film in films(alert, case))]


def test_each_alert_fires_clears_and_is_quiet_just_below(tmp_path: Path) -> None:
    result = played(tmp_path, alerts.text(), all_films())
    assert result.returncode == 0, result.stdout


def test_every_alert_has_a_case() -> None:
    assert list(CASES) == alerts.names(alerts.text())


# ------------------------------------------------------- the cases can fail


def failed(result: subprocess.CompletedProcess[str]) -> set[str]:
    """The alerts whose films ended otherwise than they should."""
    assert "Unit Testing:  tests.yml" in result.stdout
    return set(re.findall(r'expr: "count\(ALERTS\{alertname=\\"(\w+)', result.stdout))


def changed(rule_text: str, pattern: str, replacement: str) -> str:
    return re.sub(rf"(?m)^{pattern}$", replacement, rule_text)


def test_a_threshold_that_is_reached_too_early_is_seen(tmp_path: Path) -> None:
    """``> 3`` as ``>= 3``: each film just below must notice, and no value is in between."""
    loose = changed(alerts.text(), r"(        expr: .*) ([<>]) ([\d.]+)", r"\1 \2= \3")
    mutated = {
        rule["alert"] for rule in parsed(alerts.text()) if re.search(r"[<>] [\d.]+$", rule["expr"])
    }
    # Processor time cannot be set to exactly nine tenths by whole numbers a step.
    assert failed(played(tmp_path, loose, all_films())) == mutated - {"ForebayCaptureBusy"}
    assert len(mutated) > 15


def test_a_threshold_that_is_reached_too_late_is_seen(tmp_path: Path) -> None:
    def later(found: re.Match[str]) -> str:
        number = float(found[3])
        step = 0.02 if number < 1 and number else 1
        return f"{found[1]} {found[2]} {number + (step if found[2] == '>' else -step)}"

    strict = re.sub(r"(?m)^(        expr: .*) ([<>]) ([\d.]+)$", later, alerts.text())
    strict = strict.replace("> 0.92", "> 1.01")
    mutated = {
        a["alert"] for a, b in zip(parsed(strict), parsed(alerts.text()), strict=True) if a != b
    }
    assert failed(played(tmp_path, strict, all_films())) == mutated
    assert len(mutated) > 15


@pytest.mark.parametrize(("factor", "seen"), [(0.4, "too early"), (2.0, "too late")])
def test_another_patience_is_seen(tmp_path: Path, factor: float, seen: str) -> None:
    del seen
    rules = re.sub(
        r"(?m)^(        for: )(\d+)([ms])$",
        lambda found: (
            f"{found[1]}{round(int(found[2]) * factor * (60 if found[3] == 'm' else 1))}s"
        ),
        alerts.text(),
    )
    patient = {rule["alert"] for rule in parsed(alerts.text()) if "for" in rule}
    # Within one step of evaluation nobody can tell.
    short = {"ForebayEmergency", "ForebayJournalFull"} if factor < 1 else set()
    assert patient - short - failed(played(tmp_path, rules, all_films())) == set()


# ------------------------------------------------------------------ the rules


def test_promtool_accepts_the_rules_and_their_scaled_form(tmp_path: Path) -> None:
    for name, text in (("as-is", alerts.text()), ("scaled", alerts.scaled(alerts.text(), 0.01))):
        (tmp_path / name).write_text(text, encoding="utf-8")
        result = promtool(tmp_path, "check", "rules", name)
        assert result.returncode == 0, result.stdout
        assert f"{len(CASES)} rules found" in result.stdout


@pytest.mark.parametrize("rule", parsed(alerts.text()), ids=lambda rule: rule["alert"])
def test_a_rule_says_how_bad_it_is_what_happened_and_what_to_do(rule: dict[str, Any]) -> None:
    assert re.fullmatch(r"Forebay[A-Za-z]+", rule["alert"])
    assert rule["labels"]["severity"] in SEVERITIES
    assert len(rule["annotations"]["summary"]) > 10
    assert rule["annotations"]["description"].endswith(".")


@pytest.mark.parametrize("rule", parsed(alerts.text()), ids=lambda rule: rule["alert"])
def test_a_rule_asks_for_metrics_that_are_in_a_scrape(rule: dict[str, Any]) -> None:
    exposed = {m.exposed: set(m.labels) for m in CATALOGUE.values() if not m.needs} | {
        "up": {"job"}
    }
    bare = re.sub(r"\b(by|on) \([^)]*\)|\[[^\]]*\]", "", rule["expr"])
    asked = re.findall(r"([a-z_]{2,}(?![a-z_(]))(?:\{([^}]*)\})?", re.sub(r'"[^"]*"', '""', bare))
    metrics = [(name, selector) for name, selector in asked if "_" in name or name == "up"]
    assert metrics
    for name, selector in metrics:
        labels = set(re.findall(r"(\w+)=", selector))
        assert labels <= exposed[name], (name, labels)


def test_no_rule_fires_for_ever_because_a_counter_has_once_risen() -> None:
    for rule in parsed(alerts.text()):
        for counter in re.findall(r"\w+_total\b(?:\{[^}]*\})?(.)", rule["expr"]):
            assert counter == "[", rule["alert"]


def test_the_seeds_thresholds_are_there() -> None:
    rules = {rule["alert"]: rule for rule in parsed(alerts.text())}
    seeds = {
        "ForebayBufferedToDisk": ("> 0", "warning"),
        "ForebayBreakerTripping": ("> 3", "critical"),
        "ForebayBufferLarge": ("> 10000", "critical"),
        "ForebayBreakerOpen": ("== 1", "warning"),
        "ForebayBreakerOpenLong": ("== 1", "critical"),
        "ForebayHealthCheckFailing": ("> 3", "warning"),
        "ForebayBufferFilling": ("> 0.8", "info"),
        "ForebayGatherersFew": (">= 3", "warning"),
        "ForebayGatherersAlarm": (">= 3", "alarm"),
        "ForebayNoGatherer": ("> 0", "critical"),
        "ForebayLag": ("> 30", "warning"),
        "ForebayLagLarge": ("> 300", "critical"),
        "ForebayDatabaseErrors": ("> 0", "warning"),
        "ForebayNoWebsocket": ("== 0", "critical"),
    }
    for name, (threshold, severity) in seeds.items():
        assert rules[name]["expr"].endswith(threshold), name
        assert rules[name]["labels"]["severity"] == severity, name
    assert rules["ForebayBreakerOpenLong"]["for"] == "5m"


# ---------------------------------------------------------------- scaled forms


def test_scaling_shortens_durations_and_leaves_thresholds() -> None:
    by_name = {
        rule["alert"]: rule for rule in parsed(alerts.scaled(alerts.text(), 0.1, least_window_s=20))
    }
    assert by_name["ForebayBreakerOpenLong"]["for"] == "30000ms"
    assert by_name["ForebayLagLarge"]["expr"] == "dedup_sync_lag_seconds > 300"
    assert by_name["ForebayLagLarge"]["for"] == "6000ms"
    assert by_name["ForebayBreakerTripping"]["expr"].endswith("[90000ms])) > 3")
    assert "[20000ms]" in by_name["ForebayDatabaseErrors"]["expr"]
    plain = {rule["alert"]: rule for rule in parsed(alerts.text())}
    for name, rule in by_name.items():
        assert rule["annotations"] == plain[name]["annotations"]
        assert rule["labels"] == plain[name]["labels"]


def test_scaling_by_one_changes_nothing_but_the_unit() -> None:
    for one, plain in zip(
        parsed(alerts.scaled(alerts.text(), 1)), parsed(alerts.text()), strict=True
    ):
        assert (one["alert"], "for" in one) == (plain["alert"], "for" in plain)
    assert alerts.scaled(alerts.scaled(alerts.text(), 1), 1) == alerts.scaled(alerts.text(), 1)


def test_the_command_prints_the_file() -> None:
    import typer

    from forebay.cli.alerts import alerts as command

    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app)
    assert result.exit_code == 0
    assert result.stdout == alerts.text()
