"""Every metric there is: its name, its kind, its labels, and the older name exposed beside it.

A counter is named here without the ``_total`` that it ends in in the exposition. Samples have
names of this table and exactly its labels; :mod:`forebay.ops.metrics` leaves others out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "summary", "histogram"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric."""

    name: str
    """Begins with ``forebay_``."""
    kind: Kind
    labels: tuple[str, ...]
    help: str
    beside: str = ""
    """The name that dashboards of earlier systems know it by; it is in each scrape as well."""
    needs: str = ""
    """The service that has it, if that does not exist yet: then it is in no scrape."""

    @property
    def exposed(self) -> str:
        """The name in a scrape, before the endings of a summary or histogram."""
        return self._ended(self.name)

    @property
    def exposed_beside(self) -> str:
        """The older name in a scrape; nothing if it has none."""
        return self._ended(self.beside) if self.beside else ""

    def _ended(self, name: str) -> str:
        return f"{name}_total" if self.kind == "counter" else name


def _counter(name: str, text: str, *labels: str, beside: str = "", needs: str = "") -> Metric:
    return Metric(name, "counter", labels, text, beside, needs)


def _gauge(name: str, text: str, *labels: str, beside: str = "") -> Metric:
    return Metric(name, "gauge", labels, text, beside)


