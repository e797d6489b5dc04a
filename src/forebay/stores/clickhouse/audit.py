"""ClickHouse as the audit asks it: see ``audit.sql``, which has the statements."""

from __future__ import annotations

import functools
import re
from importlib import resources
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import pyarrow as pa

from forebay.domain import schema
from forebay.domain.coverage import Gap, StreamKey
from forebay.domain.digest import HOUR_NS, MINUTE_NS, Digest
from forebay.domain.kinds import KINDS
from forebay.errors import Corrupt
from forebay.journal import Position
from forebay.ports import (
    AUDIT_COLUMNS,
    AUDIT_TEXTS,
    Audited,
    HourAccount,
    Minutes,
    Rows,
    StoreAccount,
)
from forebay.stores.clickhouse.ddl import rows_of
from forebay.stores.clickhouse.lookups import quoted
from forebay.stores.rows import coverage_from, replayed_letters
from forebay.text import identifier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from forebay.domain.coverage import Coverage
    from forebay.domain.kinds import EventKind
    from forebay.ports import Span

T = TypeVar("T")
_Row = dict[str, Any]
_STREAM = schema.STREAM.names
_INTERVALS = ("origins", "epochs", "firsts", "lasts")
_GAPS = ("gap_epochs", "gap_firsts", "gap_lasts", "gap_reasons", "gap_states")
_SPOKEN = ("spoken", "spoken_lasts")
_NOBODY: Final = "0"
"""The condition that nothing meets."""
_STATEMENTS: Final = dict(
    re.findall(
        r"^-- name: (\w+)\n(.*?)(?=^-- name: |\Z)",
        resources.files(__package__).joinpath("audit.sql").read_text(encoding="utf-8"),
        re.DOTALL | re.MULTILINE,
    )
)
_NO_ROWS: Final = pa.schema(
    [(name, pa.string() if name in AUDIT_TEXTS else pa.int64()) for name in AUDIT_COLUMNS]
).empty_table()


def _statement(name: str, **parts: object) -> str:
    """Return a statement of ``audit.sql`` with its parts put in."""
    text = re.sub(r"^--.*\n", "", _STATEMENTS[name], flags=re.MULTILINE)
    return text.strip().format(**parts)


_SUMS = _statement("sums")


def canonical(kind: EventKind) -> str:
    """Return the SQL of a kind's canonical row, see :mod:`forebay.domain.digest`."""
    cells = (_cell(kind.schema.field(name)) for name in kind.content)
    return "concat(toString(event_id), '|', " + ", '|', ".join(cells) + ")"


def _cell(field: pa.Field) -> str:
    name = identifier(field.name)
    if pa.types.is_list(field.type):
        texts = f"arrayMap(each -> {_text('each', field.type.value_type)}, {name})"
        return f"arrayStringConcat({texts}, ',')"
    return f"ifNull({_text(name, field.type)}, '')"


def _text(name: str, kind: pa.DataType) -> str:
    if kind == schema.TIME:
        return f"toString(toUnixTimestamp64Nano({name}))"
    if kind == schema.DECIMAL:
        return f"toDecimalString({name}, {schema.DECIMAL_PLACES})"
    return f"toString({name})"


class _Moment(NamedTuple):
    """Up to where a store has consumed, and which rows are beyond."""

    position: Position | None
    ahead: str
    """The condition of rows that were stored later."""

    @classmethod
    def of(cls, cursors: Sequence[_Row]) -> _Moment:
        if not cursors:
            return cls(None, _NOBODY)
        position = Position(cursors[0]["log_id"], cursors[0]["seq"])
        log_id = quoted(position.log_id)
        return cls(position, _statement("ahead", log_id=log_id, seq=position.seq))


def _digest(row: _Row) -> Digest:
    return Digest(row["events"], int(row["ids"]), int(row["hashes"]))


def _hour(row: _Row, span: Span) -> HourAccount:
    digest = _digest(row) if span.touches(row["hour"]) else None
    ends = (row[name] for name in ("first_ns", "last_ns", "first_number", "last_number"))
    return HourAccount(digest, row["events"], *ends)


