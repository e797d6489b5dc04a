"""Real processes, a real disk and ``kill -9``, again and again, while a reader follows."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from forebay.clock import SystemClock
from forebay.journal import CursorFile, JournalReader, JournalWriter, Position, fsck
from tests.tiers import count
from tests.unit.journal.helpers import drain, frames_of, losses_of

SOURCE = Path(__file__).parents[2] / "src"

# Payloads name the process and count in it: a number that came twice would be seen.
WRITER = """
import sys
from itertools import pairwise
from pathlib import Path
from forebay.clock import SystemClock
from forebay.journal import PendingBlock, JournalWriter
life = sys.argv[2]
writer = JournalWriter.open(Path(sys.argv[1]), clock=SystemClock(), segment_bytes=20_000)
print(writer.position.seq, flush=True)
serial = 0
while True:
    count = 1 + serial % 37
    payloads = [b"%s|%d|" % (life.encode(), serial + i) + b"x" * 100 for i in range(count)]
    end = writer.commit([PendingBlock(1, b"ctx", payloads, [0] * count)])
    serial += count
    print(end, flush=True)
"""


class Follower:
    """A consumer with a durable cursor that is itself opened anew after every kill."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "journal"
        self.cursor = CursorFile(folder / "cursor")
        self.got: dict[int, bytes] = {}
        self.reader = self.open()

    def open(self) -> JournalReader:
        return JournalReader(self.folder, start=self.cursor.load())

    def follow(self) -> Position:
        blocks = drain(self.reader)
        assert losses_of(blocks) == []
        for seq, payload in frames_of(blocks).items():
            assert seq == len(self.got) + 1, "a number came twice or was left out"
            self.got[seq] = payload
        if blocks:
            self.cursor.store(self.reader.position)
        return self.reader.position


def one_life(follower: Follower, life: int, acks: int) -> int:
    """Run a writer, kill it after some commits; gives the last number it acknowledged."""
    command = [sys.executable, "-c", WRITER, str(follower.folder), str(life)]
    environment = {"PYTHONPATH": str(SOURCE)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as child:
        assert child.stdout is not None
        try:
            acknowledged = int(child.stdout.readline())
            for _ in range(acks):
                acknowledged = int(child.stdout.readline())
                assert follower.follow().seq >= acknowledged
        finally:
            os.kill(child.pid, signal.SIGKILL)
        rest = child.stdout.read().split(b"\n")[:-1]
    return int(rest[-1]) if rest else acknowledged


def torture(folder: Path, kills: int, seed: int) -> None:
    rng = random.Random(seed)
    follower = Follower(folder)
    acknowledged = 1
    for life in range(kills):
        acknowledged = max(acknowledged, one_life(follower, life, rng.randint(1, 12)))
        if rng.random() < 0.3:
            follower.reader.close()
            follower.reader = follower.open()
    with JournalWriter.open(follower.folder, clock=SystemClock()) as writer:
        assert writer.report.losses == ()
        assert writer.position.seq >= acknowledged
        assert follower.follow() == writer.position
    follower.reader.close()
    follower.cursor.close()
    lives = [int(payload.split(b"|")[0]) for payload in follower.got.values()]
    assert lives == sorted(lives)
    assert set(lives) == set(range(kills)), "a writer died before it wrote"
    serials = [tuple(map(int, data.split(b"|")[:2])) for data in follower.got.values()]
    assert len(set(serials)) == len(serials), "a frame is there twice"
    for before, after in pairwise(serials):
        assert after == (before[0], before[1] + 1) or (after[1] == 0 and after[0] > before[0])
    assert fsck(follower.folder, cursors=[folder / "cursor"]).findings == ()
    print(f"{kills} kills, {len(serials)} frames, {acknowledged - 1} acknowledged, none lost")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(2))
def test_kills_lose_and_double_nothing(tmp_path: Path, seed: int) -> None:
    torture(tmp_path, count("kills of a writer"), seed)
