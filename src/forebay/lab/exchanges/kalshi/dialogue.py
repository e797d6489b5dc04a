"""What one connection to Kalshi has subscribed to: numbers of subscriptions, and of their frames.

``seq`` begins with 1 for each ``sid`` and rises by one with every frame of it, whatever market it
is of; of ``ticker`` nothing is numbered. A second ``subscribe`` is another subscription.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from forebay.lab.exchanges.kalshi import messages
from forebay.lab.exchanges.kalshi.troubles import (
    FAILED,
    NO_SNAPSHOT,
    ONE_SIDED,
    OVERFLOW,
    UNANSWERED,
)
from forebay.lab.exchanges.model import Dialogue, Reply

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from forebay.lab.exchanges.model import Topic
    from forebay.lab.faults import SwitchedFaults

MOST_MARKETS: Final = 10_000
"""Of one subscription."""
_OWN: Final = "#"
"""Between a channel and the subscription that carries it, in topics."""
_UPDATES: Final = ("add_markets", "delete_markets", "get_snapshot")


class CommandFailed(Exception):
    """A command that cannot be carried out; its argument is the code."""


@dataclass(slots=True)
class ChannelSubscription:
    """One channel of one ``subscribe``."""

    sid: int
    channel: str
    markets: dict[str, None] = field(default_factory=dict)
    everything: bool = False
    """Of all markets, of those that come later, too."""
    in_yes_prices: bool = False
    tickers_told: bool = True
    """Whether an ``ok`` names the markets."""
    seq: int = 0

    def next_seq(self) -> int | None:
        """The number of the next frame, None if its channel has none."""
        if self.channel == messages.TICKER:
            return None
        self.seq += 1
        return self.seq

    def topics(self) -> Iterator[Topic]:
        """What it is sent."""
        name = f"{self.channel}{_OWN}{self.sid}"
        return ((name, market) for market in self.markets or ("",))


def channel_of(topic: str) -> str:
    """Return the venue's word of a topic's channel."""
    return topic.partition(_OWN)[0]


class KalshiDialogue(Dialogue):
    """One connection."""

    def __init__(self, switched: SwitchedFaults, first_sid: int = 1) -> None:
        self._switched = switched
        self._next_sid = first_sid
        self._now_ns = 0
        self._subscriptions: dict[int, ChannelSubscription] = {}

    def lane(self, channel: str) -> str:
        return channel.partition(_OWN)[2]

    def numbered(self, lane: str, frame: bytes) -> bytes:
        subscription = self._subscriptions[int(lane)]
        if messages.is_snapshot(frame) and self._switched.strikes(ONE_SIDED, self._now_ns):
            frame = messages.without_no(frame)
        if subscription.in_yes_prices and subscription.channel == messages.BOOK:
            frame = messages.in_yes_prices(frame)
        return messages.counted(frame, subscription.sid, subscription.next_seq())

    def answer(self, raw: bytes, symbols: Collection[str], now_ns: int) -> Reply:
        self._now_ns = now_ns
        try:
            command = json.loads(raw)
        except ValueError:
            command = None
        if not isinstance(command, dict):
            return self._reply(messages.error(1))
        try:
            return self._obey(command, symbols, now_ns)
        except CommandFailed as failed:
            return self._reply(messages.error(failed.args[0], command.get("id")))

    def _obey(self, command: dict[str, Any], symbols: Collection[str], now_ns: int) -> Reply:
        name, identifier = command.get("cmd"), command.get("id")
        if name == "list_subscriptions":
            told = [{"channel": s.channel, "sid": s.sid} for s in self._subscriptions.values()]
            return self._reply(messages.reply(identifier, {"type": "ok", "msg": told}))
        if name not in ("subscribe", "unsubscribe", "update_subscription"):
            raise CommandFailed(5)
        params = command.get("params")
        if not isinstance(params, dict):
            raise CommandFailed(2)
        if name == "subscribe":
            return self._subscribe(identifier, params, symbols, now_ns)
        if name == "unsubscribe":
            return self._unsubscribe(identifier, params)
        return self._update(identifier, params, symbols, now_ns)

    # -------------------------------------------------------------- subscribe

    def _subscribe(
        self, identifier: object, params: dict[str, Any], symbols: Collection[str], now_ns: int
    ) -> Reply:
        channels = tuple(dict.fromkeys(messages.texts(params.get("channels"))))
        if not channels:
            raise CommandFailed(3)
        if any(channel not in messages.CHANNELS for channel in channels):
            raise CommandFailed(8)
        named = _markets(params, symbols)
        if messages.BOOK in channels and not named:
            raise CommandFailed(14)
        said: list[bytes] = []
        begun: list[Topic] = []
        whole: list[Topic] = []
        quiet = self._switched.strikes(NO_SNAPSHOT, now_ns)
        for channel in channels:
            sid, self._next_sid = self._next_sid, self._next_sid + 1
            made = self._subscriptions[sid] = ChannelSubscription(sid, channel)
            if channel in (messages.BOOK, messages.TRADES, messages.TICKER):
                made.everything = not named
                made.markets = dict.fromkeys(named or symbols)
            made.in_yes_prices = params.get("use_yes_price") is True
            made.tickers_told = params.get("skip_ticker_ack") is not True
            said.append(messages.subscribed(identifier, channel, sid))
            begun += made.topics()
            asked = channel == messages.TICKER and params.get("send_initial_snapshot") is True
            if asked or (channel == messages.BOOK and not quiet):
                whole += made.topics()
        return Reply(tuple(said), self._topics(), tuple(begun), tuple(whole), subscribed=True)

    # -------------------------------------------------------------- and the rest

    def _unsubscribe(self, identifier: object, params: dict[str, Any]) -> Reply:
        sids = params.get("sids")
        if not isinstance(sids, list) or not sids:
            raise CommandFailed(4)
        if any(sid not in self._subscriptions for sid in sids):
            raise CommandFailed(7)
        said = []
        for sid in dict.fromkeys(sids):
            gone = self._subscriptions.pop(sid)
            said.append(self._told(identifier, gone, "unsubscribed"))
        return self._reply(*said)

    def _update(
        self, identifier: object, params: dict[str, Any], symbols: Collection[str], now_ns: int
    ) -> Reply:
        subscription = self._only(params)
        action = params.get("action")
        if not action:
            raise CommandFailed(15)
        if action not in _UPDATES:
            raise CommandFailed(13)
        named = _markets(params, symbols)
        if not named:
            raise CommandFailed(14)
        if action == "get_snapshot":
            return self._snapshot(identifier, subscription, named, now_ns)
        before = dict(subscription.markets)
        if action == "add_markets":
            if len(before | dict.fromkeys(named)) > MOST_MARKETS:
                raise CommandFailed(26)
            subscription.markets.update(dict.fromkeys(named))
        else:
            for market in named:
                subscription.markets.pop(market, None)
        new = tuple(topic for topic in subscription.topics() if topic[1] not in before)
        whole = new if subscription.channel == messages.BOOK else ()
        told = {"market_tickers": [*subscription.markets]} if subscription.tickers_told else {}
        ok = self._told(identifier, subscription, "ok", told)
        return Reply((ok,), self._topics(), new, whole, subscribed=bool(new))

    def _snapshot(
        self,
        identifier: object,
        subscription: ChannelSubscription,
        named: Iterable[str],
        now_ns: int,
    ) -> Reply:
        if subscription.channel != messages.BOOK:
            raise CommandFailed(13)
        if self._switched.strikes(UNANSWERED, now_ns):
            return self._reply()
        said = self._told(identifier, subscription, "ok", {"market_tickers": [*named]})
        name = f"{subscription.channel}{_OWN}{subscription.sid}"
        return Reply((said,), self._topics(), (), tuple((name, market) for market in named))

    def _only(self, params: dict[str, Any]) -> ChannelSubscription:
        """Return the one subscription that an update is of."""
        sids = params["sids"] if "sids" in params else [params.get("sid")]
        if not isinstance(sids, list) or len(sids) != 1 or sids[0] is None:
            raise CommandFailed(12)
        if sids[0] not in self._subscriptions:
            raise CommandFailed(7)
        return self._subscriptions[sids[0]]

    def created(self, symbol: str) -> Reply | None:
        wide = [each for each in self._subscriptions.values() if each.everything]
        for each in wide:
            each.markets[symbol] = None
        begun = [topic for topic in self._topics() if topic[1] == symbol]
        return Reply((), self._topics(), tuple(begun)) if begun else None

    def troubled(self, now_ns: int) -> Reply | None:
        for trouble, code in ((OVERFLOW, 25), (FAILED, 10)):
            if self._subscriptions and self._switched.strikes(trouble, now_ns):
                said = [messages.error(code, sid=sid) for sid in self._subscriptions]
                self._subscriptions.clear()
                return self._reply(*said)
        return None

    def _told(
        self, identifier: object, subscription: ChannelSubscription, kind: str, told: object = None
    ) -> bytes:
        """A reply that counts among the frames of its subscription."""
        seq = subscription.next_seq()
        numbers = {"sid": subscription.sid} | ({} if seq is None else {"seq": seq})
        more = {} if told is None else {"msg": told}
        return messages.reply(identifier, {**numbers, "type": kind, **more})

    def _reply(self, *said: bytes) -> Reply:
        return Reply(said, self._topics())

    def _topics(self) -> tuple[Topic, ...]:
        return tuple(topic for each in self._subscriptions.values() for topic in each.topics())


def _markets(params: dict[str, Any], symbols: Collection[str]) -> tuple[str, ...]:
    """Return the markets that are named, each once; of one that is none nothing is ever told."""
    by_id = {}
    if any(name in params for name in ("market_id", "market_ids")):
        by_id = {messages.market_id(symbol): symbol for symbol in symbols}
    names = ("market_ticker", "market_tickers", "market_id", "market_ids")
    named = [each for name in names for each in messages.texts(params.get(name))]
    return tuple(dict.fromkeys(by_id.get(each, each) for each in named))
