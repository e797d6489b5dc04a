"""What of a server's set-up would lose or double something, or soon stop it: in sentences."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from clickhouse_connect.driver.exceptions import ClickHouseError

from forebay.stores.clickhouse.ddl import WINDOW, statements
from forebay.stores.clickhouse.errors import translate
from forebay.stores.clickhouse.lookups import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forebay.stores.clickhouse.session import ClickHouseSession

OLDEST: Final = (24, 8)
"""Whoever is older lacks functions or settings that are relied on; newer ones are tested."""
LEAST_FREE: Final = 0.05
"""Of a disk."""
_GB: Final = 1_000_000_000
_NEEDED: Final = {"async_insert": "0", "deduplicate_insert": "enable", "final": "0"}
"""Settings that are sent with inserts and questions, and what they must be."""
_WINDOW: Final = re.compile(r"\b((?:non_)?replicated_deduplication_window) = (\d+)")
_KEEPING: Final = {name for name, made in statements(str).items() if _WINDOW.search(made)}
"""Tables of ours that must know an insert again."""
_REPLACING: Final = re.compile(r"(Replicated|Shared)?ReplacingMergeTree$")
_INTO: Final = re.compile(r"^CREATE MATERIALIZED VIEW \S+(?: UUID '[^']*')? TO (\S+)")


class _Table(NamedTuple):
    """One of ``system.tables``."""

    database: str
    name: str
    engine: str
    uuid: str
    created: str
    views: list[str]
    """Materialized views that are fed by it, with their databases."""

    @property
    def whole(self) -> str:
        return f"{self.database}.{self.name}"

    @property
    def is_replicated(self) -> bool:
        return self.engine.startswith(("Replicated", "Shared"))

    def window(self, usual: dict[str, int]) -> int:
        """Return how many of its last inserts it knows again."""
        told: list[tuple[str, str]] = _WINDOW.findall(self.created)
        windows = usual | {name: int(value) for name, value in told}
        kind = "replicated" if self.is_replicated else "non_replicated"
        return windows.get(f"{kind}_deduplication_window", 0)


def complaints(session: ClickHouseSession) -> list[str]:
    """Return what is wrong with a server and a database of ours; nothing is changed there.

    Raises :class:`~forebay.errors.ForebayError` if it does not answer.
    """
    tables = {table.whole: table for table in _tables(session)}
    usual = {
        row["name"]: int(row["value"])
        for row in _rows(
            session,
            "SELECT name, value FROM system.merge_tree_settings "
            "WHERE name LIKE '%replicated_deduplication_window'",
        )
    }
    ours = [table for table in tables.values() if table.database == session.target.database]
    return [
        *_of_version(session),
        *_of_windows(ours, usual),
        *_of_views(ours, tables, usual),
        *_of_profile(session),
        *_of_disks(session),
    ]


def _rows(session: ClickHouseSession, sql: str) -> list[dict[str, Any]]:
    """Return rows; no settings are sent, since the profile may forbid it, which is to be told."""
    try:
        answer = session.client().raw_query(f"{sql} FORMAT JSONEachRow", use_database=False)
    except ClickHouseError as error:
        raise translate(error) from error
    return [json.loads(line) for line in answer.splitlines()]


def _tables(session: ClickHouseSession) -> list[_Table]:
    """Return the tables of our database, and those that could be targets of views on them."""
    sql = (
        "SELECT database, name, engine, uuid, create_table_query AS created, "
        "arrayMap((d, t) -> concat(d, '.', t), dependencies_database, dependencies_table) AS views "
        "FROM system.tables WHERE engine LIKE '%MergeTree' OR engine = 'MaterializedView' "
        "ORDER BY database, name"
    )
    return [_Table(**row) for row in _rows(session, sql)]


def _of_version(session: ClickHouseSession) -> Iterator[str]:
    (row,) = _rows(session, "SELECT version() AS version")
    major, minor = (int(part) for part in row["version"].split(".")[:2])
    if (major, minor) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        yield f"ClickHouse is {row['version']}: upgrade it to {oldest} or later."


def _of_windows(ours: list[_Table], usual: dict[str, int]) -> Iterator[str]:
    for table in ours:
        if table.name in _KEEPING and (window := table.window(usual)) < WINDOW:
            kind = "" if table.is_replicated else "non_"
            yield (
                f"The table {table.whole} remembers {window} inserts by their token, so that one "
                f"that is sent again may be stored again: run ALTER TABLE {table.whole} MODIFY "
                f"SETTING {kind}replicated_deduplication_window = {WINDOW}."
            )


def _of_views(
    ours: list[_Table], tables: dict[str, _Table], usual: dict[str, int]
) -> Iterator[str]:
    for table in ours:
        for name in sorted(table.views):
            target = _target(tables.get(name), tables)
            if target is None or _REPLACING.match(target.engine) or target.window(usual):
                continue
            yield (
                f"The materialized view {name} adds up what it is told of {table.whole} in a table "
                f"({target.whole}, {target.engine}) that does not know an insert again: after a "
                "retry it counts twice. Give that table a non_replicated_deduplication_window, "
                "or let it be a ReplacingMergeTree."
            )


def _target(view: _Table | None, tables: dict[str, _Table]) -> _Table | None:
    """Return the table that a materialized view writes to."""
    if view is None or view.engine != "MaterializedView":
        return None
    if into := _INTO.match(view.created):
        return tables.get(into[1].replace("`", ""))
    inner = [f"{view.database}.{n}" for n in (f".inner_id.{view.uuid}", f".inner.{view.name}")]
    return next((tables[name] for name in inner if name in tables), None)


def _of_profile(session: ClickHouseSession) -> Iterator[str]:
    """Only what may not be set otherwise: whatever else a profile says, what we send counts."""
    names = ", ".join(map(quoted, _NEEDED))
    fixed = f"SELECT name, value FROM system.settings WHERE name IN ({names}) AND readonly = 1"
    for row in _rows(session, fixed):
        name, value = row["name"], row["value"]
        if value != _NEEDED[name]:
            yield (
                f"The profile of the user fixes {name} at {value}, and it has to be "
                f"{_NEEDED[name]}: let it be changed, or name another user."
            )


def _of_disks(session: ClickHouseSession) -> Iterator[str]:
    disks = "SELECT name, free_space AS free, total_space AS total FROM system.disks"
    for row in _rows(session, disks):
        free, total = int(row["free"]), int(row["total"])
        if free < LEAST_FREE * total:
            yield (
                f"The disk {row['name']} of ClickHouse has {free / _GB:.1f} GB free of "
                f"{total / _GB:.1f}: make space, or it stops storing."
            )
