"""What a venue has to say for itself, so that the chassis can simulate it."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from aiohttp import web

    from forebay.clock import Clock
    from forebay.lab.exchanges.limits import RestLimit
    from forebay.lab.exchanges.market import Market
    from forebay.lab.truth import Trade, Trades

Topic = tuple[str, str]
"""The venue's word for a channel, and a symbol."""

Feed = Literal["trade", "ticker", "book"]
"""What each event of the market brings about: a trade, then perhaps a ticker, and a change of the
book."""
TRADE: Final = "trade"
CHANNELS: Final[Mapping[Feed, tuple[str, ...]]] = MappingProxyType(
    {TRADE: ("trade",), "ticker": ("ticker", "quote"), "book": ("book_delta",)}
)
"""By feed, the channels that its messages carry. Whole books are told to new subscribers alone, and
bars to who asks, so that none is owed: they are not compared."""
FEEDS: Final = tuple(CHANNELS)


@dataclass(frozen=True, slots=True)
class Request:
    """A command that can be carried out."""

    subscribe: bool
    """Else unsubscribe."""
    topics: tuple[Topic, ...]
    """Each once, in the order given."""


@dataclass(frozen=True, slots=True)
class Greeting:
    """What somebody is told at once who subscribes to a topic."""

    frame: bytes
    index: int | None = None
    """The event of the feed that it tells, None if it is none of them."""


class Speaker(Protocol):
    """How a venue tells what happens to one symbol."""

    def greeting(self, channel: str, last: int) -> Greeting | None:
        """What a new subscriber is told, ``last`` being the latest index."""
        ...

    def frame(self, feed: Feed, trade: Trade) -> bytes | None:
        """What the event of this trade brings about, None if nothing of this feed."""
        ...

    def heartbeat(self, channel: str, last: Trade) -> bytes | None:
        """What subscribers of a channel are told each second, None if nothing."""
        ...


class VenueModel(Protocol):
    """One venue. Everything is pure, but for what its REST handlers await."""

    name: str
    """As in event ids."""
    subscribe_within_ns: int | None
    """A connection that has not subscribed by then is closed; None for never."""
    rest_limit: RestLimit

    def understand(self, raw: bytes, symbols: Collection[str]) -> Request | bytes:
        """What a client asks for, or how it is told that it cannot be."""
        ...

    def acknowledgement(self, topics: Sequence[Topic]) -> bytes:
        """What is told after a request, ``topics`` being all that the connection is now sent."""
        ...

    def feed(self, channel: str) -> Feed | None:
        """What a channel carries, None if no events."""
        ...

    def speaker(self, trades: Trades) -> Speaker:
        """Whoever tells of one symbol."""
        ...

    def routes(self, market: Market, clock: Clock) -> Iterable[web.RouteDef]:
        """REST, whose handlers may raise :class:`~forebay.lab.exchanges.queries.BadQuery`."""
        ...

    def complaint(self, status: int, message: str = "") -> object:
        """The JSON body of a refusal; without a message it is the status' usual one."""
        ...
