"""Happenings as structured log lines on stderr; the only place that knows the logging library."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import re
import sys
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from forebay.telemetry import Happening, Observer

_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])")


def configure(level: str, *, process: str) -> None:
    """Send log lines of ``level`` and above to stderr: for people on a terminal, else JSON."""
    render: structlog.types.Processor
    if sys.stderr.isatty():
        render = structlog.dev.ConsoleRenderer()
    else:
        render = structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,  # the level may change while it runs
    )
    structlog.contextvars.bind_contextvars(process=process)


def observer() -> Observer:
    """Answer an observer that writes each happening as one line."""
    logger = structlog.get_logger()

    def observe(happening: Happening) -> None:
        event = _WORDS.sub("_", type(happening).__name__).lower()
        # A log that cannot be written, on a full disk or into a closed pipe, stops nothing.
        with contextlib.suppress(OSError, ValueError):
            getattr(logger, happening.level)(event, **dataclasses.asdict(happening))

    return observe
