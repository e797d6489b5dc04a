"""Many connections at rest: what ``forebay run`` costs while hundreds of markets say nothing.

A venue of its own process acknowledges what is subscribed, sends a ping every ten seconds, and
nothing else; or it is the simulated Kalshi, whose markets are found by a pattern and have nothing
to tell: trades, tickers and books. CPU time and memory are of the supervisor, of capture and of
deliver together.
``python -m tests.benchmarks.many_connections`` prints each process; ``--symbols``,
``--connections``, ``--seconds`` and ``--warm-up`` are its own.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import hashlib
import json
import re
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebay.clock import SystemClock
from tests.benchmarks.at_rest import Usage, command, report, started, total, usage
from tests.benchmarks.harness import ROOT, Goal, NotRun, Row, environment

if TYPE_CHECKING:
    from collections.abc import Iterator

WARM_UP_S, SECONDS = 45.0, 60.0
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_PING = b"\x89\x09heartbeat"
_PING_S = 10.0
_HTTP = "[http]\nport = 0\n"


# ---------------------------------------------------------------------------------- the venue


async def _subscribed(reader: asyncio.StreamReader) -> list[str]:
    """Return what the first message of a client asks for."""
    _, second = await reader.readexactly(2)
    size = second & 0x7F
    if size == 126:
        (size,) = struct.unpack("!H", await reader.readexactly(2))
    elif size == 127:
        (size,) = struct.unpack("!Q", await reader.readexactly(8))
    mask = await reader.readexactly(4)
    body = await reader.readexactly(size)
    asked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(body))
    return [str(each) for each in json.loads(asked)["product_ids"]]


async def _served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        request = await reader.readuntil(b"\r\n\r\n")
        found = re.search(rb"(?i)sec-websocket-key: *(\S+)", request)
        key = found[1] if found else b""
        accept = base64.b64encode(hashlib.sha1(key + _GUID).digest())  # noqa: S324 - RFC 6455
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        symbols = await _subscribed(reader)
        listed = [{"name": name, "product_ids": symbols} for name in ("matches", "heartbeat")]
        text = json.dumps({"type": "subscriptions", "channels": listed}).encode()
        writer.write(b"\x81\x7e" + struct.pack("!H", len(text)) + text)
        while True:
            await asyncio.sleep(_PING_S)
            writer.write(_PING)
            await writer.drain()
    writer.close()


async def _serve() -> None:
    server = await asyncio.start_server(_served, "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


# ------------------------------------------------------------------------------ the measurement


async def measure(
    venue: str, symbols: int, connections: int, warm_up_s: float, seconds: float
) -> dict[str, Usage]:
    """Return what each process used in ``seconds`` and holds at their end, by its name."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="forebay-bench-"))
        told = VENUES[venue](stack, symbols)
        server = told.pop("pid")
        told["connections"] = connections
        config = Path(folder) / "forebay.toml"
        lines = [f"{name} = {json.dumps(value)}" for name, value in told.items()]
        data = f"data = {json.dumps(f'{folder}/data')}"
        text = "\n".join([data, "[[venues]]", *lines, _HTTP])
        config.write_text(text, encoding="utf-8")
        running = stack.enter_context(
            command("run", "--config", str(config), cwd=folder, output=subprocess.DEVNULL)
        )
        pids = await started(running)
        clock = SystemClock()
        await clock.sleep(warm_up_s)
        if (alive := _connected(server)) < min(symbols, connections):
            raise NotRun(f"{alive} connections, not {connections}")
        before = {role: usage(pid) for role, pid in pids.items()}
        await clock.sleep(seconds)
        after = {role: usage(pid) for role, pid in pids.items()}
    return {
        role: Usage(now.cpu_s - before[role].cpu_s, now.rss_mb, now.pss_mb)
        for role, now in after.items()
    }


def _bare(stack: contextlib.ExitStack, symbols: int) -> dict[str, Any]:
    """Serve until ``stack`` ends; return the process, and what its part of the file says."""
    venue = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.many_connections", "--serve"],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
    )
    stack.callback(venue.communicate)
    stack.callback(venue.terminate)
    assert venue.stdout is not None
    return {
        "pid": venue.pid,
        "name": "coinbase",
        "symbols": [f"M{number:04}-USD" for number in range(symbols)],
        "channels": ["trade"],
        "ws_url": f"ws://127.0.0.1:{int(venue.stdout.readline())}/",
        "rest_url": "http://127.0.0.1:9",
        "stale_after_s": 30,
    }


def _kalshi(stack: contextlib.ExitStack, symbols: int) -> dict[str, Any]:
    """As :func:`_bare`, of markets in which nothing happens."""
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="forebay-bench-"))
    asked = "--symbols", f"KXIDLE-26DEC31*{symbols}=idle", "--start", "now"
    serve = command("lab", "serve", "kalshi", *asked, cwd=folder, output=subprocess.PIPE)
    lab = stack.enter_context(serve)
    assert lab.stdout is not None
    told = json.loads(lab.stdout.readline())
    return {
        "pid": lab.pid,
        "name": "kalshi",
        "symbols": ["KXIDLE-*"],
        "channels": ["trade", "ticker", "book"],
        **{name: told[name] for name in ("ws_url", "rest_url", "credentials_file")},
    }


VENUES = {"bare": _bare, "kalshi": _kalshi}


def _connected(venue: int) -> int:
    """Return how many sockets the venue holds beside its own."""
    kinds = [str(each.readlink()) for each in Path(f"/proc/{venue}/fd").iterdir()]
    return sum(kind.startswith("socket:") for kind in kinds) - _OWN_SOCKETS


_OWN_SOCKETS = 3
"""The listener, and the pair by which an event loop wakes itself."""


def run() -> Iterator[Row]:
    """Measure 150 connections, and how much more a thousand markets cost than one."""
    used = {
        size: total(asyncio.run(measure("kalshi", *size, WARM_UP_S, SECONDS)))
        for size in ((150, 150), (1000, 10), (1, 1))
    }
    share = {size: one.cpu_s / SECONDS * 100 for size, one in used.items()}
    idle = share[1000, 10] - share[1, 1]
    for what, unit, figure, most in (
        ("150 connections at rest", "% of a core", share[150, 150], 10),
        ("150 connections at rest", "MB", used[150, 150].pss_mb, 300),
        ("1000 idle markets, beside one", "% of a core", idle, 1),
    ):
        goal = Goal(most=most)
        yield Row(what, unit, str(goal), figure, reached=goal.reached(figure, None), rounds=1)


def main() -> None:
    """Measure as the arguments say, or be the venue."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", action="store_true", help="be the venue")
    parser.add_argument("--venue", choices=VENUES, default="bare")
    parser.add_argument("--symbols", type=int, default=150)
    parser.add_argument("--connections", type=int, default=150)
    parser.add_argument("--warm-up", type=float, default=WARM_UP_S, help="seconds not counted")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="seconds counted")
    asked = parser.parse_args()
    if asked.serve:
        asyncio.run(_serve())
        return
    size = asked.symbols, asked.connections
    used = asyncio.run(measure(asked.venue, *size, asked.warm_up, asked.seconds))
    sys.stdout.write(report(used, asked.seconds) + "\n")


if __name__ == "__main__":
    main()
