"""Our capture as a process of its own: websocket to journal, until so many frames are CAPTURED.

``python -m tests.benchmarks.recorder '{"url": ..., "folder": ..., "frames": N, ...}'`` prints one
line of JSON: frames, CPU seconds of this process and latencies from receipt to CAPTURED. What is
counted begins when the epoch is open, so that starting Python is not in it.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import uvloop

from forebay.clock import SystemClock
from forebay.domain.frames import Context, FrameKind
from forebay.journal import JournalWriter
from forebay.services.capture import Capture, SourceFeed
from forebay.sources import coinbase
from forebay.sources.coinbase.connector import CoinbaseSession
from forebay.sources.live import Addresses, LiveSource, Wiring
from forebay.sources.venue import NOTHING, ConnectionPurpose, MessageVerdict
from tests.benchmarks.frames import SYMBOLS
from tests.benchmarks.harness import cpu_seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebay.ports import FrameSink, HistoryRequest, Instrument

_POLL_S = 0.005


class HearingSession(CoinbaseSession):
    """Hears every message, for ever, and has nothing to say of what is common."""

    attentive = True

    def received(self, payload: bytes, now_ns: int) -> MessageVerdict:
        if payload.startswith(self.quiet):
            return NOTHING
        return super().received(payload, now_ns)


HEARD = replace(coinbase.VENUE, session=HearingSession)


class WebsocketsSource:
    """The same sink behind another driver: the ``websockets`` library, written as its docs say."""

    connections = 1

    def __init__(self, url: str) -> None:
        self._url = url

    async def run(self, sink: FrameSink) -> None:
        from websockets.asyncio.client import connect

        context = Context(
            venue="bench", source="ws", purpose="live", collector="c", epoch="0" * 32, url=self._url
        )
        take = sink.open(context)
        async with connect(self._url, compression=None, max_queue=1024) as connection:
            await connection.send("{}")
            while True:
                message = await connection.recv(decode=False)
                take.frame(FrameKind.TEXT, bytes(message))

    async def fill(self, request: HistoryRequest, sink: FrameSink) -> None:
        raise NotImplementedError

    async def instruments(self) -> Sequence[Instrument]:
        raise NotImplementedError

    async def probe(self) -> None:
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing is held."""


async def capture(
    url: str, folder: str, frames: int, driver: str = "picows", warm: int = 0
) -> dict[str, Any]:
    """Capture until ``frames`` are durable; the first ``warm`` of them are not counted."""
    clock, rng = SystemClock(), random.Random(1)
    writer = JournalWriter.open(Path(folder), clock=clock)
    source = (
        LiveSource(
            HEARD if driver == "heard" else coinbase.VENUE,
            ConnectionPurpose(tuple(SYMBOLS), coinbase.VENUE.default_channels),
            Wiring("c", clock, rng),
            addresses=Addresses(ws_url=url),
        )
        if driver in ("picows", "heard")
        else WebsocketsSource(url)
    )
    capture = Capture(writer, [SourceFeed("coinbase", source)], clock=clock, rng=rng)
    counters, stop = capture.sink.counters, asyncio.Event()
    running = asyncio.create_task(capture.run(stop))
    while counters.captured <= warm:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(_POLL_S)
    capture.stats(reset_latency=True)
    skipped, began, cpu = counters.captured, clock.monotonic_ns(), cpu_seconds()
    while counters.captured < frames:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(_POLL_S)
    result = {
        "frames": counters.captured - skipped,
        "cpu_s": cpu_seconds() - cpu,
        "wall_s": (clock.monotonic_ns() - began) / 1e9,
        "commits": counters.commits,
        **{name: value for name, value in capture.stats().items() if name.endswith("_ms")},
    }
    stop.set()
    await running
    return result


def main() -> None:
    """Capture once and say what it took."""
    sys.stdout.write(json.dumps(uvloop.run(capture(**json.loads(sys.argv[1])))) + "\n")


if __name__ == "__main__":
    main()
