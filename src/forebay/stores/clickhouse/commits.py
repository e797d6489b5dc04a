"""The log of commits: several inserts that become one.

What a commit is about to store is written down as one row, its *intent*, before anything of it is
stored. Then it is applied: events, dead letters and conflicts first, and last, in one insert,
streams, cursors and the mark that it is applied. Whoever finds an intent without that mark applies
it: the same rows under the same tokens, so that whatever was stored of it already is not stored
again. Commits of one chain come one after the other: the token of an intent names its step, and of
two with one step the server keeps the first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from forebay.domain.letters import refused_letters
from forebay.errors import RowsRefused
from forebay.journal import Position
from forebay.stores.clickhouse import ddl
from forebay.stores.clickhouse.lookups import among, between, column_as, ids_of, quoted
from forebay.stores.clickhouse.plan import EVENTS, FLAGS, OTHERS, IntentPart, ranked
from forebay.stores.clickhouse.session import decoded, encoded
from forebay.stores.lookups import times_of
from forebay.stores.rows import AMBIGUOUS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from forebay.stores.clickhouse.session import ClickHouseSession

Refusals = dict[str, dict[bytes, str]]
"""By table and id, what the server said of events that it will not take."""


@dataclass(frozen=True, slots=True)
class Intent:
    """What a commit is about to store."""

    chain: str
    step: int
    version: int
    writer: str
    parts: Sequence[IntentPart] = field(repr=False, default=())


@dataclass(slots=True)
class Heads:
    """Where a database is just now."""

    positions: dict[str, Position] = field(default_factory=dict)
    applied: dict[str, int] = field(default_factory=dict)
    """By chain, the step of the last commit that is applied."""
    version: int = 0
    """The greatest that was seen."""
    now_ns: int = 0
    """What time it is there."""
    pending: dict[str, int] = field(default_factory=dict)
    """By chain, the last step that is written down and not applied."""


class CommitLog:
    """Intents of one database: written, found, and applied."""

    def __init__(self, session: ClickHouseSession) -> None:
        self._session = session
        self._commits = session.name(ddl.COMMITS)
        self._state = session.name(ddl.STATE)

    # ---------------------------------------------------------------- reading

    def heads(self, chain: str | None = None) -> Heads:
        """Return where the database is; what is pending only of ``chain``, if one is named."""
        where = f"WHERE chain = {quoted(chain)} AND step > ({self._mark(chain)})" if chain else ""
        rows = self._session.rows(
            "SELECT kind, consumer, log_id, seq, version, step "
            f"FROM {self._state} FINAL WHERE kind IN ('chain', 'cursor') UNION ALL "
            "SELECT 'pending', chain, '', toInt64(0), max(version), max(step) "
            f"FROM {self._commits} {where} GROUP BY chain UNION ALL "
            "SELECT 'now', '', '', toUnixTimestamp64Nano(now64(9)), toInt64(0), toInt64(0)"
        )
        heads, written = Heads(), dict[str, int]()
        for kind, name, log_id, seq, version, step in _plain(rows):
            heads.version = max(heads.version, version)
            if kind == "cursor":
                heads.positions[name] = Position(log_id, seq)
            elif kind == "chain":
                heads.applied[name] = step
            elif kind == "pending":
                written[name] = step
            else:
                heads.now_ns = seq
        heads.pending = {
            name: step for name, step in written.items() if step > heads.applied.get(name, 0)
        }
        return heads

    def _mark(self, chain: str) -> str:
        return (
            f"SELECT max(step) FROM {self._state} "
            f"WHERE kind = 'chain' AND consumer = {quoted(chain)}"
        )

    def read(self, chain: str, step: int) -> Intent:
        """Return the intent of a step: of several, the one that was the first."""
        rows = self._session.rows(
            "SELECT version, writer, kinds, tables, parts, sizes, bodies "
            f"FROM {self._commits} WHERE chain = {quoted(chain)} AND step = {step} "
            "ORDER BY at, writer LIMIT 1"
        )
        ((version, writer, *lists),) = _plain(rows)
        parts = [
            IntentPart(
                kind.decode(),
                table.decode(),
                part.decode(),
                pa.decompress(body, size, "zstd", asbytes=True),
            )
            for kind, table, part, size, body in zip(*lists, strict=True)
        ]
        return Intent(chain, step, version, writer, parts)

    # ---------------------------------------------------------------- writing

    def write(self, intent: Intent) -> None:
        """Write down what is about to be stored, unless somebody has written this step."""
        kinds, tables, parts, bodies = zip(*intent.parts, strict=True)
        packed = [pa.compress(body, "zstd", asbytes=True) for body in bodies]
        row = pa.table(
            {
                "chain": [intent.chain],
                "step": [intent.step],
                "version": [intent.version],
                "writer": [intent.writer],
                "kinds": [kinds],
                "tables": [tables],
                "parts": [parts],
                "sizes": [[len(body) for body in bodies]],
                "bodies": pa.array([packed], pa.list_(pa.binary())),
            }
        )
        token = f"{intent.chain}:{intent.step}"
        self._session.insert(ddl.COMMITS, row.column_names, encoded(row), token)

    def winner(self, intent: Intent) -> str | None:
        """Return who wrote the last step from that of ``intent`` on; None if nobody has."""
        rows = self._session.rows(
            f"SELECT writer FROM {self._commits} WHERE chain = {quoted(intent.chain)} "
            f"AND step >= {intent.step} ORDER BY step DESC, at, writer LIMIT 1"
        )
        return next((writer for (writer,) in _plain(rows)), None)

    def apply(self, intent: Intent, *, without_refused: bool, again: bool) -> Refusals:
        """Store what an intent says; ``again`` if somebody may have begun to.

        Return which events the server refused; raises :class:`~forebay.errors.RowsRefused` for
        them unless it is to be done without them. Nothing but events is stored before that.
        """
        applied = _Application(self._session, intent, without_refused=without_refused, again=again)
        return applied.run()


class _Application:
    """One intent on its way into the tables."""

    def __init__(
        self, session: ClickHouseSession, intent: Intent, *, without_refused: bool, again: bool
    ) -> None:
        self._session = session
        self._intent = intent
        self._without_refused = without_refused
        self._again = again
        self._refused: Refusals = {}
        self._letters: list[pa.Table] = []

    def run(self) -> Refusals:
        for part in self._of(EVENTS):
            self._insert_events(part)
        if self._letters:
            self._bury()
        for part in self._of(FLAGS):
            self._flag(part)
        for part in self._of(OTHERS):
            names = decoded(part.body).column_names
            # Of these a second copy is never seen, and they must be there after this.
            token = None if self._again else self._token(part.table, part.part)
            self._session.insert(part.table, names, part.body, token)
        return self._refused

    def _of(self, kind: str) -> Iterator[IntentPart]:
        return (part for part in self._intent.parts if part.kind == kind)

    def _token(self, *names: object) -> str:
        return ":".join([self._intent.writer, *map(str, names)])

    def _insert_events(self, part: IntentPart) -> None:
        try:
            self._insert(part, part.body)
        except RowsRefused:
            if not self._without_refused:
                raise
            rows = decoded(part.body)
            half = len(rows) // 2
            for low, high in ((0, half), (half, len(rows))):
                self._insert_range(part, rows, low, high)

    def _insert_range(self, part: IntentPart, rows: pa.Table, low: int, high: int) -> None:
        """Insert some rows of a part; those that are refused are halved until they are found."""
        if low == high:
            return
        try:
            self._insert(part, encoded(rows.slice(low, high - low)), low, high)
        except RowsRefused as error:
            if high - low == 1:
                self._refuse(part.table, rows.slice(low, 1), error.message)
                return
            half = (low + high) // 2
            self._insert_range(part, rows, low, half)
            self._insert_range(part, rows, half, high)

    def _insert(self, part: IntentPart, body: bytes, *numbers: int) -> None:
        """Insert a block of events, and look whether it is there if it may have been tried.

        A server that is killed may remember a token without having kept the rows.
        """
        table, token = ddl.rows_of(part.table), self._token(part.table, part.part, *numbers)
        names = [*ddl.VIEWS[part.table].names, "rank"]
        self._session.insert(table, names, body, token, events=part.table)
        if not self._again:
            return
        rows = decoded(body)
        times = times_of(rows)
        stored = self._session.rows(
            f"SELECT DISTINCT event_id FROM {self._session.name(table)} WHERE "
            f"{between(int(times.min()), int(times.max()))} "
            f"AND event_id IN {among(ids_of(rows))}"
        )
        there = set(ids_of(stored)) if len(stored) else set()
        missing = np.array([each not in there for each in ids_of(rows)], dtype=np.bool_)
        if missing.any():
            lost = rows.filter(pa.array(missing))
            self._session.insert(table, names, encoded(lost), None, events=part.table)

    def _refuse(self, table: str, row: pa.Table, error: str) -> None:
        (event_id,) = ids_of(row)
        self._refused.setdefault(table, {})[event_id] = error
        rows = pa.table(
            [column_as(row[field.name], field.type) for field in ddl.VIEWS[table]],
            schema=ddl.VIEWS[table],
        )
        place = self._intent.chain
        self._letters.append(refused_letters(table, rows, [(0, error)], place=place, attempts=1))

    def _bury(self) -> None:
        letters = ranked(pa.concat_tables(self._letters), self._intent.version)
        token = None if self._again else self._token("refused")
        table = ddl.rows_of(ddl.LETTERS)
        self._session.insert(table, letters.column_names, encoded(letters), token)

    def _flag(self, part: IntentPart) -> None:
        """Flag stored events as ambiguous, of which this commit tells that they are."""
        rows = decoded(part.body)
        table, name = ddl.rows_of(part.table), self._session.name(ddl.rows_of(part.table))
        times = rows["event_ns"].to_numpy()
        plain = (
            f"{between(int(times.min()), int(times.max()))} AND event_id IN {among(ids_of(rows))} "
            f"AND NOT has(splitByChar(',', flags), '{AMBIGUOUS}')"
        )
        if self._again and not self._owed(table, f"SELECT count() FROM {name} WHERE {plain}"):
            return
        months = np.unique(times.astype("datetime64[ns]").astype("datetime64[M]"))
        for month in months.tolist():
            self._session.run(
                f"ALTER TABLE {name} UPDATE flags = trimLeft(concat(flags, ',{AMBIGUOUS}'), ',') "
                f"IN PARTITION {month:%Y%m} WHERE {plain}",
                mutations_sync=2,
            )

    def _owed(self, table: str, left: str) -> bool:
        """Return whether rows are ``left`` to be changed that no mutation under way changes.

        One that outlasts its request goes on; another one would only come after it.
        """
        answer = self._session.rows(
            f"SELECT ({left}) AS owed, (SELECT count() FROM system.mutations WHERE NOT is_done "
            f"AND database = {quoted(self._session.target.database)} "
            f"AND table = {quoted(table)}) AS running"
        )
        return bool(answer["owed"][0].as_py()) and not answer["running"][0].as_py()


def _plain(rows: pa.Table) -> list[tuple[Any, ...]]:
    """Return rows with their texts as texts; what is in lists stays as it is."""
    columns = [
        column.cast(pa.string()) if column.type == pa.binary() else column for column in rows
    ]
    return list(zip(*(column.to_pylist() for column in columns), strict=True))
