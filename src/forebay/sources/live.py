"""Any venue, live: its connections and polls, and holes in what they brought filled by history."""

from __future__ import annotations

import asyncio
import functools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from msgspec.structs import replace as replaced

from forebay.domain.frames import Context, FrameKind, HistoryFinished
from forebay.errors import ConfigError, Permanent
from forebay.resilience import CircuitBreaker, presets
from forebay.sources.history import drive
from forebay.sources.lists import ListedPart, ignored, instruments
from forebay.sources.polls import Poller, Polls
from forebay.sources.rest import Budgets, RestClient, RestPolicy, parse_base
from forebay.sources.roster import Roster
from forebay.sources.venue import AnsweredPart
from forebay.sources.websocket import ConnectionPlan, Feeds, Timeouts, WebSocketFeed
from forebay.sources.websocket.lots import divided
from forebay.sources.websocket.turnstile import Turnstile
from forebay.sources.websocket.upgrade import connect
from forebay.telemetry import Observer, ignore

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable, Mapping

    from forebay.clock import Clock
    from forebay.domain.frames import StreamsRefused
    from forebay.ports import FrameSink, HistoryRequest, Instrument
    from forebay.sources.venue import ConnectionPurpose, Venue
    from forebay.sources.websocket.connection import Connection
    from forebay.sources.websocket.ear import Ear
    from forebay.sources.websocket.feed import Dial


@dataclass(frozen=True, slots=True)
class Timings:
    """How long to wait for what."""

    feed: Timeouts = field(default_factory=Timeouts)
    rest: RestPolicy = field(default_factory=RestPolicy)
    pages_per_flush: int = 4
    """A fill waits for its pages to be CAPTURED each so many, which bounds its memory."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the venue is; empty: at its public address."""

    ws_url: str = ""
    rest_url: str = ""


@dataclass(frozen=True, slots=True)
class Wiring:
    """What a source is given by who runs it."""

    collector: str
    clock: Clock
    rng: random.Random
    observer: Observer = ignore
    rest_breaker: CircuitBreaker | None = None
    """Without one a source has its own, by the preset; likewise of the other."""
    websocket_breaker: CircuitBreaker | None = None
    rest_breakers: Mapping[str, CircuitBreaker] = field(default_factory=dict)
    """Of the process: those that the REST of its venues is behind, for who asks them beside."""
    budgets: Budgets | None = None
    """Of the process: what its sources may ask of each address together."""
    dial: Dial | None = None
    """How connections are made, if not by the network."""
    receive_bytes: int = 0
    """See :attr:`~forebay.sources.rest.RestPolicy.receive_bytes`."""
    roster: Roster | None = None
    """Of the process: what becomes of each stream that its sources ask for."""
    listed: Callable[[frozenset[str]], None] = lambda _: None
    """Hears of what is :attr:`~forebay.sources.venue.MessageVerdict.listed`."""


