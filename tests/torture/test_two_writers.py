"""Two processes, one journal: the second is told, whatever somebody removed by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from forebay.app.wiring.data_folder import DataFolder
from forebay.clock import SystemClock
from forebay.errors import ConfigError, Unreachable
from forebay.journal import JournalReader, JournalWriter, OsDisk, PendingBlock
from tests.unit.journal.helpers import FOLDER, drain, frames_of, open_writer, sim

SOURCE = Path(__file__).parents[2] / "src"

WRITER = """
import sys
from pathlib import Path
from forebay.app.wiring.data_folder import DataFolder
from forebay.clock import SystemClock
from forebay.errors import ForebayError
from forebay.journal import JournalWriter
try:
    if sys.argv[1] == "journal":
        JournalWriter.open(Path(sys.argv[2]), clock=SystemClock())
    else:
        DataFolder(Path(sys.argv[2])).owned().__enter__()
except ForebayError as error:
    print(type(error).__name__, error.message)
else:
    print("in")
"""


def another_process(what: str, folder: Path) -> str:
    command = [sys.executable, "-c", WRITER, what, str(folder)]
    environment = {"PYTHONPATH": str(SOURCE)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return done.stdout.strip()


def open_journal(folder: Path) -> JournalWriter:
    return JournalWriter.open(folder, clock=SystemClock())


def test_a_second_process_does_not_get_in_even_if_the_lock_file_was_removed(tmp_path: Path) -> None:
    with open_journal(tmp_path) as writer:
        assert another_process("journal", tmp_path).startswith("WriterBusy")
        (tmp_path / "writer.lock").unlink()
        assert another_process("journal", tmp_path).startswith("WriterBusy")
        (tmp_path / "writer.lock").write_text("4711\n")
        assert "process 4711" in another_process("journal", tmp_path)
        writer.commit([PendingBlock(1, b"", [b"mine"], [0])])
    assert another_process("journal", tmp_path) == "in"
    with JournalReader(tmp_path) as reader:
        assert list(frames_of(drain(reader)).values()) == [b"mine"]


def test_a_folder_that_cannot_be_locked_leaves_the_lock_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on some network file systems."""
    monkeypatch.setattr("forebay.journal.disk._NO_FOLDER_LOCKS", frozenset({11}))
    with open_journal(tmp_path), pytest.raises(ConfigError, match="has a writer already"):
        open_journal(tmp_path)


def test_a_refused_writer_leaves_no_lock_behind(tmp_path: Path) -> None:
    disk = OsDisk()
    held = disk.lock(tmp_path / "writer.lock", b"1\n")
    with pytest.raises(ConfigError):
        open_journal(tmp_path)
    disk.close(held)
    open_journal(tmp_path).close()
    held = disk.lock_folder(tmp_path)
    with pytest.raises(ConfigError):
        open_journal(tmp_path)
    disk.close(held)
    open_journal(tmp_path).close()


def test_the_simulated_disk_locks_folders_as_the_real_one_does() -> None:
    disk = sim()
    writer = open_writer(disk)
    del disk.names[FOLDER / "writer.lock"]
    with pytest.raises(ConfigError, match="has a writer already: process unknown"):
        open_writer(disk)
    disk.kill()
    open_writer(disk).close()
    assert writer.position.seq == 1


def test_a_second_capture_does_not_get_in_even_if_the_lock_file_was_removed(
    tmp_path: Path,
) -> None:
    folder = DataFolder(tmp_path / "d").create()
    with folder.owned():
        assert another_process("data", folder.root).startswith("Unreachable")
        (folder.root / "run.lock").unlink()
        assert another_process("data", folder.root).startswith("Unreachable")
        refused = pytest.raises(Unreachable, match="in use by the capture with process id unknown")
        with refused, folder.owned():
            pytest.fail("two owners")
    assert another_process("data", folder.root) == "in"
