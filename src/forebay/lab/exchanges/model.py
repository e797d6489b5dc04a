"""What a venue has to say for itself, so that the chassis can simulate it."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from forebay.errors import ConfigError
from forebay.lab.truth import MARKET, SOURCES, Trades, parse_symbols

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from aiohttp import web

    from forebay.clock import Clock
    from forebay.lab.exchanges.limits import RestLimit
    from forebay.lab.exchanges.market import Market
    from forebay.lab.faults import SwitchedFaults
    from forebay.lab.truth import Source, Trade

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
class Reply:
    """What a venue makes of one message of a connection."""

    said: tuple[bytes, ...] = ()
    """What the connection is told."""
    topics: tuple[Topic, ...] = ()
    """All that it is sent from now on."""
    begun: tuple[Topic, ...] = ()
    """Those of them that are new."""
    whole: tuple[Topic, ...] = ()
    """Those that are told whole now: what a book is, what happened last."""
    subscribed: bool = False
    """Whether something was subscribed to."""
    over: bool = False
    """Whether the connection is closed behind the answer."""


class Dialogue(abc.ABC):
    """What one connection and the venue have agreed on."""

    @abc.abstractmethod
    def answer(self, raw: bytes, symbols: Collection[str], now_ns: int) -> Reply:
        """What comes of a message; ``symbols`` are all that the market has."""

    def created(self, symbol: str) -> Reply | None:
        """What comes of a market that there was not before, None if nothing."""
        del symbol
        return None

    def troubled(self, now_ns: int) -> Reply | None:
        """What comes of a trouble of the venue's own that lasts now, None if nothing."""
        del now_ns
        return None

    def lane(self, channel: str) -> str:
        """Return what carries a channel: an event is told once in each, whatever its channels."""
        del channel
        return ""

    def numbered(self, lane: str, frame: bytes) -> bytes:
        """Return a frame as this connection gets it, which makes it the next one of its lane."""
        del lane
        return frame


@dataclass(frozen=True, slots=True)
class Announcement:
    """Something that is told to all who subscribed to a channel, of whatever symbol."""

    channel: str
    frame: bytes
    symbol: str = ""
    """Only to those who subscribed to this one of it, if there is one."""


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

    def heartbeat(self, channel: str, last: int) -> bytes | None:
        """What subscribers of a channel are told each second, None if nothing.

        ``last`` is the latest index.
        """
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
    rest_path: str = ""
    """Where its REST is served, before every route."""
    ws_path: str = ""
    """Where it says that its websocket is; any other will do."""
    secrets: Mapping[str, str] = MappingProxyType({})
    """What the one account has to show; anybody may know it."""
    welcome: bytes = b""
    """What a connection is told at once; nothing if empty."""
    too_late: bytes = b""
    """What a connection is told that has not subscribed in time, before it is closed."""
    partings: Mapping[str, bytes] = MappingProxyType({})
    """By switched fault of the venue's own, what is said before every connection is closed."""
    troubles: Mapping[str, Mapping[str, int]] = MappingProxyType({})
    """Switched faults of the venue's own, with their settings."""
    striking: Mapping[str, tuple[str, tuple[Feed, ...]]] = MappingProxyType({})
    """By such a fault that has a setting ``every``, what is done to an event whose index it
    divides, see :data:`forebay.lab.faults.STRIKES`, and of which feeds."""
    noises: Mapping[str, bytes] = MappingProxyType({})
    """By such a fault that has a setting ``every``, what is said before an event whose index it
    divides."""
    repeated: Mapping[str, str] = MappingProxyType({})
    """By such a fault that has a setting ``every``, the channel of which new subscribers' greeting
    is told once more, unasked, before an event whose index it divides."""
    shutting: tuple[str, ...] = ()
    """Such faults while which no websocket is open."""
    heartbeat: tuple[int, bytes] | None = None
    """How often each connection gets a Ping, in nanoseconds, and its body; None if it has no such
    habit. Whatever it is, what a peer has read is asked for by pings beside it."""
    waits_told: bool = True
    """Whether it says with a 429 how long to wait."""

    def trades(self, seed: int, symbol: str, *, start_ns: int, step_us: int) -> Trades:
        """Return all trades of one symbol."""
        return Trades(seed, self.name, symbol, start_ns=start_ns, step_us=step_us)

    def parse_symbols(self, text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the symbols that a list names: those of a market, and those of an idle one.

        Raises :class:`~forebay.errors.ConfigError` for what is no symbol, or named twice.
        """
        return parse_symbols(text), ()

    def with_account(self, folder: Path) -> VenueModel:
        """Return the venue with an account whose keys are in a folder; they are made if need be."""
        del folder
        return self

    def account(self) -> Mapping[str, str]:
        """What is said of the account to those who are to use it, beside where all is served."""
        return {}

    def admits(self, headers: Mapping[str, str], path: str, wall_ns: int) -> object:
        """Return the JSON body with which a websocket is refused; None if it is not."""
        del headers, path, wall_ns
        return None

    @abc.abstractmethod
    def dialogue(self, switched: SwitchedFaults, now_ns: int) -> Dialogue:
        """How a new connection is talked to."""

    def change(
        self, market: Market, symbol: str, wanted: Mapping[str, object], now_ns: int
    ) -> Sequence[Announcement]:
        """Change what becomes of the market of a symbol, and return what is told of that.

        Raises :class:`~forebay.errors.ConfigError` for what cannot be.
        """
        del market, wanted, now_ns
        raise ConfigError(f"Nothing becomes of {symbol} here.")

    def lives(self, market: Market) -> dict[str, object]:
        """Return what has become of each symbol's market so far, where that is told."""
        del market
        return {}

    def due(self, market: Market, now_ns: int) -> Iterable[Announcement]:
        """Let happen what is due in the lives of markets, and return what is told of it."""
        del market, now_ns
        return ()

    def another_price(self, price: str) -> str:
        """Return a price that a trade with this one does not have, and could have."""
        return f"1{price}"

    def market_of(self, symbol: str) -> str:
        """Return the market type of a symbol, as event ids know it."""
        del symbol
        return MARKET

    def word(self, channel: str) -> str:
        """Return what an announcement calls the channel of a topic."""
        return channel

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
