"""From what a process knows of itself to the samples of its report.

Plain functions; what the machine tells is asked through an :class:`OsReader`. All counters count
since the process started, and nothing here resets anything.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import os
import re
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from forebay.domain.flags import FLAGS
from forebay.domain.parsed import Reason
from forebay.ops.view import Buckets, Sample, StreamState
from forebay.services.clock_skew import host_skew_s
from forebay.telemetry import (
    CallRetried,
    DeadLettered,
    RegistryFailed,
    RestRetried,
    RetriesEnded,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from forebay.ops.view import StreamReport
    from forebay.services.guarded_bridge import LaneSeen
    from forebay.services.guarded_delivery import Measured
    from forebay.services.latency import LatencyTotals
    from forebay.sources.roster import Roster
    from forebay.telemetry import Observer, TelemetryEvent

_KIB = 1024
_UNTOLD = (OSError, KeyError, ValueError, IndexError, StopIteration)
"""What reading ``/proc`` raises where it is not there, or tells something else."""
LABELS = 50
"""Different values of one label that are told apart; what comes later counts as :data:`OTHER`."""
OTHER = "other"
BY_KIND = ("forebay_published_nats", "forebay_published_kafka")
"""Counters of all transports of one kind."""
SOURCES = ("ws", "rest", "file")
"""By which way frames come; see :class:`~forebay.domain.frames.Context`."""
_WORD = re.compile(r"[a-z_]+")


class OsReader:
    """What this machine tells. Its methods raise :class:`OSError`."""

    page_size = os.sysconf("SC_PAGE_SIZE")
    """Bytes of a page of memory."""
    ticks = os.sysconf("SC_CLK_TCK")
    """Units of processor time in a second."""

    def text(self, path: str) -> str:
        """Return a file of ``/proc``."""
        return Path(path).read_text(encoding="ascii", errors="replace")

    def booted_s(self) -> float:
        """Return the Unix time at which the machine started, always the same."""
        return _booted_s()

    def entries(self, path: str) -> int:
        """Return how many entries a folder has."""
        return sum(1 for _ in Path(path).iterdir())

    def space(self, folder: Path) -> tuple[int, int]:
        """Return the bytes that may still be written there, and the size of the disk."""
        status = os.statvfs(folder)
        return status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize

    def size(self, folder: Path) -> int:
        """Return the bytes of all files in a folder, those of folders below it left out."""
        total = 0
        with os.scandir(folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # removed since
                    total += entry.stat().st_size if entry.is_file() else 0
        return total


@functools.cache  # the kernel answers another number after the clock was set
def _booted_s() -> float:
    lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("btime "))


def capture(stats: Mapping[str, float], counts: Counts, *, max_pending: int) -> list[Sample]:
    """Return what capture tells; at most ``max_pending`` bytes may wait for the journal."""
    return [
        Sample("forebay_events", stats["received"], {"state": "received"}),
        Sample("forebay_events", stats["captured"], {"state": "captured"}),
        Sample("forebay_received_bytes", stats["bytes"]),
        Sample("forebay_journal_commits", stats["commits"]),
        Sample("forebay_journal_full", int(stats["full"])),
        Sample("forebay_websocket_connections", stats["connected"]),
        Sample("forebay_websocket_connections_wanted", stats["wanted"]),
        Sample("forebay_reconnections", stats["reconnects"]),
        _utilisation("memory", stats["pending_bytes"] / max_pending),
        *labelled("forebay_rest_errors", "endpoint", counts.rest_errors),
        *labelled("forebay_market_registry_rest_errors", "endpoint", counts.registry_errors),
    ]


def roster(roster: Roster) -> list[Sample]:
    """Return how often each venue complained, and what it refused."""
    return [
        *labelled("forebay_venue_complaints", "venue", roster.complaints),
        *labelled("forebay_streams_refused", "venue", roster.refusals),
    ]


def streams(told: Sequence[StreamReport]) -> list[Sample]:
    """Return how many streams of each venue are in each state, those of none included."""
    counts = Counter({(each.venue, state): 0 for each in told for state in get_args(StreamState)})
    counts.update((each.venue, each.state) for each in told)
    return [
        Sample("forebay_streams", count, {"venue": venue, "state": state})
        for (venue, state), count in sorted(counts.items())
    ]


def latency(totals: LatencyTotals) -> list[Buckets]:
    """Return the waits from receipt to capture."""
    return [Buckets("forebay_capture_latency_seconds", totals.edges_s, totals.counts, totals.sum_s)]


def deliver(
    status: Mapping[str, Any],
    seen: Measured,
    counts: Counts,
    *,
    store: str,
    inherited: int,
    venues: Iterable[str] = (),
) -> list[Sample]:
    """Return what :meth:`forebay.services.deliver.Deliverer.status` and delivery tell.

    ``store`` is the kind of store, ``inherited`` the backlog, in frames, that this process found
    when it started, ``venues`` are those that are captured.
    """
    return [
        Sample("forebay_published_nats", 0),
        Sample("forebay_published_kafka", 0),
        Sample("forebay_events", 0, {"state": "published"}),
        Sample("forebay_events", status["rows"], {"state": "stored"}),
        Sample("forebay_buffered_to_disk", seen.waited),
        Sample("forebay_flushed_from_buffer", seen.flushed),
        Sample("forebay_recovered_messages", min(inherited, status["frames"])),
        Sample("forebay_total_batch_inserts", status["steps"]),
        Sample("forebay_total_insert_errors", seen.database_errors),
        Sample("forebay_database_connection_errors", seen.database_errors, {"store": store}),
        Sample("forebay_store_writes_refused", seen.writes_refused),
        Sample("forebay_buffer_size", seen.backlog),
        Sample("forebay_store_lag_seconds", seen.lag_s),
        Sample("forebay_journal_oldest_unacknowledged_seconds", seen.lag_s),
        Sample("forebay_conflicts", status["conflicts"]),
        Sample("forebay_ambiguous", status["flags"].get("ambiguous", 0)),
        *labelled("forebay_coverage_gaps", "state", status["gaps"]),
        *by_venue(status["venues"], counts.dead_letters, venues),
    ]


def mirror(status: Mapping[str, Any]) -> list[Sample]:
    """Return what the process of a mirror tells of its store."""
    labels = {"store": status["mirror"]}
    return [
        Sample("forebay_mirror_stored", status["rows"], labels),
        Sample("forebay_mirror_backlog", status["backlog"], labels),
        Sample("forebay_mirror_lag_seconds", status["lag_s"], labels),
        Sample("forebay_database_connection_errors", status["failed"], labels),
    ]


def publish(status: Mapping[str, Any]) -> list[Sample]:
    """Return what a publish process tells of its transport."""
    labels, counted = {"transport": status["transport"]}, f"forebay_published_{status['kind']}"
    return [
        *([Sample(counted, status["published"])] if counted in BY_KIND else []),
        Sample("forebay_published", status["published"], labels),
        Sample("forebay_publish_backlog", status["backlog"], labels),
        Sample("forebay_publish_lag_seconds", status["lag_s"], labels),
        Sample("forebay_publish_waited", status["waited"], labels),
        Sample("forebay_publish_flushed", status["flushed"], labels),
        Sample("forebay_publish_errors", status["failed"], labels),
        Sample("forebay_publish_waiting_share", status["waiting_share"], labels),
    ]


def bridge(status: Mapping[str, Any], lanes: Sequence[LaneSeen], *, alone: bool) -> list[Sample]:
    """Return what a bridge process tells; ``alone`` is whether nothing is captured here."""
    found = [
        Sample("forebay_bridge_rows", status["rows"], {"store": status["store"]}),
        Sample("forebay_bridge_lanes", status["lanes"], {"transport": status["reads"]}),
        Sample("forebay_bridge_letters_kept", status["letters_kept"]),
        Sample("forebay_total_aggregates_inserted", status["stored"].get("bars", 0)),
        Sample("forebay_total_batch_inserts", status["steps"]),
        Sample("forebay_total_insert_errors", status["failed"]),
        Sample("forebay_database_connection_errors", status["failed"], {"store": status["store"]}),
        Sample("forebay_buffer_size", status["in_hand"]),
    ]
    for each in lanes:
        found.append(Sample("forebay_bridge_lag_seconds", each.lag_s, {"lane": each.lane}))
        found.append(Sample("forebay_bridge_lane_waits_seconds", each.waits_s, {"lane": each.lane}))
    if alone:  # else delivery tells
        found.append(Sample("forebay_events", status["rows"], {"state": "stored"}))
        found.append(Sample("forebay_conflicts", status["conflicts"]))
        found.append(Sample("forebay_store_lag_seconds", status["lag_s"]))
    return found


def by_venue(
    told: Mapping[str, Mapping[str, Mapping[str, Any]]],
    letters: Mapping[str, Mapping[str, int]],
    venues: Iterable[str],
) -> list[Sample]:
    """Return what each venue told, and how much of it is duplicate, flagged or rejected.

    ``told`` are :data:`~forebay.services.venue_totals.VenueTotals` as JSON has them. What can be
    labelled beforehand, for ``venues``, is told from 0 on: Prometheus takes a counter that appears
    for one that has not risen.
    """
    found: list[Sample] = []
    reasons, flags = dict.fromkeys(get_args(Reason), 0), dict.fromkeys(FLAGS, 0)
    for venue in sorted({*told, *letters, *venues}):
        ways = told.get(venue, {})
        for source in sorted({*SOURCES, *ways}):
            counts, labels = ways.get(source, {}), {"venue": venue, "source": source}
            found.append(Sample("forebay_told", counts.get("told", 0), labels))
            found.append(Sample("forebay_duplicates", counts.get("again", 0), labels))
            flagged = {**flags, **counts.get("flags", {})}
            found += labelled("forebay_flagged", "flag", flagged, **labels)
        rejected = {**reasons, **letters.get(venue, {})}
        found += labelled("forebay_dead_letters", "reason", rejected, venue=venue)
    return found


def skews(seen: Mapping[str, float]) -> list[Sample]:
    """Return how far our clock seems to be ahead of each venue's, and of all, in seconds."""
    found = labelled("forebay_venue_clock_skew_seconds", "venue", seen)
    if (host := host_skew_s(seen)) is not None:
        found.append(Sample("forebay_host_clock_skew_seconds", host))
    return found


