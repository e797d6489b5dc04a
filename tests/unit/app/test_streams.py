"""Nothing waits for standard error, whatever is at its other end; lines that are lost count."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import subprocess
import sys
import termios
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LINES = 3000
"""More than the queue and both pipes hold."""
WRITES = f"""
import logging, os, sys, structlog
from forebay.app.wiring import logs, streams
streams.prepare()
streams.QUEUE_BYTES = 4096
logs.configure("info", process="p")
with logs.unblocked():
    line = structlog.get_logger().info
    for n in range({LINES}):
        line("said", n=n, pad="x" * 100)
    os.system("echo from a child >&2")
    logging.getLogger("library").warning("of a library")
    os.write(1, b"%d\\n" % logs.LOST.total)
    for _ in iter(sys.stdin.readline, ""):
        line("last")
"""


def started(stderr: int | None, script: str = WRITES) -> subprocess.Popen[str]:
    closed = ("bash", "-c", 'exec 2>&-; exec "$@"', "sh") if stderr is None else ()
    return subprocess.Popen(
        [*closed, sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )


def lost(process: subprocess.Popen[str]) -> int:
    """What was lost when all was said; it hangs if anything waited."""
    assert process.stdout is not None
    return int(process.stdout.readline())


def end(process: subprocess.Popen[str]) -> None:
    process.communicate("\n", timeout=20)
    assert process.returncode == 0


@contextlib.contextmanager
def full_pipe(*, blocking: bool = True) -> Iterator[tuple[int, int]]:
    """A pipe that nobody has read so far, full to the last byte."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"-" * 63 + b"\n")
    os.set_blocking(writing, blocking)
    try:
        yield reading, writing
    finally:
        for each in (reading, writing):
            with contextlib.suppress(OSError):
                os.close(each)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("blocking", [True, False])
def test_behind_a_full_pipe_lines_are_dropped_whole_counted_and_said(blocking: bool) -> None:
    with full_pipe(blocking=blocking) as (reading, writing), started(writing) as process:
        os.close(writing)
        count = lost(process)
        assert 0 < count < LINES
        said = b""
        while b"log_lines_lost" not in said:
            said += os.read(reading, 65536)
        assert process.stdin is not None
        while b'"last"' not in said:  # one that is dropped is behind others, which arrive
            process.stdin.write("\n")
            process.stdin.flush()
            said += os.read(reading, 65536)
        process.stdin.close()
        while part := os.read(reading, 65536):
            said += part
        assert process.wait(20) == 0
    lines = [json.loads(each) for each in said.decode().splitlines() if each[:1] not in "-f"]
    assert sum(each.get("lines", 0) for each in lines) >= count
    assert all(each["process"] == "p" for each in lines)


@pytest.mark.timeout(60)
def test_a_pipe_that_stays_full_does_not_keep_it_from_ending() -> None:
    with full_pipe() as (_, writing), started(writing) as process:
        assert lost(process) > 0
        end(process)


def _gone() -> int:
    reading, writing = os.pipe()
    os.close(reading)
    return writing


@pytest.mark.timeout(60)
@pytest.mark.parametrize("target", [_gone, lambda: os.open("/dev/full", os.O_WRONLY), None])
def test_what_cannot_be_written_counts(target: Callable[[], int] | None) -> None:
    stderr = target() if target else None
    settled = "import time; time.sleep(1); os.write(1"  # the relay has threads of its own
    with started(stderr, WRITES.replace("os.write(1", settled)) as process:
        assert lost(process) >= LINES
        end(process)
    if stderr is not None:
        os.close(stderr)


@pytest.mark.timeout(60)
def test_a_terminal_that_was_stopped_stops_nothing() -> None:
    master, terminal = pty.openpty()
    termios.tcflow(terminal, termios.TCOOFF)
    with started(terminal) as process:
        assert lost(process) > 0
        end(process)
    os.close(master)
    os.close(terminal)


@pytest.mark.timeout(60)
def test_all_that_can_be_written_is_in_order(tmp_path: object) -> None:
    with open(f"{tmp_path}/log", "w+b") as log:  # noqa: PTH123
        script = WRITES.replace("4096", "1 << 30")
        with started(log.fileno(), script) as process:
            assert lost(process) == 0
            end(process)
        log.seek(0)
        lines = log.read().decode().splitlines()
    assert [json.loads(each)["n"] for each in lines[:LINES]] == list(range(LINES))
    assert lines[LINES] == "from a child"
    said = json.loads(lines[LINES + 1])
    assert (said["event"], said["level"], said["message"]) == ("library", "warning", "of a library")
    assert len(lines) == LINES + 3


def test_a_closed_stream_is_not_the_next_file(tmp_path: object) -> None:
    script = f"""
from forebay.app.wiring import streams
streams.prepare()
import os, sys
opened = os.open("{tmp_path}/data", os.O_CREAT | os.O_WRONLY)
assert opened > 2, opened
print("a line"); print("another", file=sys.stderr)
sys.stdout.flush()
"""
    closed = 'exec 0<&- 1>&- 2>&-; exec "$@"'
    done = subprocess.run(
        ["bash", "-c", closed, "sh", sys.executable, "-c", script], timeout=30, check=False
    )
    assert done.returncode == 0
    with open(f"{tmp_path}/data", "rb") as data:  # noqa: PTH123
        assert data.read() == b""


@pytest.mark.parametrize("word", ["é", "\udcff"])
def test_what_the_locale_has_no_letters_for_is_shown_all_the_same(word: str) -> None:
    script = f"from forebay.app.wiring import streams; streams.prepare(); print({word!a})"
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, env=os.environ | locale, check=True
    )
    assert done.stdout == word.encode("utf-8", "backslashreplace") + b"\n"
