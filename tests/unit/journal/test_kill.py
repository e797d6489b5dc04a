"""A real process, a real disk and a real ``kill -9``, with a reader that follows live."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from forebay.clock import SystemClock
from forebay.journal import JournalReader, JournalWriter, fsck
from tests.unit.journal.helpers import drain, frames_of, losses_of, says_its_seq

SOURCE = Path(__file__).parents[3] / "src"

WRITER = """
import sys
from pathlib import Path
from forebay.clock import SystemClock
from forebay.journal import PendingBlock, JournalWriter
writer = JournalWriter.open(Path(sys.argv[1]), clock=SystemClock(), segment_bytes=200_000)
while True:
    seq = writer.position.seq
    payloads = [b"%d|" % (seq + i) + b"x" * 200 for i in range(50)]
    print(writer.commit([PendingBlock(1, b"ctx", payloads, [0] * 50)]), flush=True)
"""


def acknowledged_before_kill(folder: Path, reader: JournalReader, acks: int) -> tuple[int, int]:
    """Run a writer, follow it, kill it; gives what it acknowledged and what was read."""
    command = [sys.executable, "-c", WRITER, str(folder)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, env={"PYTHONPATH": str(SOURCE)}
    ) as child:
        assert child.stdout is not None
        read = acknowledged = 0
        try:
            for _ in range(acks):
                acknowledged = int(child.stdout.readline())
                blocks = drain(reader)
                assert losses_of(blocks) == []
                assert all(says_its_seq(*item) for item in frames_of(blocks).items())
                read += sum(len(block.payloads) for block in blocks)
                assert reader.position.seq >= acknowledged
        finally:
            child.kill()
        rest = child.stdout.read().split(b"\n")[:-1]
        return (int(rest[-1]) if rest else acknowledged), read


def test_kill_9_loses_nothing_acknowledged_while_a_reader_follows(tmp_path: Path) -> None:
    read = 0
    with JournalReader(tmp_path) as reader:
        for acks in (3, 40, 17, 1, 25):
            acknowledged, count = acknowledged_before_kill(tmp_path, reader, acks)
            read += count
            with JournalWriter.open(tmp_path, clock=SystemClock()) as writer:
                assert writer.report.losses == ()
                assert writer.position.seq >= acknowledged
                blocks = drain(reader)
                read += sum(len(block.payloads) for block in blocks)
                assert losses_of(blocks) == []
                assert reader.position == writer.position
                assert read == writer.position.seq - 1
    with JournalReader(tmp_path) as reader:
        found = frames_of(drain(reader))
    assert list(found) == list(range(1, read + 1))
    assert all(says_its_seq(*item) for item in found.items())
    assert fsck(tmp_path).ok
