"""The websocket shell of the simulated exchange: bytes in and out, no decisions."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING

from picows import (
    WSCloseCode,
    WSListener,
    WSMsgType,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_create_server,
)

if TYPE_CHECKING:
    import asyncio

    from picows import WSFrame, WSTransport, WSUpgradeRequest

    from forebay.clock import Clock
    from forebay.lab.exchanges.exchange import Exchange
    from forebay.lab.exchanges.line import Line

_MAX_COMMAND = 1 << 20  # bytes; a subscribe for every product fits many times over


class Wire:
    """The socket under a line; nothing here blocks or awaits.

    Text waits for :meth:`flush`, which everything else does first, so that the events of one tick
    are one write.
    """

    def __init__(self, transport: WSTransport) -> None:
        self._transport = transport
        self._waiting: list[bytes] = []

    def text(self, payload: bytes) -> None:
        self._waiting += (_text_header(len(payload)), payload)

    def flush(self) -> None:
        if self._waiting and not self._transport.is_disconnected:
            self._transport.underlying_transport.write(b"".join(self._waiting))
        self._waiting.clear()

    def ping(self, payload: bytes) -> None:
        self.flush()
        self._transport.send_ping(payload)

    def pong(self, payload: bytes) -> None:
        self.flush()
        self._transport.send_pong(payload)

    def close(self, code: int) -> None:
        self.flush()
        self._transport.send_close(WSCloseCode(code))
        self._transport.disconnect()

    def cut(self, payload: bytes) -> None:
        """Send the beginning of a text message and close the socket."""
        self._waiting += (_text_header(len(payload)), payload[: len(payload) // 2])
        self.flush()
        self._transport.disconnect()

    def abort(self) -> None:
        """Close the socket at once and forget what is not sent yet."""
        self._waiting.clear()
        self._transport.disconnect(graceful=False)

    def backlog(self) -> int:
        """Bytes that the peer has not taken yet."""
        return self._transport.underlying_transport.get_write_buffer_size()


def _text_header(length: int) -> bytes:
    """Header of an unmasked, whole text message (RFC 6455 section 5.2)."""
    if length < 126:  # noqa: PLR2004 - the RFC's
        return bytes((0x81, length))
    if length < 1 << 16:
        return struct.pack("!BBH", 0x81, 126, length)
    return struct.pack("!BBQ", 0x81, 127, length)


class _Listener(WSListener):
    def __init__(self, exchange: Exchange, clock: Clock) -> None:
        self._exchange = exchange
        self._clock = clock
        self._line: Line | None = None
        self._parts: list[bytes] = []

    def on_ws_connected(self, transport: WSTransport) -> None:
        wire = Wire(transport)
        self._line = self._exchange.connected(wire, self._clock.monotonic_ns())

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        del transport
        if self._line is not None:
            self._exchange.disconnected(self._line)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        line = self._line
        if line is None or line.muted or line.ended:
            return
        payload = frame.get_payload_as_bytes()
        kind = frame.msg_type
        if kind is WSMsgType.PONG:
            line.ponged(payload, self._clock.monotonic_ns())
        elif kind is WSMsgType.PING:
            line.wire.pong(payload)
        elif kind is WSMsgType.CLOSE:
            line.over("closed by peer")
            transport.send_close(frame.get_close_code())
            transport.disconnect()
        else:
            self._message(line, payload, fin=frame.fin)

    def _message(self, line: Line, payload: bytes, *, fin: bool) -> None:
        self._parts.append(payload)
        if sum(map(len, self._parts)) > _MAX_COMMAND:
            line.close(WSCloseCode.MESSAGE_TOO_BIG.value, "message too big")
        elif fin:
            raw = b"".join(self._parts)
            self._parts.clear()
            self._exchange.received(line, raw, self._clock.monotonic_ns())


def _refused(status: int, body: bytes) -> WSUpgradeResponseWithListener:
    refusal = WSUpgradeResponse.create_error_response(status, body)
    return WSUpgradeResponseWithListener(refusal, None)


async def serve_websocket(
    exchange: Exchange, clock: Clock, *, host: str, port: int
) -> asyncio.Server:
    """Accept websocket connections on any path.

    Pings are answered by the exchange and not by the library, because a half-open
    connection must not answer.
    """

    def listener(asked: WSUpgradeRequest) -> WSListener | WSUpgradeResponseWithListener:
        if exchange.refuses(clock.monotonic_ns()):
            return _refused(503, b"trouble")
        path = asked.path.decode("latin-1").partition("?")[0]
        refusal = exchange.venue.admits(asked.headers, path, clock.wall_ns())
        if refusal is not None:
            return _refused(401, json.dumps(refusal).encode())
        return _Listener(exchange, clock)

    return await ws_create_server(
        listener,
        host,
        port,
        enable_auto_pong=False,
        max_frame_size=_MAX_COMMAND,
    )
