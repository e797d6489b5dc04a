"""Many worlds, one after the other or side by side, and what they amount to."""

from __future__ import annotations

import gc
import hashlib
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import TYPE_CHECKING

from tests.simulation.judge import judge
from tests.simulation.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SOMETIMES = {
    "a connection broke": ("lines_drop",),
    "a connection went half-open": ("half_open",),
    "the feed refused connections": ("refused", "flap"),
    "the feed did not answer": ("unanswered",),
    "a frame was withheld": ("drop",),
    "a frame came twice": ("duplicate",),
    "a frame came late": ("late",),
    "a frame came torn": ("torn",),
    "history never listed a trade": ("withheld_from_history",),
    "history listed a trade only later": ("late_in_history",),
    "history was away or slow": ("history_down", "rest_timeout"),
    "history answered 429": ("rate_limited",),
    "history answered 503": ("server_error",),
    "a page came short": ("short_page",),
    "a page came empty": ("empty_page",),
    "the wall clock was stepped": ("clock_step",),
    "capture was killed": ("kill_capture",),
    "deliver was killed": ("kill_deliver",),
    "both were killed": ("kill_both",),
    "power was cut": ("power_cut",),
    "power was cut within a disk operation": ("fuse_power",),
    "capture was killed within a write": ("fuse_capture_pwritev",),
    "capture was killed within a sync": ("fuse_capture_fdatasync",),
    "capture was killed during recovery": ("fuse_capture_recovery",),
    "deliver was killed just before a commit": ("fuse_deliver_commit",),
    "deliver was killed just after a commit": ("fuse_deliver_committed",),
    "capture was stopped and drained": ("stop_capture",),
    "the disk was full": ("disk_full",),
    "the journal was full": ("JournalFullBegan",),
    "a sync failed": ("eio_fdatasync",),
    "a write failed": ("eio_pwritev",),
    "a bit rotted": ("bit_rot", "rot_and_power_cut"),
    "rot and a power cut took what was acknowledged": ("rot_beyond_proof",),
    "the store was away": ("store_down",),
    "the store refused": ("store_refuses",),
    "the answer to a COMMIT was lost": ("answer_lost",),
    "recovery cut a torn tail": ("tail_truncated",),
    "a LOSS was declared": ("loss_declared", "LossFound"),
    "a new log began": ("new_log",),
    "reading was paused": ("ReadingPaused",),
    "a gap opened": ("GapOpened",),
    "a gap was filled": ("GapClosed_filled",),
    "a gap became permanent": ("GapClosed_permanent",),
    "a fill failed": ("FillFailed",),
    "a fill met what had arrived live": ("fill_met_live",),
    "a duplicate was removed": ("duplicate_removed",),
    "a dead letter was kept": ("DeadLettered",),
    "deliver did not answer the filler": ("GapsUnknown",),
}
"""What must have happened in some world of a long run, and the notes of which one shows it."""
ENOUGH = 1000
"""Worlds from which on everything in :data:`SOMETIMES` must have happened."""


@dataclass
class Outcome:
    """One world, judged."""

    seed: int
    failures: list[str]
    trace: str
    """Hash of everything that happened."""
    seen: Counter[str]
    events: int
    lines: list[str] = field(default_factory=list)


@dataclass
class Summary:
    """Many worlds."""

    seeds: int = 0
    events: int = 0
    seen: Counter[str] = field(default_factory=Counter)
    failed: list[tuple[int, str]] = field(default_factory=list)
    trace: str = ""
    """Hash of all traces."""

    def add(self, outcome: Outcome) -> None:
        """Count one world."""
        self.seeds += 1
        self.events += outcome.events
        self.seen += outcome.seen
        joined = f"{self.trace}{outcome.trace}".encode()
        self.trace = hashlib.blake2b(joined, digest_size=8).hexdigest()
        if outcome.failures:
            self.failed.append((outcome.seed, outcome.failures[0]))

    def counts(self) -> dict[str, int]:
        """How often each of :data:`SOMETIMES` happened."""
        return {name: sum(self.seen[note] for note in notes) for name, notes in SOMETIMES.items()}

    def never(self) -> list[str]:
        """What should have happened and never did; empty for a short run."""
        if self.seeds < ENOUGH:
            return []
        return [name for name, count in self.counts().items() if not count]

    @property
    def ok(self) -> bool:
        """Whether no world failed and nothing was left out."""
        return not self.failed and not self.never()


def run_seed(seed: int, *, keep_trace: bool = False) -> Outcome:
    """Run and judge the world of ``seed``."""
    world = World(seed, keep_trace=keep_trace)
    world.run()
    judge(world)
    events = sum(len(times) for times in world.venue.times.values())
    lines = world.trace.lines or []
    return Outcome(seed, world.failures, world.trace.digest(), world.trace.seen, events, lines)


def run_many(
    first: int, count: int, *, jobs: int = 1, progress: Callable[[int], None] = lambda _: None
) -> Summary:
    """Run ``count`` worlds from seed ``first`` on; ``progress`` is told how many are done."""
    summary = Summary()
    for done, outcome in enumerate(_outcomes(range(first, first + count), jobs), 1):
        summary.add(outcome)
        progress(done)
    return summary


def _outcomes(seeds: range, jobs: int) -> Iterator[Outcome]:
    if jobs <= 1:
        gc.collect()
        gc.freeze()  # what is imported stays: looking through it again and again costs a tenth
        try:
            yield from map(run_seed, seeds)
        finally:
            gc.unfreeze()
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(run_seed, seeds, chunksize=8)
