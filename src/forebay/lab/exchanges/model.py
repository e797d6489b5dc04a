"""What a venue has to say for itself, so that the chassis can simulate it."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from forebay.lab.truth import MARKET, SOURCES

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from aiohttp import web

    from forebay.clock import Clock
    from forebay.lab.exchanges.limits import RestLimit
    from forebay.lab.exchanges.market import Market
    from forebay.lab.faults import SwitchedFaults
    from forebay.lab.truth import Source, Trade, Trades

Topic = tuple[str, str]
"""The venue's word for a channel, and a symbol."""

Feed = Literal["trade", "ticker", "book", "bar", "second"]
"""What each event of the market brings about: a trade, then perhaps a ticker, a change of the book,
and the end of a minute and of a second."""
TRADE: Final = "trade"
CHANNELS: Final[Mapping[Feed, tuple[str, ...]]] = MappingProxyType(
    {
        TRADE: ("trade",),
        "ticker": ("ticker", "quote"),
        "book": ("book_delta",),
        "bar": (),
        "second": (),
    }
)
"""By feed, the channels of its messages that are owed. Whole books are told to new subscribers
alone, and bars to who asks: they are not compared."""
FEEDS: Final = tuple(CHANNELS)


@dataclass(frozen=True, slots=True)
class Request:
    """A command that can be carried out."""

    subscribe: bool
    """Else unsubscribe."""
    topics: tuple[Topic, ...]
    """Each once, in the order given."""
    refused: bytes = b""
    """How the client is told of what cannot be had, while the rest can."""


@dataclass(frozen=True, slots=True)
class Login:
    """A key that is shown, where a venue wants one before anything else."""

    right: bool
    """Else the connection is closed behind the answer."""
    answer: bytes


@dataclass(frozen=True, slots=True)
class Greeting:
    """What somebody is told at once who subscribes to a topic."""

    frame: bytes
    index: int | None = None
    """The event of the feed that it tells, None if it is none of them."""


class Speaker(abc.ABC):
    """How a venue tells what happens to one symbol."""

    @abc.abstractmethod
    def frame(self, feed: Feed, trade: Trade) -> bytes | None:
        """What the event of this trade brings about, None if nothing of this feed."""

    def greeting(self, channel: str, last: int) -> Greeting | None:
        """What a new subscriber is told, ``last`` being the latest index; None if nothing."""
        del channel, last
        return None

    def heartbeat(self, channel: str, last: Trade) -> bytes | None:
        """What subscribers of a channel are told each second, None if nothing."""
        del channel, last
        return None


class VenueModel(abc.ABC):
    """One venue, of which a model says what differs: all is pure but what its REST awaits."""

    name: str
    """As in event ids."""
    subscribe_within_ns: int | None
    """A connection that has not subscribed by then is closed; None for never."""
    rest_limit: RestLimit
    sources: Mapping[str, Callable[[Trades], Source]] = SOURCES
    """By channel, what makes the truth of all its events from the market's trades."""
    numbered: bool = True
    """Whether its trades are told apart by numbers that rise by one."""
    secrets: Mapping[str, str] = MappingProxyType({})
    """What the one account has to show; anybody may know it."""
    welcome: bytes = b""
    """What a connection is told at once; nothing if empty."""
    without_key: bytes = b""
    """What somebody is told who asks before a right key was shown; empty: none is wanted."""
    too_late: bytes = b""
    """What a connection is told that has not subscribed in time, before it is closed."""
    partings: Mapping[str, bytes] = MappingProxyType({})
    """By switched fault of the venue's own, what is said before every connection is closed."""
    troubles: Mapping[str, Mapping[str, int]] = MappingProxyType({})
    """Switched faults of the venue's own, with their settings."""

    def market_of(self, symbol: str) -> str:
        """Return the market type of a symbol, as event ids know it."""
        del symbol
        return MARKET

    @abc.abstractmethod
    def understand(self, raw: bytes, symbols: Collection[str]) -> Request | Login | bytes:
        """What a client asks for, or how it is told that it cannot be."""

    @abc.abstractmethod
    def acknowledgement(self, topics: Sequence[Topic], new: Sequence[Topic]) -> bytes:
        """What is told after a request.

        ``topics`` are all that the connection is now sent, ``new`` those that it was not before.
        """

    @abc.abstractmethod
    def feed(self, channel: str) -> Feed | None:
        """What a channel carries, None if no events."""

    @abc.abstractmethod
    def speaker(self, trades: Trades) -> Speaker:
        """Whoever tells of one symbol."""

    @abc.abstractmethod
    def routes(
        self, market: Market, clock: Clock, switched: SwitchedFaults
    ) -> Iterable[web.RouteDef]:
        """REST, whose handlers may raise :class:`~forebay.lab.exchanges.queries.BadQuery`."""

    @abc.abstractmethod
    def complaint(self, status: int, message: str = "") -> object:
        """The JSON body of a refusal; without a message it is the status' usual one."""
