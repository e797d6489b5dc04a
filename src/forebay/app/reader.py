"""Reading a data folder from Python, whether a capture is running or not."""

from __future__ import annotations

import contextlib
import functools
import threading
from typing import TYPE_CHECKING, Any, Self

import msgspec

from forebay.app.following import BEGINNING, Follow, position_of
from forebay.app.querying import (
    MAX_QUERY_S,
    Queries,
    Wanted,
    joined,
    levels,
    require_known,
    shaped,
)
from forebay.app.statements import ONE_BAR, REVISED, beside_query, overview_query, symbols_query
from forebay.app.store_reach import log_id_of
from forebay.app.wiring import stores
from forebay.app.wiring.venues import first_market, install, parsers
from forebay.domain.book import text_of
from forebay.domain.kinds import KINDS
from forebay.domain.kinds.bar import BAR
from forebay.domain.kinds.book import BOOK_SNAPSHOT
from forebay.domain.kinds.quote import QUOTE
from forebay.domain.kinds.ticker import TICKER
from forebay.domain.kinds.trade import TRADE
from forebay.errors import ConfigError, ForebayError, Transient, Unreachable
from forebay.resilience.numbers import require_count
from forebay.text import literal
from forebay.times import to_ns, to_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime
    from pathlib import Path

    import pyarrow as pa

    from forebay.app.wiring.stores import FolderStore
    from forebay.domain.book import Level
    from forebay.domain.coverage import Gap
    from forebay.domain.kinds import EventKind
    from forebay.services.audit import AuditReport, Truth, Use
    from forebay.services.audit.transports import Reading
    from forebay.services.books import BookAt
    from forebay.services.readback import TransportStage

_AUDIT_MEMORY_MB = (256, 1024, 4096)
"""For an audit's statements on a database file: they add up, and need no more than the first for
millions of events. Whole books of tens of megabytes are hashed many at once, and may need more."""
_LOOK_S = 5.0
"""How long a look at the whole folder may take, for its ``repr``."""