class ClickHouseAudited(Audited):
    """The :class:`~forebay.ports.Audited` of a ClickHouse store, for one consumer."""

    def __init__(self, query: Callable[[str], pa.Table], consumer: str = "store") -> None:
        """``query`` runs one reading statement and returns its rows, from wherever."""
        self._query = query
        self._consumer = quoted(consumer)
        self._damaged: dict[str, list[_Row]] = {}
        """By table, the parts that cannot be read, as far as they were met."""

    def account(self, span: Span) -> StoreAccount:
        state = self._rows_of("state", consumer=self._consumer)
        streams = [row for row in state if row["kind"] == "coverage"]
        moment = _Moment.of([row for row in state if row["kind"] == "cursor"])
        hours = self._past_damage(lambda: self._hours(span, moment))
        (others,) = self._rows_of("others", ahead=moment.ahead, replayed=replayed_letters())
        return StoreAccount(
            position=moment.position,
            hours={
                (StreamKey(*(row[name] for name in _STREAM)), row["hour"]): _hour(row, span)
                for row in hours
            },
            coverage=_coverage(streams),
            gaps=sorted(_gaps(streams)),
            letters=others["letters"],
            replayed=others["replayed"],
            discarded=others["discarded"],
            conflicts=others["conflicts"],
            ambiguous=sum(row["ambiguous"] for row in hours),
            damaged=[
                f"The part {part['name']} of {table} cannot be read: it has events of the hours "
                f"{part['first']} to {part['last']}. `forebay rebuild` puts it aside and stores "
                "again what the journal has of them."
                for table, parts in self._damaged.items()
                for part in parts
            ],
        )

    def _hours(self, span: Span, moment: _Moment) -> list[_Row]:
        hashed = _inside(span)
        keyed = [self._keyed(kind, hashed, moment) for kind in KINDS.values() if self._has(kind)]
        if not keyed:
            return []
        hour = _statement("bucket", length=HOUR_NS)
        return self._rows_of("hours", hour=hour, sums=_SUMS, keyed=" UNION ALL ".join(keyed))

    def minutes(self, stream: StreamKey, hour: int) -> Minutes:
        moment, kind = self._now(), KINDS[stream.channel]
        if not self._has(kind):
            return Minutes(moment.position, {})
        rows = self._past_damage(
            lambda: self._rows_of(
                "minutes",
                minute=_statement("bucket", length=MINUTE_NS),
                sums=_SUMS,
                keyed=self._keyed(kind, "1", moment),
                where=_of(stream, hour * HOUR_NS, (hour + 1) * HOUR_NS),
            )
        )
        return Minutes(moment.position, {row["minute"]: _digest(row) for row in rows})

    def rows(self, stream: StreamKey, begin_ns: int, end_ns: int) -> Rows:
        return self._rows(KINDS[stream.channel], _of(stream, begin_ns, end_ns))

    def find(self, channel: str, ids: Sequence[str]) -> Rows:
        wanted = ", ".join(f"toUUID({quoted(each)})" for each in ids)
        return self._rows(KINDS[channel], f"event_id IN ({wanted})" if wanted else _NOBODY)

    def _rows(self, kind: EventKind, where: str) -> Rows:
        moment = self._now()
        if not self._has(kind):
            return Rows(moment.position, _NO_ROWS)
        table = rows_of(kind.table)
        parts = {"canonical": canonical(kind), "table": table, "where": where}
        found = self._past_damage(
            lambda: self._query(
                _statement("rows", ahead=moment.ahead, whole=self._whole(table), **parts)
            )
        )
        return Rows(moment.position, found.rename_columns(list(AUDIT_COLUMNS)))

    def _now(self) -> _Moment:
        return _Moment.of(self._rows_of("cursor", consumer=self._consumer))

    def _rows_of(self, name: str, **parts: object) -> list[_Row]:
        found: list[_Row] = self._query(_statement(name, **parts)).to_pylist()
        return found

    def _keyed(self, kind: EventKind, hashed: str, moment: _Moment) -> str:
        return _statement(
            "keyed",
            channel=quoted(kind.channel),
            hashed=hashed,
            canonical=canonical(kind),
            table=rows_of(kind.table),
            ahead=moment.ahead,
            whole=self._whole(rows_of(kind.table)),
        )

    def _whole(self, table: str) -> str:
        """Return the condition of rows that can be read."""
        parts = ", ".join(quoted(part["name"]) for part in self._damaged.get(table, ()))
        return f"_part NOT IN ({parts})" if parts else "1"

    def _past_damage(self, ask: Callable[[], T]) -> T:
        """Return an answer; if a part cannot be read, the answer without it."""
        try:
            return ask()
        except Corrupt:
            for table in (rows_of(kind.table) for kind in KINDS.values()):
                parts = self._rows_of("parts", table=quoted(table))
                self._damaged[table] = [p for p in parts if not self._can_read(table, p["name"])]
            return ask()

    def _can_read(self, table: str, part: str) -> bool:
        try:
            self._query(_statement("part", table=table, part=quoted(part)))
        except Corrupt:
            return False
        return True

    def _has(self, kind: EventKind) -> bool:
        """Return whether there is a table of a kind, which may be newer than the database."""
        return rows_of(kind.table) in self._tables

    @functools.cached_property
    def _tables(self) -> set[str]:
        found = self._query("SELECT name FROM system.tables WHERE database = currentDatabase()")
        return set(found["name"].to_pylist())


def _coverage(streams: Sequence[_Row]) -> dict[StreamKey, Coverage]:
    intervals = (
        (*_key(row), row["unit"], *each) for row in streams for each in _zip(row, _INTERVALS)
    )
    spoken = ((*_key(row), *each) for row in streams for each in _zip(row, _SPOKEN))
    return coverage_from(intervals, spoken)


def _gaps(streams: Sequence[_Row]) -> Iterator[Gap]:
    for row in streams:
        for epoch, first, last, reason, state in _zip(row, _GAPS):
            told = (*_key(row), row["unit"], epoch, first, last, reason, state)
            yield Gap(**dict(zip(schema.GAPS.names, told, strict=True)))


def _key(row: _Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in _STREAM)


def _zip(row: _Row, names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    return zip(*(row[name] for name in names), strict=True)


def _inside(span: Span) -> str:
    """Return the condition of what is hashed."""
    ends = (">=", span.since), ("<", span.until)
    bounds = [f"event_ts {than} {_time(hour * HOUR_NS)}" for than, hour in ends if hour is not None]
    return " AND ".join(bounds) or "1"


def _of(stream: StreamKey, begin_ns: int, end_ns: int) -> str:
    """Return the condition of the rows of a stream between two times."""
    names = ("venue", "market", "symbol")
    mine = " AND ".join(f"{name} = {quoted(getattr(stream, name))}" for name in names)
    return f"{mine} AND event_ts >= {_time(begin_ns)} AND event_ts < {_time(end_ns)}"


def _time(ns: int) -> str:
    return f"fromUnixTimestamp64Nano(toInt64({ns}), 'UTC')"
