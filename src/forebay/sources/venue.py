"""What a venue is: a descriptor that the generic parts read, and a pure session per connection."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from forebay.domain.calendars import Calendar
    from forebay.domain.channels import Channel
    from forebay.domain.intervals import Interval
    from forebay.domain.listing import Directory
    from forebay.ports import HistoryRequest, Instrument, Parser

Stream: TypeAlias = tuple[str, str]
"""A kind of event and a symbol, in Forebay's words."""


# ---------------------------------------------------------------- one connection


@dataclass(frozen=True, slots=True)
class ConnectionPurpose:
    """What a connection is for."""

    symbols: tuple[str, ...]
    """In Forebay's spelling."""
    channels: tuple[str, ...]
    """Kinds of event."""
    market: str = "spot"
    depth: int | None = None
    """Levels of an order book a side, if the venue leaves the choice; None: its own default."""
    polled: tuple[str, ...] = ()
    """Kinds that are asked for by REST although a connection brings them."""
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Secrets by the venue's own names; empty if there are none."""

    @property
    def streams(self) -> frozenset[Stream]:
        """Every kind with every symbol."""
        return frozenset((kind, symbol) for kind in self.channels for symbol in self.symbols)


@dataclass(frozen=True, slots=True)
class MessageVerdict:
    """What a message of the venue says about the subscription."""

    accepted: frozenset[Stream] = frozenset()
    """Streams that flow from here on."""
    refused: Mapping[Stream, str] = field(default_factory=dict)
    """Streams that will not, each with the venue's reason; the others go on."""
    refusal: str = ""
    """Why the venue refuses the whole subscription, :attr:`refused` being what it blames if it
    names something: the connection is over. A symbol that stands in these words is blamed too."""
    complaint: str = ""
    """What the venue complains of, in its words; it is logged, and nothing ends."""
    ended: str = ""
    """Why the venue ends the connection whatever was asked for, such as a wrong key or too many
    connections: no stream is blamed, and the same is asked for again."""
    late_ns: int = 0
    """By how much later than before messages come, where that is why it is ended."""
    send: Sequence[bytes] = ()
    """What to answer, as text messages."""
    released: frozenset[str] = frozenset()
    """Symbols that flow no more, as was asked for; who never says it is believed after a while."""
    listed: frozenset[str] = frozenset()
    """Symbols, asked for or not, of which the venue says that something about them has changed: one
    began, closes at another time, or ended. The empty text stands for some that are not named."""


NOTHING = MessageVerdict()


class Session(Protocol):
    """One connection's conversation: bytes in, bytes out, no I/O, clock or dice.

    Times are UTC nanoseconds that never go back: the wall clock of the connection's beginning,
    moved on by the monotonic one. It hears every message until everything that was asked for is
    accepted or refused; later ones only if one of its :attr:`marks` is in them and they do not
    begin as :attr:`quiet` ones do, or all of them if it is :attr:`attentive`, which costs a call a
    message.
    """

    @property
    def marks(self) -> Sequence[bytes]:
        """What is in every message that it must hear later: complaints, refusals."""
        ...

    @property
    def quiet(self) -> tuple[bytes, ...]:
        """Beginnings of the venue's common messages: looking for marks in them is left out."""
        ...

    @property
    def attentive(self) -> bool:
        """Whether it wants to hear every message, for ever."""
        ...

    @property
    def tick_s(self) -> float | None:
        """How often :meth:`tick` is called; None: never."""
        ...

    @property
    def asking(self) -> bool:
        """Whether part of the subscription has not been sent yet, so that no answer is due."""
        ...

    def headers(self, now_ns: int) -> Mapping[str, str]:
        """Return what the upgrade has to say beside what every upgrade says."""
        ...

    def opened(self, now_ns: int) -> Sequence[bytes]:
        """Return what to say as soon as the connection is up."""
        ...

    def received(self, payload: bytes, now_ns: int) -> MessageVerdict:
        """Judge a message; it is captured already, whatever is said of it."""
        ...

    def tick(self, now_ns: int) -> Sequence[bytes]:
        """Return what to say now: the next part of a subscription, a ping."""
        ...


