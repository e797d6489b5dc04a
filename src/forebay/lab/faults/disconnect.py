"""Disconnect: the server closes every connection, in one of the ways servers do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.lab.faults.scene import Ending

if TYPE_CHECKING:
    from forebay.lab.faults.scene import Scene

NAME = "disconnect"
ENDINGS = tuple(Ending)


def strike(scene: Scene) -> None:
    """End all connections; the event itself reaches nobody."""
    ending = ENDINGS[scene.roll % len(ENDINGS)]
    for line in scene.everyone:
        line.end(ending, scene.emission)
