"""How many frames a second of CPU time becomes finished rows and coverage.

Counted is everything between the blocks of a journal and what a store is given: joining blocks
into batches, parsing, checking, event ids, flags, coverage and the finished Arrow table. The
frames are Coinbase matches as the simulator writes them, 8 MB of them: a step of a backlog.

``python -m tests.benchmarks.normalise`` lets both ways of reading take turns and prints medians;
with the name of a recording, its matches are read instead, over and over with new ids.
"""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path

import numpy as np

from forebay.domain.frames import Context, FrameKind
from forebay.journal import Block
from forebay.payloads import Payloads
from forebay.services.projection import Projection, batches_of
from forebay.sources.coinbase.protocol import VENUE, CoinbaseParser
from forebay.sources.kalshi.protocol import VENUE as KALSHI
from forebay.sources.kalshi.protocol import KalshiParser
from tests.benchmarks.frames import kalshi_changes, kalshi_trades, matches
from tests.benchmarks.harness import OURS, alternate, cpu_seconds

FRAMES = 28_000
PEER = "frame by frame"
_PARSERS: dict[str, type[CoinbaseParser | KalshiParser]] = {
    VENUE: CoinbaseParser,
    KALSHI: KalshiParser,
}
_ID = re.compile(rb'"trade_id":\d+')


@cache
def made_block(frames: int = FRAMES) -> Block:
    """A journal's block of matches by the simulator, all received as they happened."""
    return _block(list(matches(frames)))


@cache
def kalshi_block(table: str, frames: int = FRAMES) -> Block:
    """Likewise of trades, or of changes of a book, of Kalshi."""
    made = kalshi_trades if table == "trades" else kalshi_changes
    return _block(list(made(frames)), KALSHI)


def recorded_block(path: Path, frames: int = FRAMES) -> Block:
    """A block of the matches of a ``.rec`` file, over and over with rising ids."""
    found = [line.partition(b": ")[2] for line in path.read_bytes().splitlines()]
    found = [payload for payload in found if payload.startswith(b'{"type":"match"')]
    ids = (b'"trade_id":%d' % (10**6 + index) for index in range(frames))
    return _block([_ID.sub(one, found[at % len(found)]) for at, one in enumerate(ids)])


def _block(payloads: list[bytes], venue: str = VENUE) -> Block:
    about = Context(venue=venue, source="ws", purpose="live", collector="bench", epoch="e1")
    received = np.full(len(payloads), 1_767_225_700 * 10**9)  # beside the simulator's own time
    return Block("a" * 32, 1, FrameKind.TEXT, about.encode(), received, Payloads.of(payloads))


def frames_per_cpu_second(
    block: Block | None = None, *, quick: bool = True, table: str = "trades"
) -> float:
    """Project one block from nothing; ``quick`` reads messages as columns where it can."""
    block = made_block() if block is None else block
    venue = Context.decode(block.context).venue
    parser = _PARSERS[venue]() if quick else _PARSERS[venue](fewest=len(block.payloads) + 1)
    projection = Projection({venue: parser}, {})
    began = cpu_seconds()
    rows = projection.project(batches_of([block])).events[table].rows
    took = cpu_seconds() - began
    assert len(rows) == len(block.payloads)
    return len(block.payloads) / took


def main() -> None:
    """Print medians and ratio."""
    block = recorded_block(Path(sys.argv[1])) if sys.argv[1:] else made_block()
    rounds = alternate(
        {
            OURS: lambda: frames_per_cpu_second(block),
            PEER: lambda: frames_per_cpu_second(block, quick=False),
        },
        rounds=31,
    )
    for name, figures in rounds.figures.items():
        print(f"{name:15} {rounds.median(name):9,.0f} frames/CPU s, best {max(figures):9,.0f}")
    print(f"{'ratio':15} {rounds.ratio(PEER):9.2f}")


if __name__ == "__main__":
    main()
