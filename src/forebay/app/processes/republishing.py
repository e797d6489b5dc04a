"""A publish process mends its transport when asked, between its own steps."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

from forebay.app.offline.reading_back import look
from forebay.errors import Transient

if TYPE_CHECKING:
    from forebay.app.processes.local_socket import Request
    from forebay.app.wiring.data_folder import DataFolder
    from forebay.telemetry import Observer
    from forebay.transports.kind import TransportConfig


class Republishing:
    """Publishes what a transport lacks; one at a time."""

    def __init__(self, folder: DataFolder, said: TransportConfig, observer: Observer) -> None:
        self._folder = folder
        self._said = said
        self._observe = observer
        self._turn = threading.Lock()
        self._one = threading.Lock()
        self._stopped = False

    def alone(self) -> threading.Lock:
        """Return what whoever tells a lane a step holds meanwhile."""
        return self._turn

    async def take(self, request: Request) -> dict[str, Any]:
        """Handle ``{"op": "republish", "expired": false}``; return how much was ``published``.

        It has a connection of its own: a broker that recognises what the publisher sent before
        must not take a repair for that.
        """
        expired = bool(request.get("expired"))
        return {"published": await asyncio.to_thread(self._mend, expired=expired)}

    def stop(self) -> None:
        """End what is being done, at once: the process waits for it."""
        self._stopped = True

    def _mend(self, *, expired: bool) -> int:
        where = self._folder, self._said, self._observe
        with self._one:
            found = look(*where, alone=self.alone, expired=expired, progress=self._go_on)
            return found.mended

    def _go_on(self, *_: int) -> None:
        if self._stopped:
            message = "The capture stops."
            raise Transient(message, hint="Ask once more: without one it is done all the same.")
