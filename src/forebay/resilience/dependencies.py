"""What depends on what, as a mapping from each name to the names it depends on. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.errors import ConfigError
from forebay.text import nearest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping


def start_order(depends_on: Mapping[str, Collection[str]]) -> tuple[str, ...]:
    """Return all names, each after what it depends on, else as given; reverse it to stop.

    Raises ConfigError for a cycle, which it spells out, and for a name that is not in the graph.
    """
    for name, needed in depends_on.items():
        require_known(name, needed, depends_on)
    order = []
    for name, cycle in _peel(depends_on):
        if cycle:
            raise ConfigError(
                f"Services depend on each other: {' -> '.join((*cycle, cycle[0]))}.",
                hint="Take one of these dependencies away.",
            )
        order.append(name)
    return tuple(order)


def lenient_order(depends_on: Mapping[str, Collection[str]]) -> tuple[str, ...]:
    """:func:`start_order` that refuses nothing: unknown names are left out, a cycle is broken."""
    return tuple(name for name, _ in _peel(depends_on))


def behind(name: str, depends_on: Mapping[str, Collection[str]]) -> set[str]:
    """Return what a name depends on, and what those do, and so on."""
    needed: set[str] = set()
    ahead = [name]
    while ahead:
        for other in depends_on.get(ahead.pop(), ()):
            if other not in needed:
                needed.add(other)
                ahead.append(other)
    return needed


def require_known(name: str, needed: Iterable[str], known: Collection[str]) -> None:
    """Raise ConfigError if ``name`` depends on what is not ``known``."""
    for other in needed:
        if other not in known:
            raise ConfigError(
                f"{name} depends on {other}, and there is no such service.",
                hint=near(other, known),
            )


def near(name: str, known: Collection[str]) -> str:
    """Return a hint for a name that there is not: the one that was meant, or all."""
    if close := nearest(name, known):
        return f"Did you mean {close}?"
    return f"There are: {', '.join(known)}." if known else "There are none."


def _peel(depends_on: Mapping[str, Collection[str]]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Give each name in order, with the cycle that had to be broken for it if there is one."""
    left = dict(depends_on)
    while left:
        ready = next((name for name in left if left.keys().isdisjoint(left[name])), None)
        cycle = _cycle(left) if ready is None else ()
        name = cycle[0] if ready is None else ready
        del left[name]
        yield name, cycle


def _cycle(left: Mapping[str, Collection[str]]) -> tuple[str, ...]:
    """Return a cycle of names that all depend on others of ``left``."""
    path: dict[str, None] = {}
    name = next(iter(left))
    while name not in path:
        path[name] = None
        name = next(other for other in left[name] if other in left)
    walked = list(path)
    return tuple(walked[walked.index(name) :])
