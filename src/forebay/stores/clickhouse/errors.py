"""What a server's codes mean to us: https://github.com/ClickHouse/ClickHouse, ErrorCodes.cpp."""

from __future__ import annotations

import re

from clickhouse_connect.driver.exceptions import ClickHouseError, Error

from forebay.errors import (
    Corrupt,
    ForebayError,
    RowsRefused,
    TableUnavailable,
    Transient,
    Unreachable,
)

REFUSED = frozenset({6, 26, 27, 69, 72, 117, 131, 321, 349, 407, 469})
"""A value does not fit, or a CHECK says no: of rows, whichever they are inserted with."""
UNAVAILABLE = frozenset({10, 16, 44, 48, 53, 60, 164, 218, 242, 369, 497})
"""A table is not there, is otherwise than ours, or may not be written."""
DAMAGED = frozenset({40, 226, 228, 229, 271, 354, 446})
ABSENT = frozenset({81, 194, 192, 193, 279, 516})
"""Nobody who may use such a database answers there."""
NO_DATABASE = 81
_HINTS = {
    NO_DATABASE: "`forebay run` makes it; if it was dropped, `forebay rebuild` fills it again.",
    159: "The server is overloaded, or a setting of its profile is too strict.",
    201: "Raise the quota of the user.",
    202: "Raise max_concurrent_queries of the server.",
    225: "Check Keeper.",
    241: "Give the server more memory, or raise max_memory_usage of the user.",
    242: "Check Keeper and the server's disk.",
    243: "Make space on the server's disk.",
    252: "Merges do not keep up: check the server's disk and processors.",
    285: "Check the replicas, or lower insert_quorum.",
    286: "Check the replicas, or lower insert_quorum.",
    319: "Check the replicas and Keeper.",
    497: "Grant the user SELECT, INSERT, ALTER UPDATE, CREATE TABLE and CREATE VIEW.",
    516: "Check user and password in the credentials_file of the store.",
    999: "Check Keeper.",
}
_POOL = re.compile(r"HTTPS?ConnectionPool\(host='([^']*)', port=(\d+)\)")
_WHY = re.compile(r"\[(?:Errno -?\d+|SSL[^\]]*)\] ([^'\")]+)|(timed out)")
_NOISE = re.compile(r"\s*(\(version [^)]*\)|\(for url [^)]*\)|Stack trace:.*)", re.DOTALL)


def said(error: Exception) -> str:
    """Return what a server or its client says, as one line without version and address."""
    text = _NOISE.sub("", str(error)).strip() or type(error).__name__
    _, marked, told = text.partition("DB::Exception: ")
    cause = error.__cause__ or error.__context__
    if not marked and cause is not None:
        told = f"{text}: {cause}"
    return " ".join((told or text).split())[:2000].rstrip(".")


def _unanswered(error: Exception) -> str:
    """Return whom the client could not reach, and why, without its chain of causes."""
    text = said(error)
    whom, why = _POOL.search(text), _WHY.search(text)
    if whom is None or why is None:
        return text
    return f"{whom[1]}:{whom[2]}: {why[1] or why[2]}".rstrip(". ")


def translate(error: ClickHouseError, *, events: str = "") -> ForebayError:
    """Return a driver's error as one of ours; ``events`` is the table whose events it is about.

    What is not known here is tried again, since nothing that is captured may be dropped for it.
    """
    code = error.code if isinstance(error, Error) else None
    text = said(error)
    if code is None:
        hint = "Check that ClickHouse runs, and the url of the store."
        return Unreachable(f"ClickHouse does not answer: {_unanswered(error)}.", hint=hint)
    hint = _HINTS.get(code, "")
    if code in ABSENT:
        what = "has no such database" if code == NO_DATABASE else "lets nobody in"
        return Unreachable(f"ClickHouse {what} ({code}): {text}.", hint=hint)
    if code in DAMAGED:
        hint = "`forebay audit` names the hours; `forebay rebuild` puts damaged parts aside and "
        hint += "stores again what they had."
        return Corrupt(f"Data of ClickHouse are damaged ({code}): {text}.", hint=hint)
    if events and code in REFUSED:
        return RowsRefused(f"ClickHouse refuses rows of {events} ({code}): {text}.", hint=hint)
    if events and code in UNAVAILABLE:
        hint = hint or "Make the table again: a restart does, if it is not there."
        return TableUnavailable(f"ClickHouse cannot store {events} ({code}): {text}.", hint=hint)
    return Transient(f"ClickHouse could not do it ({code}): {text}.", hint=hint)
