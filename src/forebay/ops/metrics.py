"""A report as Prometheus reads it.

No frame is counted for the metrics: each scrape renders a :class:`~forebay.ops.view.SystemReport`
through a collector of its own, so that a hot path pays nothing for being watched.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    SummaryMetricFamily,
)
from prometheus_client.core import Metric as MetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from forebay.ops.catalogue import CATALOGUE, Metric
from forebay.ops.view import BreakerReport, Buckets, Sample, SystemReport
from forebay.resilience import State, SystemState

COLLECTOR = "capture"
"""The service, and the process, that is a collector."""
BUFFERED = ("forebay_buffered_to_disk", "forebay_flushed_from_buffer")
SUMMED = (
    *BUFFERED,
    "forebay_published_nats",
    "forebay_published_kafka",
    "forebay_total_batch_inserts",
    "forebay_total_insert_errors",
    "forebay_buffer_size",
)
"""Counters of the whole, that several processes may tell their part of."""
_NS = 1e9
_OPENMETRICS = "application/openmetrics-text"
_openmetrics: Callable[[CollectorRegistry], bytes] = openmetrics.generate_latest
_WEIGHT = re.compile(r"[01](\.\d{0,3})?")
_FAMILIES: dict[str, Callable[..., MetricFamily]] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "summary": SummaryMetricFamily,
    "histogram": HistogramMetricFamily,
}
_Key = tuple[str, tuple[str, ...]]


def render(report: SystemReport, accept: str = "") -> tuple[bytes, str]:
    """Return a scrape and its content type: OpenMetrics if ``accept`` prefers it, else text."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Scrape(report))
    weights = _weights(accept)
    if weights.get(_OPENMETRICS, 0) > weights.get("text/plain", 0):
        return _openmetrics(registry), openmetrics.CONTENT_TYPE_LATEST
    return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4


def _weights(accept: str) -> dict[str, float]:
    """Return how much each media type of an Accept header is wanted, 0 to 1."""
    weights: dict[str, float] = {}
    for wish in accept.lower().split(","):
        kind, *parameters = (part.strip() for part in wish.split(";"))
        said = [each[2:] for each in parameters if each.startswith("q=")]
        weight = float(said[0]) if said and _WEIGHT.fullmatch(said[0]) else 1.0
        weights[kind] = max(weight, weights.get(kind, 0))
    return weights


@dataclass(frozen=True, eq=False)  # a registry wants to hash it
class _Scrape(Collector):
    report: SystemReport

    def collect(self) -> Iterator[MetricFamily]:
        """Return every family that has samples, in the order of the catalogue."""
        told: dict[_Key, Sample | Buckets] = {}
        left_out = 0
        for item in _items(self.report):
            metric = CATALOGUE.get(item.name)
            # Two of one name and labels would make Prometheus refuse the whole scrape.
            if metric is None or {*metric.labels} != {*item.labels}:
                left_out += 1
                continue
            key = item.name, tuple(item.labels[label] for label in metric.labels)
            left_out += key in told
            told.setdefault(key, item)
        told["forebay_metrics_left_out", ()] = Sample("forebay_metrics_left_out", left_out)
        families = {name: _families(metric) for name, metric in CATALOGUE.items()}
        for (name, labels), item in told.items():
            for family in families[name]:
                _add(family, labels, item)
        yield from (family for both in families.values() for family in both if family.samples)


def _items(report: SystemReport) -> Iterator[Sample | Buckets]:
    yield from samples(report)
    yield from map(_latency, report.breakers())
    yield from (buckets for process in report.processes for buckets in process.buckets)


def _families(metric: Metric) -> list[MetricFamily]:
    """Return the family of a metric, and that of the older name beside it."""
    make = _FAMILIES[metric.kind]
    family = make(metric.name, metric.help, labels=metric.labels)
    if not metric.beside:
        return [family]
    return [family, make(metric.beside, f"The same as {metric.exposed}.", labels=metric.labels)]


def _add(family: MetricFamily, labels: tuple[str, ...], item: Sample | Buckets) -> None:
    match family, item:
        case (CounterMetricFamily() | GaugeMetricFamily(), Sample()):
            family.add_metric(labels, item.value)
        case SummaryMetricFamily(), Buckets():
            family.add_metric(labels, count_value=item.counts[-1], sum_value=item.sum_s)
        case HistogramMetricFamily(), Buckets():
            edges = [*map(str, item.edges_s), "+Inf"]
            family.add_metric(labels, [*zip(edges, item.counts, strict=True)], item.sum_s)


