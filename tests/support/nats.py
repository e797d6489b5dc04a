"""A NATS server for tests that block: it runs until the context is left."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from forebay.clock import SystemClock
from forebay.lab.nats_server import NatsServers, nats_servers
from forebay.transports.nats.connection import NatsConnection
from tests.support.servers import needed

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator
    from pathlib import Path

T = TypeVar("T")


class Lab:
    """Servers, and what runs their launcher's coroutines."""

    def __init__(self, servers: NatsServers, loop: asyncio.AbstractEventLoop) -> None:
        self.servers = servers
        self._loop = loop

    @property
    def urls(self) -> list[str]:
        return self.servers.url().split(",")

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return _done(work, self._loop)


@contextlib.contextmanager
def serving_nats(folder: Path, *, nodes: int = 1, jetstream: bool = True) -> Iterator[Lab]:
    """Run NATS; without the program the test is skipped by name and reason."""
    needed("nats-server")
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="lab", daemon=True)
    thread.start()
    context = nats_servers(folder, clock=SystemClock(), nodes=nodes, jetstream=jetstream)
    try:
        servers = _done(_entered(context), loop)
        try:
            yield Lab(servers, loop)
        finally:
            _done(_left(context), loop)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _done(work: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop) -> T:
    return asyncio.run_coroutine_threadsafe(work, loop).result()


async def _entered(context: contextlib.AbstractAsyncContextManager[NatsServers]) -> NatsServers:
    return await context.__aenter__()


async def _left(context: contextlib.AbstractAsyncContextManager[NatsServers]) -> None:
    await context.__aexit__(None, None, None)


@contextlib.contextmanager
def connected(lab: Lab) -> Iterator[NatsConnection]:
    """A connection beside the one under test."""
    connection = NatsConnection(lab.urls, {})
    try:
        yield connection
    finally:
        connection.close()
