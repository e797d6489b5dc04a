"""Every promise of a download is broken once, and the test that holds it notices."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from forebay.app.offline import download_plan
from forebay.app.wiring import venues
from forebay.domain.coverage import TimeCoverage
from forebay.domain.intervals import IntervalSet
from forebay.errors import Transient
from forebay.services import downloader
from forebay.sources import coinbase, history
from forebay.sources.live import LiveSource
from forebay.sources.venue import Limits
from tests.unit.app import test_download as held
from tests.unit.sources import test_history as paged

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from forebay.ports import FrameSink, HistoryRequest
    from forebay.services.downloader import Download
    from forebay.sources.history import Series
    from forebay.sources.venue import Pages, Venue

Patch = pytest.MonkeyPatch


def asks_everything_again(patch: Patch) -> None:
    requests = downloader.Download.requests
    patch.setattr(downloader.Download, "requests", lambda self, _, now: requests(self, None, now))


def takes_silence_for_an_answer(patch: Patch) -> None:
    finished = TimeCoverage.finished
    patch.setattr(
        TimeCoverage, "finished", lambda self, first, last, *_: finished(self, first, last, ())
    )


def believes_at_once(patch: Patch) -> None:
    patch.setattr(downloader.Download, "_due", lambda *_: IntervalSet())


def asks_for_an_open_bar(patch: Patch) -> None:
    whole = download_plan._range

    def early(
        wanted: download_plan.WantedBars, venue: Venue, name: str, series: Series, now_ns: int
    ) -> tuple[int, int]:
        return whole(wanted, venue, name, series, now_ns + 60 * 10**9)

    patch.setattr(download_plan, "_range", early)


def has_one_stream_for_all_series(patch: Patch) -> None:
    planned = download_plan.plan

    def plan(wanted: download_plan.WantedBars, market: str, now_ns: int) -> list[Download]:
        return [replace(each, channel="bar:1m") for each in planned(wanted, market, now_ns)]

    patch.setattr("forebay.app.offline.download.plan", plan)


def says_it_is_done_before_it_is(patch: Patch) -> None:
    """A page that fails counts as answered: coverage is told so before the page is there."""
    fill = LiveSource.fill

    async def early(self: LiveSource, request: HistoryRequest, sink: FrameSink) -> None:
        try:
            await fill(self, request, sink)
        except Transient:
            return

    patch.setattr(LiveSource, "fill", early)


def lets_one_refusal_end_all(patch: Patch) -> None:
    patch.setattr(downloader, "Permanent", ZeroDivisionError)


@pytest.mark.parametrize(
    ("mutant", "test"),
    [
        (
            asks_everything_again,
            held.test_every_bar_of_every_series_is_stored_once_and_asked_for_once,
        ),
        (
            has_one_stream_for_all_series,
            held.test_every_bar_of_every_series_is_stored_once_and_asked_for_once,
        ),
        (
            takes_silence_for_an_answer,
            held.test_what_the_source_says_it_has_not_is_on_record_and_found_when_it_has,
        ),
        (
            believes_at_once,
            held.test_what_the_source_says_it_has_not_is_on_record_and_found_when_it_has,
        ),
        (
            asks_for_an_open_bar,
            held.test_a_bar_that_is_not_over_is_not_asked_for_and_comes_with_the_next_download,
        ),
        (lets_one_refusal_end_all, held.test_a_symbol_that_is_refused_does_not_keep_the_others),
    ],
)
async def test_a_download_that_breaks_a_promise_is_caught(
    tmp_path: Path,
    monkeypatch: Patch,
    mutant: Callable[[Patch], None],
    test: Callable[[Path], Awaitable[None]],
) -> None:
    held_unpaced(monkeypatch)
    mutant(monkeypatch)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever it notices it by
        await test(tmp_path)
    assert not isinstance(caught.value, AttributeError | ImportError | NameError)


async def test_a_page_that_counts_before_it_is_there_is_caught(
    tmp_path: Path, monkeypatch: Patch
) -> None:
    held_unpaced(monkeypatch)
    says_it_is_done_before_it_is(monkeypatch)
    with pytest.raises(AssertionError):
        await held.test_a_page_that_never_is_one_costs_the_others_nothing(tmp_path, monkeypatch)


def test_a_pager_that_does_not_look_whether_it_advances_is_caught(monkeypatch: Patch) -> None:
    def endless(self: history.ByBars, request: HistoryRequest) -> Pages:
        target = self.path(request, request.first, request.last + 1)
        while target:
            target = self.following((yield target))
        return ()

    monkeypatch.setattr(history.ByBars, "plan", endless)
    with pytest.raises(IndexError, match="pop from empty list"):
        paged.test_bars_whose_pages_do_not_advance_are_an_error_soon(
            [f"{number}|{number}" for number in range(99)], "more than 9 pages"
        )


def held_unpaced(patch: Patch) -> None:
    unpaced = replace(coinbase.VENUE, limits=Limits(rest=()))
    patch.setitem(venues.VENUES, "coinbase", unpaced)
