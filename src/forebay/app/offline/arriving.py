"""Waiting for what a venue has sent, before a truth that goes on is compared with what came."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from forebay.app.processes.local_socket import ask
from forebay.errors import Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

    from forebay.app.wiring.data_folder import DataFolder
    from forebay.clock import Clock

_UNDER_WAY_S = 2.0
"""How long what a venue has sent may be under way: the next heartbeat tells what did not come."""
_ARRIVAL_S = 30.0
"""How long a store may take to catch up, and its gaps to be filled, before an audit begins."""
_POLL_S = 0.2


def await_arrival(folder: DataFolder, clock: Clock, wait: Callable[[float], object]) -> None:
    """Wait until what a venue has sent so far is captured and stored, if a capture runs."""
    deadline = clock.monotonic_ns() + round(_ARRIVAL_S * 1e9)
    with contextlib.suppress(Unreachable):  # none runs, or it ends: nothing more arrives
        ask(folder.capture_socket, {"op": "status"})
        wait(_UNDER_WAY_S)
        captured = ask(folder.capture_socket, {"op": "status"})[0]["next_seq"]
        while clock.monotonic_ns() < deadline:
            stored = ask(folder.deliver_socket, {"op": "status"})[0]
            if stored["seq"] >= captured and not stored["gaps"]["open"]:
                return
            wait(_POLL_S)
