"""Massive, pure: what to say over a connection, how to sign a call, and which pages to ask for."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from forebay.domain.calendars.grid import STEPS
from forebay.sources.massive.protocol import (
    BARS,
    CRYPTO,
    FOREX,
    MILLISECOND,
    QUOTES,
    SPANS,
    TRADES,
    pair_of,
    ticker_of,
)
from forebay.sources.parsing import UNDECODABLE
from forebay.sources.venue import NOTHING, MessageVerdict, PlainSession

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from forebay.ports import HistoryRequest
    from forebay.sources.venue import ConnectionPurpose, Stream

KEY = "key"
"""What the secret is called in a file of credentials."""
TOPICS = {
    (FOREX, QUOTES.kind): "C",
    (FOREX, BARS.kind): "CA",
    (CRYPTO, TRADES.kind): "XT",
    (CRYPTO, QUOTES.kind): "XQ",
    (CRYPTO, BARS.kind): "XA",
}
"""The stream's word for each kind of event of a market."""
ENDINGS = ("auth_failed", "auth_timeout", "max_connections", "slow_consumer", "force_disconnect")
"""What ends a connection, whenever it is said."""
TOO_MANY = 429
NOT_THERE = "Massive has none of that market."
_TOPIC = re.compile(r"([A-Z]+[0-9]?)\.([A-Z0-9]+[/-][A-Z0-9]+)")
NO_KEY = 'it wants a key: name a file with key = "…" as credentials_file'

MOST_ROWS = 50_000
"""Of a page; of bars it counts those of a minute, or of a day, that they are made of."""
ADJUSTED = "adjusted"
"""What the name of a series says of bars that are restated for what came later."""
MARGIN_NS = 1_000_000_000
"""A gap is in receipts, history in the venue's own time."""
ANSWERED = ("", "OK", "DELAYED")
"""What ``status`` says of a page that is one."""
_TIMEFRAMES = {(str(count), unit): timeframe for timeframe, (count, unit) in SPANS.items()}
_NEXT = re.compile(r"(?:[a-z]+://[^/?#]*)?(/[^?#\s]*)(\?[^#\s]*)?", re.ASCII)
_KEY = re.compile(r"(?<=[?&])apiKey=[^&]*&?", re.IGNORECASE)
_BARS = re.compile(
    r"/v2/aggs/ticker/([CX]:[A-Z0-9]+)/range/([0-9]{1,9})/([a-z]+)/([0-9]{1,19})/([0-9]{1,19})"
)
_TICKS = re.compile(r"/v3/(quotes|trades)/([CX]:[A-Z0-9]+-[A-Z0-9]+)")


def sign(
    credentials: Mapping[str, str], method: str, target: str, body: bytes, now_ns: int
) -> Mapping[str, str]:
    """Return the header of a call; the key is never in its address."""
    del method, target, body, now_ns
    return {"Authorization": f"Bearer {credentials.get(KEY, '')}"}


def wait(status: int, headers: Mapping[str, str], body: bytes, now_ns: int) -> float | None:
    """Return how long to leave the venue alone that says so without saying how long.

    Calls are counted by the minute, so it is the rest of this one.
    """
    del body
    if status != TOO_MANY or any(each.isdigit() for each in headers.get("Retry-After", "")):
        return None
    return 60.0 - now_ns / 1e9 % 60.0


class MassiveSession(PlainSession):
    """Waits to be greeted, shows its key, subscribes; each topic is answered for itself."""

    marks = (b'"status"',)

    def __init__(self, asked: ConnectionPurpose) -> None:
        super().__init__(asked)
        self._topics: dict[str, Stream] = {
            f"{TOPICS[asked.market, kind]}.{_wire(asked.market, symbol)}": (kind, symbol)
            for kind, symbol in sorted(asked.streams)
            if (asked.market, kind) in TOPICS
        }
        self._shown = self._subscribed = False

    def opened(self, now_ns: int) -> Sequence[bytes]:
        """Say nothing: the venue speaks first."""
        del now_ns
        return ()

    def received(self, payload: bytes, now_ns: int) -> MessageVerdict:
        """Follow the states of the connection."""
        del now_ns
        try:
            events = msgspec.json.decode(payload)
        except UNDECODABLE:
            return NOTHING
        verdict = NOTHING
        for event in events if isinstance(events, list) else ():
            if isinstance(event, dict) and event.get("ev") == "status":
                said = self._said(str(event.get("status")), str(event.get("message") or ""))
                verdict = _joined(verdict, said)
        return verdict

    def _said(self, status: str, message: str) -> MessageVerdict:
        if status in ("connected", "auth_success"):
            return self._greeted() if status == "connected" else self._admitted()
        if status == "success":
            return MessageVerdict(accepted=frozenset(self._named(message)))
        said = f"{status}: {message}" if message else status
        if status in ENDINGS:
            return MessageVerdict(ended=said, complaint=said)
        return MessageVerdict(refused=dict.fromkeys(self._named(message), said), complaint=said)

    def _greeted(self) -> MessageVerdict:
        """Show the key, once."""
        key, again, self._shown = self.asked.credentials.get(KEY, ""), self._shown, True
        if not key:
            return MessageVerdict(ended=NO_KEY, complaint=NO_KEY)
        return NOTHING if again else MessageVerdict(send=(_command("auth", key),))

    def _admitted(self) -> MessageVerdict:
        """Subscribe, once."""
        if self._subscribed:
            return NOTHING
        self._subscribed = True
        missing = self.asked.streams - {*self._topics.values()}
        send = (_command("subscribe", ",".join(self._topics)),) if self._topics else ()
        return MessageVerdict(refused=dict.fromkeys(missing, NOT_THERE), send=send)

    def _named(self, message: str) -> list[Stream]:
        """Return the streams whose topics stand in a message."""
        found = (
            f"{word}.{_wire(self.asked.market, pair)}" for word, pair in _TOPIC.findall(message)
        )
        return [self._topics[topic] for topic in found if topic in self._topics]


