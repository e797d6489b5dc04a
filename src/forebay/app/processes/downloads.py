"""Downloads by a running capture: they share its addresses' budgets, and give way to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING, Any

import msgspec

from forebay.app.alternatives import by_deliver, with_alternatives
from forebay.app.offline.download_plan import (
    TABLE,
    AskedDays,
    Downloaded,
    WantedBars,
    plan,
    venue_config,
)
from forebay.app.offline.gaps import delivered
from forebay.app.processes.local_socket import ask
from forebay.app.wiring import venues
from forebay.errors import ForebayError, Permanent, Unreachable
from forebay.services.alternatives import SILENT_S
from forebay.services.downloader import Downloader, first_error
from forebay.telemetry import DownloadEnded
from forebay.times import span_ns

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from forebay.app.processes.local_socket import Request
    from forebay.app.wiring.config import Config
    from forebay.app.wiring.data_folder import DataFolder
    from forebay.clock import Clock
    from forebay.services.downloader import Progress
    from forebay.services.group_commit import GroupCommit
    from forebay.sources.live import Wiring

PAGES_AHEAD = 32
"""So many pages may be captured and not stored before no further one is asked for."""
RECEIVE_BYTES = 4 << 10
"""So little of a page is under way at a time that a line that is full is left to live capture."""
PAUSE_S = 0.2
FOR_EVER_S = 1e9
RETRY_S = 30.0
"""How long after a download that broke off the next one begins."""
KEPT = 64
"""So many downloads that have ended are remembered, for whoever asks what came of them."""


@dataclass(slots=True)
class _Job:
    wanted: WantedBars
    progress: list[Progress] = field(default_factory=list)
    asked: list[AskedDays] = field(default_factory=list)
    task: asyncio.Task[Downloaded] | None = None


class RunningDownloads:
    """The downloads of one capture process."""

    def __init__(
        self,
        folder: DataFolder,
        config: Config,
        sink: GroupCommit,
        wiring: Wiring,
        sheds: Callable[[], str],
    ) -> None:
        """``sheds`` returns why work that can wait has to; nothing if it need not."""
        self._folder = folder
        self._config = config
        self._sink = sink
        # Nobody asks for these streams live.
        self._wiring = replace(wiring, roster=None, receive_bytes=RECEIVE_BYTES)
        self._held = by_deliver(folder)
        self._clock: Clock = wiring.clock
        self._rng: random.Random = wiring.rng
        self._sheds = sheds
        self._jobs: dict[int, _Job] = {}
        self._numbers = count(1)

    def start(self, wanted: WantedBars) -> int:
        """Begin a download; return the number that it is asked for by.

        Raises :class:`~forebay.errors.ConfigError` for what the source does not offer.
        """
        venue = venue_config(self._config, wanted)
        plan(wanted, venue.market, self._clock.wall_ns())
        for number in [each for each, job in self._jobs.items() if job.task and job.task.done()]:
            if len(self._jobs) >= KEPT:
                del self._jobs[number]
        number, job = next(self._numbers), _Job(wanted)
        self._jobs[number] = job
        job.task = asyncio.create_task(self.run(wanted, job), name="forebay-download")
        return number

    async def run(
        self, wanted: WantedBars, job: _Job | None = None, patience_s: float = FOR_EVER_S
    ) -> Downloaded:
        """Download what is wanted and not there yet, and wait until it is stored."""
        venue = venue_config(self._config, wanted)
        downloads = plan(wanted, venue.market, self._clock.wall_ns())
        await delivered(self._folder, await self._sink.flushed())
        now_ns = self._clock.wall_ns()
        todo = [(each, each.requests(await self._held(each.key), now_ns)) for each in downloads]
        if job is not None:
            job.asked = [AskedDays.of(*each) for each in todo]
        pacing = Pacing(self._folder, self._sink, self._clock, self._sheds)

        def note(progress: list[Progress]) -> None:
            if job is not None:
                job.progress = progress
            pacing.captured.append(self._sink.next_seq)

        breaker = None if wanted.rest_url else self._wiring.rest_breakers.get(venue.name)
        wiring = replace(self._wiring, rest_breaker=breaker)
        async with (
            venues.source(venue, wiring) as first,
            with_alternatives(first, venue.name, self._config, wiring, self._held) as source,
        ):
            try:
                ended = await Downloader(
                    source,
                    self._sink,
                    clock=self._clock,
                    rng=self._rng,
                    observer=self._wiring.observer,
                    at_once=wanted.at_once,
                    ready=pacing.ready,
                    patience_s=patience_s,
                ).run(todo, note)
            except BaseExceptionGroup as group:
                raise first_error(group) from group
        await delivered(self._folder, await self._sink.flushed())
        held_by = {each.key: await self._held(each.key) for each in downloads}
        return Downloaded.of(ended, held_by.get)

    async def keep_up(self, wanted: WantedBars, every_s: float) -> None:
        """Download what is wanted again and again, until cancelled; no failure ends it."""
        patience_s = FOR_EVER_S
        if self._config.alternatives:  # they are to be asked for what is new, too
            patience_s = max(every_s, 2 * SILENT_S)
        while True:
            job, wait_s = _Job(wanted), every_s
            try:
                found = await self.run(wanted, job, patience_s)
                if any(each.elsewhere for each in found.progress):
                    wait_s = min(every_s, RETRY_S)
                await self._have_verified(job.asked)
                wrong = [each.refused or each.problem for each in found.progress]
                problem = next(filter(None, wrong), "") if not found.complete else ""
            except ForebayError as error:
                problem, wait_s = str(error), min(every_s, RETRY_S)
            pages, answered = (
                sum(getattr(each, name) for each in job.progress) for name in ("pages", "answered")
            )
            self._wiring.observer(DownloadEnded(wanted.venue, pages, answered, problem))
            await self._clock.sleep(wait_s)

    async def _have_verified(self, asked: list[AskedDays]) -> None:
        """Tell deliver, which compares what was downloaded, and all of it now and then."""
        if span_ns(self._config.downloader.verify_every):
            request: Request = {"op": "verify", "downloads": msgspec.to_builtins(asked)}
            await asyncio.to_thread(ask, self._folder.deliver_socket, request)

    # ------------------------------------------------------------------ whoever asks

    async def begin(self, request: Request) -> dict[str, Any]:
        """Handle ``{"op": "backfill", "wanted": …}``."""
        return {"number": self.start(msgspec.convert(request["wanted"], WantedBars))}

    async def tell(self, request: Request) -> dict[str, Any]:
        """Handle ``{"op": "backfill_status", "number": …}``; an error is raised again."""
        job = self._jobs.get(request["number"])
        if job is None or job.task is None:
            hint = "The capture was started anew: begin again, it goes on from there."
            raise Permanent("There is no such download.", hint=hint)
        pages = {
            "pages": sum(each.pages for each in job.progress),
            "answered": sum(each.answered for each in job.progress),
        }
        if not job.task.done():
            return {**pages, "ended": None}
        return {**pages, "ended": job.task.result().document()}

    async def close(self) -> None:
        """End what runs; what was captured of it stays."""
        tasks = [job.task for job in self._jobs.values() if job.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass(slots=True)
class Pacing:
    """When a download may go on: live capture, the journal's disk and the store come first."""

    folder: DataFolder
    sink: GroupCommit
    clock: Clock
    sheds: Callable[[], str]
    captured: deque[int] = field(default_factory=deque)
    """Up to where the journal reached behind each page that is not known to be stored."""

    async def ready(self) -> None:
        """Wait until there is room for another page."""
        while self.sink.pressure or self.sink.full or self.sheds() or await self._behind():
            await self.clock.sleep(PAUSE_S)

    async def _behind(self) -> bool:
        if len(self.captured) < PAGES_AHEAD:
            return False
        seq = 0
        with contextlib.suppress(Unreachable):  # deliver is away: nothing is stored now
            told, _ = await asyncio.to_thread(
                ask, self.folder.deliver_socket, {"op": "status"}, timeout_s=5.0
            )
            seq = told["seq"]
        while self.captured and self.captured[0] <= seq:
            self.captured.popleft()
        return len(self.captured) >= PAGES_AHEAD


