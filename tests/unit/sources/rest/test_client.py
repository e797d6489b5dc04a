"""The REST client against a real server: tries, waits, limits and what errors become."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from email.utils import formatdate
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from forebay.clock import ManualClock, SystemClock
from forebay.errors import ConfigError, Permanent, Transient, Unreachable
from forebay.resilience import RetryConfig
from forebay.sources.rest import RestClient, RestPolicy, RetryLater
from forebay.sources.venue import Limits, per_second
from forebay.telemetry import RestRetried
from tests.support.http_server import serving

if TYPE_CHECKING:
    from forebay.clock import Clock
    from forebay.telemetry import TelemetryEvent

TRIES = RetryConfig(attempts=5, base=0.001, cap=0.002)
QUICK = RestPolicy(TRIES)
PACED = Limits(rest=(per_second(10, burst=15),))


class Instant(ManualClock):
    """Sleeps take no time and are written down."""

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.advance(seconds)
        await asyncio.sleep(0)


def client(
    url: str,
    policy: RestPolicy = QUICK,
    clock: Clock | None = None,
    said: list[TelemetryEvent] | None = None,
    limits: Limits = PACED,
) -> RestClient:
    return RestClient(
        url,
        clock=clock or SystemClock(),
        rng=random.Random(2),
        policy=policy,
        limits=limits,
        observer=(said if said is not None else []).append,
    )


async def test_path_and_query_go_out_as_they_are_and_the_body_comes_back() -> None:
    seen: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.raw_path)
        return web.Response(body=b'{"a":1}\n', headers={"CB-AFTER": "7"})

    async with serving(handler) as url, client(url + "/base/") as rest:
        answer = await rest.get("/p%2Fx%7E?limit=10&after=5")
    assert seen == ["/base/p%2Fx%7E?limit=10&after=5"]
    assert (answer.status, answer.body, answer.headers["CB-AFTER"]) == (200, b'{"a":1}\n', "7")


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
async def test_what_may_pass_is_tried_again(status: int) -> None:
    tries = 0

    async def handler(_: web.Request) -> web.Response:
        nonlocal tries
        tries += 1
        return web.Response(status=status if tries < 3 else 200, body=b"done")

    said: list[TelemetryEvent] = []
    async with serving(handler) as url, client(url, said=said) as rest:
        assert (await rest.get("/x")).body == b"done"
    assert tries == 3
    assert [event.attempt for event in said if isinstance(event, RestRetried)] == [1, 2]


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 410])
async def test_what_cannot_pass_is_not_tried_again(status: int) -> None:
    tries = 0

    async def handler(_: web.Request) -> web.Response:
        nonlocal tries
        tries += 1
        headers = {"Location": "/y"} if status == 301 else {}
        return web.Response(status=status, body=b'{"message":"NotFound"}', headers=headers)

    async with serving(handler) as url, client(url) as rest:
        with pytest.raises(Permanent, match=f"HTTP {status}: .*NotFound") as caught:
            await rest.get("/x")
    assert tries == 1
    assert caught.value.hint


async def test_tries_are_bounded_and_waits_grow_within_the_jitter() -> None:
    tries = 0

    async def handler(_: web.Request) -> web.Response:
        nonlocal tries
        tries += 1
        return web.Response(status=503, body=b"maintenance")

    clock = Instant()
    async with serving(handler) as url, client(url, RestPolicy(), clock) as rest:
        with pytest.raises(Transient, match="maintenance"):
            await rest.get("/x")
    assert tries == 5
    waits = [wait for wait in clock.slept if wait]
    for wait, nominal in zip(waits, [2, 4, 8, 16], strict=True):
        assert nominal * 0.9 <= wait <= nominal * 1.1


@pytest.mark.parametrize(
    ("header", "wait"),
    [("7", 7.0), (formatdate(1_700_000_020, usegmt=True), 20.0), ("60", 60.0)],
)
async def test_retry_after_is_honoured(header: str, wait: float) -> None:
    tries = 0

    async def handler(_: web.Request) -> web.Response:
        nonlocal tries
        tries += 1
        if tries == 1:
            sent = formatdate(1_700_000_000, usegmt=True)
            return web.Response(status=429, headers={"Retry-After": header, "Date": sent})
        return web.Response()

    clock = Instant()
    async with serving(handler) as url, client(url, RestPolicy(), clock) as rest:
        await rest.get("/x")
    assert [slept for slept in clock.slept if slept] == [wait]


async def test_who_is_told_to_wait_too_long_is_told_so_at_once() -> None:
    tries = 0

    async def handler(_: web.Request) -> web.Response:
        nonlocal tries
        tries += 1
        return web.Response(status=429, headers={"Retry-After": "61"})

    clock = Instant()
    async with serving(handler) as url, client(url, RestPolicy(), clock) as rest:
        with pytest.raises(
            RetryLater, match=r"HTTP 429. It asks to come again in 61 s\."
        ) as caught:
            await rest.get("/x")
    assert caught.value.retry_after == 61
    assert (tries, clock.slept) == (1, [])


async def test_calls_are_paced() -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response()

    clock = Instant()
    async with serving(handler) as url, client(url, RestPolicy(), clock) as rest:
        for _ in range(20):
            await rest.get("/x")
    assert clock.slept == pytest.approx([0.1] * 5), "15 at once, then 10 a second"


async def test_a_body_over_the_limit_is_refused_without_being_read() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65536)
        except ConnectionError:
            pass  # the client has had enough
        return response

    policy = RestPolicy(max_body_bytes=1 << 20)
    async with serving(handler) as url, client(url, policy) as rest:
        with pytest.raises(Permanent, match="more than 1048576 bytes"):
            await rest.get("/x")


async def test_nobody_there_is_unreachable() -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response()

    async with serving(handler) as url:
        pass
    async with client(url) as rest:
        with pytest.raises(Unreachable, match="was not answered"):
            await rest.get("/x")


async def test_no_answer_in_time_is_unreachable() -> None:
    async def handler(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        return web.Response()

    policy = RestPolicy(replace(TRIES, attempts=2), total_s=0.05)
    async with serving(handler) as url, client(url, policy) as rest:
        with pytest.raises(Unreachable, match="was not answered"):
            await rest.get("/x")


async def test_a_connection_cut_inside_the_body_is_tried_again() -> None:
    tries = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal tries
        tries += 1
        if tries > 1:
            return web.Response(body=b"whole")
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.abort()
        return response

    async with serving(handler) as url, client(url) as rest:
        assert (await rest.get("/x")).body == b"whole"
    assert tries == 2


async def test_it_can_be_used_again_after_close() -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=b"ok")

    async with serving(handler) as url:
        rest = client(url)
        await rest.close()
        assert (await rest.get("/x")).body == b"ok"
        await rest.close()
        await rest.close()


@pytest.mark.parametrize("url", ["ws://h", "h", "", "http://", "http://[", "ftp://h"])
def test_an_address_that_is_none_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigError, match="not an HTTP address"):
        client(url)