def _joined(first: MessageVerdict, second: MessageVerdict) -> MessageVerdict:
    """Return what two statuses of one frame say together."""
    return MessageVerdict(
        accepted=first.accepted | second.accepted,
        refused={**first.refused, **second.refused},
        ended=first.ended or second.ended,
        complaint="; ".join(filter(None, (first.complaint, second.complaint))),
        send=(*first.send, *second.send),
    )


def _wire(market: str, symbol: str) -> str:
    return symbol.replace("-", "/") if market == FOREX else symbol


def _command(action: str, params: str) -> bytes:
    return json.dumps({"action": action, "params": params}, separators=(",", ":")).encode()


# ------------------------------------------------------------------------------ pages


class AskedBars(NamedTuple):
    """What a page of aggregates was asked for; both ends are included."""

    ticker: str
    timeframe: str
    first_ms: int
    last_ms: int

    def within(self, begin_ms: int) -> bool:
        """Return whether a bar that begins then is asked for; the one that ``from`` is in is."""
        return self.first_ms - STEPS[self.timeframe] * 1000 < begin_ms <= self.last_ms


def asked_bars(target: str) -> AskedBars | None:
    """Return what path and query ask for; None if these are not bars that have a name here."""
    found = _BARS.fullmatch(target.partition("?")[0])
    if found is None or (timeframe := _TIMEFRAMES.get((found[2], found[3]))) is None:
        return None
    return AskedBars(found[1], timeframe, int(found[4]), int(found[5]))


def asked_ticks(target: str) -> tuple[str, str] | None:
    """Return kind and pair of path and query; None if they ask for neither quotes nor trades."""
    found = _TICKS.fullmatch(target.partition("?")[0])
    return (found[1].removesuffix("s"), found[2]) if found else None


def bars_path(request: HistoryRequest, begin_ns: int, end_ns: int) -> str:
    """Return path and query of the bars of a series that begin in a range, its end not included.

    The limit counts bars of the base, so a page may have fewer rows and need not be the last.
    """
    timeframe, adjusted = series_of(request.series)
    multiplier, span = SPANS[timeframe]
    first, last = -(-begin_ns // MILLISECOND), (end_ns - 1) // MILLISECOND
    ticker = ticker_of(request.market, request.symbol)
    where = f"{multiplier}/{span}/{first}/{last}"
    asked = f"adjusted={'true' if adjusted else 'false'}&sort=asc&limit={MOST_ROWS}"
    return f"/v2/aggs/ticker/{ticker}/range/{where}?{asked}"


def series_of(name: str) -> tuple[str, bool]:
    """Return time frame of a series, and whether its bars are adjusted."""
    timeframe, _, option = name.partition(",")
    return timeframe, option == ADJUSTED


def ticks_path(request: HistoryRequest, token: str) -> str:
    """Return path and query of quotes or trades; of a cryptocurrency there are no old quotes."""
    first, last = request.first - MARGIN_NS, request.last + MARGIN_NS
    span = f"timestamp.gte={first}&timestamp.lte={last}"
    where = f"/v3/{request.kind}s/{pair_of(request.market, request.symbol)}"
    return token or f"{where}?{span}&order=asc&sort=timestamp&limit={MOST_ROWS}"


class _Following(msgspec.Struct):
    """Paging needs no more: a row that is poison must not stop a fill."""

    results: list[msgspec.Raw] | None = None
    next_url: str | None = None
    status: str = ""


_decode = msgspec.json.Decoder(_Following).decode


def next_page(body: bytes) -> str:
    """Return path and query of the page that follows, empty after the last.

    The host that ``next_url`` names is not looked at: it would be given the key. Nor is a key.
    Raises ``ValueError`` if the page is none, or what follows is no page of a history.
    """
    page = _decode(body)
    if page.status not in ANSWERED:
        raise ValueError(f"its status is {page.status!r:.200}")
    if not page.next_url:
        return ""
    target = target_of(page.next_url)
    if asked_bars(target) is None and asked_ticks(target) is None:
        raise ValueError(f"it goes on at {_KEY.sub('', page.next_url)!r:.200}")
    return target


def target_of(url: str) -> str:
    """Return path and query of an address without the key; empty if it is none."""
    found = _NEXT.fullmatch(url)
    return f"{found[1]}{_KEY.sub('', found[2] or '').rstrip('?&')}" if found else ""
