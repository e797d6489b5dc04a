"""A simulator's truth server over HTTP; blocking, for a process that has nothing else to do."""

from __future__ import annotations

import http.client
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec

from forebay.domain.digest import Digest
from forebay.errors import ConfigError, Unreachable

T = TypeVar("T")

TIMEOUT_S = 60
EVENTS_AT_ONCE = 50_000
"""So many events are digested within the timeout, however busy the machine is."""
_HINT = "Is the simulator (`forebay lab serve`) that this was captured from still running?"


class Bounds(msgspec.Struct, frozen=True):
    """First index owed (None: never subscribed) and last index that happened."""

    first: int | None
    last: int


class Status(msgspec.Struct, frozen=True):
    """Where the simulated market stands."""

    venue: str
    market: str
    channel: str
    symbols: dict[str, Bounds]
    """Of :attr:`channel`."""
    feeds: dict[str, dict[str, Bounds]] = {}
    """Of other messages that somebody subscribed to, by what they are called, and by symbol."""
    finished: bool = False


class Withheld(msgspec.Struct, frozen=True):
    """Indices that subscribers were not given; intervals are (first, last, reasons)."""

    certain: list[tuple[int, int, str]] = []
    in_doubt: list[tuple[int, int, str]] = []
    poison: list[int] = []
    poison_in_doubt: list[int] = []


class Event(msgspec.Struct, frozen=True):
    """One event as it happened."""

    event_id: str
    number: int
    """What the venue numbers it by."""
    row: str
    """The canonical row, see :mod:`forebay.domain.canonical`."""


class Told(msgspec.Struct, frozen=True):
    """One event of a channel whose events have no number."""

    event_id: str
    index: int
    row: str
    """The canonical row."""


class _Digest(msgspec.Struct):
    count: int
    ids: str
    rows: str


class Truth:
    """The truth server at ``url``; every call raises :class:`~forebay.errors.Unreachable`."""

    def __init__(self, url: str, *, timeout_s: int = TIMEOUT_S) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            message = f"{url!r} is not the address of a truth server."
            raise ConfigError(message, hint="Give the truth_url that `forebay lab serve` prints.")
        self._url = url
        self._host, self._port = parts.hostname, parts.port
        self._path = parts.path.rstrip("/")
        self._timeout_s = timeout_s

    def status(self) -> Status:
        """Return bounds by symbol."""
        return self._get("/", Status)

    def document(self) -> dict[str, Any]:
        """Return everything that the server says of itself."""
        return self._get("/", dict[str, Any])

    def withheld(self, feed: str = "") -> dict[str, Withheld]:
        """Return what was withheld so far of a feed, or of the status' channel, by symbol."""
        path = f"/withheld?{urlencode({'channel': feed})}" if feed else "/withheld"
        return self._get(path, dict[str, Withheld])

    def base(self, symbol: str) -> int:
        """Return the number of index 0."""
        return self.events(symbol, 0, 1)[0].number

    def events(self, symbol: str, first: int, end: int) -> list[Event]:
        """Return events with index ``first`` to ``end - 1``."""
        events = self._get(_range("/events", symbol, first, end), list[Event], lines=True)
        if len(events) != end - first:
            message = f"The truth server {self._url} gave {len(events)} of {end - first} events."
            raise Unreachable(message, hint=_HINT)
        return events

    def told(self, symbol: str, channel: str, since_ns: int, until_ns: int) -> list[Told]:
        """Return the events of a channel from one moment to before another."""
        path = _query("/events", symbol=symbol, channel=channel, since=since_ns, until=until_ns)
        return self._get(path, list[Told], lines=True)

    def digests(
        self, symbol: str, first: int, end: int, bucket_ns: int, channel: str = ""
    ) -> dict[int, Digest]:
        """Return digests of events ``first`` to ``end - 1`` by so many nanoseconds of time.

        Of the status' channel if none is named.
        """
        more: dict[str, str | int] = {"channel": channel} if channel else {}
        found: dict[int, Digest] = {}
        for low in range(first, end, EVENTS_AT_ONCE):
            high = min(low + EVENTS_AT_ONCE, end)
            path = _range("/digests", symbol, low, high, by=bucket_ns, **more)
            for bucket, each in self._get(path, dict[int, _Digest]).items():
                digest = Digest(each.count, int(each.ids, 16), int(each.rows, 16))
                found[bucket] = found.get(bucket, Digest()) + digest
        return found

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
        connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)
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


def _range(path: str, symbol: str, first: int, end: int, **more: str | int) -> str:
    return _query(path, **{"symbol": symbol, "from": first, "to": end, **more})


def _query(path: str, **parameters: str | int) -> str:
    return f"{path}?{urlencode(parameters)}"


def truth_document(url: str) -> dict[str, Any]:
    """Return what the truth server at ``url`` says of itself, as plain JSON.

    Raises :class:`~forebay.errors.Unreachable`.
    """
    return Truth(url).document()
