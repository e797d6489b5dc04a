"""Kalshi, pure: what a recording's frames tell of the connections that they came by."""

from __future__ import annotations

import re

_NUMBERED = re.compile(rb'"sid"\s*:\s*([0-9]{1,18})\s*,\s*"seq"\s*:\s*([0-9]{1,18})')
_HEAD = 96
"""Bytes at the beginning of a frame in which its number is."""


class Restarts:
    """Tells of each frame whether another connection began with it: numbers begin anew then."""

    def __init__(self) -> None:
        self._last: dict[bytes, int] = {}
        """By subscription, the number of its last frame."""

    def __call__(self, payload: bytes) -> bool:
        """Return whether the number of a frame is below one before it."""
        found = _NUMBERED.search(payload, 0, _HEAD)
        if found is None:
            return False
        sid, seq = found[1], int(found[2])
        begun = seq < self._last.get(sid, 0)
        if begun:
            self._last.clear()
        self._last[sid] = seq
        return begun
