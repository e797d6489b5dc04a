"""How many frames had to wait for a store. Pure."""

from __future__ import annotations


class Waiting:
    """Counts by journal sequence numbers; a frame is counted once, however often it is tried.

    While the store takes nothing, everything captured and not stored waits, and it waits still
    when the store takes frames again, until its turn has come: ``waited - flushed`` is what
    waits now.
    """

    def __init__(self) -> None:
        self.waited = 0
        self.flushed = 0
        self._end = 0
        """Everything before it that is not stored waits."""
        self._held = False

    def held_back(self, stored: int, captured: int) -> None:
        """The store takes nothing: it has what is before ``stored``, ``captured`` is the end."""
        self._held = True
        self._extend(stored, captured)

    def stored(self, before: int, after: int, captured: int) -> None:
        """The store, which had what is before ``before``, has now what is before ``after``."""
        if self._held:
            self._extend(before, captured)
            self._held = False
        self.flushed += max(0, min(after, self._end) - before)

    def _extend(self, stored: int, captured: int) -> None:
        self.waited += max(0, captured - max(self._end, stored))
        self._end = max(self._end, captured)