@runtime_checkable
class ChangeableSession(Protocol):
    """A session whose subscription can be changed while its connection lives.

    One that cannot gets new symbols on connections of their own.
    """

    def change(self, added: Sequence[str], removed: Sequence[str], now_ns: int) -> Sequence[bytes]:
        """Return what to say so that ``added`` symbols flow from here on and ``removed`` ones stop.

        It is called when what was asked for before has been answered, or is overdue. Later it says
        of what was added, as at the beginning, what is accepted and what refused, and of what was
        removed, when it is :attr:`~MessageVerdict.released`.
        """
        ...


class PlainSession:
    """A session that needs nothing special; derive from it and say what differs."""

    marks: Sequence[bytes] = ()
    quiet: tuple[bytes, ...] = ()
    attentive: bool = False
    tick_s: float | None = None

    def __init__(self, asked: ConnectionPurpose) -> None:
        self.asked = asked

    @property
    def asking(self) -> bool:
        """Never: :meth:`opened` says it all."""
        return False

    def headers(self, now_ns: int) -> Mapping[str, str]:
        """Nothing."""
        del now_ns
        return {}

    def tick(self, now_ns: int) -> Sequence[bytes]:
        """Nothing."""
        del now_ns
        return ()


# -------------------------------------------------------------------------- REST


@dataclass(frozen=True, slots=True)
class Rate:
    """In any time T at most ``burst + per_second * T`` of what is counted."""

    per_second: float
    burst: int = 1
    of: Literal["call", "weight"] = "call"


def per_second(calls: float, *, burst: int = 1) -> Rate:
    """Return a bucket of calls."""
    return Rate(calls, burst)