_DELIVERY = (
    _counter(
        "forebay_published_nats",
        "Events that NATS acknowledged; 0 without that transport.",
        beside="published_nats",
    ),
    _counter(
        "forebay_published_kafka",
        "Events that Kafka acknowledged; 0 without that transport.",
        beside="published_kafka",
    ),
    _counter(
        "forebay_buffered_to_disk",
        "Frames that had to wait: the store would not take them.",
        beside="buffered_to_disk",
    ),
    _counter(
        "forebay_flushed_from_buffer",
        "Frames stored after they had to wait.",
        beside="flushed_from_buffer",
    ),
    _counter("forebay_errors", "Happenings of the level error.", "service", beside="errors"),
    _counter(
        "forebay_total_batch_inserts", "Commits that the store took.", beside="total_batch_inserts"
    ),
    _counter(
        "forebay_total_insert_errors",
        "Commits that the store did not take.",
        beside="total_insert_errors",
    ),
    _gauge("forebay_buffer_size", "Frames captured and not yet stored.", beside="buffer_size"),
    _counter(
        "forebay_total_aggregates_inserted",
        "Bars stored.",
        needs="aggregator",
        beside="total_aggregates_inserted",
    ),
    _gauge(
        "forebay_buffer_utilisation",
        "Share, 0 to 1: memory, of the bytes that may wait for the journal; disk, of the space "
        "that the journal has or can get.",
        "resource",
        beside="buffer_utilisation",
    ),
    _counter(
        "forebay_recovered_messages",
        "Frames stored that an earlier process had captured.",
        beside="recovered_messages",
    ),
    _gauge(
        "forebay_store_lag_seconds",
        "How far the store is behind capture: age, by receipt, of the oldest frame not stored.",
        beside="dedup_sync_lag_seconds",
    ),
    _counter(
        "forebay_database_connection_errors",
        "Failed calls of the store.",
        "store",
        beside="database_connection_errors",
    ),
    _counter("forebay_store_writes_refused", "Store writes refused in a state of emergency."),
    _counter(
        "forebay_events",
        "Events by state. Before they are parsed, received and captured ones are frames.",
        "state",
    ),
    _counter("forebay_conflicts", "Events that came with an id that is stored with other content."),
    _counter("forebay_duplicates", "Events that came again and were not stored again."),
    _counter("forebay_ambiguous", "New events of which equal ones may be missing."),
    _counter("forebay_flagged", "New events by flag.", "flag"),
    _counter("forebay_dead_letters", "Frames or events kept as dead letters.", "reason"),
    _gauge("forebay_coverage_gaps", "Gaps by state: open, filled, permanent, accepted.", "state"),
)
_CAPTURE = (
    _gauge(
        "forebay_websocket_connections",
        "Epochs that the venue accepted and that are not over.",
        beside="websocket_connections",
    ),
    _gauge("forebay_websocket_connections_wanted", "Connections that the configured symbols need."),
    _gauge(
        "forebay_streams",
        "Kinds of event and symbols that are asked for, by state: heard, refused by the venue, "
        "silent: never heard though nobody refused, asked: nobody knows.",
        "venue",
        "state",
    ),
    _counter("forebay_streams_refused", "Refusals of a stream by the venue.", "venue"),
    _counter("forebay_venue_complaints", "Complaints of the venue over a connection.", "venue"),
    _counter(
        "forebay_reconnections",
        "Epochs that ended, each followed by another.",
        beside="reconnections",
    ),
    _counter(
        "forebay_received_bytes",
        "Payload bytes captured: message throughput.",
        beside="received_bytes",
    ),
    _counter(
        "forebay_journal_commits",
        "Group commits of the journal: flush frequency.",
        beside="journal_commits",
    ),
    _gauge(
        "forebay_ws_client_connected",
        "1 if any websocket is connected, else 0.",
        beside="ws_client_connected",
    ),
    _counter(
        "forebay_rest_errors",
        "Tries of REST calls that failed and may pass: no answer, 408, 418, 425, 429, 5xx.",
        "endpoint",
        beside="market_registry_rest_errors",
    ),
    _gauge(
        "forebay_collectors_ready", "Collectors that run and are ready.", beside="healthy_gatherers"
    ),
    _gauge("forebay_collectors_wanted", "Collectors that should run.", beside="desired_gatherers"),
    _gauge("forebay_journal_bytes", "Size of the journal on disk."),
    _gauge("forebay_journal_full", "1 while the journal takes no frames, else 0."),
    _gauge(
        "forebay_journal_oldest_unacknowledged_seconds",
        "Age of the oldest frame not stored: the same number as forebay_store_lag_seconds.",
    ),
    Metric(
        "forebay_capture_latency_seconds",
        "histogram",
        (),
        "From receipt of a frame to its capture.",
    ),
)
_BREAKERS = (
    _gauge(
        "forebay_circuit_breaker_state",
        "1 for the state it is in, else 0.",
        "breaker",
        "state",
        beside="circuit_breaker_state",
    ),
    _gauge(
        "forebay_circuit_breaker_consecutive_failures",
        "Consecutive failures.",
        "breaker",
        beside="circuit_breaker_failure_count",
    ),
    _gauge(
        "forebay_circuit_breaker_last_failure_timestamp_seconds",
        "Unix time in seconds of the last failure; absent before the first.",
        "breaker",
        beside="circuit_breaker_last_failure_time",
    ),
    _gauge(
        "forebay_circuit_breaker_timeout_seconds",
        "Wait before an open breaker probes; absent if an operator must come.",
        "breaker",
        beside="circuit_breaker_timeout_seconds",
    ),
    _counter(
        "forebay_circuit_breaker_trips",
        "Transitions to open, not rejected calls.",
        "breaker",
        beside="circuit_breaker_trips",
    ),
    _counter(
        "forebay_circuit_breaker_requests",
        "Calls asked for.",
        "breaker",
        beside="circuit_breaker_requests",
    ),
    _counter(
        "forebay_circuit_breaker_successes",
        "Calls that succeeded.",
        "breaker",
        beside="circuit_breaker_successes",
    ),
    _counter(
        "forebay_circuit_breaker_failures",
        "Calls that failed or were slow.",
        "breaker",
        beside="circuit_breaker_failures",
    ),
    _counter(
        "forebay_circuit_breaker_not_permitted",
        "Calls refused.",
        "breaker",
        beside="circuit_breaker_not_permitted",
    ),
    _counter(
        "forebay_circuit_breaker_stale",
        "Calls that ended too late to count.",
        "breaker",
        beside="circuit_breaker_stale",
    ),
    _counter(
        "forebay_circuit_breaker_transitions",
        "Transitions by state entered.",
        "breaker",
        "state",
        beside="circuit_breaker_transitions",
    ),
    Metric(
        "forebay_circuit_breaker_latency_seconds",
        "summary",
        ("breaker",),
        "How long calls took whose begin was timed.",
        "circuit_breaker_latency_seconds",
    ),
)
_SYSTEM = (
    _gauge(
        "forebay_service_health_share",
        "Share of services that are no root, 0 to 1.",
        beside="service_health_share",
    ),
    _gauge(
        "forebay_active_fallbacks",
        "Services whose callers get substitutes now.",
        beside="active_fallbacks",
    ),
    _counter(
        "forebay_recovery_attempts",
        "Probes by the recovery loop.",
        "breaker",
        beside="recovery_attempts",
    ),
    _gauge(
        "forebay_health_check_duration_seconds",
        "How long the last look took.",
        "check",
        beside="health_check_duration_seconds",
    ),
    _gauge(
        "forebay_health_check_failures",
        "Looks in a row that found it down.",
        "check",
        beside="health_check_failures",
    ),
    _gauge("forebay_system_state", "1 for the state that the system is in, else 0.", "state"),
    _gauge("forebay_service_up", "1 if the service is up, else 0.", "service"),
    _counter(
        "forebay_log_lines_lost",
        "Log lines dropped: standard error was closed, full or not read. The supervisor's are also "
        "those of the others that it passes on.",
        "service",
    ),
    _counter("forebay_happenings", "What happened, by kind.", "service", "happening"),
    _gauge("forebay_process_resident_memory_bytes", "Main memory that it has.", "service"),
    _counter("forebay_process_cpu_seconds", "Processor time that it used.", "service"),
    _gauge("forebay_process_start_time_seconds", "When it started, Unix time.", "service"),
    _gauge("forebay_process_open_fds", "Open file descriptors.", "service"),
    _gauge("forebay_process_max_fds", "File descriptors that it may open.", "service"),
    _gauge("forebay_memory_total_bytes", "Memory of the machine."),
    _gauge("forebay_memory_available_bytes", "Memory of the machine that can still be had."),
    _gauge("forebay_disk_total_bytes", "Size of the data folder's disk."),
    _gauge("forebay_disk_free_bytes", "Bytes that may still be written there."),
    _gauge("forebay_metrics_left_out", "Samples that fit no metric: a mistake of ours, 0 else."),
)
SECTIONS = {
    "Capture": _CAPTURE,
    "Delivery": _DELIVERY,
    "Circuit breakers": _BREAKERS,
    "System": _SYSTEM,
}
CATALOGUE = {metric.name: metric for section in SECTIONS.values() for metric in section}
