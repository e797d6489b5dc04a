"""DuckDB as the audit asks it: see ``audit.sql``, which has the statements."""

from __future__ import annotations

import functools
import re
from importlib import resources
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from forebay.domain import schema
from forebay.domain.coverage import Gap, StreamKey
from forebay.domain.digest import HOUR_NS, MINUTE_NS, Digest
from forebay.domain.kinds import KINDS
from forebay.journal import Position
from forebay.ports import AUDIT_COLUMNS, Audited, HourAccount, Minutes, Rows, StoreAccount
from forebay.stores.duckdb import ddl
from forebay.stores.rows import coverage_from, replayed_letters
from forebay.text import identifier, literal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from forebay.domain.kinds import EventKind
    from forebay.ports import Span

_Row = dict[str, Any]
_STREAM = schema.STREAM.names
_LOW = "18446744073709551615::UHUGEINT"
_STATEMENTS = dict(
    re.findall(
        r"^-- name: (\w+)\n(.*?)(?=^-- name: |\Z)",
        resources.files(__package__).joinpath("audit.sql").read_text(encoding="utf-8"),
        re.DOTALL | re.MULTILINE,
    )
)


def _statement(name: str, **parts: object) -> str:
    """Return a statement of ``audit.sql`` with its parts put in."""
    text = re.sub(r"^--.*\n", "", _STATEMENTS[name], flags=re.MULTILINE)
    return text.strip().format(**parts)


_SUMS = _statement("sums", low=_LOW)


def canonical(kind: EventKind) -> str:
    """Return the SQL of a kind's canonical row, see :mod:`forebay.domain.digest`.

    ``concat`` writes what is absent as nothing and copies once, not once a column as ``||`` does.
    """
    cells = ["event_id", *(_cell(kind.schema.field(name)) for name in kind.content)]
    return "concat(" + ", '|', ".join(cells) + ")"


def _cell(field: pa.Field) -> str:
    name = identifier(field.name)
    if field.type == schema.TIME:
        return f"epoch_ns({name})"
    return f"array_to_string({name}::VARCHAR[], ',')" if pa.types.is_list(field.type) else name


def _digest(row: _Row) -> Digest:
    """Return the digest of what ``sums`` has added up; halves are None where rows were counted."""
    ids, rows = (
        (int(row[f"{name}_high"] or 0), int(row[f"{name}_low"] or 0)) for name in ("ids", "rows")
    )
    return Digest.from_halves(row["events"], ids, rows)


def _position(cursor: _Row) -> Position | None:
    return None if cursor["log_id"] is None else Position(**cursor)


def _hour(row: _Row, span: Span) -> HourAccount:
    digest = _digest(row) if span.touches(row["hour"]) else None
    ends = (row[name] for name in ("first_ns", "last_ns", "first_number", "last_number"))
    return HourAccount(digest, row["events"], *ends)


class DuckDBAudited(Audited):
    """The :class:`~forebay.ports.Audited` of a DuckDB store, for one consumer."""

    def __init__(self, query: Callable[[str], pa.Table], consumer: str = "store") -> None:
        """``query`` runs one reading statement and returns its rows, from wherever."""
        self._query = query
        self._cursor = _statement("cursor", consumer=literal(consumer))

    def account(self, span: Span) -> StoreAccount:
        hashed = _inside(span)
        keyed = " UNION ALL ".join(self._keyed(kind, hashed) for kind in KINDS.values())
        statement = _statement(
            "account",
            keyed=keyed,
            sums=_SUMS,
            hour=_statement("bucket", length=HOUR_NS),
            cursor=self._cursor,
            gap=", ".join(map(identifier, schema.GAPS.names)),
            replayed=replayed_letters(),
        )
        (said,) = self._query(statement).to_pylist()
        hours, coverage, epochs = (said[name] or [] for name in ("hours", "coverage", "epochs"))
        return StoreAccount(
            position=_position(said["cursor"]),
            hours={
                (StreamKey(*(row[name] for name in _STREAM)), row["hour"]): _hour(row, span)
                for row in hours
            },
            coverage=coverage_from(
                [tuple(row.values()) for row in coverage], [tuple(row.values()) for row in epochs]
            ),
            gaps=sorted(Gap(**gap) for gap in said["gaps"] or []),
            letters=said["letters"],
            conflicts=said["conflicts"],
            ambiguous=sum(row["ambiguous"] for row in hours),
            replayed=said["replayed"],
            discarded=said["discarded"],
        )

    def minutes(self, stream: StreamKey, hour: int) -> Minutes:
        statement = _statement(
            "minutes",
            cursor=self._cursor,
            minute=_statement("bucket", length=MINUTE_NS),
            sums=_SUMS,
            keyed=self._keyed(KINDS[stream.channel], "true"),
            where=_of(stream, hour * HOUR_NS, (hour + 1) * HOUR_NS),
        )
        (row,) = self._query(statement).to_pylist()
        digests = {each["minute"]: _digest(each) for each in row["minutes"] or []}
        return Minutes(_position(row["cursor"]), digests)

    def rows(self, stream: StreamKey, begin_ns: int, end_ns: int) -> Rows:
        return self._rows(KINDS[stream.channel], _of(stream, begin_ns, end_ns))

    def find(self, channel: str, ids: Sequence[str]) -> Rows:
        wanted = ", ".join(f"{literal(each)}::UUID" for each in ids)
        return self._rows(KINDS[channel], f"event_id IN ({wanted})")

    def _rows(self, kind: EventKind, where: str) -> Rows:
        parts = {"canonical": canonical(kind), "table": self._table(kind), "where": where}
        found = self._query(_statement("rows", cursor=self._cursor, **parts))
        there = found.filter(pc.is_valid(found["event_id"]))
        return Rows(_position(found["cursor"][0].as_py()), there.select(list(AUDIT_COLUMNS)))

    def _keyed(self, kind: EventKind, hashed: str) -> str:
        return _statement(
            "keyed",
            channel=literal(kind.channel),
            hashed=hashed,
            canonical=canonical(kind),
            table=self._table(kind),
        )

    def _table(self, kind: EventKind) -> str:
        """Return the table of a kind, or nothing in its place: the kind may be newer."""
        there = kind.table in self._tables
        return identifier(kind.table) if there else ddl.no_rows(kind.schema)

    @functools.cached_property
    def _tables(self) -> set[str]:
        found = self._query("SELECT table_name FROM duckdb_tables()")
        return set(found["table_name"].to_pylist())


def _inside(span: Span) -> str:
    """Return the condition of what is hashed."""
    ends = (">=", span.since), ("<", span.until)
    bounds = [
        f"event_ts {than} make_timestamp_ns({hour * HOUR_NS})"
        for than, hour in ends
        if hour is not None
    ]
    return " AND ".join(bounds) or "true"


def _of(stream: StreamKey, begin_ns: int, end_ns: int) -> str:
    """Return the condition of the rows of a stream between two times."""
    names = ("venue", "market", "symbol")
    mine = " AND ".join(f"{name} = {literal(getattr(stream, name))}" for name in names)
    times = f"make_timestamp_ns({begin_ns}) AND event_ts < make_timestamp_ns({end_ns})"
    return f"{mine} AND event_ts >= {times}"
