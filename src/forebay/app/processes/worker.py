"""What the supervised processes share: when to stop, and waiting for a predecessor's locks.

Each is started by the supervisor as ``python -m forebay.app.processes.worker ROLE`` with the
configuration as one line of JSON on its standard input. That pipe then stays open: when it
ends, the supervisor is gone, however it went, and the process stops, so that no orphan
lives on holding the data folder. Its last word, a line of JSON, is on its standard output.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if __name__ == "__main__":  # structlog imports rich if it is there: 6 MB for lines that are JSON
    sys.modules["rich"] = None  # type: ignore[assignment]

import uvloop

from forebay.app.wiring import bridges, logs, stores, venues
from forebay.app.wiring.config import Config
from forebay.app.wiring.data_folder import DataFolder
from forebay.app.wiring.stores import MIRROR
from forebay.app.wiring.transports import ROLE, name_of
from forebay.errors import ForebayError, Unreachable
from forebay.journal import WriterBusy
from forebay.telemetry import ProcessFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from forebay.clock import Clock

ROLES = ("capture", "deliver")
"""What every capture runs; beside them, a process for each mirror and transport, and a bridge."""
LOCK_PATIENCE_S = 15.0
"""How long to wait for what an orphan of a killed supervisor still holds."""
_LOCK_POLL_S = 0.1
_ORPHAN_GRACE_S = 3.0
T = TypeVar("T")


def roles(config: Config) -> tuple[str, ...]:
    """Return the processes of a configuration, in the order in which they are stopped."""
    bridge = (bridges.ROLE,) if bridges.runs_bridge(config) else ()
    if not bridges.captures(config):
        return bridge
    mirrors = (MIRROR + stores.name_of(each) for each in stores.fed(config))
    published = (ROLE + name_of(each) for each in config.transports)
    return (*ROLES, *mirrors, *published, *bridge)


class StopSignal:
    """Tells when to stop: a signal asks to finish the work, the end of stdin to leave at once."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.stop = asyncio.Event()
        self.orphaned = False
        self._loop = loop
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop.set)
        threading.Thread(target=self._watch, name="lifeline", daemon=True).start()

    def _watch(self) -> None:
        while os.read(0, 4096):
            pass
        self.orphaned = True
        with contextlib.suppress(RuntimeError):  # the loop may have ended already
            self._loop.call_soon_threadsafe(self.stop.set)
        # A process that is stuck must not hold the folder against its successor. Leaving
        # like this is as safe as being killed, which every part is built for.
        threading.Event().wait(_ORPHAN_GRACE_S)
        os._exit(1)


async def retry_while_locked(clock: Clock, stop: asyncio.Event, acquire: Callable[[], T]) -> T:
    """Call ``acquire`` until nobody else holds what it needs, within the time given.

    Only being held is waited for; any other refusal is raised at once.
    """
    deadline = clock.monotonic_ns() + round(LOCK_PATIENCE_S * 1e9)
    while True:
        try:
            return await asyncio.to_thread(acquire)
        except (Unreachable, WriterBusy):
            if stop.is_set() or clock.monotonic_ns() > deadline:
                raise
        await clock.sleep(_LOCK_POLL_S)


def main(role: str) -> int:
    """Run one role; return the exit code."""
    with os.fdopen(0, "rb", buffering=0, closefd=False) as stdin:  # not a byte further
        config = Config.decode(stdin.readline())
    logs.configure(config.log_level, process=role)
    observer = logs.observer()
    # A role brings only what it needs: capture is back the sooner after it was killed.
    kind, _, name = role.partition("-")
    process = importlib.import_module(f"forebay.app.processes.{kind}_process")
    try:
        venues.install(DataFolder(Path(config.data)), config.venues)
        last = uvloop.run(process.run(config, observer, *filter(None, [name])))
    except ForebayError as error:
        observer(ProcessFailed(role, str(error)))
        return error.exit_code
    except Exception as crash:  # noqa: BLE001 - told; its end says the rest
        observer(ProcessFailed(role, repr(crash), traceback.format_exc()))
        return 1
    with contextlib.suppress(OSError):  # a supervisor that is gone hears nothing
        os.write(1, json.dumps(last).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
