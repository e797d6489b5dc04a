"""From what processes know to samples: with the real parts, and a machine of round numbers."""

from __future__ import annotations

import os
import random
import time
from typing import TYPE_CHECKING

import pytest

from forebay.app.processes import samples
from forebay.app.processes.samples import CountingObserver
from forebay.clock import ManualClock
from forebay.domain.flags import FLAGS
from forebay.domain.frames import FrameKind
from forebay.journal import JournalWriter, PendingBlock
from forebay.ops.catalogue import CATALOGUE
from forebay.services.capture import Capture
from forebay.services.deliver import Deliverer
from forebay.sources.coinbase.protocol import CoinbaseParser
from forebay.telemetry import ignore
from tests.support.fake_journal import FakeJournal
from tests.support.fake_report import COUNTS, DELIVERY, INHERITED, STATS, STATUS, FakeReader
from tests.support.frames import T0, context, match
from tests.support.memory_store import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from forebay.ops.view import Sample


def by_name(found: Iterable[Sample]) -> dict[str, float]:
    """Values by name and labels, as in a scrape but for ``_total``."""
    result = {}
    for each in found:
        inside = ",".join(f"{key}={value}" for key, value in sorted(each.labels.items()))
        key = f"{each.name}{{{inside}}}" if inside else each.name
        assert key not in result, key
        result[key] = each.value
    return result


def test_all_samples_are_in_the_catalogue_with_their_labels(tmp_path: Path) -> None:
    reader = samples.OsReader()
    everything = [
        *samples.capture(STATS, COUNTS, max_pending=10),
        *samples.deliver(STATUS, DELIVERY, COUNTS, store="duckdb", inherited=INHERITED),
        *samples.skews({"v": 0.0, "w": 0.0}),
        *samples.tallied("capture", COUNTS, 0),
        *samples.labelled("forebay_recovery_attempts", "breaker", {"store": 1}),
        *samples.process("capture", reader),
        *samples.machine(reader, tmp_path, tmp_path),
    ]
    assert len(everything) > 40
    for each in everything:
        assert {*CATALOGUE[each.name].labels} == {*each.labels}, each


# --------------------------------------------------------------------- real parts


def test_capture_tells_what_is_asked_of_it() -> None:
    running = Capture(FakeJournal(), [], clock=ManualClock(), rng=random.Random(1))
    found = by_name(
        samples.capture(running.stats(), CountingObserver(ignore).counts(), max_pending=1 << 20)
    )
    assert found["forebay_events{state=received}"] == 0
    assert found["forebay_journal_full"] == 0
    assert found["forebay_websocket_connections"] == 0
    assert found["forebay_buffer_utilisation{resource=memory}"] == 0
    (latency,) = samples.latency(running.sink.latency.totals())
    assert len(latency.counts) == len(latency.edges_s) + 1
    assert latency.counts[-1] == 0


def test_deliver_tells_what_is_asked_of_it(tmp_path: Path) -> None:
    payloads = [match(number) for number in (1, 2, 5)] + [b"{}"]
    received = [T0 + index for index in range(len(payloads))]
    tally = CountingObserver(ignore)
    with JournalWriter.open(tmp_path, clock=ManualClock()) as writer:
        writer.commit(
            [PendingBlock(FrameKind.TEXT, context().encode(), payloads, received, (0, 0))]
        )
        parsers = {"coinbase": CoinbaseParser()}
        deliverer = Deliverer(tmp_path, MemoryStore(), parsers, observer=tally)
        deliverer.drain()
    found = by_name(
        samples.deliver(
            deliverer.status(), DELIVERY, tally.counts(), store="memory", inherited=INHERITED
        )
    )
    assert found["forebay_events{state=stored}"] == 3
    assert found["forebay_total_batch_inserts"] == 1
    assert found["forebay_coverage_gaps{state=open}"] == 1
    assert sum(n for name, n in found.items() if name.startswith("forebay_dead_letters")) == 1
    assert found["forebay_recovered_messages"] == 4
    assert found["forebay_database_connection_errors{store=memory}"] == DELIVERY.database_errors
    flagged = {name for name in found if name.startswith("forebay_flagged")}
    assert len(flagged) == len(FLAGS) * len(samples.SOURCES)
    assert found["forebay_told{source=ws,venue=coinbase}"] == 4, "three events and a dead letter"


