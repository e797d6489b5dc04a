"""Asking a data folder in SQL, whether a capture is running or not, and how an answer is given."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterable
from dataclasses import InitVar, dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from forebay.app.processes.local_socket import NobodyServes, ask
from forebay.app.store_reach import lacks
from forebay.app.wiring import stores
from forebay.app.wiring.data_folder import DataFolder
from forebay.clock import SystemClock
from forebay.domain.schema import DECIMAL, DECIMALS, TIME
from forebay.errors import ConfigError, Unreachable
from forebay.resilience.numbers import require_count
from forebay.text import literal, nearest
from forebay.times import in_sql, to_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from datetime import datetime

    from forebay.app.wiring.stores import FolderStore
    from forebay.clock import Clock

MAX_QUERY_S = 3600.0
"""No query takes longer, whatever is asked for."""
_GRACE_S = 10.0
"""How much longer than the query itself its answer is waited for."""
_TRIES = 3
"""A capture that starts or stops between two tries moves the database from one to the other."""
_PATIENCE_S = 5.0
"""How long a running capture may be neither answering nor have let go of the database."""
_UNDER_WAY_S = 2.0
"""How long what a venue has sent may be under way: the next heartbeat tells what did not come."""
_ARRIVAL_S = 30.0
"""How long a store may take to catch up, and its gaps to be filled, before an audit begins."""
_POLL_S = 0.2
_UTC = pa.timestamp("ns", "UTC")
Answer = TypeVar("Answer")


class Queries:
    """A data folder that answers queries, each as an Arrow table."""

    def __init__(
        self,
        folder: str | Path,
        *,
        store: str = "",
        tell: Callable[[str], object] = warnings.warn,
        clock: Clock | None = None,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        """Raise :class:`~forebay.errors.ConfigError` if ``folder`` is no data folder.

        ``store`` names the one whose answers are wanted. Without it they are those of the first,
        and while that one cannot be reached those of the next one that can: ``tell`` hears of it.

        ``wait`` blocks for so many seconds of ``clock``; both are the machine's if not given.
        """
        self.folder = DataFolder(Path(folder)).existing()
        self._store = store
        self._tell = tell
        if store:
            stores.in_folder(self.folder, store)
        self._clock = clock or SystemClock()
        self._given_wait = wait
        self._wait = wait or threading.Event().wait

    def sql(
        self,
        query: str,
        *,
        timeout_s: float | None = None,
        limit: int | None = None,
        floats: bool = False,
        utc: bool = False,
    ) -> pa.Table:
        """Return the rows of one reading SQL statement; see ``forebay sql --help`` for the tables.

        With a ``limit`` these are the first rows, and the metadata ``rows`` says how many there
        are, ``1000100+`` if they were not counted to the end.

        With ``floats`` decimals are given as the nearest floating point numbers, and with ``utc``
        times say that they are UTC: pandas calculates with the one and compares the other.

        A running capture answers it, within its ``query.timeout_s`` unless ``timeout_s`` says
        otherwise; without one the database is read. If it is not the first store that answers, the
        metadata ``store`` say which. Raises
        :class:`~forebay.errors.Permanent` if the query is wrong,
        :class:`~forebay.errors.Transient` if it takes too long and
        :class:`~forebay.errors.Unreachable` if neither can be reached.
        """
        return shaped(self._query(query, timeout_s, limit=limit), floats=floats, utc=utc)

    def _query(
        self,
        query: str,
        timeout_s: float | None,
        memory_limit_mb: int | None = None,
        limit: int | None = None,
        patience_s: float = _PATIENCE_S,
    ) -> pa.Table:
        """Return the answer of the store that is wanted, else of the first that answers."""
        asked = _Asked(query, timeout_s, memory_limit_mb, limit)
        found, answered = self._from_one(lambda place: self._of(place, asked, patience_s))
        if answered == self._first:
            return found
        about = {b"store": answered.name.encode(), b"instead_of": self._first.name.encode()}
        return found.replace_schema_metadata({**(found.schema.metadata or {}), **about})

    def _from_one(self, act: Callable[[FolderStore], Answer]) -> tuple[Answer, FolderStore]:
        """Do what may take several questions with one store: no two are at the same place.

        Returns what came of it, and with which store.
        """
        first, *others = stores.in_folder(self.folder, self._store)
        try:
            return act(first), first
        except Unreachable:
            for place in others:
                with contextlib.suppress(Unreachable):
                    found = act(place)
                    self._tell(self._instead(first, place))
                    return found, place
            raise

    @property
    def _first(self) -> FolderStore:
        """The store that is wanted, or whose answers count."""
        return stores.in_folder(self.folder, self._store)[0]

    def _asked_of(
        self,
        place: FolderStore,
        query: str,
        timeout_s: float | None = None,
        memory_limit_mb: int | None = None,
        patience_s: float = _PATIENCE_S,
    ) -> pa.Table:
        """Return the answer of one store."""
        return self._of(place, _Asked(query, timeout_s, memory_limit_mb, None), patience_s)

    def _of(self, place: FolderStore, asked: _Asked, patience_s: float) -> pa.Table:
        """Ask one store: the process that feeds it, else the database itself."""
        deadline = self._clock.monotonic_ns() + round(patience_s * 1e9)
        embedded = stores.kind_of(place.config).embedded
        tries = 0
        while True:
            tries += 1
            with contextlib.suppress(NobodyServes):
                return self._ask(place, asked)
            try:
                return stores.query_store(
                    self.folder,
                    place,
                    asked.query,
                    timeout_s=asked.timeout_s or MAX_QUERY_S,
                    memory_limit_mb=asked.memory_limit_mb,
                    limit=asked.limit,
                )
            except Unreachable:
                starting = embedded and self.folder.in_use()
                late = self._clock.monotonic_ns() >= deadline
                if late or (tries >= _TRIES and not starting) or not embedded:
                    raise
            if starting:
                self._wait(_POLL_S)

    def _ask(self, place: FolderStore, asked: _Asked) -> pa.Table:
        request: dict[str, object] = {"op": "sql", "query": asked.query, "limit": asked.limit}
        if asked.timeout_s is not None:
            request["timeout_s"] = asked.timeout_s
        patience_s = (asked.timeout_s or MAX_QUERY_S) + _GRACE_S
        _, body = ask(self.folder.socket(place.role), request, timeout_s=patience_s)
        return decode_arrow(body)

    def _instead(self, first: FolderStore, place: FolderStore) -> str:
        """Return that it is not the first store that answered, and what the other one lacks."""
        missing = "; ".join(lacks(self.folder, place.consumer))
        return f"The store {first.name} cannot be reached: {place.name} answers; {missing}."

    def _await_arrival(self) -> None:
        """Wait until what a venue has sent so far is captured and stored, if a capture runs."""
        status, folder = {"op": "status"}, self.folder
        deadline = self._clock.monotonic_ns() + round(_ARRIVAL_S * 1e9)
        with contextlib.suppress(Unreachable):  # none runs, or it ends: nothing more arrives
            ask(folder.capture_socket, status)
            self._wait(_UNDER_WAY_S)
            captured = ask(folder.capture_socket, status)[0]["next_seq"]
            feeder = folder.socket(self._first.role)
            while self._clock.monotonic_ns() < deadline:
                stored = ask(feeder, status)[0]
                if stored["seq"] >= captured and not stored["gaps"]["open"]:
                    return
                self._wait(_POLL_S)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A query, and what it may take."""

    query: str
    timeout_s: float | None
    memory_limit_mb: int | None
    limit: int | None


