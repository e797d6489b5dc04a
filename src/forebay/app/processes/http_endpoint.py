"""Serves a running system: HTTP for everybody who may, a socket in the data folder for the CLI."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

import forebay
from forebay.app.processes.local_socket import LocalServer
from forebay.app.wiring.config import token_of
from forebay.errors import Unreachable
from forebay.telemetry import HttpServing, HttpUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from forebay.app.processes.local_socket import Request
    from forebay.app.processes.system import RunningSystem
    from forebay.app.wiring.data_folder import DataFolder
    from forebay.clock import Clock
    from forebay.telemetry import Observer

AGAIN_S = 10.0
"""How long until an address that could not be had is tried again."""


@dataclass(slots=True)
class HttpEndpoint:
    """What people reach of a running system."""

    system: RunningSystem
    folder: DataFolder
    service: str
    clock: Clock
    observer: Observer
    url: str = ""
    """Where HTTP is served; empty while it is not."""
    why_not: str = ""
    """Why it is not served though it should be."""

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Serve while the block runs."""
        stop = asyncio.Event()
        handlers = {"report": self._report}
        async with LocalServer(self.folder.supervisor_socket, handlers).serving():
            serving = asyncio.create_task(self._serve(stop), name="forebay-http")
            try:
                yield
            finally:
                stop.set()
                await serving

    async def _report(self, _: Request) -> dict[str, Any]:
        report = msgspec.to_builtins(self.system.last)
        return {"report": report, "http": self.url, "no_http": self.why_not}

    async def _serve(self, stop: asyncio.Event) -> None:
        """Serve HTTP; an address that is taken stops nothing, and is tried again."""
        if not self.system.config.http.enabled:
            return
        # Importing what serves HTTP takes a moment, in which processes must be watched already.
        build, serve, render = await asyncio.to_thread(_routes)
        app = build(
            self.system,
            service=self.service,
            version=forebay.__version__,
            token=lambda: token_of(self.system.config.http) or None,  # its file may be written anew
            metrics=render,
            clock=self.clock,
            observer=self.observer,
        )
        http = self.system.config.http
        while not stop.is_set():
            try:
                await serve(app, http.host, http.port, started=self._started, stop=stop)
            except Exception as error:  # noqa: BLE001 - told; capture must not end with it
                ours = isinstance(error, Unreachable)
                told = str(error) if ours else f"{type(error).__name__}: {error}"
                if told != self.why_not:  # said once, however often it is tried
                    self.observer(HttpUnavailable(told, AGAIN_S))
                self.why_not = told
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), AGAIN_S)
            finally:
                self.url = ""

    def _started(self, url: str) -> None:
        self.url, self.why_not = url, ""
        self.observer(HttpServing(url))


def _routes() -> tuple[Any, Any, Any]:
    from forebay.ops import api, metrics, server  # noqa: PLC0415 - see where it is called

    return api.build, server.serve, metrics.render
