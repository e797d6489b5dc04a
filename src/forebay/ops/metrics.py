"""A report as Prometheus reads it.

No frame is counted for the metrics: each scrape renders a :class:`~forebay.ops.view.SystemReport`
through a collector of its own, so that a hot path pays nothing for being watched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from forebay.ops.catalogue import CATALOGUE
from forebay.ops.view import BreakerReport, Buckets, Sample, SystemReport
from forebay.resilience import State, SystemState

__all__ = ["CATALOGUE", "render", "samples"]

COLLECTOR = "capture"
"""The service, and the process, that is a collector."""
_NS = 1e9
_Key = tuple[str, tuple[str, ...]]


def render(report: SystemReport) -> tuple[bytes, str]:
    """Answer the text of a scrape, and its content type."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Scrape(report))
    return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4


@dataclass(frozen=True, slots=True)
class _Summary:
    name: str
    count: int
    sum_s: float
    labels: Mapping[str, str]


@dataclass(frozen=True, eq=False)  # a registry wants to hash it
class _Scrape(Collector):
    report: SystemReport

    def collect(self) -> Iterator[Metric]:
        """Answer every family that has samples, in the order of the catalogue."""
        told: dict[_Key, Sample | Buckets | _Summary] = {}
        left_out = 0
        for item in _items(self.report):
            metric = CATALOGUE.get(item.name)
            # Two of one name and labels would make Prometheus refuse the whole scrape.
            if metric is None or metric.needs or {*metric.labels} != {*item.labels}:
                left_out += 1
                continue
            key = item.name, tuple(item.labels[label] for label in metric.labels)
            left_out += key in told
            told.setdefault(key, item)
        told["metrics_left_out", ()] = Sample("metrics_left_out", left_out)
        families = {name: _family(name) for name in CATALOGUE}
        for (name, labels), item in told.items():
            _add(families[name], labels, item)
        yield from (family for family in families.values() if family.samples)


def _items(report: SystemReport) -> Iterator[Sample | Buckets | _Summary]:
    yield from samples(report)
    yield from _summaries(report)
    yield from (buckets for process in report.processes for buckets in process.buckets)


def _family(name: str) -> Metric:
    metric = CATALOGUE[name]
    makers = {
        "counter": CounterMetricFamily,
        "gauge": GaugeMetricFamily,
        "summary": SummaryMetricFamily,
        "histogram": HistogramMetricFamily,
    }
    made: Metric = makers[metric.kind](name, metric.help, labels=metric.labels)
    return made


def _add(family: Metric, labels: tuple[str, ...], item: Sample | Buckets | _Summary) -> None:
    match family, item:
        case (CounterMetricFamily() | GaugeMetricFamily(), Sample()):
            family.add_metric(labels, item.value)
        case SummaryMetricFamily(), _Summary():
            family.add_metric(labels, count_value=item.count, sum_value=item.sum_s)
        case HistogramMetricFamily(), Buckets():
            edges = [*map(str, item.edges_s), "+Inf"]
            family.add_metric(labels, [*zip(edges, item.counts, strict=True)], item.sum_s)


def samples(report: SystemReport) -> Iterator[Sample]:
    """Answer what the processes tell, and what follows from the report as a whole."""
    for process in report.processes:
        yield from process.samples
    yield from _system(report)
    yield from _collectors(report)
    for breaker in report.breakers():
        yield from _breaker(breaker)


def _system(report: SystemReport) -> Iterator[Sample]:
    yield Sample("service_health_share", report.health.share)
    yield Sample("active_fallbacks", len(report.fallbacks))
    for state in SystemState:
        yield Sample("system_state", int(state == report.health.state), {"state": state})
    for service in report.health.services:
        yield Sample("service_up", int(service.up), {"service": service.name})
    for check in report.checks:
        labels = {"check": check.name}
        yield Sample("health_check_duration_seconds", check.duration_s, labels)
        yield Sample("health_check_failures", check.failures, labels)


def _collectors(report: SystemReport) -> Iterator[Sample]:
    """What must be told of collectors above all when there is none to tell it."""
    desired = any(service.name == COLLECTOR for service in report.health.services)
    running = [process for process in report.processes if process.process == COLLECTOR]
    yield Sample("desired_gatherers", int(desired))
    yield Sample("healthy_gatherers", sum(not process.not_ready for process in running))
    if not desired:
        return
    told = [each for process in running for each in process.samples]
    connections = [each.value for each in told if each.name == "websocket_connections"]
    yield Sample("ws_client_connected", int(any(connections)))
    if not connections:
        yield Sample("websocket_connections", 0)


def _breaker(breaker: BreakerReport) -> Iterator[Sample]:
    labels = {"breaker": breaker.name}
    for state in State:
        here = int(state == breaker.state)
        yield Sample("circuit_breaker_state", here, {**labels, "state": state})
        entered = breaker.transitions.get(state, 0)
        yield Sample("circuit_breaker_transitions", entered, {**labels, "state": state})
    yield Sample("circuit_breaker_failure_count", breaker.failure_count, labels)
    if breaker.last_failure_ns is not None:
        yield Sample("circuit_breaker_last_failure_time", breaker.last_failure_ns / _NS, labels)
    if (wait_s := breaker.config.get("recovery_timeout_s")) is not None:
        yield Sample("circuit_breaker_timeout_seconds", wait_s, labels)
    yield Sample("circuit_breaker_trips", breaker.trips, labels)
    yield Sample("circuit_breaker_requests", breaker.requests, labels)
    yield Sample("circuit_breaker_successes", breaker.successes, labels)
    yield Sample("circuit_breaker_failures", breaker.failures + breaker.slow, labels)
    yield Sample("circuit_breaker_not_permitted", breaker.not_permitted, labels)
    yield Sample("circuit_breaker_stale", breaker.stale, labels)


def _summaries(report: SystemReport) -> Iterator[_Summary]:
    for breaker in report.breakers():
        labels = {"breaker": breaker.name}
        name = "circuit_breaker_latency_seconds"
        yield _Summary(name, breaker.latency_count, breaker.latency_sum_s, labels)
