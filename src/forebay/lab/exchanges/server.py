"""The simulated exchange as a running server: three sockets and one ticking task."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiohttp import web

from forebay.errors import Unreachable
from forebay.lab.exchanges.exchange import Exchange, ExchangeConfig
from forebay.lab.exchanges.rest import RestApi
from forebay.lab.exchanges.socket import serve_websocket
from forebay.lab.exchanges.truth_api import TruthApi

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator

    from forebay.clock import Clock

HOST: Final = "127.0.0.1"
TICK_S: Final = 0.005


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """An exchange and where it listens, always on loopback; port 0 is any free one."""

    exchange: ExchangeConfig
    ws_port: int = 0
    rest_port: int = 0
    truth_port: int = 0
    rest_limited: bool = False
    """Whether REST limits how often a client may ask, as the exchange does."""


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers."""

    exchange: Exchange
    ws_url: str
    rest_url: str
    truth_url: str
    ticking: asyncio.Task[None]
    """Ends only with an error or by being cancelled."""


@contextlib.asynccontextmanager
async def running(config: ServerConfig, clock: Clock) -> AsyncIterator[Running]:
    """Serve until the block ends.

    Raises :class:`~forebay.errors.Unreachable` if a port cannot be listened on.
    """
    exchange = Exchange(config.exchange)
    async with contextlib.AsyncExitStack() as stack:
        with _listening_on(config.ws_port):
            server = await serve_websocket(exchange, clock, host=HOST, port=config.ws_port)
        stack.callback(server.close)
        rest = RestApi(exchange, clock, limited=config.rest_limited).app()
        rest_port = await _serve_http(rest, config.rest_port, stack)
        truth_port = await _serve_http(TruthApi(exchange, clock).app(), config.truth_port, stack)
        ticking = await stack.enter_async_context(_task(_tick(exchange, clock)))
        yield Running(
            exchange,
            ws_url=f"ws://{HOST}:{server.sockets[0].getsockname()[1]}{exchange.venue.ws_path}",
            rest_url=f"http://{HOST}:{rest_port}{exchange.venue.rest_path}",
            truth_url=f"http://{HOST}:{truth_port}",
            ticking=ticking,
        )


async def _tick(exchange: Exchange, clock: Clock) -> None:
    while True:
        exchange.tick(clock.monotonic_ns())
        await clock.sleep(TICK_S)


@contextlib.asynccontextmanager
async def _task(coroutine: Coroutine[None, None, None]) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(coroutine)
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _serve_http(app: web.Application, port: int, stack: contextlib.AsyncExitStack) -> int:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    with _listening_on(port):
        await web.TCPSite(runner, HOST, port).start()
    address: tuple[str, int] = runner.addresses[0]
    return address[1]


@contextlib.contextmanager
def _listening_on(port: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = f"cannot be listened on: {error.strerror or error}"
        why = "is in use" if error.errno == errno.EADDRINUSE else why
        message = f"Port {port} on {HOST} {why}."
        raise Unreachable(message, hint="Choose another, or 0 for any free one.") from error
