"""What must not grow: delivery's cost with idle symbols, memory with a store that is down."""

from __future__ import annotations

import json
import resource
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from forebay.app.wiring import venues
from forebay.clock import SystemClock
from forebay.domain.frames import Context, FrameKind
from forebay.errors import Transient
from forebay.journal import JournalWriter, PendingBlock
from forebay.lab.exchanges.coinbase import messages
from forebay.lab.truth import Trades
from forebay.ports import Committed
from forebay.services.deliver import Deliverer
from tests.benchmarks.harness import OURS, Goal, Row, alternate, child, cpu_seconds
from tests.support.memory_store import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from forebay.ports import Commit

BUSY, MANY = 10, 10_000
_GROUP = 4096
_CONTEXT = Context(
    venue="coinbase", source="ws", purpose="live", collector="c", epoch="0" * 32
).encode()


class _Nothing(MemoryStore):
    """A store that takes everything and keeps nothing."""

    def commit(self, commit: Commit) -> Committed:
        tables = commit.events.items()
        return Committed({table: np.ones(len(told.rows), np.bool_) for table, told in tables})


class _Down(MemoryStore):
    """A store that takes nothing."""

    def commit(self, commit: Commit) -> Committed:
        del commit
        raise Transient("The store is down.")


def _markets(count: int) -> list[Trades]:
    return [Trades(1, "coinbase", f"S{number}-USD") for number in range(count)]


def _write(writer: JournalWriter, markets: Sequence[Trades], turns: range) -> None:
    """Append one match of each market a turn."""
    todo = [messages.match(market.event(turn)) for turn in turns for market in markets]
    for at in range(0, len(todo), _GROUP):
        group = todo[at : at + _GROUP]
        now = SystemClock().monotonic_ns()
        writer.commit([PendingBlock(int(FrameKind.TEXT), _CONTEXT, group, [now] * len(group))])


def _delivery(folder: Path, symbols: int, turns: int) -> Callable[[], float]:
    """Deliver frames of ten symbols, a step each 1000 frames, while so many are known."""
    writer = JournalWriter.open(folder, clock=SystemClock())
    deliverer = Deliverer(folder, _Nothing(), venues.parsers())
    _write(writer, _markets(symbols), range(1))
    deliverer.drain()
    state = {"turn": 1}

    def measured() -> float:
        spent = 0.0
        for _ in range(10):
            begin = state["turn"]
            state["turn"] += turns // 10
            _write(writer, _markets(BUSY), range(begin, state["turn"]))
            before = cpu_seconds()
            deliverer.drain()
            spent += cpu_seconds() - before
        return BUSY * turns / spent

    return measured


def symbols(*, turns: int = 1000) -> Iterator[Row]:
    """Measure delivery of ten busy symbols beside 9 990 idle ones, and without those."""
    with tempfile.TemporaryDirectory(prefix="forebay-bench-") as name:
        few, many = Path(name, "few"), Path(name, "many")
        rounds = alternate(
            {OURS: _delivery(many, MANY, turns), "without idle": _delivery(few, BUSY, turns)}
        )
    yield rounds.row(
        f"deliver with {MANY - BUSY} idle symbols", "frames/CPU s", Goal(ratio=0.9), "without idle"
    )


def outage() -> Iterator[Row]:
    """Measure by how many MB a process grows while 40 k and then 400 k frames wait."""
    grown = float(child("tests.benchmarks.scaling", {"turns": 40_000})["grown_mb"])
    rounds = alternate({OURS: lambda: grown}, rounds=1)
    yield rounds.row("memory growth, store down", "MB", Goal(most=8))


def _resident_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Write and try to deliver to a store that is down; say by how much memory has grown."""
    turns = json.loads(sys.argv[1])["turns"]
    with tempfile.TemporaryDirectory(prefix="forebay-bench-") as name:
        writer = JournalWriter.open(Path(name), clock=SystemClock(), segment_bytes=8 << 20)
        deliverer = Deliverer(Path(name), _Down(), venues.parsers())
        sizes, markets = [], _markets(BUSY)
        for begin in range(0, turns, 400):
            _write(writer, markets, range(begin, begin + 400))
            try:
                deliverer.step()
            except Transient:
                sizes.append(_resident_mb())
    sys.stdout.write(json.dumps({"grown_mb": sizes[-1] - sizes[len(sizes) // 10]}) + "\n")


if __name__ == "__main__":
    main()
