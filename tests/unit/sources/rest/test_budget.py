"""What an address may be asked, by all who ask it; signed calls, weights and bans."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from forebay.clock import ManualClock
from forebay.errors import ConfigError, Permanent
from forebay.resilience import RateLimited, RetryConfig
from forebay.sources.rest import Budget, Budgets, RestClient, RestPolicy, RetryLater
from forebay.sources.venue import Limits, Rate, per_minutes, per_second
from tests.support.http_server import serving

if TYPE_CHECKING:
    from collections.abc import Mapping

ONCE = RestPolicy(RetryConfig(attempts=1))


class Instant(ManualClock):
    """Sleeps take no time and are written down."""

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.advance(seconds)
        await asyncio.sleep(0)


def test_a_rate_by_minutes_never_grants_more_than_it_says_in_any_such_time() -> None:
    rate = per_minutes(10, 150)
    assert rate.burst + rate.per_second * 600 <= 150
    assert per_minutes(1, 1).burst == 1


async def test_all_rates_hold_together_and_weights_count_where_they_are_meant() -> None:
    clock = Instant()
    budget = Budget("h", [per_second(10, burst=2), Rate(1.0, 4, "weight")], clock=clock)
    for _ in range(2):
        await budget.take(2)
    assert clock.slept == []
    await budget.take(1)
    assert clock.slept == pytest.approx([0.1, 0.9]), "one call, then one unit of weight"


async def test_a_call_that_costs_more_than_there_ever_is_is_refused() -> None:
    budget = Budget("h", [Rate(1.0, 4, "weight")], clock=ManualClock())
    with pytest.raises(ConfigError, match="cannot grant 5"):
        await budget.take(5)


async def test_a_silence_holds_for_everybody_and_the_longer_one_counts() -> None:
    clock = Instant()
    budget = Budget("h", [], clock=clock)
    budget.silence(20.0)
    budget.silence(5.0)
    await budget.take()
    assert clock.slept == [20.0]
    budget.silence(31.0)
    with pytest.raises(RateLimited, match="h asked to be left alone") as refused:
        await budget.take()
    assert refused.value.retry_after == pytest.approx(31.0)


async def served(budget: Budget, clock: ManualClock, *, bulk: bool, seconds: int) -> list[float]:
    """Have four ask without a pause, and somebody else five times each second.

    Return how long the latter had to wait each time.
    """
    count = 0
    waits: list[float] = []

    async def hungry() -> None:
        nonlocal count
        while True:
            await budget.take(bulk=bulk)
            count += 1

    async def live() -> None:
        for _ in range(seconds):
            for _ in range(5):
                began = clock.monotonic_ns()
                await budget.take()
                waits.append((clock.monotonic_ns() - began) / 1e9)
            await clock.sleep(1.0)

    tasks = [asyncio.create_task(hungry()) for _ in range(4)]
    asking = asyncio.create_task(live())
    while not asking.done():
        for _ in range(20):
            await asyncio.sleep(0)
        clock.advance(0.01)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    passed = clock.monotonic_ns() / 1e9
    assert count + len(waits) <= 10 + 10 * passed, "the address was asked too often"
    assert count >= 4 * seconds, "bulk has what is left"
    return waits


async def test_bulk_takes_what_is_left_and_nobody_else_waits_for_it() -> None:
    clock = ManualClock()
    budget = Budget("h", [per_second(10, burst=10)], clock=clock)
    assert max(await served(budget, clock, bulk=True, seconds=20)) == 0


async def test_without_giving_way_the_others_wait() -> None:
    clock = ManualClock()
    budget = Budget("h", [per_second(10, burst=10)], clock=clock)
    assert max(await served(budget, clock, bulk=False, seconds=20)) > 0.1


async def test_bulk_of_a_rate_without_a_burst_goes_on() -> None:
    clock = Instant()
    budget = Budget("h", [per_second(2, burst=1), Rate(1.0, 1, "weight")], clock=clock)
    for _ in range(3):
        await budget.take(bulk=True)
    assert sum(clock.slept) == pytest.approx(2.0)


def test_an_address_has_one_budget() -> None:
    budgets = Budgets(ManualClock())
    one = budgets.at("h:1", [per_second(1)])
    assert budgets.at("h:1", []) is one
    assert budgets.at("h:2", []) is not one


async def test_clients_of_one_address_wait_for_one_another() -> None:
    clock = Instant()
    budget = Budget("h", [per_second(1, burst=1)], clock=clock)

    async def handler(_: web.Request) -> web.Response:
        return web.Response()

    async with serving(handler) as url:
        for seed in (1, 2):
            rng = random.Random(seed)
            async with RestClient(url, clock=clock, rng=rng, policy=ONCE, budget=budget) as rest:
                await rest.get("/x")
    assert clock.slept == [1.0]


async def test_each_try_is_signed_anew_with_all_that_it_says() -> None:
    seen: list[tuple[str, str, str]] = []
    clock = Instant()

    def sign(method: str, target: str, body: bytes, now_ns: int) -> Mapping[str, str]:
        return {"X-Signed": f"{method} {target} {body.decode()} {now_ns}"}

    async def handler(request: web.Request) -> web.Response:
        seen.append((request.method, await request.text(), request.headers["X-Signed"]))
        return web.Response(status=503 if len(seen) == 1 else 200)

    async with (
        serving(handler) as url,
        RestClient(url + "/base", clock=clock, rng=random.Random(1), sign=sign) as rest,
    ):
        before = clock.wall_ns()
        await rest.call("POST", "/x?a=%2F", body=b"hello")
    (first, second) = seen
    assert first[:2] == second[:2] == ("POST", "hello")
    assert first[2] == f"POST /base/x?a=%2F hello {before}"
    assert second[2] != first[2], "a signature of another moment"


def until_ms(status: int, headers: Mapping[str, str], body: bytes, now_ns: int) -> float | None:
    del headers
    words = body.decode().split()
    return int(words[-1]) / 1e3 - now_ns / 1e9 if status == 418 and words else None


@pytest.mark.parametrize(
    ("status", "headers", "body", "wait"),
    [
        (429, {"Retry-After": "35"}, "", 35.0),
        (418, {"Retry-After": "35"}, "", 35.0),
        (418, {}, "banned until {ms}", 40.0),
        (429, {}, "", None),
        (429, {"Retry-After": "soon"}, "", None),
        (503, {"Retry-After": "35"}, "", None),
    ],
)
async def test_what_silences_an_address(
    status: int, headers: dict[str, str], body: str, wait: float | None
) -> None:
    clock = ManualClock()
    ms = clock.wall_ns() // 1_000_000 + 40_000

    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=status, headers=headers, text=body.format(ms=ms))

    limits = Limits(rest=(), wait=until_ms)
    async with serving(handler) as url:
        budget = Budget("h", [], clock=clock)
        async with RestClient(
            url, clock=clock, rng=random.Random(1), policy=ONCE, limits=limits, budget=budget
        ) as rest:
            with pytest.raises(RetryLater):
                await rest.get("/x")
    if wait is None:
        await budget.take()
    else:
        with pytest.raises(RateLimited) as refused:
            await budget.take()
        assert refused.value.retry_after == pytest.approx(wait)


async def test_a_page_of_a_gateway_with_403_says_nothing_about_the_address() -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=403, text="<html>")

    clock = ManualClock()
    async with (
        serving(handler) as url,
        RestClient(url, clock=clock, rng=random.Random(1), policy=ONCE) as rest,
    ):
        with pytest.raises(Permanent, match="HTTP 403"):
            await rest.get("/x")
