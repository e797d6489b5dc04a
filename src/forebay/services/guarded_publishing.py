"""Publishing behind the breaker of its transport, and how full the journal is with what waits.

A transport may be away for days. What waits for it is in the journal, so that is what fills: near
its bound the transport is tried oftener, and the system is told to be degraded.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from forebay.journal import OS_DISK
from forebay.journal.disk import translated
from forebay.journal.segments import list_segments, segment_path
from forebay.resilience import State
from forebay.services.guarded_delivery import GuardedDelivery
from forebay.telemetry import TransportUnavailable

if TYPE_CHECKING:
    from pathlib import Path

    from forebay.errors import Transient
    from forebay.journal import Disk, Position
    from forebay.services.publisher import Publisher
    from forebay.telemetry import TelemetryEvent

NEARLY_FULL = 0.8
"""Share of the journal's bound from which on a publisher that is behind is degraded."""
OFTENER = 10
"""So many times as often the transport is tried then."""


class GuardedPublishing(GuardedDelivery):
    """Runs one publisher. Lanes are tended through the breaker, too: an idle one must notice."""

    _deliverer: Publisher

    def _prepare(self) -> bool:
        return self._deliverer.prepare()  # how far it is, its own file says

    def _idle(self) -> None:
        if self._deliverer.tending_due and self._breaker.state is not State.OPEN:
            self._breaker.call(self._deliverer.tend)

    def _unavailable(self, error: Transient, wait_s: float) -> TelemetryEvent:
        return TransportUnavailable(self._breaker.name, str(error), wait_s)


def waiting_share(
    folder: Path, position: Position | None, cap_bytes: int | None, disk: Disk = OS_DISK
) -> float:
    """Return how much of the journal's bound is taken by what waits behind ``position``, 0 to 1.

    The bound is ``cap_bytes``, or what the disk has for it. Raises
    :class:`~forebay.errors.Transient` if the disk fails.
    """
    with translated(f"look at the journal {folder}"):
        firsts = list_segments(disk, folder)
        seq = position.seq if position else 0
        done = sum(following <= seq for following in firsts[1:])
        waiting = 0
        for first in firsts[done:]:
            with contextlib.suppress(FileNotFoundError):  # removed since
                waiting += segment_path(folder, first).stat().st_size
        bound = waiting + disk.free(folder)
    return waiting / max(1, bound if cap_bytes is None else min(bound, cap_bytes))
