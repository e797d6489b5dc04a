"""How a venue tells its order books, as its parser declares it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import NamedTuple, Protocol, runtime_checkable

KINDS_OF_BOOKS = ("book_snapshot", "book_delta")
Parsers = Mapping[str, object]
"""By venue. Of one that does not guess, all that could not be read may have been a change."""
NO_PARSERS: Parsers = MappingProxyType({})


@runtime_checkable
class Guesses(Protocol):
    """A venue's parser that can tell by a part of a frame what it may have been."""

    def may_tell(self, payload: bytes, kinds: Collection[str], symbol: str) -> bool:
        """Return whether a frame that could not be read may have told such events of a symbol."""
        ...


class BookTelling(NamedTuple):
    """How changes of books are told."""

    parser: object = None
    """The venue's, if there is one."""
    relative: bool = False
    """Whether a size is what is added to a level; see :class:`~forebay.domain.channels.Channel`."""
    alone: bool = False
    """Whether a change is its connection's own, so that it belongs to no other one's snapshot."""

    @classmethod
    def of(cls, parsers: Parsers, venue: str) -> BookTelling:
        """Return how a venue tells; without a parser, as most do."""
        parser = parsers.get(venue)
        declared = getattr(parser, "channels", {}).get("book_delta")
        if declared is None:
            return cls(parser)
        return cls(parser, declared.relative, declared.identity == "session")
