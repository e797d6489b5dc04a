"""Telemetry events as log lines on stderr; the only place that knows the logging library.

Nothing waits for a log: what standard error does not take is dropped and counted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import re
import sys
from typing import TYPE_CHECKING, Any

import structlog

from forebay.app.wiring.streams import Lost, relayed
from forebay.visible import visible

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from forebay.telemetry import Observer, TelemetryEvent

_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])")
TERMINAL = "--terminal"
"""What a process is told whose lines a terminal shows that it cannot see itself."""
LOST = Lost()
"""The lines of this process, and of those behind its relay, that could not be written."""


class _Stderr:
    """Descriptor 2 as a file of whole lines."""

    terminal: bool | None = None
    """Whether a person reads it; None: not looked yet."""
    works = True
    """Whether it took the last line."""
    relayed = False
    """Whether somebody else says what was lost."""
    _torn = False

    def write(self, text: str) -> None:
        line = text.encode("utf-8", "backslashreplace")
        line = b"\n" + line if self._torn else line
        done = 0
        with contextlib.suppress(OSError):
            done = os.write(2, line)
        self.works = done == len(line)
        self._torn = not self.works and (self._torn or done > 0)
        if not self.works:
            LOST.add(1)

    def flush(self) -> None:
        """Nothing waits to be flushed."""


_STDERR = _Stderr()


class _Libraries(logging.Handler):
    """What libraries have to say, as lines of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        said: dict[str, Any] = {"logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            said["traceback"] = logging.Formatter().formatException(record.exc_info)
        structlog.get_logger().log(record.levelno, "library", **said)


def configure(level: str, *, process: str) -> None:
    """Send log lines of ``level`` and above to stderr: for people on a terminal, else JSON."""
    if _STDERR.terminal is None:
        _STDERR.terminal = TERMINAL in sys.argv or sys.stderr.isatty()
    render: structlog.types.Processor = (
        structlog.dev.ConsoleRenderer() if _STDERR.terminal else structlog.processors.JSONRenderer()
    )

    def named(_: object, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
        return {**event, "process": process}

    structlog.configure(
        processors=[
            named,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([_as_it_is] if _STDERR.terminal else []),
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.WriteLoggerFactory(_STDERR),  # type: ignore[arg-type]
        cache_logger_on_first_use=False,  # the level may change while it runs
    )
    # What it tries again is raised in the end, and counted by a breaker.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    root = logging.getLogger()
    if not any(isinstance(handler, _Libraries) for handler in root.handlers):
        root.addHandler(_Libraries(logging.WARNING))


def _as_it_is(_: object, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """Escape what a terminal would take for a command; JSON has it escaped already."""
    return {
        name: "\n".join(map(visible, said.split("\n"))) if isinstance(said, str) else said
        for name, said in event.items()
    }


def on_terminal() -> bool:
    """Whether a person reads the lines."""
    return bool(_STDERR.terminal)


def unblocked() -> AbstractContextManager[None]:
    """Have this process, and those that it starts, not wait for stderr while the block runs."""
    _STDERR.terminal = sys.stderr.isatty()
    _STDERR.relayed = True
    return relayed(LOST, _lost_line)


def _lost_line(lines: int) -> bytes:
    event: Any = {"event": "log_lines_lost", "lines": lines}
    for processor in structlog.get_config()["processors"]:
        event = processor(None, "warning", event)
    return f"{event}\n".encode()


def observer() -> Observer:
    """Return an observer that writes each event as one line."""
    logger = structlog.get_logger()

    def observe(event: TelemetryEvent) -> None:
        name = _WORDS.sub("_", type(event).__name__).lower()
        getattr(logger, event.level)(name, **dataclasses.asdict(event))
        if _STDERR.works and not _STDERR.relayed and (lines := LOST.untold()):
            _STDERR.write(_lost_line(lines).decode())

    return observe
