"""What is asked of a data folder as SQL, and how an answer is given."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import InitVar, dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from forebay.domain.kinds import KINDS
from forebay.domain.schema import DECIMAL, DECIMALS, TIME
from forebay.errors import ConfigError
from forebay.resilience.numbers import require_count
from forebay.text import literal, nearest
from forebay.times import to_ns

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

_UTC = pa.timestamp("ns", "UTC")


def instant(moment: datetime | str | int) -> str:
    """Return a time, or UTC nanoseconds, as SQL has it."""
    return f"make_timestamp_ns({moment if isinstance(moment, int) else to_ns(moment)})"


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
        if wanted != told.type:
            table = table.set_column(place, told.with_type(wanted), column.cast(wanted))
    return table


def symbols_query() -> str:
    """Return the query for the symbols of all streams."""
    tables = ("coverage", "gaps", *(kind.table for kind in KINDS.values()))
    parts = (f"SELECT DISTINCT symbol FROM {table}" for table in tables)  # noqa: S608 - our own
    return f"SELECT DISTINCT symbol FROM ({' UNION ALL '.join(parts)}) ORDER BY symbol"  # noqa: S608


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


def overview_query() -> str:
    """Return the query for how many streams and rows there are, and from when to when."""
    parts = (
        f"SELECT count(*) AS n, min(event_ts) AS low, max(event_ts) AS high, "  # noqa: S608 - our own
        f"count(DISTINCT (venue, market, symbol)) AS s FROM {kind.table}"
        for kind in KINDS.values()
    )
    return (
        "SELECT sum(s)::BIGINT AS streams, sum(n)::BIGINT AS n, epoch_ns(min(low)) AS low, "  # noqa: S608 - our own
        f"epoch_ns(max(high)) AS high FROM ({' UNION ALL '.join(parts)})"
    )


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
