"""Products of stored decimals: they have 18 places each, and 36 leave too little before the point.

DuckDB computes ``price * size`` as a ``DECIMAL(38, 36)``, which overflows above 99. So ``*`` is a
macro of the session that asks: of two decimals of 38 digits it makes a DOUBLE, of anything else
what DuckDB makes. Types are known when a query is bound, so nothing is decided row by row.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import duckdb

_WIDE = "LIKE 'DECIMAL(38,%'"
MACRO = f"""
CREATE OR REPLACE TEMP MACRO "*"(a, b) AS multiply(a, CASE WHEN false THEN struct_extract(
    {{'double': [NULL::DOUBLE], 'same': [b]}},
    CASE WHEN typeof(a) {_WIDE} AND typeof(b) {_WIDE} THEN 'double' ELSE 'same' END
)[1] ELSE b END)"""
"""``multiply`` is DuckDB's other name of its own ``*``. The CASE is never true: it lends ``b`` a
type. ``typeof`` is a constant once the query is bound, and so is which field is taken."""
_NO_MACRO = 'DROP MACRO IF EXISTS temp."*"'
_HEAVIEST = 20_000
"""A macro's arguments are written out as often as it names them, also if they hold products
themselves: a formula that would become longer than this is left to DuckDB."""
_EXPLAIN = re.compile(r"\s*EXPLAIN\b(\s+ANALYZE\b)?(\s*\([^)]*\))?", re.IGNORECASE)


def allow_products(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Make ``*`` safe for the next query of a session, see this module."""
    heavy = "*" in sql and _weight_of(connection, sql) > _HEAVIEST
    connection.execute(_NO_MACRO if heavy else MACRO).fetchall()


def _weight_of(connection: duckdb.DuckDBPyConnection, sql: str) -> int:
    select = _EXPLAIN.sub("", sql, count=1) if _EXPLAIN.match(sql) else sql
    told = connection.execute("SELECT json_serialize_sql($1::VARCHAR)", [select]).fetchall()
    try:
        return _weight(json.loads(told[0][0]))
    except RecursionError:
        return _HEAVIEST + 1


def _weight(node: Any) -> int:  # noqa: ANN401 - a syntax tree, of whatever nodes
    """Return how many parts of a syntax tree the macro makes of it."""
    if isinstance(node, list):
        return sum(map(_weight, node))
    if not isinstance(node, dict):
        return 0
    told = node.get("arguments") or node.get("children") or ()
    operands = told if node.get("function_name") == "*" else ()
    if len(operands) > 1:
        left, right = map(_weight, operands)
        return 1 + 2 * left + 3 * right
    return 1 + sum(map(_weight, node.values()))
