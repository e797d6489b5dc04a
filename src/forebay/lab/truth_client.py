"""A simulator's truth over HTTP, as an audit asks it; blocking."""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec

from forebay.domain.coverage import StreamKey
from forebay.domain.digest import MINUTE_NS, Digest
from forebay.domain.intervals import IntervalSet
from forebay.errors import ConfigError, Unreachable
from forebay.lab.exchanges.model import CHANNELS, TRADE, Feed
from forebay.lab.ledger import Withheld
from forebay.services.audit.report import StageDigest
from forebay.services.audit.truth import (
    TrueEvent,
    Truth,
    TruthBounds,
    TruthSnapshot,
    WithheldIndices,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")

TIMEOUT_S = 60
EVENTS_AT_ONCE = 50_000
"""So many events are digested within the timeout, however busy the machine is."""
_HINT = "Is the simulator (`forebay lab serve`) that this was captured from still running?"


class _Status(msgspec.Struct, frozen=True):
    venue: str
    market: str
    channel: str
    symbols: dict[str, TruthBounds]
    """Of :attr:`channel`."""
    feeds: dict[Feed, dict[str, TruthBounds]] = {}
    """Of other messages that somebody subscribed to, by what they are called, and by symbol."""
    finished: bool = False

    def keys(self, feed: Feed, symbol: str) -> Iterator[StreamKey]:
        """Return the streams that a feed of a symbol carries."""
        for channel in CHANNELS[feed]:
            yield StreamKey(self.venue, self.market, channel, symbol)


class TruthClient(Truth):
    """The truth server at ``url``."""

    def __init__(self, url: str) -> None:
        """Raise :class:`~forebay.errors.ConfigError` if ``url`` is no address."""
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            message = f"{url!r} is not the address of a truth server."
            raise ConfigError(message, hint="Give the truth_url that `forebay lab serve` prints.")
        self._url = url
        self._host, self._port = parts.hostname, parts.port
        self._path = parts.path.rstrip("/")

    def document(self) -> dict[str, Any]:
        """Return everything that the server says of itself."""
        return self._get("/", dict[str, Any])

    def look(self) -> TruthSnapshot:
        status = self._get("/", _Status)
        bounds, withheld, least, most = {}, {}, 0, 0
        for feed, symbols in ((TRADE, status.symbols), *status.feeds.items()):
            reports = self._get(_query("/withheld", channel=feed), dict[str, Withheld])
            for symbol, each in symbols.items():
                bounds.update(dict.fromkeys(status.keys(feed, symbol), each))
            for symbol, report in reports.items():
                certain, in_doubt = (
                    IntervalSet((first, last) for first, last, _ in spans)
                    for spans in (report["certain"], report["in_doubt"])
                )
                indices = WithheldIndices(certain, certain | in_doubt)
                withheld.update(dict.fromkeys(status.keys(feed, symbol), indices))
                least += len(report["poison"])
                most += len(report["poison"]) + len(report["poison_in_doubt"])
        market = status.venue, status.market, status.channel
        return TruthSnapshot(market, bounds, withheld, (least, most), status.finished)

    def digests(self, key: StreamKey, first: int, end: int) -> dict[int, Digest]:
        found: dict[int, Digest] = {}
        for low in range(first, end, EVENTS_AT_ONCE):
            more = {"from": low, "to": min(low + EVENTS_AT_ONCE, end), "by": MINUTE_NS}
            path = _query("/digests", symbol=key.symbol, channel=key.channel, **more)
            for minute, each in self._get(path, dict[int, StageDigest]).items():
                digest = Digest.from_hex(each.count, each.ids, each.rows)
                found[minute] = found.get(minute, Digest()) + digest
        return found

    def events(self, key: StreamKey, first: int, end: int) -> list[TrueEvent]:
        events = self._events(key, **{"from": first, "to": end})
        if len(events) != end - first:
            message = f"The truth server {self._url} gave {len(events)} of {end - first} events."
            raise Unreachable(message, hint=_HINT)
        return events

    def between(self, key: StreamKey, since_ns: int, until_ns: int) -> list[TrueEvent]:
        return self._events(key, since=since_ns, until=until_ns)

    def _events(self, key: StreamKey, **where: int) -> list[TrueEvent]:
        path = _query("/events", symbol=key.symbol, channel=key.channel, **where)
        return self._get(path, list[TrueEvent], lines=True)

    def _get(self, path: str, kind: type[T], *, lines: bool = False) -> T:
        body = self._body(path)
        if lines:
            body = b"[" + b",".join(body.splitlines()) + b"]"
        try:
            return msgspec.json.decode(body, type=kind)
        except msgspec.DecodeError as error:
            message = f"The truth server {self._url} answered something else: {error}."
            raise Unreachable(message, hint=_HINT) from error

    def _body(self, path: str) -> bytes:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_S)
        try:
            connection.request("GET", self._path + path)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            message = f"The truth server {self._url} did not answer: {error}."
            raise Unreachable(message, hint=_HINT) from error
        finally:
            connection.close()
        if answer.status != http.HTTPStatus.OK:
            message = f"The truth server {self._url} answered {answer.status} to {path}."
            raise Unreachable(message, hint=_HINT)
        return body


def _query(path: str, **parameters: str | int) -> str:
    return f"{path}?{urlencode(parameters)}"
