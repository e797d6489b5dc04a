"""Checks of stored bars beside delivery: every hour, and after every outage."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from forebay.app.checked_bars import FOUND, stored_bars, watched
from forebay.app.processes.local_socket import ask
from forebay.app.wiring.data_folder import DataFolder
from forebay.services.gap_detector import GapDetector
from forebay.telemetry import ChecksFailed, GapOpened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    import pyarrow as pa

    from forebay.app.processes.maintenance import DeliveryPace
    from forebay.app.wiring.config import Config
    from forebay.clock import Clock
    from forebay.domain.coverage import StreamKey
    from forebay.domain.frames import RangeChecked
    from forebay.ports import Readable
    from forebay.services.deliver import Deliverer
    from forebay.services.gap_detector import WatchedBars
    from forebay.telemetry import Observer, TelemetryEvent

SETTLED_S = 60.0
"""How long after an outage is looked: whatever was waiting is stored by then."""
DELIVERED_S = 60.0
"""How long a record that was captured may take to come back."""
QUERY_S = 600.0
"""How long the store may take to say what it has of one series."""
_POLL_S = 0.2


class Outages:
    """Hears of outages among all that is told, from whatever thread."""

    def __init__(self, observer: Observer) -> None:
        self._observe = observer
        self._loop = asyncio.get_running_loop()
        self.heard = asyncio.Event()
        self.heard.set()  # the process was away

    def __call__(self, event: TelemetryEvent) -> None:
        """Pass an event on."""
        self._observe(event)
        if isinstance(event, GapOpened) and event.reason == "between_connections":
            self._loop.call_soon_threadsafe(self.heard.set)


class BarChecks:
    """Has every series of bars checked, and what is missing put on record by capture."""

    def __init__(
        self,
        config: Config,
        store: Readable,
        deliverer: Deliverer,
        outages: Outages,
        clock: Clock,
    ) -> None:
        self._folder = DataFolder(Path(config.data))
        self._config = config
        self._store = store
        self._deliverer = deliverer
        self._outages = outages
        self._clock = clock
        held, stored = deliverer.coverage_of, stored_bars(self._query)
        self._detector = GapDetector(stored, held, self._record, clock=clock)

    @contextlib.asynccontextmanager
    async def beside(self, pace: DeliveryPace, sheds: Callable[[], str]) -> AsyncIterator[None]:
        """Check while the block runs; see :meth:`run`."""
        checking = asyncio.create_task(self.run(pace, sheds), name="forebay-checks")
        try:
            yield
        finally:
            checking.cancel()
            await asyncio.gather(checking, return_exceptions=True)

    def _query(self, query: str) -> pa.Table:
        with contextlib.closing(self._store.reader()) as reader:
            return reader.query(query, timeout_s=QUERY_S)

    async def run(self, pace: DeliveryPace, sheds: Callable[[], str]) -> None:
        """Check until cancelled; never while delivery is behind, or work that can wait has to."""
        while True:
            await self._due()
            self._outages.heard.clear()
            series: list[WatchedBars] = []
            with self._told():
                rows = await asyncio.to_thread(self._query, FOUND)
                series = watched(rows, self._config, self._deliverer.coverage_of)
            for bars in series:
                while pace.behind or sheds():
                    await self._clock.sleep(SETTLED_S)
                with self._told():
                    await self._detector.check(bars)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Tell of what fails: neither the checks of other series nor later ones end with it."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - told, whatever it is
            self._outages(ChecksFailed(str(error) or repr(error)))

    async def _due(self) -> None:
        """Wait for the next time, or until an outage is over for a while."""
        hour = asyncio.create_task(self._clock.sleep(self._config.fill.check_s))
        outage = asyncio.create_task(self._outages.heard.wait())
        try:
            await asyncio.wait({hour, outage}, return_when=asyncio.FIRST_COMPLETED)
            if outage.done() and not hour.done():
                settled = asyncio.create_task(self._clock.sleep(SETTLED_S))
                await asyncio.wait({hour, settled}, return_when=asyncio.FIRST_COMPLETED)
                settled.cancel()
        finally:
            hour.cancel()
            outage.cancel()

    async def _record(self, stream: StreamKey, told: RangeChecked) -> None:
        """Have capture write a record, and wait until it is delivered."""
        request = {"op": "accept", "gaps": msgspec.to_builtins([(stream.venue, told)])}
        answer, _ = await asyncio.to_thread(ask, self._folder.capture_socket, request)
        for _ in range(round(DELIVERED_S / _POLL_S)):
            position = self._deliverer.position
            if position is not None and position.seq >= answer["seq"]:
                return
            await self._clock.sleep(_POLL_S)
