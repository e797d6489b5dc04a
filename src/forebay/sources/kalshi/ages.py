"""How old messages are when they come: those of one connection may get older and older.

Kalshi has been seen to send over one connection what was 4 s old, then 20 s, while others were up
to date. Clocks differ, so what counts is by how much messages are older than the youngest was.
"""

from __future__ import annotations

_S = 1_000_000_000
EVERY_NS = _S // 4
"""Not each message is looked at: so far apart are looks."""
BOUND_NS = 5 * _S
"""A connection is behind whose messages are older by more than this."""
BEHIND_NS = 10 * _S
"""For so long it may be behind, without a message that is not old in between."""
FEWEST = 8
"""So many old messages it takes: one may be old by itself."""


class Ages:
    """The ages of one connection's messages. Times are UTC nanoseconds that never go back."""

    def __init__(self) -> None:
        self.due_ns = 0
        """When to look again."""
        self._youngest_ns: list[int] = []
        """The ages of the two youngest; one may be a message that says a time to come."""
        self._since_ns: int | None = None
        """Since when it is behind."""
        self._old = 0

    def look(self, sent_ns: int, now_ns: int) -> int:
        """Look at a message that was sent then.

        Return by how much messages are late, if their connection is to end for that; otherwise 0.
        """
        self.due_ns = now_ns + EVERY_NS
        age_ns = now_ns - sent_ns
        self._youngest_ns = sorted([*self._youngest_ns, age_ns])[:2]
        behind_ns = age_ns - self._youngest_ns[-1]
        if behind_ns <= BOUND_NS:
            self._since_ns, self._old = None, 0
            return 0
        self._since_ns = now_ns if self._since_ns is None else self._since_ns
        self._old += 1
        if self._old < FEWEST or now_ns - self._since_ns < BEHIND_NS:
            return 0
        return behind_ns