def test_the_flags_of_new_events_are_counted_by_name(tmp_path: Path) -> None:
    hour_later = T0 + 3600 * 10**9
    with JournalWriter.open(tmp_path, clock=ManualClock()) as writer:
        late = PendingBlock(FrameKind.TEXT, context().encode(), [match(1)], [hour_later], (0, 0))
        deliverer = Deliverer(tmp_path, MemoryStore(), {"coinbase": CoinbaseParser()})
        for _ in range(2):  # what comes again is not counted again
            writer.commit([late])
            deliverer.drain()
    status = deliverer.status()
    assert status["flags"] == {"late": 1}
    assert (status["flagged"], status["duplicates"]) == (1, 1)
    found = by_name(samples.deliver(status, DELIVERY, COUNTS, store="duckdb", inherited=INHERITED))
    assert found["forebay_flagged{flag=late,source=ws,venue=coinbase}"] == 1
    assert found["forebay_told{source=ws,venue=coinbase}"] == 2
    assert found["forebay_duplicates{source=ws,venue=coinbase}"] == 1
    assert found["forebay_duplicates{source=rest,venue=coinbase}"] == 0
    assert found["forebay_ambiguous"] == 0


# ------------------------------------------------------------------ what follows


def test_what_a_venue_may_tell_is_there_before_it_has_happened() -> None:
    """``increase`` does not see a counter rise that was not there before."""
    found = by_name(samples.by_venue({}, {}, ["v"]))
    for name in ("forebay_told", "forebay_duplicates", "forebay_flagged", "forebay_dead_letters"):
        theirs = {key: n for key, n in found.items() if key.startswith(name) and "venue=v" in key}
        assert len(theirs) >= 3
        assert set(theirs.values()) == {0}


def test_a_venue_that_is_not_captured_any_more_is_told_of_and_so_is_one_that_nobody_knows() -> None:
    told = {"old": {"rest": {"told": 2, "again": 1, "flags": {"backfill": 1}}}}
    found = by_name(samples.by_venue(told, {"": {"unknown_venue": 3}}, []))
    assert found["forebay_flagged{flag=backfill,source=rest,venue=old}"] == 1
    assert found["forebay_dead_letters{reason=unknown_venue,venue=}"] == 3
    assert found["forebay_dead_letters{reason=unknown_venue,venue=old}"] == 0


def test_of_one_venue_nothing_is_said_of_the_host() -> None:
    assert by_name(samples.skews({"v": 9.0})) == {"forebay_venue_clock_skew_seconds{venue=v}": 9.0}
    both = by_name(samples.skews({"v": 9.0, "w": 9.5}))
    assert both["forebay_host_clock_skew_seconds"] == 9.0


@pytest.mark.parametrize(("frames", "recovered"), [(0, 0), (69, 69), (70, 70), (900, 70)])
def test_recovered_messages_are_those_of_an_earlier_process(frames: int, recovered: int) -> None:
    status = STATUS | {"frames": frames}
    found = by_name(samples.deliver(status, DELIVERY, COUNTS, store="duckdb", inherited=INHERITED))
    assert found["forebay_recovered_messages"] == recovered


def test_a_full_journal_and_its_memory() -> None:
    stats = STATS | {"full": True, "pending_bytes": 48}
    found = by_name(samples.capture(stats, COUNTS, max_pending=32))
    assert found["forebay_journal_full"] == 1
    assert found["forebay_buffer_utilisation{resource=memory}"] == 1.5


# -------------------------------------------------------------------- the machine


def test_a_process_tells_what_it_uses() -> None:
    assert by_name(samples.process("deliver", FakeReader())) == {
        "forebay_process_resident_memory_bytes{service=deliver}": 1000 * 4096,
        "forebay_process_cpu_seconds{service=deliver}": 15,
        "forebay_process_open_fds{service=deliver}": 12,
        "forebay_process_max_fds{service=deliver}": 1024,
        "forebay_process_start_time_seconds{service=deliver}": 1_767_225_600.05,
    }


def test_the_machine_tells_its_memory_and_disk(tmp_path: Path) -> None:
    assert by_name(samples.machine(FakeReader(), tmp_path, tmp_path)) == {
        "forebay_memory_total_bytes": 1000 * 1024,
        "forebay_memory_available_bytes": 250 * 1024,
        "forebay_disk_free_bytes": 600,
        "forebay_disk_total_bytes": 1000,
        "forebay_journal_bytes": 200,
        "forebay_buffer_utilisation{resource=disk}": 0.25,
    }


