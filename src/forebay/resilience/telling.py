"""One listener, told in order by whichever thread comes."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections import deque

    from forebay.telemetry import Observer, TelemetryEvent

_log = logging.getLogger("forebay.resilience")


class Teller:
    """Tells ``listener`` what is ``untold``: by one thread at a time, and nobody waits for it."""

    def __init__(self, listener: Observer, whose: str, untold: deque[TelemetryEvent]) -> None:
        self._listener = listener
        self._whose = whose
        self._telling = threading.Lock()
        self._untold = untold

    def tell(self) -> None:
        """Tell what is untold, unless another thread does."""
        while self._untold and self._telling.acquire(blocking=False):
            try:
                while self._untold:
                    self._listener(self._untold.popleft())
            except Exception:  # noqa: BLE001 - logged; the others hear of what follows
                _log.exception("A listener of %s raised.", self._whose)
            finally:
                self._telling.release()
