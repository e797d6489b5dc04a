"""Worlds of a process of its own, with hash seed, order and imports of its own.

``python -m tests.simulation.elsewhere 3,10 [LOOSENED]`` prints the fingerprints of some seeds as
JSON, with what :data:`LOOSENED` names broken first.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.simulation.judge import judge
from tests.simulation.loop import _Task
from tests.simulation.world import World
from tests.support.sim_disk import SimDisk

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


def fingerprint(seed: int) -> str:
    """Hash of all that a world comes to: more than its trace, which few differences reach."""
    world = World(seed)
    world.run()
    judge(world)
    files = [
        (str(path), inode.data, inode.stable) for path, inode in world.disk.stable_names.items()
    ]
    dice = [each.getstate() for each in world.dice.values()]
    facts = (world.trace.digest(), world.failures, world.disk.log, files, dice)
    return hashlib.blake2b(repr(facts).encode(), digest_size=8).hexdigest()


def names_in_a_set() -> None:
    """The disk goes through its names in the order of their hashes."""

    def fsync_dir(self: SimDisk, folder: Path) -> None:
        self._do("fsync_dir")
        for name in {*self.names, *self.stable_names}:
            if name.parent == folder:
                if name in self.names:
                    self.stable_names[name] = self.names[name]
                else:
                    del self.stable_names[name]

    SimDisk.fsync_dir = fsync_dir  # type: ignore[method-assign]


def tasks_in_any_order() -> None:
    """Sets of tasks are in no set order; by address they would not be in the same one twice."""
    _Task.__hash__ = lambda self: hash(str(self._number))  # type: ignore[method-assign]


LOOSENED: dict[str, Callable[[], None]] = {
    each.__name__: each for each in (names_in_a_set, tasks_in_any_order)
}
"""Ways to make a world depend on more than its seed."""


def ask(seeds: Sequence[int], hash_seed: int, loosened: str = "") -> list[str]:
    """Return the fingerprints of ``seeds``, run in this order in a process with ``hash_seed``."""
    command = [sys.executable, "-m", __name__, ",".join(map(str, seeds)), *loosened.split()]
    environment = {"PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": os.pathsep.join(sys.path)}
    answer = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    told: list[str] = json.loads(answer.stdout)
    return told


if __name__ == "__main__":
    for name in sys.argv[2:]:
        LOOSENED[name]()
    print(json.dumps([fingerprint(int(seed)) for seed in sys.argv[1].split(",")]))
