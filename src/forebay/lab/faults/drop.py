"""Drop: the event happens and is sent to nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from forebay.lab.faults.scene import Scene

NAME = "drop"


def strike(scene: Scene) -> None:
    """Send nothing."""
    del scene
