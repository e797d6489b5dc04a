"""Reading a data folder from Python, whether a capture is running or not."""

from __future__ import annotations

import contextlib
import threading
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec

from forebay.app import stores
from forebay.app.arrow_stream import decode_arrow
from forebay.app.data_folder import DataFolder
from forebay.app.local_socket import ask
from forebay.app.times import to_ns, to_text
from forebay.app.venues import install, parsers
from forebay.clock import SystemClock
from forebay.domain.book import text_of
from forebay.domain.kinds import KINDS
from forebay.domain.kinds.bar import BAR
from forebay.domain.kinds.book import BOOK_SNAPSHOT
from forebay.domain.kinds.quote import QUOTE
from forebay.domain.kinds.ticker import TICKER
from forebay.domain.kinds.trade import TRADE
from forebay.domain.schema import DECIMAL
from forebay.errors import ConfigError, Transient, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime
    from types import TracebackType

    import pyarrow as pa

    from forebay.clock import Clock
    from forebay.domain.book import Level
    from forebay.domain.coverage import Gap
    from forebay.domain.kinds import EventKind
    from forebay.services.audit import AuditReport, Use

MAX_QUERY_S = 3600.0
"""No query takes longer, whatever is asked for."""
_AUDIT_MEMORY_MB = (256, 1024, 4096)
"""For an audit's statements on a database file: they add up, and need no more than the first for
millions of events. Whole books of tens of megabytes are hashed many at once, and may need more."""
_GRACE_S = 10.0
"""How much longer than the query itself its answer is waited for."""
_TRIES = 3
"""A capture that starts or stops between two tries moves the database from one to the other."""
_PATIENCE_S = 5.0
"""How long a running capture may be neither answering nor have let go of the database."""
_POLL_S = 0.2
_UNDER_WAY_S = 2.0
"""How long what a venue has sent may be under way: the next heartbeat tells what did not come."""
_ARRIVAL_S = 30.0
"""How long a store may take to catch up, and its gaps to be filled, before an audit begins."""
_ONE_BAR = (
    ' QUALIFY row_number() OVER (PARTITION BY venue, market, symbol, timeframe, session, "of", '
    "adjusted, open_ts ORDER BY state = 'final' DESC, revision DESC, received_ts DESC, seq DESC, "
    "event_id) = 1"
)
_BESIDE = "event_id, venue_seq, event_ts, received_ts, collector, epoch"


