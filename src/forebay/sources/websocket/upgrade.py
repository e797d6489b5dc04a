"""What to connect to, and from there to an upgraded websocket: in time, or without a trace."""

from __future__ import annotations

import asyncio
import logging
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from picows import WSError, WSHandshakeError, ws_connect

from forebay.domain.frames import Context
from forebay.errors import ConfigError, Unreachable
from forebay.resilience.backoff import parse_retry_after
from forebay.sources.proxies import Proxy, authority, proxy_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from picows.url import WSParsedURL

    from forebay.clock import Clock
    from forebay.sources.venue import ConnectionPurpose, Session
    from forebay.sources.websocket.connection import Connection

_READ_BUFFER_BYTES = 16 << 10
"""Of the driver, which reads the first messages of a connection and makes it larger if it must."""
_ANSWER_BYTES = 64 << 10
"""A proxy's answer is not longer."""
_SHOWN = 200
"""Bytes of a refusal's body that are told."""
_SWITCHING = 101
"""The status that a successful upgrade has, so no reason of a failed one."""
_SILENT = logging.Logger("picows", logging.CRITICAL + 1)  # noqa: LOG001 - nobody configures it
"""All that the driver knows is an event of ours."""


@dataclass(frozen=True, slots=True)
class ConnectionPlan:
    """What to connect to, what for, and who talks there."""

    venue: str
    collector: str
    url: str
    asked: ConnectionPurpose
    session: Callable[[ConnectionPurpose], Session]
    """Makes the conversation of one connection; each has its own."""
    max_message_bytes: int = 64 << 20
    """First snapshots of whole books have tens of megabytes."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("ws", "wss") or not parts.hostname:
            message = f"{self.url!r} is not a websocket address."
            raise ConfigError(message, hint="Write ws://HOST:PORT/PATH or wss://HOST/PATH.")

    def context(self, epoch: str, asked: ConnectionPurpose) -> Context:
        """Return what the frames of one connection carry while ``asked`` is asked for."""
        return Context(
            venue=self.venue,
            source="ws",
            purpose="live",
            collector=self.collector,
            epoch=epoch,
            url=self.url,
            symbols=asked.symbols,
            market=asked.market,
            channels=asked.channels,
        )


class UpgradeRefused(Unreachable):
    """There is no connection; ``retry_after`` is the wait that the venue asked for, if any."""

    def __init__(self, message: str, *, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


async def connect(
    connection: Connection, plan: ConnectionPlan, clock: Clock, within_s: float
) -> None:
    """Connect ``connection`` to ``plan.url``; raises :class:`UpgradeRefused`.

    A cancelled or late attempt leaves no socket behind: the upgrade cannot be cancelled inside
    the driver, so its socket is shut down under it.
    """
    sockets: list[socket.socket] = []
    proxy = proxy_for(plan.url)
    via = f" through the proxy {proxy}" if proxy else ""
    upgrading = _upgrade(connection, plan, proxy, sockets)
    upgrade = asyncio.create_task(upgrading, name="forebay-upgrade")
    timer = asyncio.create_task(clock.sleep(within_s), name="forebay-connect-timer")
    connected = False
    try:
        await asyncio.wait({upgrade, timer}, return_when=asyncio.FIRST_COMPLETED)
        if not upgrade.done():
            raise UpgradeRefused(f"No answer from {plan.url}{via} within {within_s:g} s.")
        upgrade.result()
        if not connection.opened:
            raise UpgradeRefused(f"{plan.url} closed the connection{via} during the upgrade.")
        connected = True
    except (OSError, EOFError, WSError, UnicodeError) as error:
        raise _refusal(error, f"{plan.url}{via}", clock.wall_ns()) from error
    finally:
        if not connected:
            connection.end("stopped")
        if not upgrade.done():
            upgrade.cancel()
            _shut_down(sockets)
        timer.cancel()
        await asyncio.gather(upgrade, timer, return_exceptions=True)


async def _upgrade(
    connection: Connection, plan: ConnectionPlan, proxy: Proxy | None, sockets: list[socket.socket]
) -> None:
    async def open_socket(url: WSParsedURL) -> socket.socket:
        if proxy is None:
            return await _open_socket(url.host, url.port, sockets)
        opened = await _open_socket(proxy.host, proxy.port, sockets)
        await _tunnel(opened, proxy, authority(url.host.strip("[]"), url.port))
        return opened

    await ws_connect(
        lambda: connection,
        plan.url,
        websocket_handshake_timeout=None,
        logger_name=_SILENT,
        enable_auto_ping=False,
        enable_auto_pong=False,
        extra_headers=dict(connection.headers()),
        max_frame_size=plan.max_message_bytes,
        max_redirects=0,
        read_buffer_init_size=_READ_BUFFER_BYTES,
        socket_factory=open_socket,
    )


async def _open_socket(host: str, port: int, sockets: list[socket.socket]) -> socket.socket:
    """Connect to the first address of ``host`` that answers, and note the socket."""
    loop = asyncio.get_running_loop()
    error: OSError | None = None
    for family, kind, protocol, _, address in await loop.getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    ):
        candidate = socket.socket(family, kind, protocol)
        try:
            candidate.setblocking(False)
            await loop.sock_connect(candidate, address)
        except OSError as failed:
            candidate.close()
            error = failed
        except BaseException:
            candidate.close()
            raise
        else:
            sockets.append(candidate)
            return candidate
    raise error or OSError(f"{host} has no address")


async def _tunnel(opened: socket.socket, proxy: Proxy, target: str) -> None:
    """Have a proxy connect a socket on to ``target``; raises :class:`UpgradeRefused`."""
    loop = asyncio.get_running_loop()
    headers = {"Host": target, **proxy.headers}
    lines = [f"CONNECT {target} HTTP/1.1", *(f"{name}: {said}" for name, said in headers.items())]
    await loop.sock_sendall(opened, ("\r\n".join(lines) + "\r\n\r\n").encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        part = await loop.sock_recv(opened, _ANSWER_BYTES)
        answer += part
        if not part or len(answer) > _ANSWER_BYTES:
            break
    words = answer.split(b"\r\n", 1)[0].split()
    status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
    if status // 100 != 2 or not answer.endswith(b"\r\n\r\n"):  # noqa: PLR2004
        opened.close()
        what = f"HTTP {status}" if status else "no HTTP"
        message = f"The proxy {proxy} answered with {what} when asked for {target}."
        raise UpgradeRefused(message, hint=proxy.hint(status))


def _shut_down(sockets: list[socket.socket]) -> None:
    """Make the transport that owns the socket see its end, and close it."""
    for open_socket in sockets:
        try:
            open_socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            open_socket.close()  # it was never connected, or the peer was faster


def _refusal(error: Exception, url: str, wall_ns: int) -> UpgradeRefused:
    response = error.response if isinstance(error, WSHandshakeError) else None
    status = int(response.status) if response else _SWITCHING
    if response is None or status == _SWITCHING:
        return UpgradeRefused(f"{url} cannot be reached: {error or type(error).__name__}.")
    location = response.headers.get("Location")
    hint = {
        401: "The venue wants a credentials_file with the right key, and a clock that is right.",
        403: "The venue refuses this address; a proxy or another region may be needed.",
    }.get(status, "")
    if location:
        hint = f"The feed has moved to {location}; configure that address."
    body = (error.raw_body or b"") if isinstance(error, WSHandshakeError) else b""
    told = " ".join(body[:_SHOWN].decode("utf-8", "replace").split())
    page = told.startswith("<")  # one for people
    why = f": {told}" if told and not page else ""
    return UpgradeRefused(
        f"{url} refused the upgrade with HTTP {status}{why}.",
        hint=hint,
        retry_after=parse_retry_after(response.headers.get("Retry-After"), wall_ns),
    )
