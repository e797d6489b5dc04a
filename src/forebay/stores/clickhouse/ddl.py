"""The tables: rows from the Arrow schemas, so that the two cannot differ; see ``schema.sql``."""

from __future__ import annotations

import re
from importlib import resources
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from forebay.domain import schema
from forebay.domain.kinds import KINDS
from forebay.stores.rows import EPOCHS, ORDINALS
from forebay.stores.states import state_columns, state_query

if TYPE_CHECKING:
    from collections.abc import Callable

    from forebay.domain.kinds import EventKind

SCHEMA_VERSION: Final = 1
WINDOW: Final = 10_000
"""Inserts of a table that are recognised when they come again."""
KEPT: Final = (
    f"non_replicated_deduplication_window = {WINDOW}, "
    "fsync_after_insert = 1, fsync_part_directory = 1"
)
COMMITS: Final = "commits"
STATE: Final = "state"
META: Final = "meta"
LETTERS: Final = "dead_letters"
LETTER_STATES: Final = "letter_states"
CONFLICTS: Final = "conflicts"
CONFLICT_ROWS: Final = pa.schema(
    [
        ("event_id", pa.uuid()),
        ("table", pa.string()),
        ("received_ts", schema.TIME),
        ("stored", pa.string()),
        ("incoming", pa.string()),
    ]
)
CURSOR_ROWS: Final = pa.schema(
    [("consumer", pa.string()), ("log_id", pa.string()), ("seq", pa.int64())]
)
VIEWS: Final[dict[str, pa.Schema]] = {
    **{kind.table: kind.schema for kind in KINDS.values()},
    LETTERS: schema.DEAD_LETTERS,
    LETTER_STATES: schema.LETTER_STATES,
    CONFLICTS: CONFLICT_ROWS,
    "cursors": CURSOR_ROWS,
    "coverage": schema.COVERAGE,
    "gaps": schema.GAPS,
    "stream_epochs": EPOCHS,
    "stream_ordinals": ORDINALS,
    **{kind.states: state_columns(kind) for kind in KINDS.values() if kind.holds},
}
"""What whoever reads may ask, by name."""
STATEMENTS: Final[dict[str, str]] = dict(
    re.findall(
        r"^-- name: (\w+)\n(?:--[^\n]*\n)*(.*?)(?=^-- name: |\Z)",
        resources.files(__package__).joinpath("schema.sql").read_text(encoding="utf-8"),
        re.DOTALL | re.MULTILINE,
    )
)

_TYPES = {
    pa.uuid(): "UUID",
    pa.string(): "String",
    schema.LABEL: "LowCardinality(String)",
    pa.binary(): "String",
    pa.bool_(): "Bool",
    pa.int32(): "Int32",
    pa.int64(): "Int64",
    schema.TIME: "DateTime64(9, 'UTC')",
    schema.DECIMAL: "Decimal(38, 18)",
    schema.DECIMALS: "Array(Decimal(38, 18))",
}
_ALWAYS_TOLD = {
    *(name for name in schema.ENVELOPE.names if name not in {"venue_seq", "exchange_ts"}),
    *schema.DEAD_LETTERS.names,
    *schema.LETTER_STATES.names,
    schema.FLAGS.name,
}
"""Columns that are never null; so are lists, as ClickHouse has no list that is null."""


def rows_of(view: str) -> str:
    """Return the name of the table that a view shows the rows of."""
    return f"{view}_rows"


def _column(field: pa.Field) -> str:
    kind = _TYPES[field.type]
    if field.name in _ALWAYS_TOLD or pa.types.is_list(field.type):
        return f"`{field.name}` {kind}"
    return f"`{field.name}` Nullable({kind})"


def statements(name: Callable[[str], str]) -> dict[str, str]:
    """Return what makes each table and view, by its name; ``name`` gives a whole name in SQL."""
    own = {META: "meta", COMMITS: "commits", STATE: "state"}
    made = {
        table: STATEMENTS[key].format(**{key: name(table)}, kept=KEPT) for table, key in own.items()
    }
    rows = {**{kind.table: "events" for kind in KINDS.values()}, LETTERS: LETTERS}
    for view, key in {**rows, CONFLICTS: CONFLICTS, LETTER_STATES: LETTER_STATES}.items():
        columns = ", ".join(map(_column, VIEWS[view]))
        table = rows_of(view)
        made[table] = STATEMENTS[key].format(table=name(table), columns=columns, kept=KEPT)
    held = {kind.states: kind for kind in KINDS.values() if kind.holds}
    for view, fields in VIEWS.items():
        if view in held:
            made[view] = _states(held[view], name)
            continue
        special = STATEMENTS.get(f"{view}_view")
        made[view] = (special or STATEMENTS["rows_view"]).format(
            view=name(view),
            state=name(STATE),
            table=name(rows_of(view)),
            columns=", ".join(f"`{field}`" for field in fields.names),
        )
    return made


def _states(kind: EventKind, name: Callable[[str], str]) -> str:
    query = state_query(
        kind, name(kind.table), lambda column: f"`{column}`", lambda column: f"anyLast({column})"
    )
    return f"CREATE VIEW IF NOT EXISTS {name(kind.states)} AS {query}"
