"""The alert rules, each fired and cleared by promtool, and what scaling leaves alone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from forebay.ops import alerts
from forebay.ops.catalogue import CATALOGUE
from forebay.services.clock_skew import host_skew_s
from tests.support.alert_films import CASES, Film, all_films, failed, played, promtool
from tests.support.rules import parsed, selectors

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.alert_films import Value

SEVERITIES = {"info", "warning", "alarm", "critical"}


def test_each_alert_fires_clears_and_is_quiet_just_below(tmp_path: Path) -> None:
    result = played(tmp_path, alerts.text(), all_films())
    assert result.returncode == 0, result.stdout


def test_every_alert_has_a_case() -> None:
    assert list(CASES) == alerts.names(alerts.text())


# ------------------------------------------------------- the cases can fail


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


# -------------------------------------------------------------------- of one venue


def clocks(alert: str, fires: bool, **seconds: float) -> Film:
    """Venues whose skew lasts, and what follows of this host; see ``services.clock_skew``."""
    series = {
        f'forebay_venue_clock_skew_seconds{{venue="{venue}"}}': [skew] * 12
        for venue, skew in seconds.items()
    }
    if (host := host_skew_s(seconds)) is not None:
        series["forebay_host_clock_skew_seconds"] = [host] * 12
    return Film(alert, series, {11: fires})


@pytest.mark.parametrize("off", [3.0, -3.0])
def test_one_venue_off_and_the_host_off_are_told_apart(tmp_path: Path, off: float) -> None:
    one = {"a": off, "b": 0.02, "c": 0.3}
    host = {"a": off, "b": off + 0.02, "c": off + 0.3}
    alone = {"a": off}
    cast = [
        *(clocks("ForebayHostClock", fires=said is host, **said) for said in (one, host, alone)),
        *(
            clocks("ForebayVenueClock", fires=said is not host, **said)
            for said in (one, host, alone)
        ),
    ]
    result = played(tmp_path, alerts.text(), cast)
    assert result.returncode == 0, result.stdout


def test_backfill_and_polls_make_no_venue_late_or_doubled(tmp_path: Path) -> None:
    rising: list[Value] = [10_000.0 + 200 * step for step in range(70)]
    told = {"ForebayDuplicates": "forebay_duplicates_total{", "ForebayFlagged": LATE}
    cast = [
        Film(alert, {f'{part}venue="v",source="rest"}}': rising, **whole(rising)}, {69: False})
        for alert, part in told.items()
    ]
    result = played(tmp_path, alerts.text(), cast)
    assert result.returncode == 0, result.stdout


LATE = 'forebay_flagged_total{flag="late",'


def whole(rising: list[Value]) -> dict[str, list[Value]]:
    return {f'forebay_told_total{{venue="v",source="{way}"}}': rising for way in ("ws", "rest")}


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
    exposed = {m.exposed: set(m.labels) for m in CATALOGUE.values()} | {"up": {"job"}}
    asked = selectors(rule["expr"])
    assert asked
    for name, matchers in asked:
        assert matchers.keys() <= exposed[name], (name, matchers)
        assert name == "up" or name.startswith("forebay_")


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
    assert by_name["ForebayLagLarge"]["expr"].endswith(" > 300")
    assert "forebay_store_lag_seconds[360000ms]" in by_name["ForebayLagLarge"]["expr"]
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
