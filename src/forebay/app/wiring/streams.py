"""The standard streams: there from the start, and nothing waits for whoever reads them."""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import io
import os
import select
import signal
import sys
import threading
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

QUEUE_BYTES = 256 << 10
"""So much waits for whoever reads standard error; what comes then is dropped."""
FLUSH_S = 2.0
"""How long the last lines may take at the end."""
_PART_BYTES = 64 << 10


def prepare() -> None:
    """Make the standard streams usable however this process got them; may be repeated.

    A closed one would be the number of the next file that is opened, whose content our lines would
    overwrite. Standard error is then one that cannot be written to, so that what is lost counts.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY if number == 2 else os.O_RDWR)  # noqa: PLR2004
            os.set_inheritable(number, True)
    sys.stdin = sys.stdin or _nowhere("r")
    sys.stdout = sys.stdout or _nowhere("w")
    sys.stderr = sys.stderr or _nowhere("w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            ascii_only = codecs.lookup(stream.encoding).name == "ascii"
            with contextlib.suppress(OSError):  # it is flushed first, and may not take anything
                stream.reconfigure(
                    encoding="utf-8" if ascii_only else None, errors="backslashreplace"
                )
    if os.getpid() == 1 and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _leave)  # the first process of a container has no default


def _nowhere(mode: str) -> TextIO:
    stream: TextIO = open(os.devnull, mode, encoding="utf-8")  # type: ignore[assignment]  # noqa: PTH123, SIM115
    return stream


def _leave(number: int, _frame: object) -> None:
    sys.exit(128 + number)


class Lost:
    """Counts the lines that could not be written; of any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.total = 0
        self._told = 0

    def add(self, lines: int) -> None:
        """Count lines."""
        with self._lock:
            self.total += lines

    def untold(self) -> int:
        """Return how many were lost since this was asked last."""
        with self._lock:
            news, self._told = self.total - self._told, self.total
        return news


class Relay:
    """Stands between standard error and all who write to it, processes started from here too.

    Descriptor 2 becomes a pipe that refuses rather than blocks. One thread empties it at once,
    another writes to what was standard error and may have to wait there, for ever.
    """

    def __init__(self, lost: Lost, said: Callable[[int], bytes]) -> None:
        """``said`` makes the line that says how many were lost, once it can be written again."""
        self._lost = lost
        self._said = said
        self._changed = threading.Condition()
        self._queue = bytearray()
        self._open_line = False
        """Whether what was taken last ends within a line."""
        self._skipping = False
        """Whether what was dropped last does."""
        self._torn = False
        """Whether what was written last does, because writing failed."""
        self._ended = False
        self._real = os.dup(2)
        self._pipe, writing = os.pipe()
        os.set_blocking(writing, False)
        with contextlib.suppress(OSError):
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 1 << 20)
        os.dup2(writing, 2)
        os.close(writing)
        self._writer = threading.Thread(target=self._write, name="stderr-writer", daemon=True)
        self._writer.start()
        threading.Thread(target=self._empty, name="stderr-reader", daemon=True).start()

    def close(self) -> None:
        """Write what waits, if that can be done in :data:`FLUSH_S`, and put standard error back.

        If not, what is written from now on goes nowhere.
        """
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)
        self._writer.join(FLUSH_S)
        if not self._writer.is_alive():
            os.dup2(self._real, 2)
            os.close(self._real)

    def _empty(self) -> None:
        while part := os.read(self._pipe, _PART_BYTES):
            with self._changed:
                self._take(part)
                self._changed.notify_all()
        os.close(self._pipe)
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _take(self, part: bytes) -> None:
        """Queue ``part``, or drop whole lines of it."""
        if self._skipping:
            _, newline, part = part.partition(b"\n")
            if not newline:
                return
            self._skipping = False
        if len(self._queue) + len(part) > QUEUE_BYTES:
            if self._open_line:
                rest, newline, part = part.partition(b"\n")
                self._queue += rest + newline
                self._open_line = not newline
            self._lost.add(_lines(part))
            self._skipping = bool(part) and not part.endswith(b"\n")
        elif part:
            self._queue += part
            self._open_line = not part.endswith(b"\n")

    def _write(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._ended)
                part = bytes(self._queue[:_PART_BYTES])
                del self._queue[:_PART_BYTES]
            if not part:
                return
            whole = part.endswith(b"\n")
            if self._written(part) and whole and (lines := self._lost.untold()):
                self._written(self._said(lines))

    def _written(self, part: bytes) -> bool:
        """Write ``part``, however long it takes; if that cannot be done, count it and go on."""
        whole, done = (b"\n" + part if self._torn else part), 0
        while done < len(whole):
            try:
                done += os.write(self._real, whole[done:])
            except BlockingIOError:  # somebody who shares it made it so
                waiting = select.poll()
                waiting.register(self._real, select.POLLOUT)
                waiting.poll()
            except OSError:
                self._lost.add(_lines(whole[done:].removeprefix(b"\n")))
                self._torn = whole[done - 1 : done] not in (b"", b"\n") if done else self._torn
                return False
        self._torn = False
        return True


def _lines(part: bytes) -> int:
    return part.count(b"\n") + (not part.endswith(b"\n")) if part else 0


@contextlib.contextmanager
def relayed(lost: Lost, said: Callable[[int], bytes]) -> Iterator[None]:
    """Have nothing wait for standard error while the block runs."""
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # in the background a line must not stop us
    sys.stderr.flush()
    relay = Relay(lost, said)
    try:
        yield
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
        relay.close()