def process_skews(seen: Mapping[str, float]) -> list[Sample]:
    """Return how far the clock of each process is ahead of the supervisor's, in seconds."""
    return labelled("forebay_process_clock_skew_seconds", "service", seen)


def verification(
    bars: Mapping[str, int],
    unlike: Mapping[tuple[str, str], int],
    ended_ns: Mapping[str, int],
) -> list[Sample]:
    """Return by venue what was compared, when last, and by venue and difference what differs."""
    seconds = {venue: ns / 1e9 for venue, ns in ended_ns.items()}
    return [
        *labelled("forebay_bars_verified", "venue", bars),
        *labelled("forebay_bars_verified_time_seconds", "venue", seconds),
        *(
            Sample("forebay_bars_unlike_source", count, {"venue": venue, "difference": difference})
            for (venue, difference), count in sorted(unlike.items())
        ),
    ]


def tallied(service: str, counts: Counts, lost_lines: int) -> list[Sample]:
    """Return what happened in the process of ``service``, log lines that it lost included."""
    labels = {"service": service}
    return [
        Sample("forebay_errors", counts.errors, labels),
        *labelled("forebay_happenings", "happening", counts.happenings, **labels),
        Sample("forebay_log_lines_lost", lost_lines, labels),
    ]


def process(service: str, reader: OsReader) -> list[Sample]:
    """Return what this process uses; what the machine does not tell is left out."""
    found: dict[str, float] = {}
    with contextlib.suppress(*_UNTOLD):
        pages = int(reader.text("/proc/self/statm").split()[1])
        found["resident_memory_bytes"] = pages * reader.page_size
        # The name of the program is in brackets, and may have spaces and brackets in it.
        fields = reader.text("/proc/self/stat").rpartition(")")[2].split()
        found["cpu_seconds"] = (int(fields[11]) + int(fields[12])) / reader.ticks
        found["start_time_seconds"] = reader.booted_s() + int(fields[19]) / reader.ticks
        found["open_fds"] = reader.entries("/proc/self/fd")
        limit = reader.text("/proc/self/limits").partition("Max open files")[2].split()[0]
        # One that is "unlimited" is not told: JSON has no infinity.
        found["max_fds"] = int(limit)
    labels = {"service": service}
    return [Sample(f"forebay_process_{name}", value, labels) for name, value in found.items()]


