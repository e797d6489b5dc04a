"""Reorder: the event changes places with the next one of the connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from forebay.lab.faults.scene import Scene

NAME = "reorder"


def strike(scene: Scene) -> None:
    """Let the next frame go first."""
    for line in scene.listeners:
        line.swap(scene.emission)
