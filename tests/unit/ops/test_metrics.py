"""A scrape against the catalogue, the catalogue against the contract, and each number in it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from forebay.ops import alerts
from forebay.ops.catalogue import CATALOGUE, SECTIONS, Metric
from forebay.ops.metrics import render
from forebay.ops.view import Buckets, ProcessReport, Sample, SystemReport
from forebay.resilience import ServiceHealth, State, SystemState
from tests.support import fake_report, reference_pages
from tests.support.fake_report import breaker, processes, publisher, report, with_samples
from tests.support.reference_pages import exposed_beside
from tests.support.servers import needed

ROOT = Path(__file__).resolve().parents[3]

DOCUMENTS = """published_nats published_kafka buffered_to_disk flushed_from_buffer errors
    total_aggregates_inserted total_batch_inserts total_insert_errors circuit_breaker_trips
    buffer_size circuit_breaker_state circuit_breaker_failure_count
    circuit_breaker_last_failure_time circuit_breaker_timeout_seconds
    circuit_breaker_requests circuit_breaker_successes circuit_breaker_failures
    circuit_breaker_not_permitted circuit_breaker_stale circuit_breaker_transitions
    circuit_breaker_latency_seconds service_health_share active_fallbacks recovery_attempts
    buffer_utilisation journal_commits recovered_messages websocket_connections
    reconnections received_bytes health_check_duration_seconds health_check_failures
    dedup_sync_lag_seconds ws_client_connected market_registry_rest_errors
    healthy_gatherers desired_gatherers database_connection_errors"""
"""The names that were promised to dashboards of earlier systems; flush frequency is
``journal_commits``, message throughput ``received_bytes``."""
OURS = """events journal_bytes journal_oldest_unacknowledged_seconds coverage_gaps dead_letters
    capture_latency_seconds conflicts ambiguous store_lag_seconds"""
OPENMETRICS = "application/openmetrics-text"
PROMETHEUS_ACCEPTS = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)

Scrape = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scraped(told: SystemReport, accept: str = "text/plain") -> Scrape:
    """What an independent parser reads: values by name and sorted labels."""
    text, kind = render(told, accept)
    assert kind.startswith(accept)
    found: Scrape = {}
    parse = openmetrics.text_string_to_metric_families if accept == OPENMETRICS else plain
    for family in parse(text.decode()):
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in found, key
            found[key] = sample.value
    return found


def value(found: Scrape, name: str, **labels: str) -> float:
    return found[name, tuple(sorted(labels.items()))]


def names(found: Scrape) -> set[str]:
    """Names without the endings of histograms and summaries."""
    return {re.sub(r"(?<=_seconds)_(bucket|sum|count)$", "", name) for name, _ in found}


# ------------------------------------------------------------ catalogue and contract


def test_the_catalogue_has_what_was_promised() -> None:
    assert {f"forebay_{name}" for name in OURS.split()} <= CATALOGUE.keys()
    assert {metric.beside for metric in CATALOGUE.values()} == {*DOCUMENTS.split(), ""}


def test_no_name_is_there_twice() -> None:
    assert sum(map(len, SECTIONS.values())) == len(CATALOGUE)
    every = [*CATALOGUE, *(metric.beside for metric in CATALOGUE.values() if metric.beside)]
    assert len(every) == len({*every})


@pytest.mark.parametrize("metric", CATALOGUE.values(), ids=lambda metric: metric.name)
def test_a_name_has_the_prefix_a_base_unit_and_the_ending_of_its_kind_only(metric: Metric) -> None:
    assert re.fullmatch(r"forebay(_[a-z]+)+", metric.name)
    assert not re.search(r"_(total|count|sum|bucket|created|info)$", metric.name)
    assert not re.search(r"_(ms|us|ns|milliseconds|minutes|hours|kb|mb|gb|percent)\b", metric.name)
    assert metric.exposed.endswith("_total") == (metric.kind == "counter")


@pytest.mark.parametrize("metric", CATALOGUE.values(), ids=lambda metric: metric.name)
def test_a_help_is_a_sentence(metric: Metric) -> None:
    assert re.fullmatch(r"[A-Z0-9].*[a-z.0-9]\.", metric.help), metric.help
    assert len(metric.help) < 160


@pytest.mark.parametrize("accept", ["text/plain", OPENMETRICS])
def test_a_scrape_of_everything_has_the_catalogue_and_nothing_else(accept: str) -> None:
    wanted = {
        each
        for metric in CATALOGUE.values()
        for each in (metric.exposed, exposed_beside(metric))
        if each
    }
    assert names(scraped(report(), accept)) == wanted


def test_kind_and_help_are_told_as_the_catalogue_has_them() -> None:
    text = render(report())[0].decode()
    for metric in CATALOGUE.values():
        assert f"# TYPE {metric.exposed} {metric.kind}\n" in text
        assert f"# HELP {metric.exposed} {metric.help}\n" in text
        if metric.beside:
            assert f"# TYPE {exposed_beside(metric)} {metric.kind}\n" in text
            assert f"# HELP {exposed_beside(metric)} The same as {metric.exposed}.\n" in text


def test_an_older_name_beside_has_the_same_numbers() -> None:
    found = scraped(report())
    compared = 0
    for metric in CATALOGUE.values():
        if not metric.beside:
            continue
        for ending in ("", "_sum", "_count"):
            mine, beside = (
                {labels: n for (name, labels), n in found.items() if name == f"{exposed}{ending}"}
                for exposed in (metric.exposed, exposed_beside(metric))
            )
            assert mine == beside, metric.name
            compared += len(mine)
    assert compared > 40


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "text/plain; version=0.0.4"),
        ("*/*", "text/plain; version=0.0.4"),
        ("text/plain, application/openmetrics-text;q=0.5", "text/plain; version=0.0.4"),
        ("application/openmetrics-text; q=0", "text/plain; version=0.0.4"),
        ("application/openmetrics-text; version=nonsense; q=x,;;q=", OPENMETRICS),
        (PROMETHEUS_ACCEPTS, f"{OPENMETRICS}; version=1.0.0"),
    ],
    ids=["nothing", "anything", "text rather", "never", "odd", "Prometheus"],
)
def test_who_asks_for_openmetrics_gets_it(accept: str, kind: str) -> None:
    body, told = render(report(), accept)
    assert told.startswith(kind)
    assert body.endswith(b"\n# EOF\n") == told.startswith(OPENMETRICS)


def test_what_waits_because_of_transports_is_what_every_durable_one_refused() -> None:
    """One that may miss events refuses nothing that counts."""
    told = [publisher("nats", durable=False, waited=500, flushed=1), publisher("kafka")]
    for some, expected in ((told, 20), (told[:1], 0), ([*told, publisher("own", waited=7)], 7)):
        found = scraped(report(*processes()[:2], *some))
        assert value(found, "forebay_buffered_to_disk_total") == 50 + expected


def test_two_transports_of_a_kind_are_one_number() -> None:
    told = [publisher("kafka"), publisher("kafka", transport="second", published=5)]
    found = scraped(report(*processes()[:2], *told))
    assert value(found, "forebay_published_kafka_total") == 705
    assert value(found, "forebay_metrics_left_out") == 0


def test_promtool_finds_no_fault_in_our_names() -> None:
    """Those beside are as others named them."""
    text = render(report())[0].decode()
    families = re.split(r"(?m)^(?=# HELP )", text)
    ours = "".join(family for family in families if family.startswith("# HELP forebay_"))
    result = subprocess.run(
        [needed("promtool"), "check", "metrics"],
        input=ours,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    assert (result.returncode, result.stdout) == (0, "")


@pytest.mark.parametrize("page", reference_pages.PAGES)
def test_a_reference_page_is_what_the_code_says(page: str) -> None:
    file = ROOT / "docs" / "reference" / f"{page}.md"
    assert file.read_text(encoding="utf-8") == reference_pages.PAGES[page](), (
        "Write it again: make docs"
    )


def test_no_text_for_users_names_a_document_that_they_cannot_have() -> None:
    pages = [*ROOT.glob("docs/reference/*.md"), *ROOT.glob("docs/how-to/*.md")]
    texts = {page.name: page.read_text(encoding="utf-8") for page in pages}
    assert len(texts) > 6
    for name, text in (texts | {"forebay alerts": alerts.text()}).items():
        assert re.findall(r"\b(?:S[0-4]|[DEGORVX][1-9])\b|\brequirement\b", text) == [], name


# ------------------------------------------------------------------------- numbers


def test_each_number_of_the_processes_arrives() -> None:
    found = scraped(report())
    expected = {
        'forebay_events_total{state="received"}': 1000,
        'forebay_events_total{state="captured"}': 990,
        'forebay_events_total{state="published"}': 720,
        "forebay_published_kafka_total": 700,
        "forebay_published_nats_total": 720,
        'forebay_published_total{transport="nats"}': 720,
        'forebay_publish_backlog{transport="kafka"}': 25,
        'forebay_publish_lag_seconds{transport="kafka"}': 2.5,
        'forebay_publish_waited_total{transport="nats"}': 30,
        'forebay_publish_flushed_total{transport="nats"}': 29,
        'forebay_publish_errors_total{transport="nats"}': 3,
        'forebay_publish_waiting_share{transport="nats"}': 0.5,
        'forebay_events_total{state="stored"}': 850,
        "forebay_received_bytes_total": 123_456,
        "forebay_journal_commits_total": 40,
        "forebay_websocket_connections": 2,
        "forebay_websocket_connections_wanted": 2,
        "forebay_ws_client_connected": 1,
        "forebay_reconnections_total": 3,
        'forebay_buffer_utilisation{resource="memory"}': 0.25,
        'forebay_buffer_utilisation{resource="disk"}': 0.25,
        "forebay_buffered_to_disk_total": 70,
        "forebay_flushed_from_buffer_total": 60,
        "forebay_recovered_messages_total": 70,
        "forebay_total_batch_inserts_total": 34,
        "forebay_total_insert_errors_total": 8,
        "forebay_total_aggregates_inserted_total": 11,
        'forebay_bridge_rows_total{store="second"}': 600,
        'forebay_bridge_lanes{transport="kafka"}': 2,
        'forebay_bridge_lag_seconds{lane="quotes/0"}': 61.5,
        'forebay_bridge_lane_waits_seconds{lane="quotes/0"}': 60,
        "forebay_bridge_letters_kept": 1,
        'forebay_database_connection_errors_total{store="second"}': 2,
        'forebay_mirror_stored_total{store="third"}': 840,
        'forebay_mirror_backlog{store="third"}': 33,
        'forebay_mirror_lag_seconds{store="third"}': 3.5,
        'forebay_database_connection_errors_total{store="duckdb"}': 6,
        "forebay_store_writes_refused_total": 8,
        "forebay_buffer_size": 102,
        "forebay_store_lag_seconds": 1.25,
        "forebay_journal_oldest_unacknowledged_seconds": 1.25,
        "forebay_ambiguous_total": 5,
        'forebay_told_total{venue="coinbase",source="ws"}': 800,
        'forebay_told_total{venue="coinbase",source="file"}': 0,
        'forebay_duplicates_total{venue="coinbase",source="rest"}': 2,
        'forebay_flagged_total{venue="coinbase",source="ws",flag="late"}': 4,
        'forebay_flagged_total{venue="coinbase",source="ws",flag="skewed"}': 0,
        'forebay_venue_clock_skew_seconds{venue="massive"}': 0.5,
        "forebay_host_clock_skew_seconds": 0.25,
        'forebay_process_clock_skew_seconds{service="deliver"}': 2,
        'forebay_coverage_gaps{state="permanent"}': 3,
        'forebay_dead_letters_total{venue="coinbase",reason="oversized"}': 2,
        'forebay_rest_errors_total{endpoint="/products/*/trades"}': 3,
        'forebay_market_registry_rest_errors_total{endpoint="/markets"}': 2,
        'market_registry_rest_errors_total{endpoint="/markets"}': 2,
        'forebay_registry_markets{venue="v",state="open"}': 1,
        'forebay_registry_markets{venue="v",state="wanted"}': 2,
        'forebay_errors_total{service="deliver"}': 4,
        'forebay_happenings_total{happening="BreakerMoved",service="deliver"}': 2,
        'forebay_log_lines_lost_total{service="deliver"}': 7,
        'forebay_recovery_attempts_total{breaker="store"}': 9,
        'forebay_process_cpu_seconds_total{service="capture"}': 15,
        "forebay_service_health_share": 0.75,
        "forebay_active_fallbacks": 1,
        'forebay_service_up{service="store"}': 0,
        'forebay_service_up{service="coinbase-rest"}': 1,
        'forebay_health_check_failures{check="store"}': 4,
        'forebay_health_check_duration_seconds{check="store"}': 0.5,
        "forebay_collectors_ready": 1,
        "forebay_collectors_wanted": 1,
        "forebay_metrics_left_out": 0,
    }
    for line, number in expected.items():
        name, _, inside = line.partition("{")
        labels = dict(re.findall(r'(\w+)="([^"]*)"', inside))
        assert value(found, name, **labels) == number, line


def test_the_state_of_the_system_is_one_of_all() -> None:
    found = scraped(report())
    states = {state: value(found, "forebay_system_state", state=state) for state in SystemState}
    assert states == dict.fromkeys(SystemState, 0) | {SystemState.CRITICAL: 1}


def test_a_breaker_is_told_whole() -> None:
    found = scraped(report(ProcessReport("deliver", 2, "", breakers=[breaker()])))
    states = {
        s: value(found, "forebay_circuit_breaker_state", breaker="store", state=s) for s in State
    }
    assert states == dict.fromkeys(State, 0) | {State.OPEN: 1}
    entered = {
        s: value(found, "forebay_circuit_breaker_transitions_total", breaker="store", state=s)
        for s in State
    }
    assert entered == dict.fromkeys(State, 0) | {"open": 3, "half_open": 2, "closed": 1}
    numbers = {
        "consecutive_failures": 5,
        "last_failure_timestamp_seconds": fake_report.AT_NS / 1e9,
        "timeout_seconds": 60,
        "trips_total": 3,
        "requests_total": 100,
        "successes_total": 60,
        "failures_total": 13,
        "not_permitted_total": 20,
        "stale_total": 4,
        "latency_seconds_sum": 7.5,
        "latency_seconds_count": 73,
    }
    for name, number in numbers.items():
        assert value(found, f"forebay_circuit_breaker_{name}", breaker="store") == number, name


def test_what_a_breaker_does_not_have_is_absent() -> None:
    fresh = breaker(last_failure_ns=None, config={"recovery_timeout_s": None})
    found = scraped(report(ProcessReport("deliver", 2, "", breakers=[fresh])))
    absent = {
        "forebay_circuit_breaker_last_failure_timestamp_seconds",
        "forebay_circuit_breaker_timeout_seconds",
    }
    assert names(found) & absent == set()
    assert "forebay_circuit_breaker_consecutive_failures" in names(found)


def test_the_histogram_is_cumulative_and_ends_with_all() -> None:
    found = scraped(report())
    buckets = {
        dict(labels)["le"]: number
        for (name, labels), number in found.items()
        if name == "forebay_capture_latency_seconds_bucket"
    }
    assert list(buckets.values()) == sorted(buckets.values())
    assert buckets["+Inf"] == value(found, "forebay_capture_latency_seconds_count") == 3
    assert sum(number == 2 for number in buckets.values()) > 3
    assert value(found, "forebay_capture_latency_seconds_sum") == pytest.approx(0.102, rel=0.1)


# -------------------------------------------------------------- collectors away

CAPTURE = ServiceHealth("capture", up=True, critical=True)
CONNECTED, NOT_CONNECTED = (Sample("forebay_websocket_connections", number) for number in (2, 0))


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([ProcessReport("capture", 1, "", samples=[CONNECTED])], (1, 1, 1, 2)),
        ([ProcessReport("capture", 1, "no websocket", samples=[NOT_CONNECTED])], (1, 0, 0, 0)),
        ([ProcessReport("capture", 1, "starting")], (1, 0, 0, 0)),
        ([ProcessReport("deliver", 2, "")], (1, 0, 0, 0)),
    ],
    ids=["ready", "not ready", "starting", "away"],
)
def test_a_collector_that_is_away_is_told_as_missing(
    told: list[ProcessReport], expected: tuple[int, ...]
) -> None:
    found = scraped(report(*told, services=(CAPTURE,)))
    gauges = (
        "forebay_collectors_wanted",
        "forebay_collectors_ready",
        "forebay_ws_client_connected",
        "forebay_websocket_connections",
    )
    assert tuple(value(found, name) for name in gauges) == expected


def test_without_capture_no_websocket_is_missed() -> None:
    deliver = ServiceHealth("deliver", up=True)
    found = scraped(report(ProcessReport("deliver", 2, ""), services=(deliver,)))
    assert value(found, "forebay_collectors_wanted") == 0
    assert "forebay_ws_client_connected" not in names(found)


# ------------------------------------------------------------ mistakes of ours


@pytest.mark.parametrize(
    "wrong",
    [
        Sample("no_such_metric", 1),
        Sample("forebay_errors", 1),
        Sample("forebay_buffer_size", 1, {"store": "duckdb"}),
    ],
    ids=["unknown", "label missing", "label too many"],
)
def test_a_sample_that_fits_no_metric_is_left_out_and_told(wrong: Sample) -> None:
    found = scraped(with_samples(wrong, Sample("forebay_conflicts", 3)))
    assert value(found, "forebay_metrics_left_out") == 1
    assert value(found, "forebay_conflicts_total") == 3
    assert (CATALOGUE[wrong.name].exposed if wrong.name in CATALOGUE else wrong.name) not in names(
        found
    )


def test_a_sample_that_is_told_twice_counts_once() -> None:
    found = scraped(with_samples(Sample("forebay_conflicts", 3), Sample("forebay_conflicts", 4)))
    assert value(found, "forebay_conflicts_total") == 3
    assert value(found, "forebay_metrics_left_out") == 1


def test_text_of_others_cannot_break_a_scrape() -> None:
    evil = 'a"b\\c\nconflicts_total 7'
    labels = {"venue": "v", "reason": evil}
    found = scraped(with_samples(Sample("forebay_dead_letters", 1, labels)))
    assert value(found, "forebay_dead_letters_total", **labels) == 1
    assert "forebay_conflicts_total" not in names(found)


def test_a_scrape_leaves_the_next_one_as_it_was() -> None:
    told = report()
    assert render(told) == render(told)


def test_buckets_of_two_processes_do_not_mix() -> None:
    one = Buckets("forebay_capture_latency_seconds", (0.1,), (1, 2), 0.5)
    twice = ProcessReport("deliver", 2, "", buckets=[one, one])
    found = scraped(report(twice))
    assert value(found, "forebay_capture_latency_seconds_count") == 2
    assert value(found, "forebay_metrics_left_out") == 1