def samples(report: SystemReport) -> Iterator[Sample]:
    """Return what the processes tell, and what follows from the report as a whole."""
    summed: dict[str, float] = {}
    published = [each.status["published"] for each in report.processes if "durable" in each.status]
    for process in report.processes:
        for sample in process.samples:
            if sample.name in SUMMED and not sample.labels:
                summed[sample.name] = summed.get(sample.name, 0) + sample.value
            elif sample.labels.get("state") == "published":
                yield replace(sample, value=max([sample.value, *published]))
            else:
                yield sample
    for name, waited in zip(BUFFERED, _waited(report), strict=True):
        if waited:
            summed[name] = summed.get(name, 0) + waited
    yield from (Sample(name, value) for name, value in summed.items())
    yield from _system(report)
    yield from _collectors(report)
    for breaker in report.breakers():
        yield from _breaker(breaker)


def _waited(report: SystemReport) -> tuple[int, int]:
    """Return the frames that no durable transport would take, and those published since.

    Of several, that of the one which made the fewest wait.
    """
    told = [each.status for each in report.processes if each.status.get("durable")]
    counts = ((int(each["waited"]), int(each["flushed"])) for each in told)
    return min(counts, default=(0, 0))


def _system(report: SystemReport) -> Iterator[Sample]:
    yield Sample("forebay_service_health_share", report.health.share)
    yield Sample("forebay_active_fallbacks", len(report.fallbacks))
    for state in SystemState:
        yield Sample("forebay_system_state", int(state == report.health.state), {"state": state})
    for service in report.health.services:
        yield Sample("forebay_service_up", int(service.up), {"service": service.name})
    for check in report.checks:
        labels = {"check": check.name}
        yield Sample("forebay_health_check_duration_seconds", check.duration_s, labels)
        yield Sample("forebay_health_check_failures", check.failures, labels)


def _collectors(report: SystemReport) -> Iterator[Sample]:
    """What must be told of collectors above all when there is none to tell it."""
    desired = any(service.name == COLLECTOR for service in report.health.services)
    running = [process for process in report.processes if process.process == COLLECTOR]
    yield Sample("forebay_collectors_wanted", int(desired))
    yield Sample("forebay_collectors_ready", sum(not process.not_ready for process in running))
    if not desired:
        return
    told = [each for process in running for each in process.samples]
    connections = [each.value for each in told if each.name == "forebay_websocket_connections"]
    yield Sample("forebay_ws_client_connected", int(any(connections)))
    if not connections:
        yield Sample("forebay_websocket_connections", 0)


def _breaker(breaker: BreakerReport) -> Iterator[Sample]:
    labels = {"breaker": breaker.name}
    for state in State:
        here = int(state == breaker.state)
        yield Sample("forebay_circuit_breaker_state", here, {**labels, "state": state})
        entered = breaker.transitions.get(state, 0)
        yield Sample("forebay_circuit_breaker_transitions", entered, {**labels, "state": state})
    yield Sample("forebay_circuit_breaker_consecutive_failures", breaker.failure_count, labels)
    if breaker.last_failure_ns is not None:
        yield Sample(
            "forebay_circuit_breaker_last_failure_timestamp_seconds",
            breaker.last_failure_ns / _NS,
            labels,
        )
    if (wait_s := breaker.config.get("recovery_timeout_s")) is not None:
        yield Sample("forebay_circuit_breaker_timeout_seconds", wait_s, labels)
    yield Sample("forebay_circuit_breaker_trips", breaker.trips, labels)
    yield Sample("forebay_circuit_breaker_requests", breaker.requests, labels)
    yield Sample("forebay_circuit_breaker_successes", breaker.successes, labels)
    yield Sample("forebay_circuit_breaker_failures", breaker.failures + breaker.slow, labels)
    yield Sample("forebay_circuit_breaker_not_permitted", breaker.not_permitted, labels)
    yield Sample("forebay_circuit_breaker_stale", breaker.stale, labels)


def _latency(breaker: BreakerReport) -> Buckets:
    name, count = "forebay_circuit_breaker_latency_seconds", breaker.latency_count
    return Buckets(name, (), (count,), breaker.latency_sum_s, {"breaker": breaker.name})
