"""The simulated exchange without its sockets: told what arrives and what time it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from forebay.lab import faults
from forebay.lab.exchanges.line import Line
from forebay.lab.exchanges.market import Market, MarketConfig
from forebay.lab.exchanges.model import FEEDS, TRADE, Feed, Request, VenueModel
from forebay.lab.faults import STRIKES, Emission, Faults, Scene, SwitchedFaults, stream_of
from forebay.lab.ledger import OUTAGE, DeliveryLedger, Withheld

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from forebay.lab.exchanges.socket import Wire
    from forebay.lab.truth import Trade

PING_EVERY_NS: Final = 100_000_000
HEARTBEAT_EVERY_NS: Final = 1_000_000_000
MUTE_FOR_NS: Final = 60_000_000_000
"""A half-open connection that the peer does not leave is closed after this time."""
MAX_BACKLOG: Final = 32 << 20
"""Bytes a connection may lag behind before the server gives it up."""

_POLICY_VIOLATION = 1008
_SERVICE_RESTART = 1012


@dataclass(frozen=True, slots=True)
class ExchangeConfig:
    """A venue, its market, and what goes wrong in it: probabilities by fault name."""

    venue: VenueModel
    market: MarketConfig
    faults: Mapping[str, float] = field(default_factory=dict)


class Exchange:
    """Decides everything and awaits nothing; time comes in as monotonic nanoseconds."""

    def __init__(self, config: ExchangeConfig) -> None:
        self.config = config
        self.venue = config.venue
        self.market = Market(config.venue.name, config.market)
        self._speakers = {
            symbol: config.venue.speaker(trades) for symbol, trades in self.market.trades.items()
        }
        self.faults = Faults(config.market.seed, config.faults)
        self.ledger = DeliveryLedger()
        self.switched = SwitchedFaults()
        self.rate_limited = 0
        self.rest_requests = 0
        self._lines: list[Line] = []
        self._listeners: dict[tuple[Feed, str], tuple[Line, ...]] = {}
        self._next_ping_ns = 0
        self._next_heartbeat_ns = 0

    # ------------------------------------------------------------ what arrives

    def connected(self, wire: Wire, now_ns: int) -> Line:
        line = Line(wire, self.ledger, now_ns)
        self._lines.append(line)
        return line

    def disconnected(self, line: Line) -> None:
        """A connection is gone, whoever ended it."""
        line.over("closed by peer")
        if line in self._lines:
            self._lines.remove(line)
        self._listeners.clear()

    def received(self, line: Line, raw: bytes, now_ns: int) -> None:
        if line.muted or line.ended:
            return
        self._obey(line, raw, now_ns)
        line.wire.flush()

    def _obey(self, line: Line, raw: bytes, now_ns: int) -> None:
        request = self.venue.understand(raw, self.market.trades)
        if not isinstance(request, Request):
            line.say(request)
            return
        self._listeners.clear()
        before = {*line.topics}
        if request.subscribe:
            line.topics.update(dict.fromkeys(request.topics))
            line.subscribed_once = True
        else:
            for topic in request.topics:
                line.topics.pop(topic, None)
        line.say(self.venue.acknowledgement(list(line.topics)))
        if request.subscribe and not self._troubled(line, now_ns):
            for channel, symbol in (topic for topic in request.topics if topic not in before):
                self._begin(line, channel, symbol, now_ns)

    def _begin(self, line: Line, channel: str, symbol: str, now_ns: int) -> None:
        feed = self.venue.feed(channel)
        if feed is None:
            return
        self.market.subscribed(symbol, now_ns, feed)
        greeting = self._speakers[symbol].greeting(channel, self.market.last(symbol))
        if greeting is None:
            return
        if greeting.index is None:
            line.say(greeting.frame)
        else:
            line.send(Emission(symbol, greeting.index, greeting.frame, feed))

    # ------------------------------------------------------------------ switched faults

    def switch(
        self, name: str, now_ns: int, *, on: bool, settings: Mapping[str, object] | None = None
    ) -> None:
        """Switch a trouble on or off; one of the websocket strikes living connections at once.

        Raises :class:`~forebay.errors.ConfigError` if there is no such trouble or setting.
        """
        self.switched.switch(name, on=on, settings=settings)
        for line in tuple(self._speaking()):
            self._troubled(line, now_ns)

    def _troubled(self, line: Line, now_ns: int) -> bool:
        """Whether a trouble took this connection: it is muted or closed then."""
        if self.switched.strikes(faults.SILENCE, now_ns):
            line.wire.flush()
            line.mute(now_ns)
            return True
        closing = self.switched.on(faults.NO_UPGRADE) or self.switched.strikes(faults.FLAP, now_ns)
        if closing:
            self._remove(line)
            line.close(_SERVICE_RESTART, "trouble")
        return closing

    # -------------------------------------------------------------- time goes on

    def tick(self, now_ns: int) -> None:
        """Let happen all that is due."""
        for line in tuple(self._lines):
            self._tend(line, now_ns)
        for trade in self.market.advance(now_ns):
            for feed in FEEDS:
                self._emit(feed, trade, now_ns)
        if self.market.finished:
            for line in self._lines:
                line.release()  # there is no next event to change places with
        if now_ns >= self._next_heartbeat_ns:
            self._next_heartbeat_ns = now_ns + HEARTBEAT_EVERY_NS
            self._heartbeats()
        if now_ns >= self._next_ping_ns:
            self._next_ping_ns = now_ns + PING_EVERY_NS
            for line in self._speaking():
                line.ping(now_ns)
        for line in self._lines:
            line.wire.flush()

    def _tend(self, line: Line, now_ns: int) -> None:
        within_ns, waited_ns = self.venue.subscribe_within_ns, now_ns - line.opened_ns
        if line.muted_ns is not None:
            if now_ns - line.muted_ns >= MUTE_FOR_NS:
                self._end(line, "half-open")
        elif within_ns is not None and waited_ns >= within_ns and not line.subscribed_once:
            self._remove(line)
            line.close(_POLICY_VIOLATION, "no subscribe")
        elif line.wire.backlog() > MAX_BACKLOG:
            self._end(line, "slow consumer")
        else:
            line.tick(now_ns)

    def _end(self, line: Line, reason: str) -> None:
        self._remove(line)
        line.over(reason)
        line.wire.abort()

    def _remove(self, line: Line) -> None:
        self._lines.remove(line)
        self._listeners.clear()

    def _heartbeats(self) -> None:
        for line in self._speaking():
            for channel, symbol in line.topics:
                last = self.market.last_trade(symbol)
                frame = self._speakers[symbol].heartbeat(channel, last)
                if frame is not None:
                    line.say(frame)

    def _speaking(self) -> list[Line]:
        return [line for line in self._lines if not line.muted]

    def _emit(self, feed: Feed, trade: Trade, now_ns: int) -> None:
        """Send what one event brings about to its subscribers, unless a fault strikes it."""
        symbol, index = trade.symbol, trade.index
        if feed != TRADE and symbol not in self.market.owed[feed]:
            return  # nobody has ever asked for it
        stream = stream_of(feed, symbol)
        listeners = self._listening(feed, symbol)
        speaking = [line for line in listeners if not line.muted]
        frame = self._speakers[symbol].frame(feed, trade)
        if frame is None:
            self.ledger.nothing(stream, index)
            return
        if not speaking:
            self.ledger.note(stream, index, faults.HALF_OPEN if listeners else OUTAGE)
            return
        emission = Emission(symbol, index, frame, feed)
        fate = self._fate(emission, now_ns)
        if fate is None:
            again = feed == TRADE and self.switched.strikes_event(faults.RESTATE, index, now_ns)
            for line in speaking:
                line.send(emission)
                if again:  # with another price, as no exchange should
                    other = msgspec.structs.replace(trade, price=f"1{trade.price}")
                    line.say(self._speakers[symbol].frame(TRADE, other) or b"")
            return
        fault, roll = fate
        self.ledger.note(stream, index, fault)
        self.ledger.count(stream, fault)
        STRIKES[fault](Scene(emission, speaking, self._speaking(), roll, now_ns))
        if any(line.ended for line in self._lines):
            self._lines = [line for line in self._lines if not line.ended]
            self._listeners.clear()

    def _fate(self, emission: Emission, now_ns: int) -> tuple[str, int] | None:
        """The fault that strikes, and a number to choose details with."""
        tears = self.switched.strikes_event
        if emission.feed == TRADE and tears(faults.TEAR, emission.index, now_ns):
            return faults.CORRUPT, len(emission.frame) - 3  # two bytes short of a whole one
        return self.faults.of_event(emission.symbol, emission.index, emission.feed)

    def _listening(self, feed: Feed, symbol: str) -> tuple[Line, ...]:
        listeners = self._listeners.get((feed, symbol))
        if listeners is None:
            listeners = tuple(
                line
                for line in self._lines
                if any(at == symbol and self.venue.feed(topic) == feed for topic, at in line.topics)
            )
            self._listeners[feed, symbol] = listeners
        return listeners

    # -------------------------------------------------------------- the truth

    def status(self) -> dict[str, Any]:
        """Where the market and its clients stand.

        Bounds are the first index owed (None: never subscribed) and the last one that happened:
        ``symbols`` has those of trades, ``feeds`` of what else somebody ever subscribed to.
        """
        market = self.market

        def bounds(feed: Feed, symbols: Iterable[str]) -> dict[str, dict[str, int | None]]:
            first = market.owed[feed]
            return {each: {"first": first.get(each), "last": market.last(each)} for each in symbols}

        idle = not any(line.holding() for line in self._lines)
        return {
            "venue": self.venue.name,
            "seed": market.config.seed,
            "start": market.start_ns,
            "step_us": market.config.step_us,
            "clock_started": market.clock_started,
            "finished": market.finished and idle,
            "settled": idle and self.ledger.settled(),
            "symbols": bounds(TRADE, market.trades),
            "feeds": {
                feed: bounds(feed, owed)
                for feed, owed in market.owed.items()
                if owed and feed != TRADE
            },
            "rate_limited": self.rate_limited,
            "rest_requests": self.rest_requests,
            "connections": len(self._lines),
        }

    def withheld(self, feed: Feed = TRADE) -> dict[str, Withheld]:
        """What each symbol's subscribers were not given of a feed, so far."""
        reports = {}
        for symbol in self.market.trades:
            stream = stream_of(feed, symbol)
            held = [each for line in self._lines for each in line.holding()]
            last = self.market.last(symbol)
            first = self.market.owed[feed].get(symbol, last + 1)
            reports[symbol] = self.ledger.report(
                stream, first, last, (each.index for each in held if each.stream == stream)
            )
        return reports