class Elsewhere(FakeReader):
    """A machine without /proc, and without an own limit on descriptors."""

    def text(self, path: str) -> str:
        raise FileNotFoundError(path)


class Strange(FakeReader):
    """A machine of which one file has another text."""

    def __init__(self, path: str, text: str) -> None:
        self.files = {**FakeReader.files, path: text}  # type: ignore[misc]


class Empty(FakeReader):
    """A journal that has not begun, on a full disk."""

    def space(self, folder: Path) -> tuple[int, int]:
        return 0, 1000

    def size(self, folder: Path) -> int:
        return 0


class Unlimited(FakeReader):
    """A process that may open what it likes."""

    def text(self, path: str) -> str:
        return super().text(path).replace("1024 ", "unlimited ")


def test_what_a_machine_does_not_tell_is_absent(tmp_path: Path) -> None:
    assert samples.process("capture", Elsewhere()) == []
    found = by_name(samples.machine(Elsewhere(), tmp_path, tmp_path))
    assert "forebay_memory_total_bytes" not in found
    assert found["forebay_disk_free_bytes"] == 600


@pytest.mark.parametrize(
    ("path", "text", "left"),
    [
        ("/proc/self/statm", "", []),
        ("/proc/self/statm", "many pages", []),
        ("/proc/self/stat", "7 (a) S 1", ["memory"]),
        ("/proc/self/limits", "", ["memory", "cpu", "start", "fds"]),
        ("/proc/self/limits", "Max open files  several", ["memory", "cpu", "start", "fds"]),
    ],
)
def test_what_a_process_cannot_read_of_itself_is_absent(
    path: str, text: str, left: list[str]
) -> None:
    found = by_name(samples.process("capture", Strange(path, text)))
    names = {
        "memory": "resident_memory_bytes",
        "cpu": "cpu_seconds",
        "start": "start_time_seconds",
        "fds": "open_fds",
    }
    assert list(found) == [f"forebay_process_{names[each]}{{service=capture}}" for each in left]


@pytest.mark.parametrize(
    ("text", "total"),
    [("", None), ("MemTotal: much kB", None), ("MemTotal: 9 kB\nMemFree: 1 kB", 9 * 1024)],
)
def test_what_meminfo_does_not_have_is_absent_and_the_disk_is_told(
    tmp_path: Path, text: str, total: int | None
) -> None:
    found = by_name(samples.machine(Strange("/proc/meminfo", text), tmp_path, tmp_path))
    assert found.get("forebay_memory_total_bytes") == total
    assert "forebay_memory_available_bytes" not in found
    assert found["forebay_disk_free_bytes"] == 600


def test_nothing_is_divided_by_nothing(tmp_path: Path) -> None:
    found = by_name(samples.machine(Empty(), tmp_path, tmp_path))
    assert found["forebay_buffer_utilisation{resource=disk}"] == 0
    limits = by_name(samples.process("capture", Unlimited()))
    assert "forebay_process_max_fds{service=capture}" not in limits, "JSON has no infinity"


def test_this_machine_tells_of_this_process(tmp_path: Path) -> None:
    (tmp_path / "segment").write_bytes(b"x" * 1234)
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "other").write_bytes(b"x" * 99)
    reader = samples.OsReader()
    mine = by_name(samples.process("capture", reader))
    files = [(tmp_path / f"{number}").open("w") for number in range(7)]
    try:
        more = by_name(samples.process("capture", reader))
    finally:
        for file in files:
            file.close()
    fds = "forebay_process_open_fds{service=capture}"
    assert more[fds] == mine[fds] + 7
    assert mine["forebay_process_max_fds{service=capture}"] > mine[fds]
    assert 5e6 < mine["forebay_process_resident_memory_bytes{service=capture}"] < 1e11
    started = "forebay_process_start_time_seconds{service=capture}"
    assert time.time() - 3600 < mine[started] == more[started] < time.time() + 2
    busy = sum(os.times()[:2])
    assert mine["forebay_process_cpu_seconds{service=capture}"] == pytest.approx(busy, abs=1.0)
    found = by_name(samples.machine(reader, tmp_path, tmp_path))
    assert found["forebay_journal_bytes"] == 1234
    assert 0 < found["forebay_disk_free_bytes"] <= found["forebay_disk_total_bytes"]
    assert 0 < found["forebay_memory_available_bytes"] < found["forebay_memory_total_bytes"]
