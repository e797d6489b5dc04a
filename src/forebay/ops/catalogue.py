"""Every metric there is: its name, its kind, its labels, and the older name exposed beside it.

A counter is named here without the ``_total`` that it ends in in the exposition. Samples have
names of this table and exactly its labels; :mod:`forebay.ops.metrics` leaves others out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "summary", "histogram"]
_WITHOUT_PREFIX = (
    "published_nats published_kafka buffered_to_disk flushed_from_buffer errors "
    "total_batch_inserts total_insert_errors buffer_size total_aggregates_inserted "
    "buffer_utilisation recovered_messages database_connection_errors websocket_connections "
    "reconnections received_bytes journal_commits ws_client_connected circuit_breaker_state "
    "circuit_breaker_timeout_seconds circuit_breaker_trips circuit_breaker_requests "
    "circuit_breaker_successes circuit_breaker_failures circuit_breaker_not_permitted "
    "circuit_breaker_stale circuit_breaker_transitions circuit_breaker_latency_seconds "
    "service_health_share active_fallbacks recovery_attempts health_check_duration_seconds "
    "health_check_failures"
)
OLDER_NAMES = {f"forebay_{name}": name for name in _WITHOUT_PREFIX.split()} | {
    "forebay_circuit_breaker_consecutive_failures": "circuit_breaker_failure_count",
    "forebay_circuit_breaker_last_failure_timestamp_seconds": "circuit_breaker_last_failure_time",
    "forebay_collectors_ready": "healthy_gatherers",
    "forebay_collectors_wanted": "desired_gatherers",
    "forebay_market_registry_rest_errors": "market_registry_rest_errors",
    "forebay_store_lag_seconds": "dedup_sync_lag_seconds",
}
"""By metric, the name that dashboards of earlier systems know it by; each scrape has it as well."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric."""

    name: str
    """Begins with ``forebay_``."""
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()

    @property
    def exposed(self) -> str:
        """The name in a scrape, before the endings of a summary or histogram."""
        return f"{self.name}_total" if self.kind == "counter" else self.name

    @property
    def beside(self) -> str:
        """The older name, without endings; nothing if it has none."""
        return OLDER_NAMES.get(self.name, "")


def _counter(name: str, text: str, *labels: str) -> Metric:
    return Metric(name, "counter", text, labels)


def _gauge(name: str, text: str, *labels: str) -> Metric:
    return Metric(name, "gauge", text, labels)


