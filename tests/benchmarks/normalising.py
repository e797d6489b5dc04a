"""Frames of a journal to finished columns and coverage; ``normalise.py`` says what is counted.

The peer is our own other way: decoding frame by frame, which every message that does not look
like its template still goes.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tests.benchmarks.harness import OURS, Goal, Row, alternate
from tests.benchmarks.normalise import frames_per_cpu_second, kalshi_block, made_block

if TYPE_CHECKING:
    from collections.abc import Iterator


def run() -> Iterator[Row]:
    """Measure frames a CPU second."""
    block, slow = made_block(), "frame by frame"
    quick = partial(frames_per_cpu_second, block)
    rounds = alternate({OURS: quick, slow: partial(frames_per_cpu_second, block, quick=False)})
    yield rounds.row("normalise", "frames/CPU s", Goal(least=400_000), slow)
    for table in ("trades", "book_deltas"):
        of = partial(frames_per_cpu_second, kalshi_block(table), table=table)
        rounds = alternate({OURS: of, slow: partial(of, quick=False)})
        yield rounds.row(f"normalise kalshi {table}", "frames/CPU s", Goal(least=400_000), slow)
