"""Half-open: one connection falls silent, pings and pongs too, and stays open."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from forebay.lab.faults.scene import Scene

NAME = "halfopen"


def strike(scene: Scene) -> None:
    """Mute one listener; the others get the frame."""
    victim = scene.listeners[scene.roll % len(scene.listeners)]
    for line in scene.listeners:
        if line is victim:
            line.mute()
        else:
            line.send(scene.emission)
