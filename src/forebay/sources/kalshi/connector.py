"""Kalshi, pure: what to say over a connection, and what its replies mean.

Facts from the venue's published AsyncAPI document ("Websocket Connection", "Error Codes").
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from forebay.domain.frames import EVERY_SYMBOL
from forebay.drivers import Driven
from forebay.errors import ConfigError
from forebay.sources.kalshi.ages import Ages
from forebay.sources.kalshi.awaited import BOOKS, AwaitedBooks
from forebay.sources.kalshi.protocol import BOOK_KINDS, KEY_ID, MILLISECOND, PRIVATE_KEY, SECOND
from forebay.sources.parsing import UNDECODABLE
from forebay.sources.venue import NOTHING, MessageVerdict, PlainSession

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from forebay.sources.venue import ConnectionPurpose, Stream

SOCKET_PATH = "/trade-api/ws/v2"
"""What the upgrade is signed for."""
OF_BOOKS = "orderbook_delta"
CHANNELS: Mapping[str, tuple[str, ...]] = {
    OF_BOOKS: BOOK_KINDS,
    "trade": ("trade",),
    "ticker": ("ticker",),
}
"""By the venue's channel of markets, the kinds of events that it tells."""
LIFECYCLES: Mapping[str, tuple[str, ...]] = {
    "market_lifecycle_v2": ("market", "market_event"),
    "multivariate_market_lifecycle": (),
}
"""Channels of all markets together. The second one tells of multivariate ones alone, and its
refusal refuses nothing."""
_KINDS = {**CHANNELS, **LIFECYCLES}
OF_MARKETS = frozenset({14, 16, 26})
"""Errors that are about markets: one is wanted, unknown, or they are too many."""
ENDINGS = frozenset({1, 9, 10, 17, 18, 25, 27})
"""Answers after which there is no subscription, whatever it was for: the venue cannot, the key is
not taken, a channel failed, it was too slow or we were, it was asked too often."""
FAILED = frozenset({9, 10, 25})
"""Those of them that end one that there is, whatever command they answer, if any."""
UNANSWERED = 100
"""So many commands for books are remembered that were not answered."""
_HINT = "List what there is with `forebay symbols --venue kalshi --status open`."
_DATA = re.compile(rb'\{"type":"(?:trade|ticker)"')
_SENT_MS = re.compile(rb'"ts_ms":([0-9]{13})[,}]')
_TAIL = 96
"""Bytes at the end of a message in which its time is."""

_signed = Driven("forebay.sources.kalshi.signing", "cryptography", "kalshi").at("headers")


def sign(
    credentials: Mapping[str, str], method: str, target: str, body: bytes, now_ns: int
) -> Mapping[str, str]:
    """Return the headers of a call; none without a key, which market data need not have."""
    del body
    if PRIVATE_KEY not in credentials:
        return {}
    signed: dict[str, str] = _signed(credentials, method, target, now_ns)
    return signed


def check_credentials(credentials: Mapping[str, str]) -> None:
    """Raise :class:`~forebay.errors.ConfigError` if there are some and they sign nothing."""
    missing = [name for name in (KEY_ID, PRIVATE_KEY) if not credentials.get(name)]
    if credentials and missing:
        hint = 'Write key_id = "…", and private_key = """PEM""" or private_key_file = "PATH".'
        raise ConfigError(f"The credentials of kalshi lack {', '.join(missing)}.", hint=hint)
    sign(credentials, "GET", SOCKET_PATH, b"", 0)


@dataclass(frozen=True, slots=True)
class SentCommand:
    """What a command asked for, by which its reply is understood."""

    streams: frozenset[Stream]
    channels: tuple[str, ...]
    symbols: tuple[str, ...]
    sid: int | None = None
    """Of a subscription that was changed."""
    leaving: bool = False
    """Whether the markets were taken out of it."""
    again: bool = False
    """Whether the books of the markets were asked for once more."""


