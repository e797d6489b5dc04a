"""Corrupt: the event arrives as JSON cut short, a poison frame that yields no event."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from forebay.lab.faults.scene import Scene

NAME = "corrupt"


def strike(scene: Scene) -> None:
    """Send a proper prefix of the frame, never empty."""
    length = 1 + scene.roll % (len(scene.emission.frame) - 1)
    for line in scene.listeners:
        line.send_torn(scene.emission, length)
