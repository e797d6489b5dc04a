"""The REST client behind its breaker: what counts against the venue, and what a refusal does."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from forebay.clock import ManualClock
from forebay.errors import ForebayError, Permanent, Transient, Unreachable
from forebay.resilience import CircuitBreaker, CircuitOpen, RetryConfig, presets
from forebay.sources.rest import Budget, RestClient, RestPolicy, RetryLater
from forebay.sources.venue import per_second
from forebay.telemetry import BreakerMoved, RestRetried, RetriesEnded
from tests.support.http_server import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from forebay.resilience import BreakerConfig
    from forebay.sources.venue import Rate
    from forebay.telemetry import TelemetryEvent

QUICKLY = per_second(10, burst=15)
ONCE = RestPolicy(RetryConfig(attempts=1), max_body_bytes=1000)
IMPATIENT = replace(ONCE, total_s=0.05)
"""Only for what never comes: an answer may take so long on a busy machine."""
HANG = 0
"""A status that never comes."""
TOO_LARGE = 1


class Instant(ManualClock):
    """Sleeps take no time and are written down."""

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.advance(seconds)
        await asyncio.sleep(0)


@dataclass
class Venue:
    """A client and the server that it asks, which answers what the test says."""

    clock: Instant
    breaker: CircuitBreaker
    said: list[TelemetryEvent]
    rest: RestClient
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    asked: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    hangs: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, _: web.Request) -> web.Response:
        self.asked += 1
        if self.status == HANG:
            self.hangs.set()
            await self.gate.wait()
        if self.status in (HANG, TOO_LARGE):
            return web.Response(body=b"x" * 2000)
        return web.Response(status=self.status, headers=self.headers, body=b"[]")

    @property
    def state(self) -> str:
        return self.breaker.state.value

    async def get(self) -> type[BaseException] | None:
        """Ask once; answer what was raised."""
        try:
            await self.rest.get("/x")
        except ForebayError as error:
            return type(error)
        return None


@asynccontextmanager
async def venue(
    policy: RestPolicy = ONCE,
    config: BreakerConfig = presets.EXCHANGE_API,
    rate: Rate = QUICKLY,
    longest_wait_s: float = 30.0,
) -> AsyncIterator[Venue]:
    clock, rng = Instant(), random.Random(3)
    said: list[TelemetryEvent] = []
    breaker = CircuitBreaker("testex-rest", config, clock=clock, rng=rng, listener=said.append)
    served: list[Venue] = []

    async def handler(request: web.Request) -> web.Response:
        return await served[0].answer(request)

    async with serving(handler) as url:
        rest = RestClient(
            url,
            clock=clock,
            rng=rng,
            policy=policy,
            budget=Budget("testex", [rate], clock=clock, longest_wait_s=longest_wait_s),
            breaker=breaker,
            observer=said.append,
        )
        served.append(Venue(clock, breaker, said, rest))
        async with rest:
            try:
                yield served[0]
            finally:
                served[0].gate.set()
        assert breaker.snapshot().probes == 0, "a probe's place was kept"


async def test_time_outs_one_after_another_an_hour_apart_trip_it() -> None:
    async with venue(IMPATIENT) as it:
        it.status = HANG
        for _ in range(5):
            assert it.state == "closed"
            assert await it.get() is Unreachable
            it.clock.advance(3600)
        assert it.state == "open"
        assert it.breaker.snapshot().cause == "Unreachable"


@pytest.mark.parametrize("status", [HANG, 408, 425, 429, 500, 502, 503, 504])
async def test_what_is_the_venues_fault_counts(status: int) -> None:
    async with venue(IMPATIENT if status == HANG else ONCE) as it:
        it.status = status
        raised = {await it.get() for _ in range(5)}
        assert raised == {Unreachable if status == HANG else RetryLater}
        assert await it.get() is CircuitOpen


async def test_nobody_listening_counts() -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response()

    async with serving(handler) as url:
        pass
    clock = Instant()
    async with RestClient(url, clock=clock, rng=random.Random(1), policy=ONCE) as rest:
        for _ in range(5):
            with pytest.raises(Unreachable):
                await rest.get("/x")
        with pytest.raises(CircuitOpen, match="rest is not called for another"):
            await rest.get("/x")


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, TOO_LARGE])
async def test_a_wrong_request_neither_counts_nor_heals(status: int) -> None:
    async with venue() as it:
        it.status = status
        assert {await it.get() for _ in range(20)} == {Permanent}
        assert it.state == "closed"
        it.status = 503
        for _ in range(4):
            await it.get()
        it.status = status
        await it.get()
        it.status = 503
        assert it.state == "closed"
        await it.get()
        assert it.state == "open", "the wrong request healed it"


async def test_an_answer_heals() -> None:
    async with venue() as it:
        for status in (*[503] * 4, 200, *[503] * 4):
            it.status = status
            await it.get()
        assert it.state == "closed"


async def test_while_it_is_open_the_caller_is_told_at_once_and_until_when() -> None:
    """One call with all its tries trips it; the next is not waited for and not tried again."""
    async with venue(RestPolicy()) as it:
        it.status = 500
        with pytest.raises(RetryLater, match="HTTP 500"):
            await it.rest.get("/x")
        assert it.asked == 5
        slept, told = len(it.clock.slept), len(it.said)
        with pytest.raises(
            CircuitOpen, match=r"testex-rest is not called for another \d"
        ) as caught:
            await it.rest.get("/x")
        assert caught.value.retry_after is not None
        assert 50 < caught.value.retry_after < 66
        assert caught.value.exit_code == 3
        assert (it.asked, len(it.clock.slept), len(it.said)) == (5, slept, told)
        assert [event.now for event in it.said if isinstance(event, BreakerMoved)] == ["open"]


async def test_a_trip_between_two_tries_ends_them() -> None:
    async with venue(RestPolicy(), replace(presets.EXCHANGE_API, failure_threshold=2)) as it:
        it.status = 500
        assert await it.get() is CircuitOpen
        assert it.asked == 2
        retried = [event for event in it.said if isinstance(event, RestRetried)]
        assert [event.attempt for event in retried] == [1, 2]
        assert all("HTTP 500" in event.reason for event in retried)
        assert all(event.path == "/x" for event in retried)


async def test_it_closes_after_three_answers_and_until_then_lets_one_through_at_a_time() -> None:
    async with venue(replace(ONCE, total_s=5)) as it:
        it.status = 503
        for _ in range(5):
            await it.get()
        it.clock.advance(67)
        it.status = HANG
        probing = asyncio.create_task(it.rest.get("/x"))
        await it.hangs.wait()
        with pytest.raises(CircuitOpen) as caught:
            await it.rest.get("/x")
        assert caught.value.retry_after is None
        it.status = 200
        it.gate.set()
        await probing
        assert it.state == "half_open"
        assert [await it.get() for _ in range(2)] == [None, None]
        assert it.state == "closed"


async def test_a_failed_probe_opens_it_again() -> None:
    async with venue() as it:
        it.status = 429
        for _ in range(5):
            await it.get()
        it.clock.advance(67)
        assert await it.get() is RetryLater
        assert it.asked == 6
        assert await it.get() is CircuitOpen
        assert it.asked == 6


async def test_our_own_pace_does_not_count_against_the_venue() -> None:
    policy = RestPolicy(RetryConfig(attempts=2))
    async with venue(policy, rate=per_second(1), longest_wait_s=0) as it:
        for _ in range(4):
            assert await it.get() is None
        seen = it.breaker.snapshot()
        assert (seen.ok, seen.failed, seen.neutral) == (4, 0, 0)
        waits = [said.delay_s for said in it.said if isinstance(said, RestRetried)]
        assert len(waits) == 3, "a call over the rate was not tried again"
        assert all(wait >= 0.9 for wait in waits)


async def test_the_calls_of_a_client_share_a_budget_of_retries() -> None:
    policy = RestPolicy(RetryConfig(attempts=5))
    async with venue(policy, replace(presets.EXCHANGE_API, failure_threshold=1000)) as it:
        it.status = 503
        for _ in range(10):
            assert await it.get() is RetryLater
        assert it.asked == 10 + 11, "ten retries, and one for ten calls"
        ended = [said.reason for said in it.said if isinstance(said, RetriesEnded)]
        assert ended[-1].endswith("the retry budget is used up")


async def test_the_breakers_time_out_ends_a_try_and_counts() -> None:
    config = replace(presets.EXCHANGE_API, timeout=0.05)
    async with venue(replace(ONCE, total_s=60), config) as it:
        it.status = HANG
        with pytest.raises(Unreachable, match=r"GET .*/x was not answered: A try took more than"):
            await it.rest.get("/x")
        assert it.breaker.snapshot().failed == 1


async def test_a_call_that_is_given_up_says_nothing() -> None:
    async with venue(replace(ONCE, total_s=60)) as it:
        it.status = HANG
        call = asyncio.create_task(it.rest.get("/x"))
        await it.hangs.wait()
        call.cancel()
        await asyncio.wait({call})
        assert call.cancelled()
        seen = it.breaker.snapshot()
        assert (seen.failed, seen.neutral) == (0, 1)


async def test_a_recovery_probes_past_the_breaker_whose_permit_it_has() -> None:
    async with venue() as it:
        it.status = 503
        for _ in range(5):
            await it.get()
        it.clock.advance(67)
        with pytest.raises(Transient, match="HTTP 503"):
            await it.breaker.acall(it.rest.probe, "/x")
        assert it.state == "open"
        it.clock.advance(67)
        it.status = 200
        for _ in range(3):
            await it.breaker.acall(it.rest.probe, "/x")
        assert it.state == "closed"
        assert it.asked == 9


async def test_two_clients_may_share_a_breaker() -> None:
    async with venue() as it, venue() as other:
        it.status = 503
        sharing = RestClient(
            str(other.rest._base),
            clock=it.clock,
            rng=random.Random(1),
            policy=ONCE,
            breaker=it.breaker,
        )
        for _ in range(5):
            await it.get()
        with pytest.raises(CircuitOpen):
            await sharing.get("/x")
        assert other.asked == 0
        await sharing.close()