class Data:
    """A data folder, open for reading; each answer is an Arrow table."""

    def __init__(
        self,
        folder: str | Path,
        *,
        clock: Clock | None = None,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        """Raise :class:`~forebay.errors.ConfigError` if ``folder`` is no data folder.

        ``wait`` blocks for so many seconds of ``clock``; both are the machine's if not given.
        """
        self.folder = DataFolder(Path(folder)).existing()
        self._clock = clock or SystemClock()
        self._wait = wait or threading.Event().wait

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing to let go of: between two answers nothing is held."""

    def sql(
        self, query: str, *, timeout_s: float | None = None, limit: int | None = None
    ) -> pa.Table:
        """Return the rows of one reading SQL statement; see ``forebay sql --help`` for the tables.

        With a ``limit`` these are the first rows, and the metadata ``rows`` says how many there
        are, ``1000100+`` if they were not counted to the end.

        A running capture answers it, within its ``query.timeout_s`` unless ``timeout_s`` says
        otherwise; without one the database file is read. Raises
        :class:`~forebay.errors.Permanent` if the query is wrong,
        :class:`~forebay.errors.Transient` if it takes too long and
        :class:`~forebay.errors.Unreachable` if neither can be reached.
        """
        return self._query(query, timeout_s, limit=limit)

    def _query(
        self,
        query: str,
        timeout_s: float | None,
        memory_limit_mb: int | None = None,
        limit: int | None = None,
    ) -> pa.Table:
        deadline = self._clock.monotonic_ns() + round(_PATIENCE_S * 1e9)
        tries = 0
        while True:
            tries += 1
            with contextlib.suppress(Unreachable):
                return self._ask(query, timeout_s, limit)
            try:
                return self._read(query, timeout_s, memory_limit_mb, limit)
            except Unreachable:
                starting = self.folder.in_use()
                late = self._clock.monotonic_ns() >= deadline
                if late or (tries >= _TRIES and not starting):
                    raise
            if starting:
                self._wait(_POLL_S)

    def _ask(self, query: str, timeout_s: float | None, limit: int | None) -> pa.Table:
        request: dict[str, object] = {"op": "sql", "query": query, "limit": limit}
        if timeout_s is not None:
            request["timeout_s"] = timeout_s
        patience_s = (timeout_s or MAX_QUERY_S) + _GRACE_S
        _, body = ask(self.folder.deliver_socket, request, timeout_s=patience_s)
        return decode_arrow(body)

    def _read(
        self, query: str, timeout_s: float | None, memory_limit_mb: int | None, limit: int | None
    ) -> pa.Table:
        patience_s = timeout_s or MAX_QUERY_S
        return stores.query_file(
            self.folder, query, timeout_s=patience_s, memory_limit_mb=memory_limit_mb, limit=limit
        )

    def trades(
        self,
        symbol: str,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        venue: str | None = None,
    ) -> pa.Table:
        """Return the trades of ``symbol`` with ``start <= event_ts < end``, in order of time.

        Times without a zone are UTC.
        """
        return self._events(TRADE, {"symbol": symbol, "venue": venue}, start, end)

    def quotes(
        self,
        symbol: str,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        venue: str | None = None,
    ) -> pa.Table:
        """Return the best bids and asks of ``symbol``, as :meth:`trades` does."""
        return self._events(QUOTE, {"symbol": symbol, "venue": venue}, start, end)

    def tickers(
        self,
        symbol: str,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        venue: str | None = None,
    ) -> pa.Table:
        """Return the tickers of ``symbol``, as :meth:`trades` does."""
        return self._events(TICKER, {"symbol": symbol, "venue": venue}, start, end)

    def bars(
        self,
        symbol: str,
        timeframe: str = "1m",
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        venue: str | None = None,
    ) -> pa.Table:
        """Return the bars of ``symbol`` that begin at ``start <= event_ts < end``.

        Of a bar that was told several times it is the final one, and of those the one told last.
        """
        wanted = {"symbol": symbol, "timeframe": timeframe, "venue": venue}
        return self._events(BAR, wanted, start, end, once=_ONE_BAR)

    def book(
        self,
        symbol: str,
        at: datetime | str | None = None,
        depth: int | None = None,
        venue: str | None = None,
        market: str = "spot",
    ) -> pa.Table:
        """Return the order book of ``symbol`` as it was, a row a level, best first.

        Columns are ``side`` (``bid``, ``ask``), ``price`` and ``size``. Whether it is ``known``,
        why not, and as of when, is in the schema's metadata; see :meth:`book_at`.
        """
        import pyarrow as pa  # noqa: PLC0415

        told = self.book_at(venue or self._venue_of(symbol, market), symbol, at, depth, market)
        found: dict[str, list[object]] = {"side": [], "price": [], "size": []}
        for side, levels in (("bid", told["bids"]), ("ask", told["asks"])):
            for price, size in levels:
                found["side"].append(side)
                found["price"].append(Decimal(price))
                found["size"].append(Decimal(size))
        columns = pa.schema([("side", pa.string()), ("price", DECIMAL), ("size", DECIMAL)])
        about = {name: told[name] or "" for name in ("state", "at", "as_of", "reason")}
        return pa.table(found, schema=columns.with_metadata(about))

    def book_at(
        self,
        venue: str,
        symbol: str,
        at: datetime | str | None = None,
        depth: int | None = None,
        market: str = "spot",
    ) -> dict[str, Any]:
        """Return what ``forebay book --json`` prints: see there. Raises as :meth:`sql`.

        ``at`` is a time of the venue's; without it, the book is the last one that is known.
        """
        from forebay.services.books import Stream, book_at  # noqa: PLC0415 - seldom needed

        at_ns = None if at is None else to_ns(at)
        found = book_at(self.sql, Stream(venue, market, symbol), at_ns, parsers())
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
        where = f"WHERE symbol = {_literal(symbol)} AND market = {_literal(market)} ORDER BY ALL"
        venues = self.sql(query + where)["venue"].to_pylist()
        if len(venues) == 1:
            return str(venues[0])
        found = f"Books of {symbol} are of {', '.join(venues) or 'no venue'}."
        raise ConfigError(found, hint="Name the venue, or another symbol.")

    def _events(
        self,
        kind: EventKind,
        wanted: Mapping[str, str | None],
        start: datetime | str | None,
        end: datetime | str | None,
        once: str = "",
    ) -> pa.Table:
        """Return the events whose columns are as ``wanted``; of None all are.

        ``once`` says which of several are taken, as SQL has it.
        """
        where = [
            f"{column} = {_literal(text)}" for column, text in wanted.items() if text is not None
        ]
        if start is not None:
            where.append(f"event_ts >= {_time(start)}")
        if end is not None:
            where.append(f"event_ts < {_time(end)}")
        some = " AND ".join(where) or "true"
        query = f"SELECT * FROM {kind.table} WHERE {some}{once} ORDER BY event_ts, event_id"  # noqa: S608 - quoted above
        return self.sql(query)

    def gaps(self) -> pa.Table:
        """Return every gap, of whatever state, with when it was, was opened and was closed."""
        return self.sql("SELECT * FROM gaps ORDER BY ALL")

    def beside(self, gap: Gap) -> pa.Table:
        """Return the events that are stored on both sides of a gap, at most one on each.

        Raises as :meth:`sql`.
        """
        named = f"venue = {_literal(gap.venue)} AND market = {_literal(gap.market)}"
        named += f" AND symbol = {_literal(gap.symbol)}"
        if gap.unit == "time":
            place, before, after = "received_ts", *map(_instant, (gap.first, gap.last))
        else:
            place, before, after = "venue_seq", str(gap.first), str(gap.last)
        if gap.epoch:
            named += f" AND epoch = {_literal(gap.epoch)}"
        sides = [
            f"(SELECT {_BESIDE} FROM {KINDS[gap.channel].table} WHERE {named} AND {place} {side} "  # noqa: S608 - quoted above
            f"ORDER BY {place} {order} LIMIT 1)"
            for side, order in ((f"< {before}", "DESC"), (f"> {after}", "ASC"))
        ]
        return self.sql(f"{' UNION ALL '.join(sides)} ORDER BY {place}")

    def dead_letters(self) -> pa.Table:
        """Answer every dead letter, with its bytes."""
        return self.sql("SELECT * FROM dead_letters ORDER BY received_ts, item")

    def audit_report(
        self,
        *,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        truth: str | None = None,
        source: Use = "auto",
        progress: Callable[[int, int], None] | None = None,
    ) -> AuditReport:
        """Compare journal and store; see :func:`forebay.services.audit.run_audit`."""
        from forebay.services.audit import run_audit  # noqa: PLC0415 - seldom needed
        from forebay.services.deliver import CONSUMER  # noqa: PLC0415

        install(self.folder)
        return run_audit(
            stores.audited(self.folder, self._audit_query, CONSUMER),
            self.folder.journal,
            parsers(),
            ledger_folder=self.folder.ledger,
            source=source,
            since_ns=None if since is None else to_ns(since),
            until_ns=None if until is None else to_ns(until),
            truth=truth,
            arrive=self._arrived,
            progress=progress,
        )

    def _arrived(self) -> None:
        """Wait until what a venue has sent so far is captured and stored, if a capture runs."""
        deadline = self._clock.monotonic_ns() + round(_ARRIVAL_S * 1e9)
        with contextlib.suppress(Unreachable):  # none runs, or it ends: nothing more arrives
            ask(self.folder.capture_socket, {"op": "status"})
            self._wait(_UNDER_WAY_S)
            captured = ask(self.folder.capture_socket, {"op": "status"})[0]["next_seq"]
            while self._clock.monotonic_ns() < deadline:
                stored = ask(self.folder.deliver_socket, {"op": "status"})[0]
                if stored["seq"] >= captured and not stored["gaps"]["open"]:
                    return
                self._wait(_POLL_S)

    def _audit_query(self, query: str) -> pa.Table:
        """Answer a statement of the audit in as little memory as it can do with."""
        *less, most = _AUDIT_MEMORY_MB
        for limit in less:
            try:
                return self._query(query, MAX_QUERY_S, limit)
            except Unreachable:
                raise
            except Transient:
                continue
        return self._query(query, MAX_QUERY_S, most)

    def audit(self) -> pa.Table:
        """Answer the audit's account, one row a stream."""
        import pyarrow as pa  # noqa: PLC0415

        streams = msgspec.to_builtins(self.audit_report().streams)
        return pa.Table.from_pylist(streams)


def _text(moment_ns: int | None) -> str | None:
    return None if moment_ns is None else to_text(moment_ns, exact=True)


def _levels(levels: Sequence[Level]) -> list[list[str]]:
    return [[text_of(price), text_of(size)] for price, size in levels]


def _literal(text: str) -> str:
    """Return a text as SQL has it."""
    return "'" + text.replace("'", "''") + "'"


def _time(moment: datetime | str) -> str:
    return _instant(to_ns(moment))


def _instant(moment_ns: int) -> str:
    return f"make_timestamp_ns({moment_ns})"


def open(folder: str | Path) -> Data:  # noqa: A001 - reads as forebay.open(...)
    """Open a data folder for reading, whether a capture is running or not."""
    return Data(folder)
