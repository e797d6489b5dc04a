"""Verification beside delivery: after each download of the configuration, and now and then of all.

What differs is counted and told. Nothing is repaired here, and nothing is ever removed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import msgspec

from forebay.app.offline.download_plan import AskedDays, configured, days_of
from forebay.app.offline.verifying import verified
from forebay.app.processes import samples
from forebay.app.processes.history_pages import PagesByCapture
from forebay.app.processes.maintenance import BREATH_S
from forebay.domain.intervals import IntervalSet
from forebay.errors import ForebayError
from forebay.services.verifier import DAY_NS
from forebay.telemetry import BarsVerified, VerificationFailed
from forebay.times import span_ns, to_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from forebay.app.offline.verifying import Query, Verified
    from forebay.app.processes.local_socket import Request
    from forebay.app.processes.maintenance import DeliveryPace
    from forebay.app.wiring.config import Config
    from forebay.app.wiring.data_folder import DataFolder
    from forebay.clock import Clock
    from forebay.domain.coverage import StreamKey
    from forebay.ops.view import Sample
    from forebay.ports import HistoryRequest
    from forebay.services.downloader import Download
    from forebay.services.pages_in_hand import PagesInHand
    from forebay.services.verifier import DayComparison, Fill
    from forebay.telemetry import Observer

DIFFERENCES = ("missing", "differing", "extra")


@dataclass(slots=True)
class _Series:
    """What is known of one stream."""

    download: Download
    asked: IntervalSet = field(default_factory=IntervalSet)
    """Downloaded and not compared yet."""
    all_ns: int | None = None
    """When all of it was compared, by the monotonic clock."""
    unlike: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    """How many bars of a day differ, by its number, in the order of `DIFFERENCES`."""

    def again(self) -> IntervalSet:
        """Return the days of which the source had what the store had not: they may be mended."""
        days = IntervalSet()
        for number, (missing, otherwise, _) in self.unlike.items():
            if missing or otherwise:
                days.add(number * DAY_NS, (number + 1) * DAY_NS - 1)
        return days


class BarVerification:
    """Compares series with their sources, whose pages the running capture asks for."""

    def __init__(
        self, config: Config, folder: DataFolder, query: Query, clock: Clock, observer: Observer
    ) -> None:
        wanted = configured(config) if config.downloader.venue else None
        self._fill = PagesByCapture(folder.capture_socket, wanted).fill if wanted else None
        self._every_ns = span_ns(config.downloader.verify_every)
        self._query = query
        self._clock = clock
        self._observe = observer
        self._series: dict[StreamKey, _Series] = {}
        self._due = asyncio.Event()
        self._bars: dict[str, int] = {wanted.venue: 0} if wanted else {}
        self._ended_ns: dict[str, int] = {}

    async def take(self, request: Request) -> dict[str, Any]:
        """Handle ``{"op": "verify", "downloads": …}``: what was downloaded, to be compared."""
        for told in msgspec.convert(request["downloads"], list[AskedDays]):
            series = self._series.setdefault(told.download.key, _Series(told.download))
            series.download = told.download
            for first, last in told.ranges:
                series.asked.add(first, last)
        self._due.set()
        return {}

    @contextlib.asynccontextmanager
    async def beside(self, pace: DeliveryPace, sheds: Callable[[], str]) -> AsyncIterator[None]:
        """Compare while the block runs; see :meth:`run`."""
        task = asyncio.create_task(self.run(pace, sheds), name="forebay-verification")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def run(self, pace: DeliveryPace, sheds: Callable[[], str]) -> None:
        """Compare until cancelled; no page is asked for while other work comes first."""

        async def fill(request: HistoryRequest, hand: PagesInHand) -> None:
            while pace.behind or sheds():
                await self._clock.sleep(BREATH_S)
            if self._fill is not None:
                await self._fill(request, hand)

        while True:
            await self._due.wait()
            self._due.clear()
            for key, series in list(self._series.items()):
                try:
                    await self._compare(series, fill)
                except ForebayError as error:
                    self._observe(VerificationFailed(key.name, str(error)))

    async def _compare(self, series: _Series, fill: Fill) -> None:
        """Compare what is due of a series; what was not compared stays due."""
        began_ns, download = self._clock.monotonic_ns(), series.download
        is_all = series.all_ns is None or began_ns - series.all_ns >= self._every_ns
        asked = series.asked
        ranges = [(download.first, download.last)]
        if not is_all:
            ranges = list(days_of(download, asked | series.again()))
        if not ranges:
            return
        series.asked = IntervalSet()
        parts = [replace(download, first=a, last=b, again=True) for a, b in ranges]
        try:
            found = await verified(fill, self._query, parts, self._clock)
        except ForebayError:
            series.asked |= asked
            raise
        if is_all:
            series.all_ns = began_ns
            series.unlike.clear()
        self._note(series, found)

    def _note(self, series: _Series, found: Iterable[Verified]) -> None:
        totals, bars, key = Counter[str](), 0, series.download.key
        for part in found:
            for number in range(part.download.first // DAY_NS, part.download.last // DAY_NS + 1):
                series.unlike.pop(number, None)
            for number, day in part.days.items():
                bars += day.source.count
                if not day.same:
                    series.unlike[number] = _counts(day)
                    totals.update(dict(zip(DIFFERENCES, _counts(day), strict=True)))
        self._bars[key.venue] = self._bars.get(key.venue, 0) + bars
        self._ended_ns[key.venue] = self._clock.wall_ns()
        first = to_text(min(series.unlike) * DAY_NS)[:10] if series.unlike else ""
        counts = {name: totals[name] for name in DIFFERENCES}
        self._observe(BarsVerified(key.name, bars, **counts, first_day=first))

    def samples(self) -> list[Sample]:
        """Return what was compared, and what differs now."""
        differing: Counter[tuple[str, str]] = Counter()
        for key, series in self._series.items():
            for counts in ((0, 0, 0), *series.unlike.values()):
                for name, count in zip(DIFFERENCES, counts, strict=True):
                    differing[key.venue, name] += count
        return samples.verification(self._bars, differing, self._ended_ns)


def _counts(day: DayComparison) -> tuple[int, int, int]:
    return day.missing.count, day.differing.count, day.extra.count
