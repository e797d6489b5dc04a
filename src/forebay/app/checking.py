"""Reaching every configured part before a capture depends on it."""

from __future__ import annotations

import asyncio
import random
import resource
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from forebay.app import venues
from forebay.app.data_folder import DataFolder
from forebay.clock import SystemClock
from forebay.errors import ForebayError
from forebay.telemetry import ignore

if TYPE_CHECKING:
    from forebay.app.config import Config, VenueConfig
    from forebay.domain.frames import Context, Control, FrameKind
    from forebay.ports import EpochSink

MIN_FREE_BYTES = 1 << 30
MIN_DESCRIPTORS = 256
SUBSCRIBE_S = 15.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one part; ``exit_code`` 0 is fine."""

    part: str
    text: str
    exit_code: int = 0


async def check_all(config: Config) -> list[Finding]:
    """Answer a finding for the data folder, the limits and each venue."""
    found = [_folder(config), _descriptors()]
    for venue in config.venues:
        found += await asyncio.gather(_rest(venue), _websocket(venue))
    return found


def _folder(config: Config) -> Finding:
    try:
        DataFolder(Path(config.data)).create()
    except ForebayError as error:
        return Finding("data folder", str(error), error.exit_code)
    free = shutil.disk_usage(config.data).free
    if free < MIN_FREE_BYTES:
        text = f"{config.data} has {free >> 20} MB left. Free some space, or choose another disk."
        return Finding("data folder", text, 3)
    return Finding("data folder", f"{config.data} can be written to, {free >> 30} GB free")


def _descriptors() -> Finding:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < MIN_DESCRIPTORS:
        text = f"only {soft} file descriptors may be open. Raise it: ulimit -n 4096."
        return Finding("descriptors", text, 3)
    return Finding("descriptors", f"{soft} may be open")


def _wiring() -> venues.Wiring:
    return venues.Wiring("check", SystemClock(), random.Random(), ignore)


async def _rest(config: VenueConfig) -> Finding:
    part = f"{config.name} REST"
    try:
        async with asyncio.timeout(SUBSCRIBE_S), venues.source(config, _wiring()) as source:
            known = {instrument.symbol for instrument in await source.instruments()}
    except ForebayError as error:
        return Finding(part, str(error), error.exit_code)
    except TimeoutError:
        return Finding(part, f"no answer within {SUBSCRIBE_S:g} s. Check rest_url and network.", 3)
    if unknown := sorted(set(config.symbols) - known):
        text = f"there is no {unknown[0]}. See `forebay symbols --venue {config.name}`."
        return Finding(part, text, 2)
    return Finding(part, f"answers, {len(known)} symbols")


class _Probe:
    """A sink that keeps nothing and notes the first frame after the subscription's acceptance."""

    def __init__(self) -> None:
        self.accepted = asyncio.Event()

    def open(self, context: Context) -> EpochSink:
        del context
        return self

    def frame(self, kind: FrameKind, payload: bytes) -> None:
        del kind, payload

    def control(self, control: Control) -> None:
        if type(control).__name__ == "EpochAccepted":
            self.accepted.set()

    def on_pressure(self, callback: object) -> object:
        del callback
        return lambda: None

    async def flushed(self) -> int:
        return 0


async def _websocket(config: VenueConfig) -> Finding:
    part, probe = f"{config.name} websocket", _Probe()
    async with venues.source(config, _wiring()) as source:
        running = asyncio.create_task(source.run(probe))  # type: ignore[arg-type]
        accepted = asyncio.create_task(probe.accepted.wait())
        await asyncio.wait(
            {running, accepted}, timeout=SUBSCRIBE_S, return_when=asyncio.FIRST_COMPLETED
        )
        subscribed = probe.accepted.is_set()
        for task in (running, accepted):
            task.cancel()
        await asyncio.gather(running, accepted, return_exceptions=True)
    if subscribed:
        return Finding(part, f"accepts a subscription to {', '.join(config.symbols)}")
    text = f"no subscription was accepted within {SUBSCRIBE_S:g} s. Check ws_url and network."
    return Finding(part, text, 3)