class Data(Queries):
    """A data folder, open for reading; each answer is an Arrow table."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to let go of: between two answers nothing is held."""

    def __repr__(self) -> str:
        """Return where it is, and how much of when is in it; nobody is waited for."""
        from forebay.services.book_bases import in_integers  # noqa: PLC0415 - seldom needed

        try:
            found = self._query(overview_query(), _LOOK_S, patience_s=0.0)
            (told,) = in_integers(found).to_pylist()
        except ForebayError as error:
            return f"<forebay.Data {str(self.folder.root)!r}: {error.message}>"
        low, high = (to_text(told[end] or 0) for end in ("low", "high"))
        when = f", {low} to {high}" if told["n"] else ""
        size = f"{told['streams'] or 0:,} streams, {told['n'] or 0:,} rows"
        return f"<forebay.Data {str(self.folder.root)!r}: {size}{when}>"

    def symbols(self) -> list[str]:
        """Return the symbols of which there are streams; raises as :meth:`sql`."""
        found: list[str] = self.sql(symbols_query())["symbol"].to_pylist()
        return found

    def trades(
        self,
        symbol: str | Iterable[str] | None = None,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        venue: str | None = None,
        *,
        limit: int | None = None,
        floats: bool = False,
        utc: bool = False,
    ) -> pa.Table:
        """Return the trades with ``start <= event_ts < end``, in order of time, at most ``limit``.

        ``symbol`` is one, or several, or None: all. Times without a zone are UTC. ``floats`` and
        ``utc`` are those of :meth:`sql`. Raises :class:`~forebay.errors.ConfigError` for a symbol
        that the folder has no stream of.
        """
        wanted = Wanted(symbol, venue, start, end, limit)
        return self._events(TRADE, wanted, floats=floats, utc=utc)

    def quotes(
        self,
        symbol: str | Iterable[str] | None = None,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        venue: str | None = None,
        *,
        limit: int | None = None,
        floats: bool = False,
        utc: bool = False,
    ) -> pa.Table:
        """Return best bids and asks, as :meth:`trades` does."""
        wanted = Wanted(symbol, venue, start, end, limit)
        return self._events(QUOTE, wanted, floats=floats, utc=utc)

    def tickers(
        self,
        symbol: str | Iterable[str] | None = None,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        venue: str | None = None,
        *,
        limit: int | None = None,
        floats: bool = False,
        utc: bool = False,
    ) -> pa.Table:
        """Return tickers, as :meth:`trades` does."""
        wanted = Wanted(symbol, venue, start, end, limit)
        return self._events(TICKER, wanted, floats=floats, utc=utc)

    def bars(
        self,
        symbol: str | Iterable[str] | None = None,
        timeframe: str = "1m",
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        venue: str | None = None,
        *,
        limit: int | None = None,
        floats: bool = False,
        utc: bool = False,
    ) -> pa.Table:
        """Return bars that begin at ``start <= event_ts < end``, as :meth:`trades` does.

        Of a bar that was told several times it is the final one, and of those the one told last.
        """
        wanted = Wanted(symbol, venue, start, end, limit)
        return self._events(BAR, wanted, floats=floats, utc=utc, timeframe=timeframe)

    def book(
        self,
        symbol: str | Iterable[str],
        at: datetime | str | None = None,
        depth: int | None = None,
        venue: str | None = None,
        market: str = "",
        *,
        floats: bool = False,
    ) -> pa.Table:
        """Return the order book of ``symbol`` as it was, a row a level, best first.

        Columns are ``side`` (``bid``, ``ask``), ``price`` and ``size``. Whether it is ``known``,
        why not, and as of when, is in the schema's metadata; see :meth:`book_at`. Of several
        symbols, a column ``symbol`` comes first, and so do the names in the metadata (``A.state``).
        """
        if not isinstance(symbol, str):
            names = Wanted(symbol).symbols
            books = [self.book(name, at, depth, venue, market, floats=floats) for name in names]
            return joined(dict(zip(names, books, strict=True)))
        told = self.book_at(venue or self._venue_of(symbol, market), symbol, at, depth, market)
        if told["state"] == "unknown":
            require_known([symbol], self.symbols())
        return shaped(levels(told), floats=floats, utc=False)

    def book_at(
        self,
        venue: str,
        symbol: str,
        at: datetime | str | None = None,
        depth: int | None = None,
        market: str = "",
    ) -> dict[str, Any]:
        """Return what ``forebay book --json`` prints: see there. Raises as :meth:`sql`.

        ``at`` is a time of the venue's; without it, the book is the last one that is known. Without
        a market it is of the venue's first.
        """
        from forebay.services.book_bases import Stream  # noqa: PLC0415 - seldom needed
        from forebay.services.books import book_at  # noqa: PLC0415

        at_ns = None if at is None else to_ns(at)
        market = market or first_market(venue)

        def look(place: FolderStore) -> BookAt:
            query = functools.partial(self._asked_of, place)
            keeps = stores.kind_of(place.config).checkpoints
            stream = Stream(venue, market, symbol)
            return book_at(query, stream, at_ns, parsers(), checkpoints=keeps)

        found, _ = self._from_one(look)
        return {
            "venue": venue,
            "market": market,
            "symbol": symbol,
            "at": _text(found.at_ns),
            "state": found.book.state,
            "as_of": _text(found.as_of_ns),
            "reason": found.reason,
            "bids": _levels(found.book.bids.best(depth)),
            "asks": _levels(found.book.asks.best(depth)),
            "known_to": {
                side: None if price is None else text_of(price)
                for side, price in zip(("bids", "asks"), found.book.known_to, strict=True)
            },
            "crossed": found.book.crossed,
        }

    def _venue_of(self, symbol: str, market: str) -> str:
        """Return the one venue that has books of ``symbol``."""
        query = f"SELECT DISTINCT venue FROM {BOOK_SNAPSHOT.table} "  # noqa: S608 - our own name
        where = f"WHERE symbol = {literal(symbol)}"
        named = f" AND market = {literal(market)}" if market else ""
        venues = self.sql(f"{query}{where}{named} ORDER BY ALL")["venue"].to_pylist()
        if len(venues) == 1:
            return str(venues[0])
        require_known([symbol], self.symbols())
        if not venues:
            hint = "They come with --channels book."
            raise ConfigError(f"No order book of {symbol} is stored here.", hint=hint)
        found = f"Books of {symbol} are of {', '.join(venues)}."
        raise ConfigError(found, hint="Name the venue.")

    def _events(
        self,
        kind: EventKind,
        wanted: Wanted,
        *,
        floats: bool,
        utc: bool,
        timeframe: str | None = None,
    ) -> pa.Table:
        where, once, how = wanted.where(), "", ""
        if timeframe is not None:
            where = [*where, f"timeframe = {literal(timeframe)}"]
            once, how = ONE_BAR, REVISED
        some = " AND ".join(where) or "true"
        query = f"SELECT *{how} FROM {kind.table} WHERE {some}{once} ORDER BY event_ts, event_id"  # noqa: S608 - quoted
        found = self.sql(query + wanted.most(), floats=floats, utc=utc)
        silent = {*wanted.symbols} - {*found["symbol"].unique().to_pylist()}
        if silent:
            require_known(sorted(silent), self.symbols())
        return found

    def follow(
        self,
        symbol: str | Iterable[str] | None = None,
        table: str = "trades",
        *,
        venue: str | None = None,
        start: datetime | str | None = None,
        after: str | None = None,
        rows: int = 10_000,
        floats: bool = False,
        utc: bool = False,
        stop: threading.Event | None = None,
    ) -> Follow:
        """Return an iterator over tables of events as they are stored, each event once.

        It begins with what is stored from now on; with ``start``, with all events of that time and
        later; with ``after``, behind the ``position`` of another one. A table has at most ``rows``
        rows, or one frame, and its metadata have the position behind it. A capture or a store that
        is away is waited for. ``close()`` ends it, and so does ``stop``. Raises as :meth:`trades`.
        """
        tables = [kind.table for kind in KINDS.values()]
        if table not in tables:
            hint = f"There are: {', '.join(sorted(tables))}."
            raise ConfigError(f"There is no table {table!r} of events.", hint=hint)
        require_count("rows", rows)
        wanted = Wanted(symbol, venue, start)
        known: list[str] = []
        with contextlib.suppress(ForebayError):  # of a store that is not there yet
            found = self._asked_of(self._first, symbols_query(), patience_s=0.0)
            known = found["symbol"].to_pylist()
        require_known(wanted.symbols, known)
        ends = stop or threading.Event()
        return Follow(
            # Of one store: where another one is says nothing of what this one has.
            query=lambda query: self._asked_of(self._first, query, patience_s=0.0),
            table=table,
            arrival=stores.kind_of(self._first.config).arrival,
            where=wanted.where(),
            place=position_of(after) if after is not None else BEGINNING if start else None,
            rows=rows,
            floats=floats,
            utc=utc,
            stop=ends,
            clock=self._clock,
            wait=self._given_wait or ends.wait,
        )

    def gaps(self) -> pa.Table:
        """Return every gap, of whatever state, with when it was, was opened and was closed."""
        return self.sql("SELECT * FROM gaps ORDER BY ALL")

    def beside(self, gap: Gap) -> pa.Table:
        """Return the events that are stored on both sides of a gap, at most one on each.

        Raises as :meth:`sql`.
        """
        return self.sql(beside_query(gap))

    def dead_letters(self) -> pa.Table:
        """Return every dead letter, with its bytes."""
        return self.sql("SELECT * FROM dead_letters ORDER BY received_ts, item")

    def audit_report(
        self,
        *,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        truth: Truth | None = None,
        source: Use = "auto",
        progress: Callable[[int, int], object] = lambda *_: None,
        transports: Sequence[TransportStage] = (),
        reading: Reading = lambda *_: None,
    ) -> AuditReport:
        """Compare journal, store and transports: :func:`forebay.services.audit.run_audit`."""
        from forebay.services.audit import run_audit  # noqa: PLC0415 - seldom needed
        from forebay.services.deliver import CONSUMER  # noqa: PLC0415
        from forebay.services.lane_bridge import journal_cursor  # noqa: PLC0415

        install(self.folder)
        consumer = CONSUMER
        if self._first.bridged:  # whatever it reads, it knows how far each journal is
            consumer = journal_cursor(log_id_of(self.folder))
        return run_audit(
            stores.kind_of(self._first.config).audited(self._audit_query, consumer),
            self.folder.journal,
            parsers(),
            ledger_folder=self.folder.ledger,
            source=source,
            since_ns=None if since is None else to_ns(since),
            until_ns=None if until is None else to_ns(until),
            truth=truth,
            arrive=self._await_arrival,
            progress=progress,
            transports=transports,
            reading=reading,
        )

    def _audit_query(self, query: str) -> pa.Table:
        """Return a statement of the audit in as little memory as it can do with."""
        *less, most = _AUDIT_MEMORY_MB
        for limit in less:
            try:
                return self._asked_of(self._first, query, MAX_QUERY_S, limit)
            except Unreachable:
                raise
            except Transient:
                continue
        return self._asked_of(self._first, query, MAX_QUERY_S, most)

    def audit(self) -> pa.Table:
        """Return the audit's account, one row a stream."""
        import pyarrow as pa  # noqa: PLC0415

        streams = msgspec.to_builtins(self.audit_report().streams)
        return pa.Table.from_pylist(streams)


def _text(moment_ns: int | None) -> str | None:
    return None if moment_ns is None else to_text(moment_ns, exact=True)


def _levels(levels: Sequence[Level]) -> list[list[str]]:
    return [[text_of(price), text_of(size)] for price, size in levels]


def open(folder: str | Path, *, store: str = "") -> Data:  # noqa: A001 - reads as forebay.open(...)
    """Open a data folder for reading, whether a capture is running or not.

    ``store`` names one of several that it is stored in; left out, it is the first, and while that
    one cannot be reached the next one that can, of which a warning tells.
    """
    return Data(folder, store=store)
