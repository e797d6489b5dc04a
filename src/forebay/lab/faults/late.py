"""Late: the event is held back for 50 to 500 ms, and so arrives out of order."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from forebay.lab.faults.scene import Scene

NAME = "late"
_SHORTEST_MS = 50
_LONGEST_MS = 500


def strike(scene: Scene) -> None:
    """Hold the frame back on every connection that listens now."""
    delay_ms = _SHORTEST_MS + scene.roll % (_LONGEST_MS - _SHORTEST_MS + 1)
    for line in scene.listeners:
        line.hold(scene.emission, scene.now_ns + delay_ms * 1_000_000)
