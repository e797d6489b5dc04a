"""Every metric there is: its name, what it counts, its labels and where the name comes from.

A counter is named here as the seeds name it and ends in ``_total`` in the exposition. Samples
have names of this table and exactly its labels; :mod:`forebay.ops.metrics` leaves others out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "summary", "histogram"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric; ``origin`` is the document that its name or its idea comes from, + for ours."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    origin: str
    help: str
    needs: str = ""
    """The service that has it, if that does not exist yet: then it is in no scrape."""

    @property
    def exposed(self) -> str:
        """The name in a scrape, before the endings of a summary or histogram."""
        return f"{self.name}_total" if self.kind == "counter" else self.name


def _counter(name: str, origin: str, text: str, *labels: str, needs: str = "") -> Metric:
    return Metric(name, "counter", labels, origin, text, needs)


def _gauge(name: str, origin: str, text: str, *labels: str) -> Metric:
    return Metric(name, "gauge", labels, origin, text)


_DELIVERY = (
    _counter("published_nats", "S0", "Events that NATS acknowledged; 0 without that transport."),
    _counter("published_kafka", "S0", "Events that Kafka acknowledged; 0 without that transport."),
    _counter("buffered_to_disk", "S0", "Frames that had to wait: the store would not take them."),
    _counter("flushed_from_buffer", "S0", "Frames stored after they had to wait."),
    _counter("errors", "S0", "Happenings of the level error.", "service"),
    _counter("total_batch_inserts", "S0", "Commits that the store took."),
    _counter("total_insert_errors", "S0", "Commits that the store did not take."),
    _gauge("buffer_size", "S0", "Frames captured and not yet stored."),
    _counter("total_aggregates_inserted", "S0", "Bars stored.", needs="aggregator"),
    _gauge(
        "buffer_utilisation",
        "S3",
        "Share, 0 to 1: memory, of the bytes that may wait for the journal; disk, of the space "
        "that the journal has or can get.",
        "resource",
    ),
    _counter("recovered_messages", "S3", "Frames stored that an earlier process had captured."),
    _gauge(
        "dedup_sync_lag_seconds",
        "S4",
        "How far the store is behind capture: age, by receipt, of the oldest frame not stored.",
    ),
    _counter("database_connection_errors", "S4", "Failed calls of the store.", "store"),
    _counter("store_writes_refused", "+", "Store writes refused in a state of emergency."),
    _counter(
        "events",
        "+",
        "Events by state. Before they are parsed, received and captured ones are frames.",
        "state",
    ),
    _counter("conflicts", "+", "Events that came with an id that is stored with other content."),
    _counter("duplicates", "+", "Events that came again and were not stored again."),
    _counter("ambiguous", "+", "New events of which equal ones may be missing."),
    _counter("flagged", "+", "New events by flag.", "flag"),
    _counter("dead_letters", "+", "Frames or events kept as dead letters.", "reason"),
    _gauge("coverage_gaps", "+", "Gaps by state: open, filled, permanent.", "state"),
)
_CAPTURE = (
    _gauge("websocket_connections", "S3", "Epochs that the venue accepted and that are not over."),
    _gauge("websocket_connections_wanted", "+", "Connections that the configured symbols need."),
    _counter("reconnections", "S3", "Epochs that ended, each followed by another."),
    _counter("received_bytes", "S3", "Payload bytes captured: message throughput."),
    _counter("journal_commits", "S3", "Group commits of the journal: flush frequency."),
    _gauge("ws_client_connected", "S4", "1 if any websocket is connected, else 0."),
    _counter(
        "market_registry_rest_errors",
        "S4",
        "Tries of REST calls that failed and may pass: no answer, 408, 418, 425, 429, 5xx.",
        "endpoint",
    ),
    _gauge("healthy_gatherers", "S4", "Collectors that run and are ready."),
    _gauge("desired_gatherers", "S4", "Collectors that should run."),
    _gauge("journal_bytes", "+", "Size of the journal on disk."),
    _gauge("journal_full", "+", "1 while the journal takes no frames, else 0."),
    _gauge(
        "journal_oldest_unacknowledged_seconds",
        "+",
        "Age of the oldest frame not stored: the same number as dedup_sync_lag_seconds.",
    ),
    Metric(
        "capture_latency_seconds", "histogram", (), "+", "From receipt of a frame to its capture."
    ),
)
_BREAKERS = (
    _gauge("circuit_breaker_state", "S0", "1 for the state it is in, else 0.", "breaker", "state"),
    _gauge("circuit_breaker_failure_count", "S0", "Consecutive failures.", "breaker"),
    _gauge(
        "circuit_breaker_last_failure_time",
        "S0",
        "Unix time in seconds of the last failure; absent before the first.",
        "breaker",
    ),
    _gauge(
        "circuit_breaker_timeout_seconds",
        "S0",
        "Wait before an open breaker probes; absent if an operator must come.",
        "breaker",
    ),
    _counter("circuit_breaker_trips", "S0", "Transitions to open, not rejected calls.", "breaker"),
    _counter("circuit_breaker_requests", "S2", "Calls asked for.", "breaker"),
    _counter("circuit_breaker_successes", "S2", "Calls that succeeded.", "breaker"),
    _counter("circuit_breaker_failures", "S2", "Calls that failed or were slow.", "breaker"),
    _counter("circuit_breaker_not_permitted", "S2", "Calls refused.", "breaker"),
    _counter("circuit_breaker_stale", "S2", "Calls that ended too late to count.", "breaker"),
    _counter(
        "circuit_breaker_transitions", "S2", "Transitions by state entered.", "breaker", "state"
    ),
    Metric(
        "circuit_breaker_latency_seconds",
        "summary",
        ("breaker",),
        "S2",
        "How long calls took whose begin was timed.",
    ),
)
_SYSTEM = (
    _gauge("service_health_share", "S2", "Share of services that are no root, 0 to 1."),
    _gauge("active_fallbacks", "S2", "Services whose callers get substitutes now."),
    _counter("recovery_attempts", "S2", "Probes by the recovery loop.", "breaker"),
    _gauge("health_check_duration_seconds", "S3", "How long the last look took.", "check"),
    _gauge("health_check_failures", "S3", "Looks in a row that found it down.", "check"),
    _gauge("system_state", "+", "1 for the state that the system is in, else 0.", "state"),
    _gauge("service_up", "+", "1 if the service is up, else 0.", "service"),
    _counter(
        "forebay_log_lines_lost",
        "+",
        "Log lines dropped: standard error was closed, full or not read. The supervisor's are also "
        "those of the others that it passes on.",
        "service",
    ),
    _counter("happenings", "+", "What happened, by kind.", "service", "happening"),
    _gauge("process_resident_memory_bytes", "+", "Main memory that it has.", "service"),
    _counter("process_cpu_seconds", "+", "Processor time that it used.", "service"),
    _gauge("process_open_fds", "+", "Open file descriptors.", "service"),
    _gauge("process_max_fds", "+", "File descriptors that it may open.", "service"),
    _gauge("memory_total_bytes", "+", "Memory of the machine."),
    _gauge("memory_available_bytes", "+", "Memory of the machine that can still be had."),
    _gauge("disk_total_bytes", "+", "Size of the data folder's disk."),
    _gauge("disk_free_bytes", "+", "Bytes that may still be written there."),
    _gauge("metrics_left_out", "+", "Samples that fit no metric: a mistake of ours, 0 else."),
)
SECTIONS = {
    "Capture": _CAPTURE,
    "Delivery": _DELIVERY,
    "Circuit breakers": _BREAKERS,
    "System": _SYSTEM,
}
CATALOGUE = {metric.name: metric for section in SECTIONS.values() for metric in section}
