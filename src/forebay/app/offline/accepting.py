"""Accepting gaps: by the capture that runs, or without one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec

from forebay.app.processes.local_socket import ask
from forebay.clock import SystemClock
from forebay.domain.frames import Context, FrameKind, GapAccepted, encode_control
from forebay.errors import Transient, Unreachable
from forebay.journal import PendingBlock

if TYPE_CHECKING:
    from forebay.app.wiring.config import Config
    from forebay.app.wiring.data_folder import DataFolder
    from forebay.telemetry import Observer

DELIVERED_S = 20.0
"""How long deliver has until an acceptance counts."""
_POLL_S = 0.05


def acceptance(gap: dict[str, Any], by: str, reason: str) -> GapAccepted:
    """Return the record that accepts a gap; of one up to a far id, it is that this end stays."""
    from forebay.domain.coverage.gaps import FAR_AHEAD, FAR_BEHIND  # noqa: PLC0415 - brings numpy

    first = gap["last"] if gap["reason"] == FAR_AHEAD else gap["first"]
    last = gap["first"] if gap["reason"] == FAR_BEHIND else gap["last"]
    named = gap["channel"], gap["symbol"], first, last
    about = {name: gap[name] for name in ("unit", "epoch", "market")}
    return GapAccepted(*named, " ".join(by.split()), " ".join(reason.split()), **about)


def context_of(venue: str, collector: str, told: GapAccepted) -> Context:
    """Return in what context such a record stands in the journal."""
    return Context(
        venue=venue,
        source="rest",
        purpose="history",
        collector=collector,
        epoch=uuid4().hex,
        symbols=(told.symbol,),
        market=told.market,
        channels=(told.channel,),
    )


async def accept(
    folder: DataFolder,
    config: Config,
    told: list[tuple[str, GapAccepted]],
    observer: Observer,
) -> None:
    """Have acceptances, each with its venue, captured and delivered.

    Raises :class:`~forebay.errors.Transient` if they were captured and do not count yet.
    """
    request = {"op": "accept", "gaps": msgspec.to_builtins(told)}
    try:
        answer, _ = await asyncio.to_thread(ask, folder.capture_socket, request)
    except Unreachable:
        await asyncio.to_thread(_offline, folder, config, told, observer)
    else:
        await delivered(folder, answer["seq"])


def _offline(
    folder: DataFolder, config: Config, told: list[tuple[str, GapAccepted]], observer: Observer
) -> None:
    from forebay.app.offline.replay import offline  # noqa: PLC0415 - capture needs no store

    clock = SystemClock()
    with offline(folder, config, clock, observer) as (writer, deliverer):
        for venue, control in told:
            context = context_of(venue, config.collector, control).encode()
            frame, now = encode_control(control), clock.monotonic_ns()
            writer.commit([PendingBlock(int(FrameKind.CONTROL), context, [frame], [now])])
        deliverer.drain()


async def delivered(folder: DataFolder, seq: int) -> None:
    """Wait until a running deliver has stored all before ``seq``; raises ``Transient``."""
    try:
        async with asyncio.timeout(DELIVERED_S):
            while True:
                status, _ = await asyncio.to_thread(ask, folder.deliver_socket, {"op": "status"})
                if status["seq"] >= seq:
                    return
                await asyncio.sleep(_POLL_S)
    except (TimeoutError, Unreachable) as error:
        message = "It is captured, and counts once deliver has read it."
        raise Transient(message, hint="See `forebay status`.") from error