def machine(reader: OsReader, data: Path, journal: Path) -> list[Sample]:
    """Return how full memory and the disk of folder ``data`` are, and how large the journal is.

    Blocking, a look at each file of the journal; what the machine does not tell is left out.
    """
    found: list[Sample] = []
    with contextlib.suppress(*_UNTOLD):
        lines = (line.split() for line in reader.text("/proc/meminfo").splitlines())
        memory = {line[0]: int(line[1]) * _KIB for line in lines if len(line) > 1}
        found.append(Sample("forebay_memory_total_bytes", memory["MemTotal:"]))
        found.append(Sample("forebay_memory_available_bytes", memory["MemAvailable:"]))
    with contextlib.suppress(OSError):
        free, total = reader.space(data)
        found.append(Sample("forebay_disk_free_bytes", free))
        found.append(Sample("forebay_disk_total_bytes", total))
        size = reader.size(journal)
        found.append(Sample("forebay_journal_bytes", size))
        found.append(_utilisation("disk", size / (size + free) if size else 0.0))
    return found


def _utilisation(resource: str, share: float) -> Sample:
    return Sample("forebay_buffer_utilisation", share, {"resource": resource})


def labelled(name: str, label: str, values: Mapping[str, float], **labels: str) -> list[Sample]:
    """Return a sample for each value, labelled with its key beside ``labels``."""
    return [Sample(name, value, {**labels, label: key}) for key, value in sorted(values.items())]


