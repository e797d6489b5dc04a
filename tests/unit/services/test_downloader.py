"""What a download asks for, and what becomes of a source that refuses, lags or does not answer."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.clock import ManualClock
from forebay.domain.coverage import Look, TimeCoverage
from forebay.domain.intervals import IntervalSet
from forebay.errors import Permanent, Stuck, Unreachable, Unusable
from forebay.services.alternatives import AnsweredElsewhere
from forebay.services.downloader import Download, Downloader, first_error
from tests.support.sinks import RecordingSink

if TYPE_CHECKING:
    from collections.abc import Callable

    from forebay.ports import FrameSink, HistoryRequest
    from forebay.services.downloader import Progress

STEP = 60_000_000_000
HOUR = 60 * STEP
WAITS = (60, 600)
BEGIN = 1_700_000_000 * 10**9 // HOUR * HOUR


def download(symbol: str = "A-B", periods: int = 600, page: int = 60) -> Download:
    last = BEGIN + periods * STEP - 1
    return Download("v", "spot", "bar:1m", symbol, BEGIN, last, STEP, page * STEP, WAITS)


def spans(requests: list[HistoryRequest]) -> IntervalSet:
    return IntervalSet((each.first, each.last) for each in requests)


def test_what_was_never_asked_for_is_cut_into_pages_in_order() -> None:
    requests = download(periods=150).requests(None, BEGIN)
    assert [(each.first - BEGIN) // STEP for each in requests] == [0, 60, 120]
    assert [(each.last + 1 - BEGIN) // STEP for each in requests] == [60, 120, 150]
    assert all(each.bulk and each.unit == "time" for each in requests)


@given(st.lists(st.tuples(st.integers(0, 599), st.integers(0, 90), st.booleans()), max_size=12))
def test_what_was_answered_is_not_asked_for_and_the_rest_is_once(
    answered: list[tuple[int, int, bool]],
) -> None:
    coverage, known = TimeCoverage(), IntervalSet()
    for first, more, rows in answered:
        ends = BEGIN + first * STEP, BEGIN + (first + more + 1) * STEP - 1
        known.add(*ends)
        coverage.finished(*ends, () if rows else (ends,), None if rows else Look(BEGIN, WAITS))
    wish = download()
    requests = wish.requests(coverage, BEGIN + 1)
    assert spans(requests) == known.holes(wish.first, wish.last)
    assert sum(each.last - each.first + 1 for each in requests) == spans(requests).count()
    assert all(each.last - each.first < wish.page_ns for each in requests)


def looked(times: list[float], periods: int = 120) -> TimeCoverage:
    """Coverage of which history said so often that it has nothing of some periods."""
    coverage = TimeCoverage()
    ends = BEGIN, BEGIN + periods * STEP - 1
    for at_s in times:
        coverage.finished(*ends, (ends,), Look(BEGIN + round(at_s * 1e9), WAITS, renews=True))
    return coverage


@pytest.mark.parametrize(
    ("times", "asked_s", "again"),
    [
        ([0], 59, False),
        ([0], 61, True),
        ([0, 61], 660, False),
        ([0, 61], 662, True),
        ([0, 61, 700], 700 + 29 * 86_400, False),
        ([0, 61, 700], 700 + 31 * 86_400, True),
        ([0, 61, 700, 31 * 86_400], 32 * 86_400, False),
        ([0, 61, 700, 31 * 86_400], 62 * 86_400, True),
    ],
)
def test_what_history_lacks_is_asked_for_again_after_ever_longer_waits(
    times: list[float], asked_s: float, again: bool
) -> None:
    wish = download(periods=120)
    requests = wish.requests(looked(times), BEGIN + round(asked_s * 1e9))
    assert bool(requests) is again
    if again:
        assert spans(requests) == IntervalSet([(wish.first, wish.last)])
    assert wish.empty(looked(times)) == [(wish.first, wish.last)]


def test_a_quiet_minute_is_not_asked_for_again() -> None:
    assert download(periods=5).requests(looked([0], 5), BEGIN + 10 * HOUR) == []


# ------------------------------------------------------------------------------- running


class Instant(ManualClock):
    """Sleeps take no time, and pass."""

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.advance(seconds)
        await asyncio.sleep(0)


@dataclass
class Asked:
    """A source whose answers a test decides."""

    answer: Callable[[HistoryRequest, int], Exception | None] = lambda *_: None
    asked: list[HistoryRequest] = field(default_factory=list)
    running: int = 0
    most: int = 0

    async def fill(self, request: HistoryRequest, sink: FrameSink) -> None:
        del sink
        self.running += 1
        self.most = max(self.most, self.running)
        self.asked.append(request)
        await asyncio.sleep(0)
        self.running -= 1
        if error := self.answer(request, self.asked.count(request)):
            raise error


async def run(source: Asked, *wishes: Download, at_once: int = 2) -> list[Progress]:
    clock = Instant()
    downloader = Downloader(
        source,
        RecordingSink(),
        clock=clock,
        rng=random.Random(4),
        at_once=at_once,
    )
    try:
        return await downloader.run([(each, each.requests(None, BEGIN)) for each in wishes])
    except BaseExceptionGroup as group:
        raise first_error(group) from group


async def test_streams_take_turns_and_no_more_pages_than_allowed_are_asked_for_together() -> None:
    source = Asked()
    found = await run(source, download("A-B"), download("C-D"))
    assert [each.symbol for each in source.asked] == ["A-B", "C-D"] * 10
    assert source.most == 2
    assert all(each.complete and each.answered == 10 for each in found)


async def test_a_page_that_is_none_is_asked_for_again_and_one_that_never_is_left_out() -> None:
    def answer(request: HistoryRequest, time: int) -> Exception | None:
        return Unusable("None.") if request.first == BEGIN or time == 1 else None

    source = Asked(answer)
    (found,) = await run(source, download())
    assert (found.answered, found.failed, found.complete) == (9, 1, False)
    assert sum(each.first == BEGIN for each in source.asked) == 5


async def test_a_source_that_does_not_advance_is_not_asked_for_that_again() -> None:
    source = Asked(lambda request, _: Stuck("Stuck.") if request.first == BEGIN else None)
    (found,) = await run(source, download())
    assert (found.answered, found.failed) == (9, 1)
    assert len(source.asked) == 10


async def test_a_refusal_ends_one_stream() -> None:
    source = Asked(lambda request, _: Permanent("Gone.") if request.symbol == "A-B" else None)
    first, second = await run(source, download("A-B"), download("C-D"))
    assert (first.refused, first.answered) == ("Gone.", 0)
    assert second.complete
    assert sum(each.symbol == "A-B" for each in source.asked) <= 2


async def test_a_source_that_does_not_answer_is_waited_for_and_then_it_is_an_error() -> None:
    source = Asked(lambda _, time: Unreachable("Nobody.") if time < 8 else None)
    (found,) = await run(source, download())
    assert found.complete
    with pytest.raises(Unreachable):
        await run(Asked(lambda *_: Unreachable("Nobody.")), download())


async def test_a_page_that_another_venue_was_asked_for_stays_wanted_and_holds_nothing_up() -> None:
    def answer(request: HistoryRequest, _: int) -> Exception | None:
        return AnsweredElsewhere("Away.") if request.symbol == "A-B" else None

    source = Asked(answer)
    away, there = await run(source, download("A-B"), download("C-D"))
    assert (away.elsewhere, away.answered, away.complete) == (away.pages, 0, False)
    assert away.problem == "Away."
    assert (there.elsewhere, there.complete) == (0, True)
    assert len(source.asked) == away.pages + there.pages
