"""Changes of an order book to the book: level updates a second, the best ten asked for often.

All contenders are given the same integers, one message at a time, as a venue sends them: a walk
of the middle, and changes near it. Each hundred messages the ten best of both sides are looked at.
The same book is told once by the sizes that levels have from then on, and once by differences.
"""

from __future__ import annotations

import random
from functools import cache
from itertools import islice
from operator import neg
from typing import TYPE_CHECKING

from sortedcontainers import SortedDict

from forebay.domain.book import Book, Levels
from tests.benchmarks.harness import OURS, Goal, Row, alternate, seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Message = tuple[Levels, Levels]

MESSAGES, LEVELS, BEST, LOOK_AFTER = 200_000, 5_000, 10, 100
_TICK = 10**16
_SORTED, _PLAIN = "sortedcontainers", "dict + sort"


@cache
def messages() -> tuple[Message, list[Message]]:
    """Return a snapshot and the changes behind it, one level each mostly."""
    dice, middle = random.Random(1), 1_000_000
    bids, asks = (
        Levels([(middle + way * (1 + at)) * _TICK for at in range(LEVELS)], [_TICK] * LEVELS)
        for way in (-1, 1)
    )
    held = {-1: dict(zip(*bids, strict=True)), 1: dict(zip(*asks, strict=True))}
    changes: list[Message] = []
    for _ in range(MESSAGES):
        middle += dice.choice((-1, 0, 0, 0, 1))
        way = dice.choice((-1, 1))
        prices: list[int] = []
        sizes: list[int] = []
        for _ in range(dice.choice((1, 1, 1, 2))):
            price = (middle + way * (1 + int(dice.expovariate(0.02)))) * _TICK
            size = held[way].get(price, 0)
            held[way][price] = (size + dice.randint(1, 3) * _TICK) % (4 * _TICK)
            prices.append(price)
            sizes.append(held[way][price])
        told = Levels(prices, sizes)
        changes.append((told, Levels()) if way < 0 else (Levels(), told))
    return (bids, asks), changes


def ours(first: Message, changes: Sequence[Message], book: Book | None = None) -> object:
    """The book."""
    book, seen = book or Book(), None
    book.replace(*first)
    for at, change in enumerate(changes):
        book.apply(*change)
        if at % LOOK_AFTER == 0:
            seen = book.bids.best(BEST), book.asks.best(BEST)
    return seen


def differences(first: Message, changes: Sequence[Message]) -> Iterator[Message]:
    """Yield what each change adds to the sizes that there are."""
    held = [dict(zip(*side, strict=True)) for side in first]
    for change in changes:
        told = []
        for sizes, (prices, news) in zip(held, change, strict=True):
            added = []
            for price, size in zip(prices, news, strict=True):
                added.append(size - sizes.get(price, 0))
                sizes[price] = size
            told.append(Levels(prices, added))
        yield told[0], told[1]


def relative(first: Message, changes: Sequence[Message]) -> object:
    """The book, of differences."""
    return ours(first, changes, Book(relative=True))


def sorted_dicts(first: Message, changes: Sequence[Message]) -> object:
    """Two sorted dictionaries."""
    sides, seen = (SortedDict(neg), SortedDict()), None
    for at, change in enumerate((first, *changes), -1):
        for side, levels in zip(sides, change, strict=True):
            for price, size in zip(*levels, strict=True):
                if size:
                    side[price] = size
                else:
                    side.pop(price, None)
        if at % LOOK_AFTER == 0:
            seen = tuple(list(islice(side.items(), BEST)) for side in sides)
    return seen


def plain_dicts(first: Message, changes: Sequence[Message]) -> object:
    """Two dictionaries, sorted for each look."""
    bids: dict[int, int] = {}
    asks: dict[int, int] = {}
    seen = None
    for at, change in enumerate((first, *changes), -1):
        for side, levels in zip((bids, asks), change, strict=True):
            for price, size in zip(*levels, strict=True):
                if size:
                    side[price] = size
                else:
                    side.pop(price, None)
        if at % LOOK_AFTER == 0:
            seen = sorted(bids.items(), reverse=True)[:BEST], sorted(asks.items())[:BEST]
    return seen


def run() -> Iterator[Row]:
    """Measure level updates a second."""
    first, changes = messages()
    added = list(differences(first, changes))
    ways = {OURS: ours, _SORTED: sorted_dicts, _PLAIN: plain_dicts}
    answers = [way(first, changes) for way in ways.values()]
    assert answers[0] == answers[1] == answers[2] == relative(first, added)
    rounds = alternate({name: _rate(way, first, changes) for name, way in ways.items()})
    for peer in (_SORTED, _PLAIN):
        yield rounds.row("book fold", "level updates/s", Goal(least=1_000_000), peer)
    of_differences = alternate({OURS: _rate(relative, first, added)})
    yield of_differences.row("book fold of differences", "level updates/s", Goal(least=1_000_000))


def _rate(
    way: Callable[[Message, Sequence[Message]], object], first: Message, changes: Sequence[Message]
) -> Callable[[], float]:
    count = sum(len(side.prices) for change in changes for side in change)
    return lambda: count / seconds(lambda: way(first, changes))