class KalshiSession(PlainSession):
    """One subscription of all channels, which is asked for channel by channel if it is refused.

    It hears each message, to know how old they are when they come, and which are missing.
    """

    attentive = True
    tick_s = 1.0

    def __init__(self, asked: ConnectionPurpose) -> None:
        super().__init__(asked)
        self._symbols = tuple(asked.symbols)
        self._sent: dict[int, SentCommand] = {}
        """Commands that were not answered, by their ids."""
        self._ids = 0
        self._sids: dict[int, str] = {}
        """The channel of each subscription."""
        self._leaving: dict[str, int] = {}
        """How many subscriptions did not acknowledge yet that a market leaves them."""
        self._ages = Ages()
        self._books = AwaitedBooks()

    def headers(self, now_ns: int) -> Mapping[str, str]:
        """Return the signature of the upgrade."""
        return sign(self.asked.credentials, "GET", SOCKET_PATH, b"", now_ns)

    # --------------------------------------------------------------- what is asked for

    def opened(self, now_ns: int) -> Sequence[bytes]:
        """Return what subscribes to everything at once."""
        del now_ns
        if self._symbols == (EVERY_SYMBOL,):
            return [self._subscribe(tuple(LIFECYCLES), self._symbols)]
        channels = tuple(name for name, kinds in CHANNELS.items() if self._wants(kinds))
        return [self._subscribe(channels, self._symbols)] if channels and self._symbols else []

    def change(self, added: Sequence[str], removed: Sequence[str], now_ns: int) -> Sequence[bytes]:
        """See :class:`~forebay.sources.venue.ChangeableSession`."""
        del now_ns
        left = [symbol for symbol in self._symbols if symbol not in {*removed}]
        self._symbols = tuple(dict.fromkeys([*left, *added]))
        told = [*self._sids.items()]
        # Of a channel that was asked for twice one subscription takes them, or all is told twice.
        taking = {channel: sid for sid, channel in reversed(told)}
        send = [
            self._update(sid, "add_markets", tuple(added))
            for sid in sorted(taking.values())
            if added
        ]
        send += [self._update(sid, "delete_markets", tuple(removed)) for sid, _ in told if removed]
        self._leaving.update(dict.fromkeys(removed, len(told)))
        self._books.left(removed)
        given = {*self._sids.values()}
        missing = [name for name, kinds in CHANNELS.items() if self._wants(kinds)]
        send += [self._subscribe((name,), tuple(added)) for name in missing
                 if added and name not in given]  # fmt: skip
        return send

    def tick(self, now_ns: int) -> Sequence[bytes]:
        """Return what asks again for books that are due; unanswered commands are forgotten."""
        due = self._books.due(now_ns)
        for old in [at for at, sent in self._sent.items() if due and sent.again][:-UNANSWERED]:
            del self._sent[old]
        return [
            self._command(
                "update_subscription",
                {"sids": [sid], "action": "get_snapshot", "market_tickers": list(symbols)},
                SentCommand(frozenset(), (self._sids[sid],), symbols, sid, again=True),
            )
            for sid, symbols in due.items()
        ]

    def _wants(self, kinds: Sequence[str]) -> bool:
        return not {*self.asked.channels}.isdisjoint(kinds)

    def _subscribe(self, channels: tuple[str, ...], symbols: tuple[str, ...]) -> bytes:
        params: dict[str, Any] = {"channels": list(channels)}
        if symbols != (EVERY_SYMBOL,):
            params |= {"market_tickers": list(symbols), "use_yes_price": False}
        if OF_BOOKS in channels:
            params["send_initial_snapshot"] = True
        sent = SentCommand(self._streams(channels, symbols), channels, symbols)
        return self._command("subscribe", params, sent)

    def _update(self, sid: int, action: str, symbols: tuple[str, ...]) -> bytes:
        params = {"sids": [sid], "action": action, "market_tickers": list(symbols)}
        added = symbols if action == "add_markets" else ()
        channels = (self._sids[sid],)
        streams = self._streams(channels, added)
        sent = SentCommand(streams, channels, symbols, sid, leaving=not added)
        return self._command("update_subscription", params, sent)

    def _streams(self, channels: Sequence[str], symbols: Sequence[str]) -> frozenset[Stream]:
        kinds = {kind for name in channels for kind in _KINDS[name]}
        wanted = kinds.intersection(self.asked.channels)
        return frozenset((kind, symbol) for kind in wanted for symbol in symbols)

    def _command(self, name: str, params: Mapping[str, Any], sent: SentCommand) -> bytes:
        self._ids += 1
        self._sent[self._ids] = sent
        command = {"id": self._ids, "cmd": name, "params": params}
        return json.dumps(command, separators=(",", ":")).encode()

    # -------------------------------------------------------------------- what is said

    def received(self, payload: bytes, now_ns: int) -> MessageVerdict:
        """Return what is given and what is not, and whether messages get older and older."""
        usual = False
        if payload.startswith(BOOKS):
            broken = self._books.heard(payload, now_ns)
            if broken:
                return MessageVerdict(send=self.tick(now_ns))
            usual = broken is not None
        if usual or _DATA.match(payload):
            if self._books.over:
                return MessageVerdict(ended=self._books.over, complaint=self._books.over)
            return self._aged(payload, now_ns) if now_ns >= self._ages.due_ns else NOTHING
        try:
            message = msgspec.json.decode(payload)
        except UNDECODABLE:
            return NOTHING
        return self._replied(message, now_ns) if isinstance(message, dict) else NOTHING

    def _replied(self, message: Mapping[str, Any], now_ns: int) -> MessageVerdict:
        sid, said = _whole(message.get("sid")), message.get("msg")
        said = said if isinstance(said, dict) else {}
        seq = _whole(message.get("seq"))
        if message.get("type") == "orderbook_snapshot":
            self._books.snapshot(sid, seq, str(said.get("market_ticker")), now_ns)
        else:
            self._books.counted(sid, seq, now_ns)
        sent = self._sent.get(_whole(message.get("id")))
        kind = str(message.get("type"))
        if kind == "subscribed":
            return self._subscribed(sent, said, now_ns)
        if kind == "error":
            return self._error(message, said, sent)
        if kind == "ok" and sent is not None:
            del self._sent[message["id"]]
            if sent.sid is not None and sent.streams:
                self._books.expect(sent.sid, sent.symbols, now_ns)
            return MessageVerdict(accepted=sent.streams, released=self._left(sent))
        if kind in LIFECYCLES and isinstance(ticker := said.get("market_ticker"), str):
            return MessageVerdict(listed=frozenset({ticker}))
        if kind == "unsubscribed":
            why = "a subscription was taken back"
            return MessageVerdict(ended=why, complaint=why)
        return NOTHING

    def _left(self, sent: SentCommand) -> frozenset[str]:
        """Return the markets that have left the last subscription, by a reply to a command."""
        gone = []
        for symbol in sent.symbols if sent.leaving else ():
            self._leaving[symbol] = self._leaving.get(symbol, 1) - 1
            if self._leaving[symbol] < 1:
                del self._leaving[symbol]
                gone.append(symbol)
        return frozenset(gone)

    def _aged(self, payload: bytes, now_ns: int) -> MessageVerdict:
        """Look how old a message is; the venue has sent old ones over one connection only."""
        sent = _SENT_MS.search(payload, max(0, len(payload) - _TAIL))
        late_ns = self._ages.look(int(sent[1]) * MILLISECOND, now_ns) if sent else 0
        why = f"its messages come {late_ns / SECOND:.1f} s later than they did"
        return MessageVerdict(ended=why, complaint=why, late_ns=late_ns) if late_ns else NOTHING

    def _subscribed(
        self, sent: SentCommand | None, said: Mapping[str, Any], now_ns: int
    ) -> MessageVerdict:
        """One reply a channel, each with the id of the command."""
        channel, sid = str(said.get("channel")), _whole(said.get("sid"))
        if channel not in _KINDS or sid < 0:
            return NOTHING
        self._sids[sid] = channel
        symbols = self._symbols if sent is None else sent.symbols
        if channel == OF_BOOKS:
            self._books.subscribed(sid, symbols, now_ns)
        return MessageVerdict(accepted=self._streams((channel,), symbols))

    def _error(
        self, message: Mapping[str, Any], said: Mapping[str, Any], sent: SentCommand | None
    ) -> MessageVerdict:
        """Find out what is refused: the venue names the command, and neither channel nor market."""
        code = _whole(said.get("code"))
        words = f"error {said.get('code')}: {said.get('msg') or 'no reason given'}"
        endings = FAILED if sent is None or sent.again else ENDINGS
        if code in endings or (sent is None and _whole(message.get("sid")) in self._sids):
            return MessageVerdict(ended=words, complaint=words)
        if sent is None:
            return MessageVerdict(complaint=words)
        del self._sent[message["id"]]
        if sent.sid is not None:
            return self._unchanged(sent, words)
        if code in OF_MARKETS:
            return MessageVerdict(refusal=f"Kalshi refused the subscription: {words}. {_HINT}")
        if len(sent.channels) > 1:
            left = [name for name in sent.channels if name not in self._sids.values()]
            again = [self._subscribe((name,), sent.symbols) for name in left]
            return MessageVerdict(complaint=words, send=again)
        return MessageVerdict(refused=dict.fromkeys(sent.streams, words), complaint=words)

    def _unchanged(self, sent: SentCommand, words: str) -> MessageVerdict:
        """A subscription does not take markets; of several, it is asked for one by one."""
        if sent.again:
            return MessageVerdict(complaint=words)
        if sent.leaving:
            return MessageVerdict(complaint=words, released=self._left(sent))
        if sent.sid is None or len(sent.symbols) == 1:
            return MessageVerdict(refused=dict.fromkeys(sent.streams, words), complaint=words)
        again = [self._update(sent.sid, "add_markets", (symbol,)) for symbol in sent.symbols]
        return MessageVerdict(complaint=words, send=again)


def _whole(value: object) -> int:
    """Return a number that the venue gave; -1 if it is none."""
    return value if isinstance(value, int) and value >= 0 else -1
