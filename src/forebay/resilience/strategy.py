"""The forms in which every strategy can be used: decorator, ``call``, ``acall``, ``with``.

The shape of a function is looked at once, when it is decorated. What looks like a ``def`` may give
a coroutine all the same (a lambda, another decorator's wrapper), so what it returns is looked at
too: a call ends when that has been awaited, or gone through.
"""

from __future__ import annotations

import functools
import inspect
from abc import ABC, abstractmethod
from enum import Enum
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator

P = ParamSpec("P")
R = TypeVar("R")


class Shape(Enum):
    """What calling a function gives."""

    PLAIN = "a value"
    COROUTINE = "a coroutine"
    GENERATOR = "a generator"
    ASYNC_GENERATOR = "an asynchronous generator"


def shape_of(fn: Callable[..., object]) -> Shape:
    """Look at a function, at a ``functools.partial`` of one, or at an object's ``__call__``."""
    target = fn
    while isinstance(target, functools.partial):
        target = target.func
    if not inspect.isroutine(target) and not inspect.isclass(target):
        target = getattr(target, "__call__", target)  # noqa: B004 - the method is what is looked at
    if inspect.iscoroutinefunction(target):
        return Shape.COROUTINE
    if inspect.isasyncgenfunction(target):
        return Shape.ASYNC_GENERATOR
    return Shape.GENERATOR if inspect.isgeneratorfunction(target) else Shape.PLAIN


def require(fn: Callable[..., object], *shapes: Shape) -> None:
    """Raise TypeError unless the function has one of these shapes."""
    shape = shape_of(fn)
    if shape not in shapes:
        name = getattr(fn, "__qualname__", repr(fn))
        raise TypeError(
            f"{name} gives {shape.value}; this form takes one that gives "
            f"{' or '.join(each.value for each in shapes)}. acall awaits; a decorator takes all."
        )


VALUES: set[type] = {type(None), bool, int, float, str, bytes, dict, list, tuple}
"""Classes whose objects are plain values; those that were seen are added."""
_MOST_CLASSES = 1000


def shape_given(result: object) -> Shape:
    """Look at what a function returned: of most classes, once."""
    kind = type(result)
    if kind in VALUES:
        return Shape.PLAIN
    if inspect.isawaitable(result):
        return Shape.COROUTINE
    if inspect.isasyncgen(result):
        return Shape.ASYNC_GENERATOR
    if inspect.isgenerator(result):
        return Shape.GENERATOR
    if len(VALUES) < _MOST_CLASSES:
        VALUES.add(kind)
    return Shape.PLAIN


def has_not_begun(result: object) -> bool:
    """Whether it does nothing before it is awaited or gone through; a task does."""
    return inspect.iscoroutine(result) or inspect.isgenerator(result) or inspect.isasyncgen(result)


def require_value(result: object) -> None:
    """Raise TypeError if what a function returned is yet to be awaited."""
    shape = shape_given(result)
    if shape in {Shape.COROUTINE, Shape.ASYNC_GENERATOR}:
        if inspect.iscoroutine(result):
            result.close()  # or Python complains that nobody awaited it
        raise TypeError(
            f"The function gave {shape.value}; this form takes one that gives a value. "
            "acall awaits; a decorator takes all."
        )


class Guarded(ABC):
    """One guarded call as a block: ``with`` in a thread, ``async with`` on an event loop.

    It is entered once and ends once, at the latest when it is dropped; entering it while it is
    live changes nothing.
    """

    live = False
    """Whether it was entered and has not ended."""
    gave = False
    """A generator has given an item: its consumer may leave, which is not its fault."""
    result: object = None
    """What the call returned."""

    @abstractmethod
    def _begin(self) -> None:
        """Ask for the call."""

    async def _abegin(self) -> None:
        """Ask for the call on an event loop."""
        self._begin()

    @abstractmethod
    def _end(self, error: BaseException | None, /) -> None:
        """The call raised ``error``, or returned."""

    def end(self, error: BaseException | None = None) -> None:
        """End it, once."""
        if self.live:
            self._end(error)
            self.live = False

    def __enter__(self) -> Self:
        if not self.live:
            self._begin()
            self.live = True
        return self

    async def __aenter__(self) -> Self:
        if not self.live:
            await self._abegin()
            self.live = True
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object, /) -> None:
        self.end(error)

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object, /) -> None:
        self.end(error)

    def __del__(self) -> None:
        if self.live:
            self.end(GeneratorExit())


