"""Duplicate: the event is sent twice in a row."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from forebay.lab.faults.scene import Scene

NAME = "duplicate"


def strike(scene: Scene) -> None:
    """Send the frame twice to everybody who listens."""
    for line in scene.listeners:
        line.send(scene.emission)
        line.send(scene.emission)
