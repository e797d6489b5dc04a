"""What a venue's list says of markets that come and go, and how it is asked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from forebay.errors import Stuck, Unusable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

MOST_PAGES: Final = 10_000
"""A list whose pages are more than these is an error, and not at its end."""

MarketState: TypeAlias = Literal["coming", "open", "ended"]
"""Whether it can be traded yet, now (a pause included), or no more."""
_WILD = {"*": ".*", "?": "."}


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedMarket:
    """What a list says of one market; times are UTC nanoseconds."""

    symbol: str
    state: MarketState
    open_ns: int | None = None
    """When it opens, or opened."""
    ends_ns: tuple[int, ...] = ()
    """Times of which each may be its end: that of its schedule, which is stale where it ended
    early, and that of its result."""
    belongs: tuple[str, ...] = ()
    """Paths that tell of what it is a part of; each is asked for once."""
    unknown: tuple[tuple[str, str], ...] = ()
    """Columns with values that are new to us."""
    impossible: str = ""
    """What of it contradicts itself, as columns joined by commas; the others go on."""


@dataclass(frozen=True, slots=True)
class ListPage:
    """What one page of a list says."""

    markets: tuple[ListedMarket, ...]
    unreadable: tuple[str, ...] = ()
    """What was wrong with each row that could not be read; the others were."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListQuery:
    """Which markets are asked for: some by name, or those in a state whose names begin alike."""

    names: tuple[str, ...] = ()
    head: str = ""
    """How their names begin, as far as the venue can be asked for that: it may tell of more."""
    state: MarketState = "open"
    since_ns: int = 0
    """Of those that ended: from when on, and until when; UTC nanoseconds."""
    until_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """Where a venue lists markets that come and go: symbols of it may be patterns."""

    first: Callable[[ListQuery], str]
    """Returns path and query of the first page."""
    read: Callable[[bytes], ListPage]
    """Raises ``ValueError`` if an answer is no list."""
    following: Callable[[str, bytes], str]
    """From path and answer of a page to path and query of the next one; empty after the last."""
    kinds: tuple[str, ...]
    """Kinds of event that answers tell."""
    pushed: tuple[str, ...] = ()
    """Kinds of event that tell of all markets over one connection, as they change."""
    names: int = 100
    """How many markets may be asked for by name together."""
    cost: int = 1


async def read_pages(
    directory: Directory,
    query: ListQuery,
    ask: Callable[[str], Awaitable[bytes]],
    take: Callable[[ListPage], object],
) -> None:
    """Ask for one page after the other, and have each taken.

    Neither a short page nor an empty one is the end. Raises :class:`~forebay.errors.Unusable` if a
    page is none, :class:`~forebay.errors.Stuck` if pages do not advance or do not end, and what
    ``ask`` raises.
    """
    asked = set[str]()
    target = directory.first(query)
    while target:
        if target in asked or len(asked) >= MOST_PAGES:
            what = "names a page twice" if target in asked else f"has more than {MOST_PAGES} pages"
            message = f"The list of markets {what}."
            raise Stuck(message, hint="The source is not advancing; it is asked again later.")
        asked.add(target)
        body = await ask(target)
        try:
            page, target = directory.read(body), directory.following(target, body)
        except (ValueError, RecursionError) as error:
            message = f"A page of the list of markets cannot be read: {error}."
            raise Unusable(message, hint="It is asked for again later.") from error
        take(page)


def is_pattern(symbol: str) -> bool:
    """Return whether it stands for symbols: ``*`` for anything, ``?`` for one character."""
    return any(wild in symbol for wild in _WILD)


def head_of(pattern: str) -> str:
    """Return how each symbol begins that a pattern stands for; a symbol stands for itself."""
    return re.split(r"[*?]", pattern, maxsplit=1)[0]


def matcher(pattern: str) -> Callable[[str], bool]:
    """Return what tells whether a pattern stands for a symbol; upper and lower case differ."""
    parts = (_WILD.get(part) or re.escape(part) for part in re.split(r"([*?])", pattern))
    found = re.compile("".join(parts), re.DOTALL)
    return lambda symbol: found.fullmatch(symbol) is not None