class Strategy(ABC):
    """Everything that can be done with a strategy that can guard one call."""

    @abstractmethod
    def guard(self) -> Guarded:
        """Return a new block that guards what is inside it."""

    def call(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a plain function. Raises TypeError for one that gives a coroutine."""
        require(fn, Shape.PLAIN)
        with self.guard() as guard:
            result = guard.result = fn(*args, **kwargs)
            try:
                require_value(result)
            except TypeError:
                guard.end(GeneratorExit())  # neither a success nor a failure
                raise
        return result

    async def acall(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function and await what it gives."""
        result: R = await self._coroutine(fn, self.guard())(*args, **kwargs)
        return result

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        """Decorate a function of any shape; its type stays as it is."""
        shape = shape_of(fn)
        way = self._plain if shape is Shape.PLAIN else self._ways()[shape]
        return cast("Callable[P, R]", functools.wraps(fn)(way(fn)))

    def _ways(self) -> dict[Shape, Callable[..., Callable[..., Any]]]:
        return {
            Shape.COROUTINE: self._coroutine,
            Shape.GENERATOR: self._generator,
            Shape.ASYNC_GENERATOR: self._async_generator,
        }

    def _given(self, shape: Shape, result: Any, begun: Guarded | None = None) -> Any:  # noqa: ANN401
        """Guard what a function returned, as if it had been of that shape."""
        guarded = self._ways()[shape](lambda: result, begun)

        async def closing() -> Any:  # noqa: ANN401
            try:
                return await guarded()
            finally:
                result.close()  # one that was refused is never awaited, and Python would warn

        return closing() if inspect.iscoroutine(result) else guarded()

    def _plain(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        waits = False  # what it gave last had not begun: then the guard can wait, as a task does

        def plain(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            nonlocal waits
            if waits:
                result = fn(*args, **kwargs)
                waits = has_not_begun(result)
                if waits:
                    return self._given(shape_given(result), result)
                with self.guard():
                    return result
            guard = self.guard().__enter__()
            try:
                result = guard.result = fn(*args, **kwargs)
            except BaseException as error:
                guard.end(error)
                raise
            shape = shape_given(result)
            if shape is Shape.PLAIN:
                guard.end()
                return result
            waits = has_not_begun(result)
            return self._given(shape, result, guard)

        return plain

    def _coroutine(
        self, fn: Callable[..., Any], begun: Guarded | None = None
    ) -> Callable[..., Any]:
        async def coroutine(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            async with begun or self.guard() as guard:
                result = guard.result = await fn(*args, **kwargs)
            return result

        return coroutine

    def _generator(
        self, fn: Callable[..., Any], begun: Guarded | None = None
    ) -> Callable[..., Any]:
        def generator(*args: object, **kwargs: object) -> Generator[Any, Any, Any]:
            with begun or self.guard() as guard:
                try:
                    return (yield from fn(*args, **kwargs))
                except GeneratorExit:
                    guard.gave = True  # a generator waits nowhere but at an item
                    raise

        return generator

    def _async_generator(
        self, fn: Callable[..., Any], begun: Guarded | None = None
    ) -> Callable[..., Any]:
        async def generator(*args: object, **kwargs: object) -> AsyncGenerator[Any, Any]:
            async with begun or self.guard() as guard:
                inner = fn(*args, **kwargs)
                step = inner.asend(None)
                while True:
                    try:
                        item = await step
                    except StopAsyncIteration:
                        return
                    guard.gave = True
                    try:
                        step = inner.asend((yield item))
                    except GeneratorExit:
                        await inner.aclose()
                        raise
                    except BaseException as error:  # noqa: BLE001 - it is the generator's to see
                        step = inner.athrow(error)

        return generator
