"""Counts what happens, by kind and by a few labels, for the metrics of one process."""

from __future__ import annotations

import copy
import re
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from forebay.telemetry import CallRetried, DeadLettered, RestRetried, RetriesEnded

if TYPE_CHECKING:
    from forebay.telemetry import Observer, TelemetryEvent

LABELS = 50
"""Different values of one label that are told apart; what comes later counts as :data:`OTHER`."""
OTHER = "other"
_WORD = re.compile(r"[a-z_]+")


@dataclass(slots=True)
class Counts:
    """What a :class:`CountingObserver` has counted up to one moment."""

    happenings: Counter[str] = field(default_factory=Counter)
    """By name of their type."""
    errors: int = 0
    """Events of the level error."""
    dead_letters: Counter[str] = field(default_factory=Counter)
    """By reason."""
    rest_errors: Counter[str] = field(default_factory=Counter)
    """Failed tries by endpoint."""


class CountingObserver:
    """An :data:`~forebay.telemetry.Observer` that counts and passes on; of any thread."""

    def __init__(self, observer: Observer, *, labels: int = LABELS) -> None:
        self._pass_on = observer
        self._labels = labels
        self._lock = threading.Lock()
        self._counts = Counts()

    def __call__(self, event: TelemetryEvent) -> None:
        counts = self._counts
        with self._lock:
            counts.happenings[type(event).__name__] += 1
            counts.errors += event.level == "error"
            match event:
                case DeadLettered(count=count, reason=reason):
                    self._add(counts.dead_letters, reason, count)
                case (
                    RestRetried(path=target) | CallRetried(call=target) | RetriesEnded(call=target)
                ):
                    if found := endpoint(target):
                        self._add(counts.rest_errors, found, 1)
        self._pass_on(event)

    def counts(self) -> Counts:
        """Return a copy of what was counted."""
        with self._lock:
            return copy.deepcopy(self._counts)

    def _add(self, counter: Counter[str], label: str, count: int) -> None:
        known = label in counter or len(counter) < self._labels
        counter[label if known else OTHER] += count


def endpoint(target: str) -> str:
    """Return what REST calls of one kind have in common; nothing if ``target`` is no path.

    A part of the path that is not a plain word, as a symbol or an id, is ``*``:
    ``GET /products/BTC-USD/trades?after=7`` is ``/products/*/trades``.
    """
    path = target.rpartition(" ")[2].partition("?")[0]
    if not path.startswith("/"):
        return ""
    return "/".join(part if _WORD.fullmatch(part) else "*" * bool(part) for part in path.split("/"))
