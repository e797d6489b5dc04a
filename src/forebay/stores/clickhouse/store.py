"""A database of a ClickHouse server as a store: see :mod:`~forebay.stores.clickhouse.commits`."""

from __future__ import annotations

import contextlib
import secrets
import threading
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from forebay.domain.coverage import StreamKey
from forebay.domain.digest import first_of_each_id
from forebay.errors import ConfigError, CursorMoved, RowsRefused, TableUnavailable, Transient
from forebay.ports import Committed, ReadableStore, Refused, StoreState
from forebay.stores.clickhouse import ddl
from forebay.stores.clickhouse.commits import CommitLog, Intent, Refusals
from forebay.stores.clickhouse.damage import set_aside_damaged
from forebay.stores.clickhouse.lookups import ClickHouseLookup, column_as, ids_of, quoted
from forebay.stores.clickhouse.plan import Planner, state_part
from forebay.stores.clickhouse.query import ClickHouseReader
from forebay.stores.clickhouse.session import ClickHouseSession
from forebay.stores.cursors import has_happened, moves_on
from forebay.stores.rows import coverage_from, replayed_letters
from forebay.text import identifier

if TYPE_CHECKING:
    import numpy.typing as npt

    from forebay.ports import Commit
    from forebay.stores.clickhouse.commits import Heads
    from forebay.stores.clickhouse.plan import Plan
    from forebay.stores.clickhouse.session import Target

TRIES: Final = 5
"""Steps that may be lost one after the other; a server that is killed costs one at most."""
SPREAD: Final = 1 << 16


class ClickHouseStore(ReadableStore):
    """All of a store in one database of a server, which is made when it is first asked."""

    def __init__(self, target: Target) -> None:
        """Ask nobody yet: tables are made by the first call."""
        self._target = target
        self._session = ClickHouseSession(self._target)
        self._log = CommitLog(self._session)
        self._planner = Planner(self._session)
        self._preparing = threading.Lock()
        self._committing = threading.Lock()
        self._ready = False

    def _prepared(self) -> ClickHouseSession:
        """Return the session; what is missing is made, once.

        Raises :class:`~forebay.errors.ForebayError`.
        """
        with self._preparing:
            if not self._ready:
                prepare(self._session)
                self._ready = True
        return self._session

    def reader(self) -> ClickHouseReader:
        return ClickHouseReader(self._target)

    # ------------------------------------------------------------- reading

    def load(self) -> StoreState:
        self._prepared()
        heads = self._log.heads()
        finished = [self._finish_if_possible(*last) for last in heads.pending.items()]
        if any(finished):
            heads = self._log.heads()
        rows = {name: self._texts(name) for name in ("coverage", "stream_epochs")}
        return StoreState(
            heads.positions,
            coverage_from(rows["coverage"], rows["stream_epochs"]),
            {StreamKey(*key): told for *key, told in self._texts("stream_ordinals")},
        )

    def _texts(self, view: str) -> list[tuple[Any, ...]]:
        return list(zip(*(column.to_pylist() for column in self.table(view)), strict=True))

    def _finish_if_possible(self, chain: str, step: int) -> bool:
        """Apply what somebody began; return whether that could be.

        What the server refuses waits for its chain's next commit.
        """
        intent = self._log.read(chain, step)
        with contextlib.suppress(RowsRefused, TableUnavailable):
            self._log.apply(intent, without_refused=False, again=True)
            return True
        return False

    def table(self, name: str) -> pa.Table:
        """Return all rows of a table: for tests and small tables, big ones are queried."""
        session = self._prepared()
        fields = ddl.VIEWS[name]
        columns = ", ".join(map(identifier, fields.names))
        rows = session.rows(f"SELECT {columns} FROM {session.name(name)}")
        if not len(rows):
            return fields.empty_table()
        return pa.table(
            [column_as(rows[field.name], field.type) for field in fields], schema=fields
        )

    def rarities(self) -> frozenset[tuple[str, str]]:
        session = self._prepared()
        names = ddl.LETTERS, ddl.CONFLICTS, ddl.LETTER_STATES
        letters, conflicts, states = (session.name(name) for name in names)
        rows = session.rows(
            f"SELECT toString(letter_id) AS id, '' AS told FROM {letters} "
            f"WHERE letter_id NOT IN ({replayed_letters(states)}) "
            f"UNION ALL SELECT toString(event_id), incoming FROM {conflicts}"
        )
        columns = (column.cast(pa.string()).to_pylist() for column in rows)
        return frozenset(zip(*columns, strict=True))

    def first_told(self, table: str, rows: pa.Table) -> npt.NDArray[np.bool_]:
        lookup = ClickHouseLookup(self._prepared(), table, rows)
        lookup.find(np.arange(len(rows)), at=None)
        begins: npt.NDArray[np.bool_] = first_of_each_id(rows) == np.arange(len(rows))
        return lookup.same_frame & begins

    def set_aside_damaged(self) -> list[str]:
        return set_aside_damaged(self._prepared())

    def close(self) -> None:
        self._session.close()

    # ------------------------------------------------------------- writing

    def commit(self, commit: Commit) -> Committed:
        with self._committing:
            self._prepared()
            chain = next(iter(commit.positions))
            heads, refused = self._log.heads(chain), Refusals()
            if step := heads.pending.get(chain):
                intent = self._log.read(chain, step)
                refused = self._log.apply(
                    intent, without_refused=commit.without_refused, again=True
                )
                heads = self._log.heads(chain)
            plan = self._carry_out(commit, chain, heads, refused)
        return Committed(plan.first, plan.conflicts, plan.letters, _refused(commit, refused))

    def _carry_out(self, commit: Commit, chain: str, heads: Heads, refused: Refusals) -> Plan:
        happened = has_happened(commit, heads.positions)
        trusted = moves_on(commit, heads.positions)
        version = max(heads.version, heads.now_ns) + 1 + secrets.randbelow(SPREAD)
        last = heads.applied.get(chain, 0)
        for step in range(last + 1, last + 1 + TRIES):
            plan = self._planner.plan(
                commit, version, happened=happened, trusted=trusted, left_out=refused
            )
            if happened and not plan.parts:
                return plan
            intent = self._written(commit, (chain, step), version, plan, happened=happened)
            if intent is not None:
                break
            # The server remembers the token and has lost the row: it was killed in between, or was
            # away until the row was too old. In that case some events of it may be stored.
            trusted = False
        else:
            raise Transient(f"ClickHouse loses what it acknowledges in {ddl.COMMITS}.")
        found = self._log.apply(intent, without_refused=commit.without_refused, again=False)
        for table, theirs in found.items():
            mask = np.array([each not in theirs for each in ids_of(commit.events[table].rows)])
            plan.first[table] &= mask
            refused.setdefault(table, {}).update(theirs)
        return plan

    def _written(
        self, commit: Commit, place: tuple[str, int], version: int, plan: Plan, *, happened: bool
    ) -> Intent | None:
        """Write down what is about to be stored, as a step of its chain; None if it does not stay.

        Raises :class:`~forebay.errors.CursorMoved` if somebody else has written one meanwhile.
        """
        (chain, step), writer = place, secrets.token_hex(8)
        coverage, ordinals = ({}, {}) if happened else (commit.coverage, commit.ordinals)
        state = state_part((chain, step, writer), version, commit.positions, coverage, ordinals)
        intent = Intent(chain, step, version, writer, [*plan.parts, state])
        self._log.write(intent)
        winner = self._log.winner(intent)
        if winner not in {writer, None}:
            message = f"Somebody else has committed for {chain} meanwhile; nothing was stored."
            raise CursorMoved(message)
        return intent if winner else None


