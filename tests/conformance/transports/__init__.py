"""Who sits the transports' exam: a file each, so that another one is one file.

Such a module has ``TITLE``, the name of its tests, and ``sit(folder)``, a context manager that
gives a :class:`Sitting` with nothing in it. It may skip the test, by name and reason, when its
server cannot be had.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from forebay.domain.messages import Message
    from forebay.ports import SharedLanes
    from forebay.transports.kind import TransportConfig

    Sit: TypeAlias = Callable[[Path], AbstractContextManager["Sitting"]]


@dataclass
class Sitting:
    """A transport under test, as a process sees it that comes and goes."""

    connect: Callable[[], SharedLanes]
    delete: Callable[[str], None]
    """Delete a topic behind everybody's back, and return once it is gone."""
    topic: str = "trade_archive"
    elsewhere: str = "quote_archive"
    """Another topic."""
    shared: Sequence[str] = tuple(
        f"{kind}_archive" for kind in ("trade", "quote", "ticker", "book", "aggregate", "market")
    )
    """Topics that a group shares, with six lanes."""
    config: TransportConfig | None = None
    """How another process opens it; None: not at all."""
    expel: Callable[[str, str], None] | None = None
    """Tells of a group and its member that this is frozen, if that is not noticed."""
    size: Callable[[Message], int] | None = None
    """Returns what a message counts of ``max_bytes``, if that can be said beforehand."""
    wait: Callable[[], None] | None = None
    """Makes a full lane wait for room as long as a test may take, instead of not at all; None if
    a lane is never full because nobody reads it."""


def candidates() -> dict[str, Sit]:
    """Return who sits the exam, by title."""
    names = (module.name for module in pkgutil.iter_modules(__path__, f"{__name__}."))
    modules = [importlib.import_module(name) for name in sorted(names)]
    return {module.TITLE: module.sit for module in modules}
