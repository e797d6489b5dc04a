"""Who is asked for bars while a venue is away, and what that leaves to be asked."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from forebay.clock import ManualClock
from forebay.errors import JournalFull, Permanent, Unreachable, Unusable
from forebay.ports import HistoryRequest
from forebay.resilience import CircuitBreaker, CircuitOpen, presets
from forebay.services.alternatives import (
    SILENT_S,
    Alternative,
    AnsweredElsewhere,
    WithAlternatives,
)
from tests.support.sinks import RecordingSink

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebay.ports import FrameSink
    from forebay.telemetry import AlternativeAsked

BARS = HistoryRequest("bar:1m", "A-B", 60, 119, "time")
OPEN = CircuitOpen("v-rest", 30.0, "it fell")
NO_ANSWER = Unreachable("No answer.")


@dataclass
class Told:
    """A venue that answers, or raises what a test says."""

    error: Exception | None = None
    asked: list[HistoryRequest] = field(default_factory=list)

    async def fill(self, request: HistoryRequest, sink: FrameSink) -> None:
        del sink
        self.asked.append(request)
        if self.error is not None:
            raise self.error


@dataclass
class Place:
    """A venue with two others, and what was said of them."""

    first: Told = field(default_factory=Told)
    second: Told = field(default_factory=Told)
    third: Told = field(default_factory=Told)
    clock: ManualClock = field(default_factory=ManualClock)
    lacking: Sequence[str] = ()
    """Which of the others do not offer it."""
    stored: Sequence[str] = ()
    """Which have answered it before."""
    events: list[AlternativeAsked] = field(default_factory=list)

    def __post_init__(self) -> None:
        def other(name: str, source: Told) -> Alternative:
            async def translated(request: HistoryRequest) -> list[HistoryRequest]:
                if name in self.lacking:
                    raise Permanent("It has no such bars.")
                return [] if name in self.stored else [replace(request, symbol="X-Y")]

            return Alternative(name, source, translated)

        self.others = [other("second", self.second), other("third", self.third)]
        told: Any = self.events.append
        self.source = WithAlternatives(
            self.first, {("spot", "A-B"): self.others}, clock=self.clock, observer=told
        )

    async def fill(self, request: HistoryRequest = BARS) -> Exception | None:
        try:
            await self.source.fill(request, RecordingSink())
        except Exception as error:  # noqa: BLE001 - it is looked at
            return error
        return None

    @property
    def asked(self) -> list[int]:
        return [len(each.asked) for each in (self.first, self.second, self.third)]


async def test_while_it_answers_nobody_else_is_asked() -> None:
    place = Place()
    assert await place.fill() is None
    assert place.asked == [1, 0, 0]
    assert place.events == []


async def test_while_its_breaker_is_open_the_next_is_asked_in_its_own_words() -> None:
    place = Place(Told(OPEN))
    error = await place.fill()
    assert isinstance(error, AnsweredElsewhere), "the request is not answered, and stays wanted"
    assert "second" in str(error)
    assert place.asked == [1, 1, 0]
    assert place.second.asked == [replace(BARS, symbol="X-Y")]
    assert [(each.source, each.problem) for each in place.events] == [("second", "")]


async def test_a_call_that_failed_while_the_breaker_opened_is_asked_for_elsewhere_too() -> None:
    place = Place(Told(NO_ANSWER))
    breaker = CircuitBreaker("v-rest", presets.EXCHANGE_API, clock=place.clock)
    place.source = WithAlternatives(
        place.first, {("spot", "A-B"): place.others}, clock=place.clock, breaker=breaker
    )
    assert await place.fill() is NO_ANSWER
    breaker.force_open("it fell")
    assert isinstance(await place.fill(), AnsweredElsewhere)
    breaker.reset("it is back")
    assert await place.fill() is NO_ANSWER


async def test_once_it_is_back_it_is_used_again() -> None:
    place = Place(Told(OPEN))
    await place.fill()
    place.first.error = None
    assert await place.fill() is None
    assert place.asked == [2, 1, 0]


async def test_without_an_open_breaker_it_has_to_be_silent_for_a_while() -> None:
    place = Place(Told(NO_ANSWER))
    assert await place.fill() is NO_ANSWER
    place.clock.advance(SILENT_S - 1)
    assert await place.fill() is NO_ANSWER
    assert place.asked == [2, 0, 0]
    place.clock.advance(1)
    assert isinstance(await place.fill(), AnsweredElsewhere)


@pytest.mark.parametrize("answer", [None, Unusable("Half a page."), Permanent("No such symbol.")])
async def test_an_answer_of_whatever_kind_ends_the_silence(answer: Exception | None) -> None:
    place = Place(Told(NO_ANSWER))
    await place.fill()
    place.clock.advance(SILENT_S)
    place.first.error = answer
    assert await place.fill() is answer
    place.first.error = NO_ANSWER
    assert await place.fill() is NO_ANSWER
    assert place.asked[1] == 0


@pytest.mark.parametrize("lacking", [("second",), ()])
async def test_who_does_not_offer_it_or_does_not_answer_is_passed_over(
    lacking: Sequence[str],
) -> None:
    place = Place(Told(OPEN), Told(None if lacking else NO_ANSWER), lacking=lacking)
    error = await place.fill()
    assert isinstance(error, AnsweredElsewhere)
    assert "third" in str(error)
    assert place.asked == [1, 0 if lacking else 1, 1]
    assert [bool(each.problem) for each in place.events] == [True, False]


async def test_if_nobody_answers_it_is_said_what_the_first_one_said() -> None:
    place = Place(Told(OPEN), Told(NO_ANSWER), Told(NO_ANSWER))
    assert await place.fill() is OPEN
    assert place.asked == [1, 1, 1]


async def test_what_is_stored_of_another_is_not_asked_for_again() -> None:
    place = Place(Told(OPEN), stored=["second"])
    assert isinstance(await place.fill(), AnsweredElsewhere)
    assert place.asked == [1, 0, 0]
    assert place.events == []


@pytest.mark.parametrize(
    "request_", [replace(BARS, channel="trade"), replace(BARS, symbol="C-D")], ids=str
)
async def test_only_bars_of_symbols_with_alternatives_are_asked_for_elsewhere(
    request_: HistoryRequest,
) -> None:
    place = Place(Told(OPEN))
    assert await place.fill(request_) is OPEN
    assert place.asked == [1, 0, 0]


async def test_a_full_journal_is_not_a_silent_venue() -> None:
    place = Place(Told(JournalFull("No space.")))
    place.clock.advance(SILENT_S)
    assert isinstance(await place.fill(), JournalFull)
    assert isinstance(await place.fill(), JournalFull)
    assert place.asked == [2, 0, 0]
