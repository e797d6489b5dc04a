"""The forms in which every strategy can be used: decorator, ``call``, ``acall``, ``with``.

A strategy that can say :meth:`Forms.guard` gets all of them. The shape of a function (``def``,
``async def``, generator, asynchronous generator) is looked at once, when it is decorated.
"""

from __future__ import annotations

import functools
import inspect
from abc import ABC, abstractmethod
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
    from types import TracebackType

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
    """Raise TypeError unless the function has one of these shapes.

    A coroutine that is called as if it were a value would count as a success before it began.
    """
    shape = shape_of(fn)
    if shape not in shapes:
        name = getattr(fn, "__qualname__", repr(fn))
        raise TypeError(
            f"{name} gives {shape.value}; this form takes one that gives "
            f"{' or '.join(each.value for each in shapes)}. acall awaits; a decorator takes all."
        )


class Guard(ABC):
    """One guarded call as a block: ``with`` in a thread, ``async with`` on an event loop.

    A guard is entered once. ``gave`` is set by a generator that has given an item; its consumer
    may leave then without that being the dependency's fault.
    """

    gave = False

    @abstractmethod
    def __enter__(self) -> Any:  # noqa: ANN401 - each guard says what
        ...

    @abstractmethod
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> Literal[False] | None: ...

    async def __aenter__(self) -> Any:  # noqa: ANN401 - each guard says what
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> Literal[False] | None:
        return self.__exit__(kind, error, traceback)


class Forms(ABC):
    """Everything that can be done with a strategy that can guard one call."""

    @abstractmethod
    def guard(self) -> Guard:
        """Answer a new block that guards what is inside it."""

    def call(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a plain function. Raises TypeError for one that would give a coroutine."""
        require(fn, Shape.PLAIN)
        with self.guard():
            return fn(*args, **kwargs)

    async def acall(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function and await what it gives."""
        async with self.guard():
            return await fn(*args, **kwargs)

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        """Decorate a function of any shape; its type stays as it is."""
        shapes: dict[Shape, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
            Shape.PLAIN: self._plain,
            Shape.COROUTINE: self._coroutine,
            Shape.GENERATOR: self._generator,
            Shape.ASYNC_GENERATOR: self._async_generator,
        }
        return cast("Callable[P, R]", functools.wraps(fn)(shapes[shape_of(fn)](fn)))

    def _plain(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        def plain(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            with self.guard():
                return fn(*args, **kwargs)

        return plain

    def _coroutine(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        async def coroutine(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            async with self.guard():
                return await fn(*args, **kwargs)

        return coroutine

    def _generator(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        def generator(*args: object, **kwargs: object) -> Generator[Any, Any, Any]:
            guard = self.guard()
            with guard:
                try:
                    return (yield from fn(*args, **kwargs))
                except GeneratorExit:
                    guard.gave = True  # a generator waits nowhere but at an item
                    raise

        return generator

    def _async_generator(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        async def generator(*args: object, **kwargs: object) -> AsyncGenerator[Any, Any]:
            guard = self.guard()
            async with guard:
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
