"""The simulated exchange without its sockets: told what arrives and what time it is."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from forebay.lab import faults
from forebay.lab.exchanges.audience import Audience
from forebay.lab.exchanges.line import Line
from forebay.lab.exchanges.market import Market, MarketConfig
from forebay.lab.exchanges.model import CHANNELS, FEEDS, TRADE, Feed
from forebay.lab.faults import STRIKES, Emission, Faults, Scene, SwitchedFaults, stream_of
from forebay.lab.ledger import OUTAGE, DeliveryLedger, Withheld

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from forebay.lab.exchanges.audience import Listener
    from forebay.lab.exchanges.model import Announcement, Reply, Speaker, Topic, VenueModel
    from forebay.lab.exchanges.socket import Wire
    from forebay.lab.truth import Trade

PING_EVERY_NS: Final = 100_000_000
HEARTBEAT_EVERY_NS: Final = 1_000_000_000
MUTE_FOR_NS: Final = 60_000_000_000
"""A half-open connection that the peer does not leave is closed after this time."""
MAX_BACKLOG: Final = 32 << 20
"""Bytes a connection may lag behind before the server gives it up."""

KEPT: Final = 10_000
"""Moments of connections that are kept."""

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
        self.market = Market(config.venue.name, config.market, config.venue.trades)
        self._speakers: dict[str, Speaker] = {}
        self.faults = Faults(config.market.seed, config.faults)
        self.ledger = DeliveryLedger()
        self.switched = SwitchedFaults(config.venue.troubles)
        self.rate_limited = 0
        self.rest_requests = 0
        self.opened_ns: deque[int] = deque(maxlen=KEPT)
        """When connections were accepted, as monotonic nanoseconds; the oldest go first."""
        self._audience = Audience(config.venue)
        self._ageing_since_ns: int | None = None
        self._next_ping_ns = 0
        self._shutting = (faults.NO_UPGRADE, *config.venue.shutting)
        self._next_heartbeat_ns = 0

    @property
    def market_type(self) -> str:
        """The market type of its symbols, as event ids know it."""
        return self.venue.market_of(self.config.market.symbols[0])

    # ------------------------------------------------------------ what arrives

    def connected(self, wire: Wire, now_ns: int) -> Line:
        line = Line(wire, self.ledger, now_ns, self.venue.dialogue(self.switched, now_ns))
        self._audience.add(line)
        self.opened_ns.append(now_ns)
        if self.venue.welcome:
            line.say(self.venue.welcome)
            wire.flush()
        return line

    def disconnected(self, line: Line) -> None:
        """A connection is gone, whoever ended it."""
        line.over("closed by peer")
        self._audience.remove(line)

    def received(self, line: Line, raw: bytes, now_ns: int) -> None:
        if line.muted or line.ended:
            return
        self._obey(line, line.dialogue.answer(raw, self.market.trades, now_ns), now_ns)
        line.wire.flush()

    def _obey(self, line: Line, reply: Reply, now_ns: int) -> None:
        for each in reply.said:
            line.say(each)
        if reply.over:
            self._audience.remove(line)
            line.close(_POLICY_VIOLATION, "wrong key")
            return
        if line.topics != reply.topics:
            line.topics = reply.topics
            self._audience.subscriptions_changed()
        line.subscribed_once |= reply.subscribed
        if reply.subscribed and self._troubled(line, now_ns):
            return
        for channel, symbol in reply.begun:
            feed = self.venue.feed(channel)
            if feed is not None and symbol in self.market.trades:
                self.market.subscribed(symbol, now_ns, feed)
        for topic in reply.whole:
            self._greet(line, topic)

    def _greet(self, line: Line, topic: Topic) -> None:
        """Tell somebody at once what a topic is about."""
        channel, symbol = topic
        feed = self.venue.feed(channel)
        if feed is None or symbol not in self.market.trades:
            return
        greeting = self._speaker(symbol).greeting(channel, self.market.last(symbol))
        if greeting is None:
            return
        frame = line.dialogue.numbered(line.dialogue.lane(channel), greeting.frame)
        if greeting.index is None:
            line.say(frame)
        else:
            line.send(Emission(symbol, greeting.index, frame, feed))

    def _speaker(self, symbol: str) -> Speaker:
        if symbol not in self._speakers:
            self._speakers[symbol] = self.venue.speaker(self.market.trades[symbol])
        return self._speakers[symbol]

    # ------------------------------------------------------------------ switched faults

    def switch(
        self, name: str, now_ns: int, *, on: bool, settings: Mapping[str, object] | None = None
    ) -> None:
        """Switch a trouble on or off; one of the websocket strikes living connections at once.

        Raises :class:`~forebay.errors.ConfigError` if there is no such trouble or setting.
        """
        self.switched.switch(name, on=on, settings=settings)
        for line in tuple(self._audience.speaking()):
            self._troubled(line, now_ns)

    def refuses(self, now_ns: int) -> bool:
        """Whether a trouble refuses a connection now; if so it struck, and that is counted."""
        return sum(self.switched.strikes(name, now_ns) for name in self._shutting) > 0

    def _troubled(self, line: Line, now_ns: int) -> bool:
        """Whether a trouble took this connection: it is muted or closed then."""
        if self.switched.strikes(faults.SILENCE, now_ns):
            line.wire.flush()
            line.mute(now_ns)
            return True
        for name, frame in self.venue.partings.items():
            if self.switched.strikes(name, now_ns):
                line.say(frame)
                self._audience.remove(line)
                line.close(_POLICY_VIOLATION, name)
                return True
        reply = line.dialogue.troubled(now_ns)
        if reply is not None:
            self._obey(line, reply, now_ns)
        shut = any(map(self.switched.on, self._shutting))
        closing = shut or self.switched.strikes(faults.FLAP, now_ns)
        if closing:
            self._audience.remove(line)
            line.close(_SERVICE_RESTART, "trouble")
        return closing

    # -------------------------------------------------------------- time goes on

    def tick(self, now_ns: int) -> None:
        """Let happen all that is due."""
        aged_ns = self._aged(now_ns)
        for line in self._audience:
            self._tend(line, now_ns, aged_ns)
        for trade in self.market.advance(now_ns):
            self._skip()
            for feed in FEEDS:
                self._emit(feed, trade, now_ns)
        for line in self._audience if self.market.finished else ():
            line.release()  # there is no next event to change places with
        self._pings(now_ns)
        for line in self._audience:
            line.wire.flush()

    def _pings(self, now_ns: int) -> None:
        """Give signs of life that are due, and ask for some."""
        if now_ns >= self._next_heartbeat_ns:
            self._next_heartbeat_ns = now_ns + HEARTBEAT_EVERY_NS
            self._heartbeats()
        if now_ns >= self._next_ping_ns:
            self._next_ping_ns = now_ns + PING_EVERY_NS
            for told in self.venue.due(self.market, now_ns):
                self._announce(told)
            for line in self._audience.speaking():
                self._ping(line, now_ns)

    def _ping(self, line: Line, now_ns: int) -> None:
        """Ask what the peer has read, which is not needed where it is known already."""
        if self.venue.heartbeat is None:
            line.ping(now_ns)
            return
        if not line.confirmed:
            line.ping(now_ns)
        every_ns, body = self.venue.heartbeat
        if now_ns - line.pinged_ns >= every_ns:
            line.pinged_ns = now_ns
            line.wire.ping(body)

    def change(self, symbol: str, wanted: Mapping[str, object], now_ns: int) -> None:
        """Change what becomes of a symbol's market, and tell those who subscribed to that.

        Raises :class:`~forebay.errors.ConfigError` for what cannot be.
        """
        known = symbol in self.market.trades
        told = self.venue.change(self.market, symbol, wanted, now_ns)
        for line in self._audience.speaking() if not known else ():
            reply = line.dialogue.created(symbol)
            if reply is not None:
                self._obey(line, reply, now_ns)
        for each in told:
            self._announce(each)

    def _skip(self) -> None:
        """Hold nothing against anybody that never happened."""
        for symbol, first, last in self.market.skipped:
            for feed in FEEDS:
                self.ledger.nothing(stream_of(feed, symbol), first, last)
        self.market.skipped.clear()

    def _announce(self, told: Announcement) -> None:
        """Tell something to all who subscribed to its channel."""
        for line in self._audience.speaking():
            for channel, symbol in line.topics:
                if self.venue.word(channel) == told.channel and symbol in ("", told.symbol):
                    line.say(line.dialogue.numbered(line.dialogue.lane(channel), told.frame))

    def _tend(self, line: Line, now_ns: int, aged_ns: int | None) -> None:
        within_ns, waited_ns = self.venue.subscribe_within_ns, now_ns - line.opened_ns
        if line.muted_ns is not None:
            if now_ns - line.muted_ns >= MUTE_FOR_NS:
                self._end(line, "half-open")
        elif within_ns is not None and waited_ns >= within_ns and not line.subscribed_once:
            if self.venue.too_late:
                line.say(self.venue.too_late)
            self._audience.remove(line)
            line.close(_POLICY_VIOLATION, "no subscribe")
        elif line.wire.backlog() > MAX_BACKLOG:
            self._end(line, "slow consumer")
        else:
            line.slow(aged_ns)
            line.tick(now_ns)

    def _aged(self, now_ns: int) -> int | None:
        """Return when what is sent now arrives, None for at once."""
        if not self.switched.on(faults.AGEING):
            self._ageing_since_ns = None
            return None
        if self._ageing_since_ns is None:
            self._ageing_since_ns = now_ns
            self.switched.strikes(faults.AGEING, now_ns)
        told = self.switched.setting
        older_ns = (now_ns - self._ageing_since_ns) * told(faults.AGEING, "ms_per_s") // 1_000
        return now_ns + min(older_ns, told(faults.AGEING, "most_ms") * 1_000_000)

    def _end(self, line: Line, reason: str) -> None:
        self._audience.remove(line)
        line.over(reason)
        line.wire.abort()

    def _heartbeats(self) -> None:
        for line in self._audience.speaking():
            for channel, symbol in line.topics:
                if symbol not in self.market.trades:
                    continue
                frame = self._speaker(symbol).heartbeat(channel, self.market.last(symbol))
                if frame is not None:
                    line.say(frame)

    def _emit(self, feed: Feed, trade: Trade, now_ns: int) -> None:
        """Send what one event brings about to its subscribers, unless a fault strikes it."""
        symbol, index = trade.symbol, trade.index
        if feed != TRADE and symbol not in self.market.owed[feed]:
            return  # nobody has ever asked for it
        stream = stream_of(feed, symbol)
        listeners = self._audience.listening(feed, symbol)
        speaking = [each for each in listeners if not each[0].muted]
        frame = self._speaker(symbol).frame(feed, trade)
        if frame is None:
            self.ledger.nothing(stream, index)
            return
        if not speaking:
            self.ledger.note(stream, index, faults.HALF_OPEN if listeners else OUTAGE)
            return
        self._interrupt(feed, trade, speaking, now_ns)
        # Numbered before a fault strikes, so that what does not arrive leaves a hole.
        sent = [
            (line, Emission(symbol, index, line.dialogue.numbered(lane, frame), feed))
            for line, lane in speaking
        ]
        fate = self._fate(sent[0][1], now_ns)
        if fate is None:
            for line, emission in sent:
                line.send(emission)
            if feed == TRADE and self.switched.strikes_event(faults.RESTATE, index, now_ns):
                price = self.venue.another_price(trade.price)  # as no exchange should
                other = msgspec.structs.replace(trade, price=price)
                frame = self._speaker(symbol).frame(TRADE, other) or b""
                for line, lane in speaking:
                    line.say(line.dialogue.numbered(lane, frame))
            return
        fault, roll = fate
        self.ledger.note(stream, index, fault)
        self.ledger.count(stream, fault)
        STRIKES[fault](Scene(sent, self._audience.speaking(), roll, now_ns))
        self._audience.forget_ended()

    def _interrupt(
        self, feed: Feed, trade: Trade, speaking: Sequence[Listener], now_ns: int
    ) -> None:
        """Say before an event what switched faults of the venue have said unasked."""
        for name, noise in self.venue.noises.items():
            if feed == TRADE and self.switched.strikes_event(name, trade.index, now_ns):
                for line in dict.fromkeys(line for line, _ in speaking):
                    line.say(noise)
        for name, channel in self.venue.repeated.items():
            if feed != self.venue.feed(channel):
                continue
            if self.switched.strikes_event(name, trade.index, now_ns):
                said = self._speaker(trade.symbol).greeting(channel, trade.index - 1)
                for line, lane in speaking:
                    line.say(line.dialogue.numbered(lane, said.frame if said else b""))

    def _fate(self, emission: Emission, now_ns: int) -> tuple[str, int] | None:
        """The fault that strikes, and a number to choose details with."""
        tears = self.switched.strikes_event
        if emission.feed == TRADE and tears(faults.TEAR, emission.index, now_ns):
            return faults.CORRUPT, len(emission.frame) - 3  # two bytes short of a whole one
        for name, (fault, feeds) in self.venue.striking.items():
            if emission.feed in feeds and tears(name, emission.index, now_ns):
                return fault, emission.index
        return self.faults.of_event(emission.symbol, emission.index, emission.feed)

    # -------------------------------------------------------------- the truth

    def status(self) -> dict[str, Any]:
        """Where the market and its clients stand.

        Bounds are the first index owed (None: never subscribed) and the last one that happened:
        ``symbols`` has those of trades that are numbered, ``feeds`` of what else somebody ever
        subscribed to.
        """
        market = self.market

        def bounds(feed: Feed, symbols: Iterable[str]) -> dict[str, dict[str, int | None]]:
            first = market.owed[feed]
            return {each: {"first": first.get(each), "last": market.last(each)} for each in symbols}

        idle = not any(line.holding() for line in self._audience)
        return {
            "venue": self.venue.name,
            "seed": market.config.seed,
            "start": market.start_ns,
            "step_us": market.config.step_us,
            "clock_started": market.clock_started,
            "finished": market.finished and idle,
            "settled": idle and self.ledger.settled(),
            "symbols": bounds(TRADE, market.trades if self.venue.numbered else ()),
            "feeds": {
                feed: bounds(feed, owed)
                for feed, owed in market.owed.items()
                if owed and CHANNELS[feed] and not (feed == TRADE and self.venue.numbered)
            },
            "rate_limited": self.rate_limited,
            "rest_requests": self.rest_requests,
            "connections": len(self._audience),
        }

    def withheld(self, feed: Feed = TRADE) -> dict[str, Withheld]:
        """What each symbol's subscribers were not given of a feed, so far."""
        reports = {}
        for symbol in self.market.trades:
            stream = stream_of(feed, symbol)
            held = [each for line in self._audience for each in line.holding()]
            last = self.market.last(symbol)
            first = self.market.owed[feed].get(symbol, last + 1)
            reports[symbol] = self.ledger.report(
                stream, first, last, (each.index for each in held if each.stream == stream)
            )
        return reports