def _refused(commit: Commit, refused: Refusals) -> dict[str, list[Refused]]:
    """Return which rows of a commit the server refused, with what it said."""
    found: dict[str, list[Refused]] = {}
    for table, errors in refused.items():
        events = commit.events.get(table)
        ids = ids_of(events.rows) if events is not None else []
        rows = [Refused(row, errors[each]) for row, each in enumerate(ids) if each in errors]
        if rows:
            found[table] = rows
    return found


def prepare(session: ClickHouseSession) -> None:
    """Make the database and what it lacks; raises :class:`~forebay.errors.ConfigError`.

    So it does if the database was made by a Forebay of other tables, or by somebody else.
    """
    database = session.target.database
    name = quoted(database)
    found = session.rows(
        "SELECT name, engine, "
        f"(SELECT count() FROM system.databases WHERE name = {name}) AS made "
        f"FROM system.tables WHERE database = {name} UNION ALL SELECT '', '', count() "
        f"FROM system.databases WHERE name = {name}"
    )
    engines = dict(
        zip(
            *(found[column].cast(pa.string()).to_pylist() for column in ("name", "engine")),
            strict=True,
        )
    )
    if not max(found["made"].to_pylist()):
        made = f"CREATE DATABASE IF NOT EXISTS {identifier(database)}"
        session.run(session.target.made(made))
    if ddl.META in engines:
        _check_version(session)
    for table, statement in ddl.statements(session.name).items():
        engine = engines.get(table)
        if engine is None:
            session.run(session.target.made(statement))
        elif (engine == "View") != (table in ddl.VIEWS):
            message = f"{database}.{table} is not one of our tables, but a {engine}."
            raise ConfigError(message, hint="Give Forebay a database of its own: store.database.")
    if ddl.META not in engines:
        session.run(
            f"INSERT INTO {session.name(ddl.META)} (schema_version) VALUES ({ddl.SCHEMA_VERSION})"
        )


def _check_version(session: ClickHouseSession) -> None:
    rows = session.rows(f"SELECT max(schema_version) AS version FROM {session.name(ddl.META)}")
    (version,) = rows["version"].to_pylist()
    if version not in {0, ddl.SCHEMA_VERSION}:
        newer = version > ddl.SCHEMA_VERSION
        again = "Name another database: `forebay replay` fills it from the journal."
        message = f"{session.target.database} has tables of version {version}, "
        message += f"{'newer' if newer else 'older'} than this Forebay's."
        raise ConfigError(message, hint="Upgrade Forebay." if newer else again)
