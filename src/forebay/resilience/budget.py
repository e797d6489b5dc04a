"""A limit on retries that all callers of one dependency share."""

from __future__ import annotations

import threading

from forebay.resilience.numbers import require_count, require_number

_UNIT = 1000


class RetryBudget:
    """Retries may be ``ratio`` of the calls, and ``floor`` beside them.

    Without it, callers that try five times send a struggling dependency five times its load.
    Never are there more retries than ``floor + ratio * calls``; unused ones are saved up to
    ``saved``. Safe between threads.
    """

    def __init__(self, ratio: float = 0.1, *, floor: int = 10, saved: int = 100) -> None:
        require_number("ratio", ratio, most=1.0)
        require_count("floor", floor, least=0)
        require_count("saved", saved, least=floor)
        self._deposit = int(ratio * _UNIT)  # rounded down, so that the promise holds
        self._most = saved * _UNIT
        self._tokens = floor * _UNIT
        self._lock = threading.Lock()

    @property
    def left(self) -> int:
        """Retries that could be made now."""
        return self._tokens // _UNIT

    def called(self) -> None:
        """A call began; its first try is free, and pays for others."""
        with self._lock:
            self._tokens = min(self._most, self._tokens + self._deposit)

    def spend(self) -> bool:
        """Ask for one retry."""
        with self._lock:
            if self._tokens < _UNIT:
                return False
            self._tokens -= _UNIT
            return True
