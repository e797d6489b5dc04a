"""The forms: what each shape of function becomes, and that no end of a call leaks a probe."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import types
from typing import TYPE_CHECKING, Any, assert_type

import pytest

from forebay.clock import ManualClock
from forebay.resilience import (
    Answer,
    BreakerConfig,
    Bulkhead,
    CircuitBreaker,
    CircuitOpen,
    Fallback,
    Permit,
    RateLimit,
    Retry,
    State,
)
from forebay.resilience.strategy import Shape, shape_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator

    from forebay.resilience.strategy import Strategy


@pytest.fixture(autouse=True)
def _collect_only_what_is_new() -> Iterator[None]:
    """Hide everything older from the collector: a collection is quick, and all that is ours."""
    gc.freeze()
    yield
    gc.unfreeze()


def half_open(*, success_threshold: int = 1) -> CircuitBreaker:
    """A breaker that takes one probe next."""
    clock = ManualClock()
    config = BreakerConfig(failure_threshold=1, success_threshold=success_threshold)
    breaker = CircuitBreaker("b", config, clock=clock)
    breaker.acquire().failure(ValueError())
    clock.advance(60)
    return breaker


def closed() -> CircuitBreaker:
    return CircuitBreaker("b", clock=ManualClock())


def live(breaker: CircuitBreaker) -> int:
    return breaker.snapshot().probes


# ----------------------------------------------------------------------- types


def plain(x: int, *, y: str = "") -> float:
    return x + len(y)


async def coroutine(x: int) -> str:
    await asyncio.sleep(0)
    return str(x)


def generator(x: int) -> Generator[int, str, bytes]:
    sent = yield x
    yield len(sent)
    return b"end"


async def stream(x: int) -> AsyncGenerator[int, str]:
    sent = yield x
    yield len(sent)


def test_a_decorator_keeps_every_type() -> None:
    breaker = closed()
    assert_type(breaker(plain)(1, y="a"), float)
    assert_type(breaker(generator)(1), "Generator[int, str, bytes]")
    assert_type(breaker(stream)(1), "AsyncGenerator[int, str]")
    assert_type(breaker.call(plain, 1), float)
    assert_type(Bulkhead(1)(plain)(1), float)
    assert_type(RateLimit(1e9)(plain)(1), float)
    assert_type(Retry()(plain)(1), float)
    called = Fallback("f", lambda _: 0.0)(plain)
    assert_type(called(1), Answer[float])
    with breaker.guard() as permit:
        assert_type(permit, Permit)


async def test_awaited_calls_keep_their_types() -> None:
    assert_type(await closed()(coroutine)(1), str)
    assert_type(await closed().acall(coroutine, 1), str)
    assert_type(await Retry().acall(coroutine, 1), str)
    answer = await Fallback("f", lambda _: "").acall(coroutine, 1)
    assert_type(answer, Answer[str])
    assert answer == Answer("1")


class Callables:
    async def __call__(self) -> None: ...

    def method(self) -> int:
        return 1


@pytest.mark.parametrize(
    ("fn", "shape"),
    [
        (plain, Shape.PLAIN),
        (coroutine, Shape.COROUTINE),
        (generator, Shape.GENERATOR),
        (stream, Shape.ASYNC_GENERATOR),
        (functools.partial(functools.partial(coroutine), 1), Shape.COROUTINE),
        (Callables(), Shape.COROUTINE),
        (Callables().method, Shape.PLAIN),
        (Callables, Shape.PLAIN),
        (len, Shape.PLAIN),
    ],
)
def test_the_shape_is_seen(fn: Callable[..., object], shape: Shape) -> None:
    assert shape_of(fn) is shape


def test_a_decorated_function_is_of_the_same_shape_and_name() -> None:
    for strategy in (closed(), Bulkhead(1), RateLimit(1)):
        for fn in (plain, coroutine, generator, stream):
            made = strategy(fn)
            assert shape_of(made) is shape_of(fn)
            assert made.__name__ == fn.__name__


def test_a_coroutine_is_not_called_as_a_value() -> None:
    for strategy in (closed(), Bulkhead(1), Retry()):
        with pytest.raises(TypeError, match="acall awaits"):
            strategy.call(coroutine, 1)  # type: ignore[unused-coroutine]


# ------------------------------------------------------------------- behaviour


def strategies() -> list[Strategy]:
    return [half_open(), Bulkhead(1), RateLimit(1e9, burst=100)]


@pytest.mark.parametrize("which", range(3))
async def test_every_form_does_what_the_function_does(which: int) -> None:
    strategy = strategies()[which]
    assert strategy(plain)(1, y="ab") == 3
    assert strategy.call(plain, 1, y="ab") == 3
    assert await strategy(coroutine)(7) == "7"
    assert await strategy.acall(coroutine, 7) == "7"
    items = strategy(generator)(5)
    assert (next(items), items.send("abc")) == (5, 3)
    with pytest.raises(StopIteration) as stop:
        next(items)
    assert stop.value.value == b"end"
    others = strategy(stream)(5)
    assert (await anext(others), await others.asend("abc")) == (5, 3)
    with pytest.raises(StopAsyncIteration):
        await anext(others)
    with strategy.guard():
        pass
    async with strategy.guard():
        pass
    if isinstance(strategy, Bulkhead):
        assert strategy.in_flight == 0


async def finish(call: Callable[[CircuitBreaker], object], breaker: CircuitBreaker) -> None:
    result = call(breaker)
    if inspect.isawaitable(result):
        await result


async def test_each_form_of_a_failure_opens() -> None:
    error = ValueError("down")

    def failing() -> int:
        raise error

    async def afailing() -> int:
        raise error

    def items() -> Generator[int, None, None]:
        yield 1
        raise error

    async def aitems() -> AsyncGenerator[int, None]:
        yield 1
        raise error

    async def in_block(breaker: CircuitBreaker) -> None:
        async with breaker.guard():
            raise error

    async def collected(breaker: CircuitBreaker) -> list[int]:
        return [item async for item in breaker(aitems)()]

    calls: list[Callable[[CircuitBreaker], object]] = [
        lambda breaker: breaker(failing)(),
        lambda breaker: breaker(afailing)(),
        lambda breaker: breaker.acall(afailing),
        lambda breaker: list(breaker(items)()),
        collected,
        in_block,
    ]
    for call in calls:
        for breaker in (half_open(), CircuitBreaker("c", BreakerConfig(failure_threshold=1))):
            with pytest.raises(ValueError, match="down") as raised:
                await finish(call, breaker)
            assert raised.value is error
            assert breaker.state is State.OPEN


async def test_what_is_thrown_into_a_stream_reaches_it() -> None:
    async def catching() -> AsyncGenerator[str, None]:
        try:
            yield "first"
        except KeyError:
            yield "caught"

    items = closed()(catching)()
    assert await anext(items) == "first"
    assert await items.athrow(KeyError()) == "caught"
    await items.aclose()


# ------------------------------------------------------------ no end leaks a probe


@types.coroutine
def suspend() -> Generator[None, None, None]:
    yield


async def three_steps() -> str:
    for _ in range(3):
        await suspend()
    return "done"


async def through_guard(breaker: CircuitBreaker) -> str:
    async with breaker.guard():
        return await three_steps()


async def through_stream(breaker: CircuitBreaker) -> str:
    @breaker
    async def items() -> AsyncGenerator[str, None]:
        yield await three_steps()

    (item,) = [item async for item in items()]
    return item


FORMS: dict[str, Callable[[CircuitBreaker], Awaitable[str]]] = {
    "decorator": lambda breaker: breaker(three_steps)(),
    "acall": lambda breaker: breaker.acall(three_steps),
    "guard": through_guard,
    "stream": through_stream,
}


@pytest.mark.parametrize("how", ["cancel", "close", "drop"])
@pytest.mark.parametrize("step", range(4))
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("make", [half_open, closed])
def test_given_up_at_any_await_a_call_leaks_nothing(
    make: Callable[[], CircuitBreaker], form: str, step: int, how: str
) -> None:
    breaker = make()
    pending: Any = FORMS[form](breaker)
    for _ in range(step):
        pending.send(None)
    if make is half_open:
        assert live(breaker) == (step > 0)
    before = breaker.state
    if how == "cancel":
        with pytest.raises(asyncio.CancelledError):
            pending.throw(asyncio.CancelledError())
    elif how == "close" or step == 0:  # one that was never begun would warn
        pending.close()
    del pending
    gc.collect()
    assert live(breaker) == 0
    assert breaker.state is before
    assert breaker.snapshot().neutral == (step > 0)
    if make is half_open:
        assert breaker.call(plain, 1) == 1
        assert breaker.state is State.CLOSED


@pytest.mark.parametrize("how", ["close", "drop", "cycle"])
def test_a_generator_left_after_an_item_was_a_success(how: str) -> None:
    breaker = half_open()
    items = breaker(generator)(1)
    next(items)
    assert live(breaker) == 1
    if how == "close":
        items.close()
    elif how == "cycle":
        cycle: list[object] = [items]
        cycle.append(cycle)
        del cycle
    del items
    gc.collect()
    assert (live(breaker), breaker.state) == (0, State.CLOSED)


async def test_an_asynchronous_generator_left_after_an_item_was_a_success() -> None:
    breaker = half_open()
    items = breaker(stream)(1)
    assert await anext(items) == 1
    await items.aclose()
    assert (live(breaker), breaker.state) == (0, State.CLOSED)
    breaker = half_open()
    items = breaker(stream)(1)
    assert await anext(items) == 1
    del items
    gc.collect()
    for _ in range(5):
        await asyncio.sleep(0)
    assert (live(breaker), breaker.state) == (0, State.CLOSED)


def test_a_permit_or_guard_that_is_dropped_is_released() -> None:
    breaker = half_open()
    permit = breaker.acquire()
    with pytest.raises(CircuitOpen):
        breaker.acquire()
    del permit
    breaker.acquire().success()
    assert breaker.state is State.CLOSED


def test_the_collector_may_end_a_call_inside_the_lock() -> None:
    breaker = half_open()
    permit = breaker.acquire()
    with breaker._lock:
        del permit  # a lock here would wait for itself
    assert live(breaker) == 0


@pytest.mark.parametrize("make", [half_open, closed])
@pytest.mark.parametrize("form", FORMS)
def test_a_call_closed_inside_the_lock_does_not_wait_for_it(
    form: str, make: Callable[[], CircuitBreaker]
) -> None:
    breaker = make()
    pending: Any = FORMS[form](breaker)
    pending.send(None)
    with breaker._lock:
        pending.close()
    del pending
    gc.collect()
    assert (live(breaker), breaker.snapshot().neutral) == (0, 1)


def test_the_first_word_counts() -> None:
    breaker = half_open(success_threshold=2)
    permit = breaker.acquire()
    permit.success()
    permit.success()
    permit.failure(ValueError())
    assert breaker.state is State.HALF_OPEN
    assert breaker.snapshot().ok == 1


def test_a_block_can_say_otherwise() -> None:
    breaker = CircuitBreaker("b", BreakerConfig(failure_threshold=1))
    with breaker.guard() as permit:
        permit.failure(ValueError("status 503"))
    assert breaker.state is State.OPEN