class LiveSource:
    """Implements :class:`forebay.ports.Source`; use ``async with``, which closes its REST pool.

    All connections share one websocket breaker and all calls one REST breaker.
    """

    def __init__(
        self,
        venue: Venue,
        asked: ConnectionPurpose,
        wiring: Wiring,
        *,
        addresses: Addresses | None = None,
        timings: Timings | None = None,
        symbols_per_connection: int | None = None,
        connections: int = 0,
        changing: bool = False,
    ) -> None:
        """``connections``: among how many to divide the symbols, 0: as few as may be.

        With ``changing`` there may be no symbols as yet, since :meth:`want` will say.
        """
        addresses = addresses or Addresses()
        self._venue = venue
        self._asked = replace(asked, symbols=tuple(dict.fromkeys(asked.symbols)))
        self._wiring = wiring
        self._timings = timings or Timings()
        self._ws_url = (addresses.ws_url or venue.ws_url).replace("{market}", asked.market)
        self._rest_url = addresses.rest_url or venue.rest_url
        self._budgets = wiring.budgets or Budgets(wiring.clock)
        self._rest = self._client() if self._rest_url else None
        self._dial = self._paced_dial()
        self._turnstile = Turnstile(lambda: self._feeds.lots.wanted, wiring.clock)
        self._breaker = wiring.websocket_breaker or CircuitBreaker(
            f"{venue.name}-websocket",
            presets.WEBSOCKET,
            clock=wiring.clock,
            rng=wiring.rng,
            listener=wiring.observer,
        )
        roster = wiring.roster or Roster(wiring.clock)
        self._attendance = roster.of(venue.name, asked.market, wiring.observer)
        self._attendance.ask(self._asked.streams)
        self._size = symbols_per_connection or venue.limits.symbols_per_connection
        self._answers = self._context()
        if not (asked.symbols or changing):
            message = f"No symbols to capture from {venue.name}."
            raise ConfigError(message, hint="Name some with --symbols.")
        self._feeds = self._connections(connections)
        self._polls = [
            Polls(venue.polls[kind].at_once, functools.partial(self._poller, kind), asked.symbols)
            for kind in venue.polled(asked)
        ]
        if self._polls:
            self._need_rest()

    @property
    def connections(self) -> int:
        """One for each group of symbols, connected or polled, that is not refused as a whole."""
        polling = (poller for polls in self._polls for poller in polls.pollers)
        return self._feeds.lots.wanted + sum(not poller.refused for poller in polling)

    def want(self, symbols: Iterable[str]) -> None:
        """Capture ``symbols`` from here on, and no others."""
        before, wanted = self._asked, tuple(dict.fromkeys(symbols))
        if wanted == before.symbols:
            return
        self._asked = replace(before, symbols=wanted)
        self._attendance.forget(before.streams - self._asked.streams)
        self._attendance.ask(self._asked.streams - before.streams)
        self._feeds.want(wanted)
        for polls in self._polls:
            polls.want(wanted)

    async def run(self, sink: FrameSink) -> None:
        """Capture every symbol until cancelled, each connection on its own."""

        def record(refusal: StreamsRefused) -> None:
            symbols = tuple(dict.fromkeys(symbol for _, symbol in refusal.streams))
            channels = tuple(dict.fromkeys(channel for channel, _ in refusal.streams))
            epoch = self._epoch()
            context = replaced(self._answers, epoch=epoch, symbols=symbols, channels=channels)
            sink.open(context).control(refusal)

        self._attendance.record = record
        async with asyncio.TaskGroup() as group:
            group.create_task(self._feeds.run(sink), name=f"forebay-{self._venue.name}-feeds")
            for polls in self._polls:
                group.create_task(polls.run(sink), name=f"forebay-{self._venue.name}-polls")

    async def fill(self, request: HistoryRequest, sink: FrameSink) -> None:
        """Have history paged for the request; every page is captured.

        Raises :class:`~forebay.errors.Transient` if the venue does not answer now,
        :class:`~forebay.errors.Permanent` if it has no such history or symbol; what was answered
        until then is captured either way.
        """
        history = self._venue.history.get(request.kind)
        if history is None or history.unit != request.unit:
            what = f"{request.channel!r} to fill from, counted by {request.unit}"
            raise Permanent(f"The history of {self._venue.name} has no {what}.")
        context = replaced(
            self._answers,
            purpose="history",
            epoch=self._epoch(),
            symbols=(request.symbol,) if request.symbol else self._asked.symbols,
            channels=(request.kind,),
        )
        pages = 0

        async def ask(target: str) -> bytes:
            nonlocal pages
            if pages and pages % self._timings.pages_per_flush == 0:
                await sink.flushed()
            pages += 1
            return await self._captured(target, history.cost, context, sink, bulk=request.bulk)

        begin = request.first

        def answered(part: AnsweredPart) -> None:
            nonlocal begin
            named = request.channel, request.symbol, begin, part.last
            lacking, market = part.lacking, request.market
            finished = HistoryFinished(*named, unit=request.unit, market=market, lacking=lacking)
            sink.open(context).control(finished)
            begin = part.last + 1

        lacking = await drive(history.plan(request), ask, answered)
        answered(AnsweredPart(request.last, lacking))

    async def page(self, target: str, cost: int, context: Context, sink: FrameSink) -> bytes:
        """Have one answer captured under ``context``, and return its body; raises as :meth:`fill`.

        Each is an epoch of its own.
        """
        return await self._captured(target, cost, replaced(context, epoch=self._epoch()), sink)

    async def instruments(
        self, status: str = "", head: str = "", progress: Callable[[int], object] = ignored
    ) -> list[Instrument]:
        """What the venue lists; see :func:`~forebay.sources.lists.instruments`."""

        async def ask(target: str) -> bytes:
            return (await self._need_rest().get(target)).body

        some = ListedPart(self._asked.market, status, head)
        return await instruments(self._venue, some, ask, progress)

    async def probe(self) -> None:
        """Ask for next to nothing, for a recovery that holds the REST breaker's permit itself."""
        if self._venue.probe is not None and self._asked.symbols:
            await self._need_rest().probe(self._venue.probe(self._asked.symbols[0]))
        elif self._venue.listing is not None:
            await self._need_rest().probe(self._venue.listing.first(self._asked.market))

    async def close(self) -> None:
        """Close the REST pool."""
        if self._rest is not None:
            await self._rest.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _context(self) -> Context:
        """Return what the context of every answer says."""
        return Context(
            venue=self._venue.name,
            source="rest",
            purpose="live",
            collector=self._wiring.collector,
            epoch="",
            url=self._rest_url,
            symbols=self._asked.symbols,
            market=self._asked.market,
        )

    def _client(self) -> RestClient:
        wiring, venue, limits = self._wiring, self._venue, self._venue.limits
        sign = None
        if venue.sign is not None and self._asked.credentials:
            sign = functools.partial(venue.sign, self._asked.credentials)
        return RestClient(
            self._rest_url,
            clock=wiring.clock,
            rng=wiring.rng,
            policy=replace(self._timings.rest, receive_bytes=wiring.receive_bytes),
            limits=limits,
            budget=self._budgets.at(parse_base(self._rest_url).authority, limits.rest),
            sign=sign,
            breaker=wiring.rest_breaker,
            observer=wiring.observer,
        )

    def _paced_dial(self) -> Dial:
        """Return what makes connections, no more often than the venue allows an address."""
        dial, rates = self._wiring.dial or connect, self._venue.limits.connects
        budget = self._budgets.at(f"ws {urlsplit(self._ws_url).netloc}", rates)

        async def paced(
            connection: Connection, plan: ConnectionPlan, clock: Clock, within_s: float
        ) -> None:
            await budget.take()
            await dial(connection, plan, clock, within_s)

        return paced if rates else dial

    def _connections(self, connections: int) -> Feeds:
        """Return the connections, which are for all channels that are not polled."""
        wiring, size = self._wiring, self._size
        polled = self._venue.polled(self._asked)
        spoken = tuple(kind for kind in self._asked.channels if kind not in polled)
        whole = replace(self._asked, channels=spoken)
        if spoken:
            self._plan(whole)  # an address that is none is told now
        return Feeds(
            divided(whole, size, connections),
            self._feed,
            self._attendance,
            clock=wiring.clock,
            rng=wiring.rng,
            timeouts=self._timings.feed,
            size=size,
            connections=connections,
            whole=whole,
            listed=wiring.listed,
        )

    def _plan(self, asked: ConnectionPurpose) -> ConnectionPlan:
        venue = self._venue
        return ConnectionPlan(
            venue.name, self._wiring.collector, self._ws_url, asked, venue.session
        )

    def _feed(self, asked: ConnectionPurpose, ear: Ear) -> WebSocketFeed:
        wiring = self._wiring
        return WebSocketFeed(
            self._plan(asked),
            clock=wiring.clock,
            rng=wiring.rng,
            timeouts=self._timings.feed,
            breaker=self._breaker,
            observer=wiring.observer,
            dial=self._dial,
            ear=ear,
            turn=self._turnstile.turn,
        )

    def _poller(self, kind: str, symbols: tuple[str, ...]) -> Poller:
        return Poller(
            self._venue.polls[kind],
            replaced(self._answers, symbols=symbols, channels=(kind,)),
            ask=self._captured,
            epoch=self._epoch,
            told=self._attendance,
            clock=self._wiring.clock,
            observer=self._wiring.observer,
        )

    def _need_rest(self) -> RestClient:
        if self._rest is None:
            message = f"No REST address of {self._venue.name} is known."
            raise ConfigError(message, hint="Set rest_url.")
        return self._rest

    def _epoch(self) -> str:
        return f"{self._wiring.rng.getrandbits(128):032x}"

    async def _captured(
        self, target: str, cost: int, context: Context, sink: FrameSink, *, bulk: bool = False
    ) -> bytes:
        """Have the answer captured, and return its body."""
        answer = await self._need_rest().get(target, cost=cost, bulk=bulk)
        context = replaced(context, request=f"GET {target}")
        sink.open(context).frame(FrameKind.REST, answer.body)
        return answer.body
