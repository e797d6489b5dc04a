"""Where the programs of servers are."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from forebay.errors import Unreachable

if TYPE_CHECKING:
    from collections.abc import Mapping

FOLDER = "LAB_SERVERS"
"""Variable that names the folder which ``.ci/install-servers`` fills."""
_PLACES = (".", "bin", "usr/bin")
"""Where programs are below it; the last one is that of an unpacked Debian package."""


def folder(environment: Mapping[str, str] | None = None) -> Path:
    """Return where servers are kept that are not installed on the machine."""
    env = os.environ if environment is None else environment
    if named := env.get(FOLDER):
        return Path(named)
    cache = env.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "forebay" / "servers"


def find(*names: str, environment: Mapping[str, str] | None = None) -> Path:
    """Return the program that has one of ``names``: on PATH, else in :func:`folder`.

    Raises :class:`~forebay.errors.Unreachable` if there is none.
    """
    env = os.environ if environment is None else environment
    below = folder(env)
    path = os.pathsep.join([env.get("PATH", ""), *(str(below / place) for place in _PLACES)])
    for name in names:
        if found := shutil.which(name, path=path):
            return Path(found)
    raise Unreachable(
        f"There is no {names[0]} on PATH or in {below}.",
        hint=f"Run .ci/install-servers, or name the folder that has it in {FOLDER}.",
    )