_DELIVERY = (
    _counter("forebay_published_nats", "Events that NATS acknowledged; 0 without that transport."),
    _counter(
        "forebay_published_kafka", "Events that Kafka acknowledged; 0 without that transport."
    ),
    _counter(
        "forebay_buffered_to_disk",
        "Frames that had to wait: the store, or every durable transport, would not take them.",
    ),
    _counter("forebay_flushed_from_buffer", "Frames stored or published after they had to wait."),
    _counter("forebay_errors", "Happenings of the level error.", "service"),
    _counter("forebay_total_batch_inserts", "Commits that the store took."),
    _counter("forebay_total_insert_errors", "Commits that the store did not take."),
    _gauge(
        "forebay_buffer_size",
        "Frames captured, and rows read by a bridge, that are not stored yet.",
    ),
    _counter("forebay_total_aggregates_inserted", "Bars that a bridge stored."),
    _gauge(
        "forebay_buffer_utilisation",
        "Share, 0 to 1: memory, of the bytes that may wait for the journal; disk, of the space "
        "that the journal has or can get.",
        "resource",
    ),
    _counter("forebay_recovered_messages", "Frames stored that an earlier process had captured."),
    _gauge(
        "forebay_store_lag_seconds",
        "How far the store is behind capture: age, by receipt, of the oldest frame not stored.",
    ),
    _counter("forebay_database_connection_errors", "Failed calls of the store.", "store"),
    _counter("forebay_store_writes_refused", "Store writes refused in a state of emergency."),
    _counter(
        "forebay_events",
        "Events by state. Before they are parsed, received and captured ones are frames.",
        "state",
    ),
    _counter("forebay_conflicts", "Events that came with an id that is stored with other content."),
    _counter(
        "forebay_told",
        "Events and dead letters by the way they came (ws, rest, file), duplicates included.",
        "venue",
        "source",
    ),
    _counter(
        "forebay_duplicates",
        "Events that came again, by the way they did, and were not stored again; conflicts, too.",
        "venue",
        "source",
    ),
    _counter("forebay_ambiguous", "New events of which equal ones may be missing."),
    _counter("forebay_flagged", "New events by flag.", "venue", "source", "flag"),
    _counter("forebay_dead_letters", "Frames or events kept as dead letters.", "venue", "reason"),
    _counter("forebay_bars_verified", "Bars compared with those of their source.", "venue"),
    _gauge(
        "forebay_bars_unlike_source",
        "Bars by difference: missing in the store, differing from the source's, extra: the source "
        "does not have them.",
        "venue",
        "difference",
    ),
    _gauge("forebay_bars_verified_time_seconds", "Unix time of the last such comparison.", "venue"),
    _gauge("forebay_coverage_gaps", "Gaps by state: open, filled, permanent, accepted.", "state"),
)
_CAPTURE = (
    _gauge(
        "forebay_websocket_connections", "Epochs that the venue accepted and that are not over."
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
    _counter("forebay_reconnections", "Epochs that ended, each followed by another."),
    _counter("forebay_received_bytes", "Payload bytes captured: message throughput."),
    _counter("forebay_journal_commits", "Group commits of the journal: flush frequency."),
    _gauge("forebay_ws_client_connected", "1 if any websocket is connected, else 0."),
    _counter(
        "forebay_rest_errors",
        "Tries of REST calls that failed and may pass: no answer, 408, 418, 425, 429, 5xx.",
        "endpoint",
    ),
    _counter(
        "forebay_market_registry_rest_errors",
        "Calls for a venue's list of markets that failed, however often they were tried.",
        "endpoint",
    ),
    _gauge(
        "forebay_registry_markets",
        "Markets that are asked for by name or pattern, by state: coming, open, ended, and wanted: "
        "those that are captured now.",
        "venue",
        "state",
    ),
    _gauge("forebay_collectors_ready", "Collectors that run and are ready."),
    _gauge("forebay_collectors_wanted", "Collectors that should run."),
    _gauge("forebay_journal_bytes", "Size of the journal on disk."),
    _gauge("forebay_journal_full", "1 while the journal takes no frames, else 0."),
    _gauge(
        "forebay_journal_oldest_unacknowledged_seconds",
        "Age of the oldest frame not stored: the same number as forebay_store_lag_seconds.",
    ),
    Metric(
        "forebay_capture_latency_seconds",
        "histogram",
        "From receipt of a frame to its capture.",
        (),
    ),
)
_MIRRORING = (
    _counter("forebay_mirror_stored", "Events that a mirror of the store has stored.", "store"),
    _gauge("forebay_mirror_backlog", "Frames captured that a mirror has not stored yet.", "store"),
    _gauge(
        "forebay_mirror_lag_seconds",
        "How far a mirror is behind capture: age, by receipt, of the oldest frame that is read and "
        "not stored.",
        "store",
    ),
)
_PUBLISHING = (
    _counter("forebay_published", "Events that a transport acknowledged.", "transport"),
    _gauge("forebay_publish_backlog", "Frames captured and not yet published.", "transport"),
    _gauge(
        "forebay_publish_lag_seconds",
        "How far a transport is behind capture: age, by receipt, of the oldest frame that is read "
        "and not acknowledged.",
        "transport",
    ),
    _counter("forebay_publish_waited", "Frames that had to wait for a transport.", "transport"),
    _counter("forebay_publish_flushed", "Frames published after they had to wait.", "transport"),
    _counter("forebay_publish_errors", "Batches that were not acknowledged.", "transport"),
    _gauge(
        "forebay_publish_waiting_share",
        "Share of the journal's bound that waits for a transport, 0 to 1.",
        "transport",
    ),
)
_BRIDGE = (
    _counter("forebay_bridge_rows", "Events that a bridge stored, each once.", "store"),
    _gauge("forebay_bridge_lanes", "Lanes that this bridge reads now.", "transport"),
    _gauge(
        "forebay_bridge_lag_seconds",
        "How far a lane is behind: age, by receipt, of the oldest row that is read and not stored, "
        "or since when it was not seen to have nothing left.",
        "lane",
    ),
    _gauge(
        "forebay_bridge_lane_waits_seconds",
        "How long a lane cannot be stored, while others are; 0 if it can.",
        "lane",
    ),
    _gauge("forebay_bridge_letters_kept", "Letters that wait here for their topic to take them."),
)
_BREAKERS = (
    _gauge(
        "forebay_circuit_breaker_state", "1 for the state it is in, else 0.", "breaker", "state"
    ),
    _gauge("forebay_circuit_breaker_consecutive_failures", "Consecutive failures.", "breaker"),
    _gauge(
        "forebay_circuit_breaker_last_failure_timestamp_seconds",
        "Unix time in seconds of the last failure; absent before the first.",
        "breaker",
    ),
    _gauge(
        "forebay_circuit_breaker_timeout_seconds",
        "Wait before an open breaker probes; absent if an operator must come.",
        "breaker",
    ),
    _counter(
        "forebay_circuit_breaker_trips", "Transitions to open, not rejected calls.", "breaker"
    ),
    _counter("forebay_circuit_breaker_requests", "Calls asked for.", "breaker"),
    _counter("forebay_circuit_breaker_successes", "Calls that succeeded.", "breaker"),
    _counter("forebay_circuit_breaker_failures", "Calls that failed or were slow.", "breaker"),
    _counter("forebay_circuit_breaker_not_permitted", "Calls refused.", "breaker"),
    _counter("forebay_circuit_breaker_stale", "Calls that ended too late to count.", "breaker"),
    _counter(
        "forebay_circuit_breaker_transitions", "Transitions by state entered.", "breaker", "state"
    ),
    Metric(
        "forebay_circuit_breaker_latency_seconds",
        "summary",
        "How long calls took whose begin was timed.",
        ("breaker",),
    ),
)
_SYSTEM = (
    _gauge("forebay_service_health_share", "Share of services that are no root, 0 to 1."),
    _gauge("forebay_active_fallbacks", "Services whose callers get substitutes now."),
    _counter("forebay_recovery_attempts", "Probes by the recovery loop.", "breaker"),
    _gauge("forebay_health_check_duration_seconds", "How long the last look took.", "check"),
    _gauge("forebay_health_check_failures", "Looks in a row that found it down.", "check"),
    _gauge(
        "forebay_venue_clock_skew_seconds",
        "How far our clock is ahead of the venue's, the shortest way of an event included.",
        "venue",
    ),
    _gauge(
        "forebay_host_clock_skew_seconds",
        "The same as all venues agree, 0 if they do not; absent with fewer than two.",
    ),
    _gauge(
        "forebay_process_clock_skew_seconds",
        "How far the clock of a process is ahead of the supervisor's, as far as is certain.",
        "service",
    ),
    _gauge("forebay_system_state", "1 for the state that the system is in, else 0.", "state"),
    _gauge("forebay_service_up", "1 if the service is up, else 0.", "service"),
    _counter(
        "forebay_log_lines_lost",
        "Log lines dropped: standard error was closed, full or not read. The supervisor's are "
        "also those of the others that it passes on.",
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
    "Mirrors": _MIRRORING,
    "Publishing": _PUBLISHING,
    "Bridge": _BRIDGE,
    "Circuit breakers": _BREAKERS,
    "System": _SYSTEM,
}
CATALOGUE = {metric.name: metric for section in SECTIONS.values() for metric in section}
