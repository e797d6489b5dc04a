"""What looks like a ``def`` and gives an awaitable is guarded to its end, by every strategy."""

from __future__ import annotations

import asyncio
import functools
import gc
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from forebay.clock import ManualClock
from forebay.resilience import (
    BreakerConfig,
    Bulkhead,
    CircuitBreaker,
    CircuitOpen,
    Classifier,
    Fallback,
    Origin,
    RateLimit,
    RateLimited,
    Retry,
    RetryBudget,
    RetryConfig,
    StaleCache,
    State,
    deadline,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator


class Server:
    """A dependency that is down, or up."""

    def __init__(self, *, up: bool = False) -> None:
        self.up = up
        self.calls = 0

    async def call(self, value: int = 1) -> int:
        self.calls += 1
        await asyncio.sleep(0)
        if not self.up:
            message = "down"
            raise OSError(message)
        return value

    async def stream(self, last: int) -> AsyncGenerator[int, None]:
        yield await self.call()
        yield last

    def items(self, only: int) -> Generator[int, None, None]:
        yield only
        if not self.up:
            message = "down"
            raise OSError(message)


class Caller:
    def __init__(self, server: Server) -> None:
        self._server = server

    def __call__(self) -> Any:  # noqa: ANN401 - the type of what hides a coroutine
        return self._server.call()


def wrapped(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        return fn(*args, **kwargs)

    return wrapper


HIDDEN: dict[str, Callable[[Server], Callable[[], Any]]] = {
    "lambda": lambda server: lambda: server.call(1),
    "partial of a lambda": lambda server: partial(lambda value: server.call(value + 0), 1),
    "callable object": Caller,
    "wrapper of a decorator": lambda server: wrapped(server.call),
    "task": lambda server: lambda: asyncio.ensure_future(server.call()),
    "another strategy": lambda server: Retry(RetryConfig(attempts=1))(lambda: server.call(1)),
    "awaitable object": lambda server: lambda: Later(server),
}
hidden = pytest.mark.parametrize("hide", HIDDEN.values(), ids=HIDDEN)


class Later:
    def __init__(self, server: Server) -> None:
        self._server = server

    def __await__(self) -> Generator[Any, None, int]:
        return self._server.call().__await__()


def _down() -> None:
    message = "down"
    raise OSError(message)


PLAIN = BreakerConfig()
JUDGED = BreakerConfig(classify=Classifier(result=lambda result: result == 503))
"""Its successes are looked at."""


@hidden
@pytest.mark.parametrize("config", [PLAIN, JUDGED], ids=["plain", "judged"])
async def test_a_breaker_counts_how_it_ends(
    hide: Callable[[Server], Callable[[], Any]], config: BreakerConfig
) -> None:
    server, breaker = Server(), CircuitBreaker("b", config, clock=ManualClock())
    guarded = breaker(hide(server))

    for _ in range(5):
        with pytest.raises(OSError, match="down"):
            await guarded()
    assert breaker.state is State.OPEN
    with pytest.raises(CircuitOpen):
        await guarded()
    counts = breaker.snapshot()
    assert (counts.ok, counts.failed, counts.not_permitted) == (0, 5, 1)
    assert server.calls == 5


@hidden
async def test_a_breaker_counts_successes_of_awaited_calls(
    hide: Callable[[Server], Callable[[], Any]],
) -> None:
    breaker = CircuitBreaker("b", JUDGED, clock=ManualClock())
    guarded = breaker(hide(Server(up=True)))

    assert [await guarded() for _ in range(3)] == [1, 1, 1]
    assert breaker.snapshot().ok == 3


async def test_a_breaker_judges_what_was_awaited() -> None:
    breaker = CircuitBreaker("b", JUDGED, clock=ManualClock())
    server = Server(up=True)
    await breaker(lambda: server.call(503))()
    assert breaker.snapshot().failed == 1


async def test_a_breakers_time_out_ends_what_a_lambda_gave() -> None:
    breaker = CircuitBreaker("b", BreakerConfig(timeout=0.001))
    with pytest.raises(TimeoutError):
        await breaker(lambda: asyncio.sleep(60))()
    assert breaker.snapshot().failed == 1


async def test_a_probe_that_is_never_awaited_gives_its_place_back() -> None:
    clock = ManualClock()
    breaker = CircuitBreaker("b", BreakerConfig(failure_threshold=1), clock=clock)
    breaker.acquire().failure(OSError())
    clock.advance(60)
    server = Server(up=True)
    guarded: Callable[[], Any] = breaker(partial(Later, server))

    unawaited = guarded()
    assert breaker.snapshot().probes == 1
    unawaited.close()
    del unawaited
    gc.collect()
    assert breaker.snapshot().probes == 0


@hidden
async def test_a_retry_tries_again(hide: Callable[[Server], Callable[[], Any]]) -> None:
    server, clock = Server(), ManualClock()
    budget = RetryBudget(ratio=1.0, floor=10)
    guarded = Retry(RetryConfig(attempts=3, base=1e-9, cap=1e-9), budget=budget, clock=clock)(
        hide(server)
    )

    async def moving() -> None:
        while True:
            clock.advance(1.0)
            await asyncio.sleep(0)

    mover = asyncio.ensure_future(moving())
    with pytest.raises(OSError, match="down"):
        await guarded()
    mover.cancel()
    assert server.calls == 3
    assert budget.left == 9  # one call paid for one of two retries


@hidden
async def test_a_bulkhead_holds_its_place_to_the_end_and_lets_tasks_wait(
    hide: Callable[[Server], Callable[[], Any]],
) -> None:
    bulkhead = Bulkhead(1, waiting=5)
    guarded = bulkhead(hide(Server(up=True)))
    await guarded()  # from here on it is known that this can wait

    seen = []

    async def one() -> int:
        async def watch() -> None:
            seen.append(bulkhead.in_flight)

        result: int = await guarded()
        await watch()
        return result

    answers = await asyncio.gather(*(one() for _ in range(3)), return_exceptions=True)
    assert 1 in answers
    assert max(seen) <= 1
    assert (bulkhead.in_flight, bulkhead.queued) == (0, 0)


async def test_tasks_queue_for_what_a_lambda_gives() -> None:
    bulkhead, server = Bulkhead(1, waiting=5), Server(up=True)
    guarded = bulkhead(lambda: server.call(1))
    await guarded()
    assert await asyncio.gather(*(guarded() for _ in range(4))) == [1, 1, 1, 1]
    server.up = False
    with pytest.raises(OSError, match="down"):
        await guarded()
    assert bulkhead.in_flight == 0


async def test_a_bulkhead_that_is_full_refuses_what_a_lambda_gave() -> None:
    bulkhead, server = Bulkhead(1), Server(up=True)
    guarded = bulkhead(lambda: server.call(1))
    await guarded()
    with bulkhead.guard(), pytest.raises(Exception, match="full"):
        await guarded()
    assert server.calls == 1


async def test_a_place_of_what_is_never_awaited_is_given_back() -> None:
    bulkhead, server = Bulkhead(1), Server(up=True)
    guarded: Callable[[], Any] = bulkhead(partial(Later, server))
    unawaited = guarded()
    assert bulkhead.in_flight == 1
    unawaited.close()
    del unawaited
    gc.collect()
    assert bulkhead.in_flight == 0


async def test_a_rate_limit_counts_each_call_once() -> None:
    limit, server = RateLimit(1.0, burst=2, clock=ManualClock()), Server(up=True)
    guarded = limit(lambda: server.call(1))
    assert [await guarded(), await guarded()] == [1, 1]
    with pytest.raises(RateLimited):
        await guarded()
    assert server.calls == 2


@pytest.mark.parametrize("up", [True, False], ids=["up", "down"])
@pytest.mark.parametrize("config", [PLAIN, JUDGED], ids=["plain", "judged"])
async def test_streams_that_a_lambda_opens_are_guarded_to_their_end(
    config: BreakerConfig, *, up: bool
) -> None:
    server, breaker = Server(up=up), CircuitBreaker("b", config, clock=ManualClock())
    streams, lists = breaker(lambda: server.stream(2)), breaker(lambda: server.items(1))

    with nullcontext() if up else pytest.raises(OSError, match="down"):
        assert [item async for item in streams()] == [1, 2]
    with nullcontext() if up else pytest.raises(OSError, match="down"):
        assert list(lists()) == [1]

    counts = breaker.snapshot()
    assert (counts.ok, counts.failed) == ((2, 0) if up else (0, 2))


@hidden
async def test_a_fallback_serves_instead(hide: Callable[[Server], Callable[[], Any]]) -> None:
    fallback = Fallback[int]("f", lambda _: 7)
    answer = await fallback.acall(hide(Server()))
    assert (answer.value, answer.origin) == (7, Origin.SUBSTITUTE)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # nobody awaits
@hidden
async def test_a_form_that_needs_a_value_refuses_an_awaitable(
    hide: Callable[[Server], Callable[[], Any]],
) -> None:
    server = Server(up=True)
    gives = hide(server)
    breaker = CircuitBreaker("b", clock=ManualClock())
    cache = StaleCache[str, object](clock=ManualClock())
    forms: list[Callable[[], object]] = [
        lambda: breaker.call(gives),
        lambda: Bulkhead(1).call(gives),
        lambda: RateLimit(1.0, clock=ManualClock()).call(gives),
        lambda: Retry(RetryConfig(on=Exception, attempts=3)).call(gives),
        lambda: Fallback[object]("f", lambda _: 7).call(gives),
        Fallback[object]("f", lambda _: 7)(gives),
        lambda: cache.get("a", gives),
        lambda: cache.put("a", gives()),
        lambda: Fallback[object]("f", lambda _: gives()).call(_down),
        lambda: Retry(RetryConfig(), pause=lambda _: gives()).call(_down),
        deadline(5, clock=ManualClock())(gives),
    ]
    for form in forms:
        with pytest.raises(TypeError, match="gave a coroutine"):
            form()
    assert len(cache) == 0
    assert breaker.snapshot().failed == 0
    await asyncio.sleep(0.0)


def test_a_deadline_decorates_a_def_and_nothing_else() -> None:
    limit = deadline(5, clock=ManualClock())
    assert limit(len)("abc") == 3
    with pytest.raises(TypeError, match="adeadline"):
        limit(Server().call)
    with pytest.raises(TypeError, match="adeadline"):
        limit(Server().items)
