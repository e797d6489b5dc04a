"""cryptofeed to PostgreSQL, as its own documentation wires it up.

Run by the Python of an environment of its own (``make peer``) and imported by nobody: cryptofeed
is AGPL, and only measured here. The argument is JSON: url, frames, symbols, and how PostgreSQL
is reached. It prints the same line as :mod:`tests.benchmarks.recorder`. cryptofeed's settings
are the kind ones: uvloop, a queue that holds the feed back instead of dropping, big batches.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from typing import Any

import cryptofeed.feed
from cryptofeed import FeedHandler
from cryptofeed.backends.postgres import TradePostgres
from cryptofeed.connection import WebsocketEndpoint, WSAsyncConn
from cryptofeed.defines import COINBASE, TRADES
from cryptofeed.exchanges import Coinbase
from cryptofeed.symbols import Symbols


class _Loopback(WSAsyncConn):  # type: ignore[misc]
    """A connection without TLS, which neither side is measured with."""

    def __init__(self, address: str, *arguments: Any, **options: Any) -> None:  # noqa: ANN401
        super().__init__("wss" + address.removeprefix("ws"), *arguments, **options)
        self.address = address


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def _watch(backend: Any, handler: Any, frames: int) -> dict[str, float]:  # noqa: ANN401
    while not backend.stats.written:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.002)
    skipped, cpu, began = backend.stats.written, _cpu_seconds(), time.monotonic()
    while backend.stats.written < frames:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.002)
    result = {
        "frames": backend.stats.written - skipped,
        "cpu_s": _cpu_seconds() - cpu,
        "wall_s": time.monotonic() - began,
    }
    handler.request_stop()
    return result


async def _record(request: dict[str, Any], handler: Any) -> dict[str, float]:  # noqa: ANN401
    backend = TradePostgres(
        **request["postgres"], overflow="block", batch_max=5000, batch_interval=0.01
    )
    feed = Coinbase(symbols=request["symbols"], channels=[TRADES], callbacks={TRADES: backend})
    handler.add_feed(feed)
    running = asyncio.create_task(handler.run_async(install_signal_handlers=False))
    watching = asyncio.create_task(_watch(backend, handler, request["frames"]))
    await asyncio.wait({running, watching}, return_when=asyncio.FIRST_COMPLETED)
    if not watching.done():
        watching.cancel()
        running.result()
        raise SystemExit("cryptofeed stopped early")
    result = await watching
    await running
    return result


def main() -> None:
    """Record once and say what it took."""
    import uvloop

    request = json.loads(sys.argv[1])
    names = {symbol: symbol for symbol in request["symbols"]}
    Symbols.set(COINBASE, names, {"tick_size": {}, "instrument_type": {}})
    Coinbase.websocket_endpoints = [
        WebsocketEndpoint(request["url"], options={"compression": None})
    ]
    cryptofeed.feed.WSAsyncConn = _Loopback
    handler = FeedHandler()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result = runner.run(_record(request, handler))
    sys.stdout.write("\n" + json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
