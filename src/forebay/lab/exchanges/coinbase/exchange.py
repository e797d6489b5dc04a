"""The simulated exchange without its sockets: told what arrives and what time it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypedDict

from forebay.lab.exchanges.coinbase import messages
from forebay.lab.exchanges.coinbase.line import Line
from forebay.lab.exchanges.coinbase.market import VENUE, Market, MarketConfig, restated
from forebay.lab.faults import STRIKES, Faults, corrupt, half_open
from forebay.lab.faults.scene import Emission, Scene
from forebay.lab.faults.troubles import FLAP, NO_UPGRADE, RESTATE, SILENCE, TEAR, Troubles
from forebay.lab.ledger import OUTAGE, Ledger, Withheld

if TYPE_CHECKING:
    from collections.abc import Mapping

    from forebay.lab.exchanges.coinbase.line import Wire
    from forebay.lab.truth import Trade

SUBSCRIBE_WITHIN_NS: Final = 5_000_000_000
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
    """A market, and what goes wrong in it: probabilities by fault name."""

    market: MarketConfig
    faults: Mapping[str, float] = field(default_factory=dict)


class Bounds(TypedDict):
    """First index owed (None: never subscribed) and last index that happened."""

    first: int | None
    last: int


class Status(TypedDict):
    """What the truth server says of the whole."""

    venue: str
    seed: int
    start: int
    step_us: int
    clock_started: bool
    finished: bool
    settled: bool
    symbols: dict[str, Bounds]
    rate_limited: int
    rest_requests: int
    connections: int


class Exchange:
    """Decides everything and awaits nothing; time comes in as monotonic nanoseconds."""

    def __init__(self, config: ExchangeConfig) -> None:
        self.config = config
        self.market = Market(config.market)
        self.faults = Faults(config.market.seed, config.faults)
        self.ledger = Ledger()
        self.troubles = Troubles()
        self.rate_limited = 0
        self.rest_requests = 0
        self._lines: list[Line] = []
        self._listeners: dict[str, tuple[Line, ...]] = {}
        self._next_ping_ns = 0
        self._next_heartbeat_ns = 0

    # ------------------------------------------------------------ what arrives

    def connected(self, wire: Wire, now_ns: int) -> Line:
        """A connection is up."""
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
        """A client sent a text message."""
        if line.muted or line.ended:
            return
        self._obey(line, raw, now_ns)
        line.wire.flush()

    def _obey(self, line: Line, raw: bytes, now_ns: int) -> None:
        try:
            request = messages.parse_request(raw, self.market.trades)
        except messages.Refusal as refusal:
            line.say(messages.error(refusal))
            return
        self._listeners.clear()
        if not request.subscribe:
            for topic in request.topics:
                line.topics.pop(topic, None)
            line.say(messages.subscriptions(list(line.topics)))
            return
        new = [topic for topic in request.topics if topic not in line.topics]
        line.topics.update(dict.fromkeys(new))
        line.subscribed_once = True
        line.say(messages.subscriptions(list(line.topics)))
        if self._troubled(line, now_ns):
            return
        for channel, symbol in new:
            if channel == messages.MATCHES:
                self._begin(line, symbol, now_ns)

    def _begin(self, line: Line, symbol: str, now_ns: int) -> None:
        self.market.subscribed(symbol, now_ns)
        last = self.market.last_trade(symbol)
        line.send(Emission(symbol, last.index, messages.match(last, "last_match")))

    # ------------------------------------------------------------------ troubles

    def switch(
        self, name: str, now_ns: int, *, on: bool, settings: Mapping[str, object] | None = None
    ) -> None:
        """Switch a trouble on or off; one of the websocket strikes living connections at once.

        Raises :class:`~forebay.errors.ConfigError` if there is no such trouble or setting.
        """
        self.troubles.switch(name, on=on, settings=settings)
        for line in tuple(self._speaking()):
            self._troubled(line, now_ns)

    def refuses_upgrade(self, now_ns: int) -> bool:
        """Whether a websocket that asks to be one is refused."""
        return self.troubles.strikes(NO_UPGRADE, now_ns)

    def _troubled(self, line: Line, now_ns: int) -> bool:
        """Whether a trouble took this connection: it is muted or closed then."""
        if self.troubles.strikes(SILENCE, now_ns):
            line.wire.flush()
            line.mute(now_ns)
            return True
        closing = self.troubles.on(NO_UPGRADE) or self.troubles.strikes(FLAP, now_ns)
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
            self._emit(trade, now_ns)
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
        if line.muted_ns is not None:
            if now_ns - line.muted_ns >= MUTE_FOR_NS:
                self._end(line, "half-open")
        elif not line.subscribed_once and now_ns - line.opened_ns >= SUBSCRIBE_WITHIN_NS:
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
        frames: dict[str, bytes] = {}
        for line in self._speaking():
            for channel, symbol in line.topics:
                if channel == messages.HEARTBEAT:
                    if symbol not in frames:
                        frames[symbol] = messages.heartbeat(self.market.last_trade(symbol))
                    line.say(frames[symbol])

    def _speaking(self) -> list[Line]:
        return [line for line in self._lines if not line.muted]

    def _emit(self, trade: Trade, now_ns: int) -> None:
        """Send one event to its subscribers, unless a fault strikes it."""
        symbol, index = trade.symbol, trade.index
        listeners = self._listening(symbol)
        speaking = [line for line in listeners if not line.muted]
        if not speaking:
            self.ledger.note(symbol, index, half_open.NAME if listeners else OUTAGE)
            return
        emission = Emission(symbol, index, messages.match(trade))
        fate = self.faults.of_event(symbol, index)
        if self.troubles.strikes_event(TEAR, index, now_ns):
            fate = corrupt.NAME, len(emission.frame) - 3  # two bytes short of a whole one
        if fate is None:
            again = self.troubles.strikes_event(RESTATE, index, now_ns)
            for line in speaking:
                line.send(emission)
                if again:
                    line.say(messages.match(restated(trade)))
            return
        fault, roll = fate
        self.ledger.note(symbol, index, fault)
        self.ledger.count(symbol, fault)
        STRIKES[fault](Scene(emission, speaking, self._speaking(), roll, now_ns))
        if any(line.ended for line in self._lines):
            self._lines = [line for line in self._lines if not line.ended]
            self._listeners.clear()

    def _listening(self, symbol: str) -> tuple[Line, ...]:
        listeners = self._listeners.get(symbol)
        if listeners is None:
            topic = (messages.MATCHES, symbol)
            listeners = tuple(line for line in self._lines if topic in line.topics)
            self._listeners[symbol] = listeners
        return listeners

    # -------------------------------------------------------------- the truth

    def refuses_request(self, number: int) -> int | None:
        """Whether REST request ``number`` gets 429: a roll for details, or None."""
        roll = self.faults.of_request(number)
        self.rate_limited += roll is not None
        return roll

    def close_market(self) -> None:
        """Let no further event happen; connections and REST go on."""
        self.market.close()

    def status(self) -> Status:
        """Where the market and its clients stand."""
        market = self.market
        idle = not any(line.holding(symbol) for line in self._lines for symbol in market.trades)
        return {
            "venue": VENUE,
            "seed": market.config.seed,
            "start": market.config.start_ns,
            "step_us": market.config.step_us,
            "clock_started": market.clock_started,
            "finished": market.finished and idle,
            "settled": idle and self.ledger.settled(),
            "symbols": {
                symbol: {"first": market.first_owed.get(symbol), "last": market.last(symbol)}
                for symbol in market.trades
            },
            "rate_limited": self.rate_limited,
            "rest_requests": self.rest_requests,
            "connections": len(self._lines),
        }

    def withheld(self) -> dict[str, Withheld]:
        """What each symbol's subscribers were not given, so far."""
        reports = {}
        for symbol in self.market.trades:
            held = [index for line in self._lines for index in line.holding(symbol)]
            last = self.market.last(symbol)
            first = self.market.first_owed.get(symbol, last + 1)
            reports[symbol] = self.ledger.report(symbol, first, last, held)
        return reports