def encode_arrow(table: pa.Table) -> bytes:
    """Return a table as an Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def decode_arrow(body: bytes) -> pa.Table:
    """Read what :func:`encode_arrow` wrote."""
    with pa.ipc.open_stream(body) as reader:
        return reader.read_all()


def instant(moment: datetime | str | int) -> str:
    """Return a time, or UTC nanoseconds, as SQL has it."""
    return in_sql(moment if isinstance(moment, int) else to_ns(moment))


@dataclass(slots=True)
class Wanted:
    """Which events are asked for; None: all.

    Raises :class:`~forebay.errors.ConfigError` for what are no symbols, times or numbers.
    """

    symbol: InitVar[str | Iterable[str] | None]
    venue: str | None = None
    start: datetime | str | None = None
    end: datetime | str | None = None
    limit: int | None = None
    symbols: list[str] = field(default_factory=list, init=False)
    """Each once; empty if all are wanted."""

    def __post_init__(self, symbol: str | Iterable[str] | None) -> None:
        if symbol is None:
            return
        several = (
            [symbol] if isinstance(symbol, str) or not isinstance(symbol, Iterable) else symbol
        )
        self.symbols = list(dict.fromkeys(several))
        if not self.symbols or not all(isinstance(name, str) for name in self.symbols):
            raise ConfigError(f"{symbol!r} is no symbol.", hint="Give one, or a list of some.")

    def where(self) -> list[str]:
        """Return the conditions as SQL has them."""
        symbols = ", ".join(map(literal, self.symbols))
        return [
            *([f"symbol IN ({symbols})"] if symbols else []),
            *([] if self.venue is None else [f"venue = {literal(self.venue)}"]),
            *([] if self.start is None else [f"event_ts >= {instant(self.start)}"]),
            *([] if self.end is None else [f"event_ts < {instant(self.end)}"]),
        ]

    def most(self) -> str:
        """Return what ends a query after so many rows."""
        if self.limit is None:
            return ""
        require_count("limit", self.limit, least=0)
        return f" LIMIT {int(self.limit)}"


def shaped(table: pa.Table, *, floats: bool, utc: bool) -> pa.Table:
    """Return a table, if asked with decimals as the nearest floats and times that have a zone."""
    for place, told in enumerate(table.schema):
        wanted = told.type
        column = table.column(place)
        if floats and pa.types.is_decimal(wanted):
            column = column.cast(pa.string())  # Arrow's own cast may be off by one digit
            wanted = pa.float64()
        elif floats and wanted == DECIMALS:
            column, wanted = column.cast(pa.list_(pa.string())), pa.list_(pa.float64())
        elif utc and wanted == TIME:
            wanted = _UTC
        elif told.name == "payload" and wanted == pa.string():  # a store that knows no difference
            wanted = pa.binary()
        if wanted != told.type:
            table = table.set_column(place, told.with_type(wanted), column.cast(wanted))
    return table


def require_known(wanted: Iterable[str], known: Collection[str]) -> None:
    """Raise :class:`~forebay.errors.ConfigError` for a symbol of which there is no stream.

    A folder without any stream knows nothing yet, so it refuses nothing.
    """
    for name in wanted if known else ():
        if name not in known:
            spelt = {each.casefold(): each for each in known}
            near = nearest(name.casefold(), spelt)
            some = ", ".join(sorted(known)[:8]) + (", …" if len(known) > 8 else "")  # noqa: PLR2004
            hint = f"Did you mean {spelt[near]!r}?" if near else f"There are: {some}."
            raise ConfigError(f"Nothing of {name!r} is stored here.", hint=hint)


def levels(told: Mapping[str, Any]) -> pa.Table:
    """Return a book as a table of levels; what is said about it is in the metadata."""
    rows = [
        {"side": side, "price": Decimal(price), "size": Decimal(size)}
        for side, found in (("bid", told["bids"]), ("ask", told["asks"]))
        for price, size in found
    ]
    columns = pa.schema([("side", pa.string()), ("price", DECIMAL), ("size", DECIMAL)])
    about = {name: told[name] or "" for name in ("state", "at", "as_of", "reason")}
    return pa.Table.from_pylist(rows, schema=columns.with_metadata(about))


def joined(books: Mapping[str, pa.Table]) -> pa.Table:
    """Return books as one table, the symbol before each row and before each word about it."""
    parts = [
        book.add_column(0, "symbol", pa.array([symbol] * len(book), pa.string()))
        for symbol, book in books.items()
    ]
    about = {
        f"{symbol}.{name.decode()}": text
        for symbol, book in books.items()
        for name, text in (book.schema.metadata or {}).items()
    }
    bare = [part.replace_schema_metadata(None) for part in parts]
    return pa.concat_tables(bare).replace_schema_metadata(about)