def per_minutes(minutes: float, amount: int, *, of: Literal["call", "weight"] = "call") -> Rate:
    """Return a rate that grants at most ``amount`` in any such time, half of it at once."""
    burst = max(1, amount // 2)
    return Rate((amount - burst or 1) / (minutes * 60), burst, of)


Wait: TypeAlias = Callable[[int, Mapping[str, str], bytes, int], float | None]
"""From status, headers, body and wall clock of an answer to the seconds that the venue wants to be
left alone, if it says so otherwise than by ``Retry-After``."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the venue allows one address."""

    rest: tuple[Rate, ...] = (per_second(1.0, burst=5),)
    """All of them hold together. A call's weight is what its history or poll says it costs."""
    connects: tuple[Rate, ...] = ()
    """How often connections may be opened, those that fail included."""
    symbols_per_connection: int = 100
    silencing: frozenset[int] = frozenset({418, 429})
    """Statuses whose wait, if one is said, holds for everybody at the address."""
    wait: Wait | None = None


Sign: TypeAlias = Callable[[Mapping[str, str], str, str, bytes, int], Mapping[str, str]]
"""From credentials, method, path with query, body and wall clock to the headers of a call."""


@dataclass(frozen=True, slots=True)
class Listing:
    """Where the venue lists what can be captured."""

    path: str | Callable[[str], str]
    """Path and query, or what makes them of a market type."""
    parse: Callable[[bytes], list[Instrument]]
    """Raises ``ValueError`` if the answer is no list."""
    following: Callable[[bytes], str] = lambda _: ""
    """From an answer that was parsed to path and query of the next page; empty after the last."""
    statuses: Mapping[str, str] = field(default_factory=dict)
    """By status that can be asked for, what is put behind the path of each page for it."""
    beginning: Callable[[str], str] = lambda _: ""
    """From how symbols begin to what is likewise put behind, where a page may be of those alone."""

    def first(self, market: str) -> str:
        """Return path and query of the first page."""
        return self.path if isinstance(self.path, str) else self.path(market)


class AnsweredPart(NamedTuple):
    """What a plan yields beside paths: all of a request up to ``last`` has been answered."""

    last: int
    lacking: tuple[Interval, ...]
    """What of it history said nothing of, since the part that was yielded before."""


Pages: TypeAlias = "Generator[str | AnsweredPart, bytes, tuple[Interval, ...]]"


class History(Protocol):
    """A way to ask the venue for what is missing; :mod:`forebay.sources.history` has some."""

    @property
    def unit(self) -> Literal["id", "time"]:
        """What the ends of a request are."""
        ...

    @property
    def cost(self) -> int:
        """Weight of a call."""
        ...

    def plan(self, request: HistoryRequest) -> Pages:
        """Yield path and query of one page after the other and take its body; return the absent.

        Raises :class:`~forebay.errors.Transient` if a page makes no sense.
        """
        ...


class PollRound(NamedTuple):
    """What one call of a poll is to ask for."""

    symbols: tuple[str, ...]
    """In Forebay's spelling; at most :attr:`Poll.at_once`."""
    since_ns: int
    """When they were last asked for with success, UTC nanoseconds; else a period ago."""
    now_ns: int


@dataclass(frozen=True, slots=True)
class Poll:
    """A channel that is asked for by REST, again and again."""

    request: Callable[[PollRound], str]
    """Returns path and query of the first page; it asks for more than one period, or for what is
    new since the last answer, so that a poll that failed costs nothing."""
    every_s: float
    """A round begins :attr:`after_s` behind each whole multiple of it since the Unix epoch."""
    after_s: float = 0.0
    cost: int = 1
    at_once: int = 1
    """How many symbols :attr:`request` can ask for together."""
    following: Callable[[str, bytes], str] = lambda _target, _body: ""
    """From path and query and their answer to those of its next page; empty after the last. Raises
    ``ValueError`` if it is no page."""
    optional: bool = False
    """Whether a connection brings the kind too: it is polled only where that is asked for."""
    instead_of: tuple[str, ...] = ()
    """Kinds that cannot be had beside it, such as changes of what a connection began with."""


# --------------------------------------------------------------------- the venue


@dataclass(frozen=True, slots=True, kw_only=True)
class Venue:
    """Everything that the generic parts need to know of a venue."""

    name: str
    title: str
    parser: Parser
    session: Callable[[ConnectionPurpose], Session]
    default_channels: tuple[str, ...]
    """Kinds of event that are captured when nobody says which."""
    markets: tuple[str, ...] = ("spot",)
    """Market types that its symbols may be of, as event ids know them."""
    market_channels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Kinds of event that there are in a market, where it has not all."""
    spelling: str = r"\S+( \S+)*"
    """What a symbol looks like in Forebay's spelling, as a regular expression."""
    depths: tuple[int, ...] = ()
    """Depths of an order book that can be asked for; empty if the venue leaves no choice."""
    ws_url: str = ""
    rest_url: str = ""
    """Public addresses; empty if there is none. ``{market}`` in the first is the market's name."""
    history: Mapping[str, History] = field(default_factory=dict)
    """By kind of event."""
    polls: Mapping[str, Poll] = field(default_factory=dict)
    """Kinds that come by REST and not over the connection, or by either way."""
    listing: Listing | None = None
    directory: Directory | None = None
    """Where it tells of markets that come and go, if it can be asked for some of them."""
    probe: Callable[[str], str] | None = None
    """From a symbol to the path that asks for next to nothing; None: that of the listing."""
    sign: Sign | None = None
    """Used where credentials are configured."""
    check_credentials: Callable[[Mapping[str, str]], None] = lambda _: None
    """Raises :class:`~forebay.errors.ConfigError` if what is configured cannot be used."""
    restarts: Callable[[], Callable[[bytes], bool]] = lambda: lambda _: False
    """Makes what tells of each frame of a recording, in order, whether another connection began
    with it; without it, frames do not tell."""
    limits: Limits = Limits()
    stale_s: float = 10.0
    """A connection that says nothing for so long is dead: the venue speaks more often."""
    cannot_see: str = ""
    """What its page must say that no check of ours can show, as a clause."""
    not_captured: tuple[str, ...] = ()
    """Types of messages that are counted and not parsed; its page names them."""

    @property
    def calendars(self) -> Mapping[str, Calendar]:
        """By market, when bars are to be expected; of all others at any time."""
        return getattr(self.parser, "calendars", {})

    @property
    def channels(self) -> Mapping[str, Channel]:
        """What the venue declares, by kind of event."""
        return self.parser.channels

    def polled(self, asked: ConnectionPurpose) -> tuple[str, ...]:
        """Return which of the kinds that are asked for come by REST."""
        return tuple(
            kind
            for kind in asked.channels
            if (poll := self.polls.get(kind)) and (not poll.optional or kind in asked.polled)
        )