async def by_capture(
    folder: DataFolder,
    wanted: WantedBars,
    clock: Clock,
    progress: Callable[[int, int, int], object] = lambda *_: None,
) -> dict[str, Any]:
    """Have the running capture download; return what came of it.

    ``progress`` is told pages answered, pages in all, and bars stored meanwhile. Raises as
    :func:`forebay.app.offline.download.download`, and if no capture runs.
    """
    request: Request = {"op": "backfill", "wanted": msgspec.to_builtins(wanted)}
    answer, _ = await asyncio.to_thread(ask, folder.capture_socket, request)
    before = await _bars(folder)
    asking: Request = {"op": "backfill_status", "number": answer["number"]}
    while True:
        told, _ = await asyncio.to_thread(ask, folder.capture_socket, asking)
        stored = max(0, await _bars(folder) - before)
        progress(told["answered"], told["pages"], stored)
        if (ended := told["ended"]) is not None:
            return {**ended, "stored": stored}
        await clock.sleep(PAUSE_S)


async def _bars(folder: DataFolder) -> int:
    """Return how many bars deliver has stored since it began."""
    with contextlib.suppress(ForebayError):
        told, _ = await asyncio.to_thread(ask, folder.deliver_socket, {"op": "status"})
        return int(told["stored"].get(TABLE, 0))
    return 0