@dataclass(slots=True)
class Counts:
    """What a :class:`CountingObserver` has counted up to one moment."""

    happenings: Counter[str] = field(default_factory=Counter)
    """By name of their type."""
    errors: int = 0
    """Events of the level error."""
    dead_letters: dict[str, Counter[str]] = field(default_factory=dict)
    """By venue and reason."""
    rest_errors: Counter[str] = field(default_factory=Counter)
    registry_errors: Counter[str] = field(default_factory=Counter)
    """Failed tries by endpoint."""


class CountingObserver:
    """An :data:`~forebay.telemetry.Observer` that counts and passes on; of any thread."""

    def __init__(self, observer: Observer, *, labels: int = LABELS) -> None:
        self._pass_on = observer
        self._labels = labels
        self._lock = threading.Lock()
        self._counts = Counts()

    def __call__(self, event: TelemetryEvent) -> None:
        counts = self._counts
        with self._lock:
            counts.happenings[type(event).__name__] += 1
            counts.errors += event.level == "error"
            match event:
                case DeadLettered(count=count, reason=reason, venue=venue):
                    theirs = counts.dead_letters.setdefault(venue, Counter())
                    self._add(theirs, reason, count)
                case (
                    RestRetried(path=target) | CallRetried(call=target) | RetriesEnded(call=target)
                ):
                    if found := endpoint(target):
                        self._add(counts.rest_errors, found, 1)
                case RegistryFailed(call=target):
                    self._add(counts.registry_errors, endpoint(target), 1)
        self._pass_on(event)

    def counts(self) -> Counts:
        """Return a copy of what was counted."""
        with self._lock:
            return copy.deepcopy(self._counts)

    def _add(self, counter: Counter[str], label: str, count: int) -> None:
        known = label in counter or len(counter) < self._labels
        counter[label if known else OTHER] += count


def endpoint(target: str) -> str:
    """Return what REST calls of one kind have in common; nothing if ``target`` is no path.

    A part of the path that is not a plain word, as a symbol or an id, is ``*``:
    ``GET /products/BTC-USD/trades?after=7`` is ``/products/*/trades``.
    """
    path = target.rpartition(" ")[2].partition("?")[0]
    if not path.startswith("/"):
        return ""
    return "/".join(part if _WORD.fullmatch(part) else "*" * bool(part) for part in path.split("/"))
