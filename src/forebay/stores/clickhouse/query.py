"""Read-only queries: one statement, no side effects, bounded in time, as the server enforces it."""

from __future__ import annotations

import json
import re
import threading
from typing import TYPE_CHECKING, Final, cast
from uuid import uuid4

import pyarrow as pa
from clickhouse_connect.driver.exceptions import ClickHouseError, Error
from urllib3 import Timeout

from forebay.errors import Corrupt, ForebayError, Permanent, Transient, Unreachable
from forebay.ports import Reader
from forebay.stores.clickhouse.errors import said, translate
from forebay.stores.clickhouse.session import ALWAYS, CONNECT_S

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clickhouse_connect.driver.client import Client
    from clickhouse_connect.driver.httpclient import HttpClient

    from forebay.stores.clickhouse.session import Target

COUNTED: Final = 1_000_000
"""Rows beyond a limit that are counted."""
LATE_S: Final = 10.0
"""How long after its own limit of time a server may be silent before it counts as gone."""
_SELECTS = {"SELECT", "WITH", "FROM"}
_TELLS = {"SHOW", "DESCRIBE", "DESC", "EXPLAIN", "EXISTS"}
_BEFORE = re.compile(r"(?:\s|\(|--[^\n]*(?:\n|$)|/\*.*?\*/)*", re.DOTALL)
_WORD = re.compile(r"\w+")
_SECONDS = re.compile(r"(?:Nullable\()?DateTime(?![6\w])")
_AS_TEXT = re.compile(
    r"U?Int(?:128|256)|Enum|IPv[46]|Interval|AggregateFunction|Dynamic|Variant|JSON|Object|Nothing"
    r"|BFloat16|DateTime(?![6\w])|\bTime(?:64)?\b|^(?:Nullable\(|LowCardinality\()*UUID"
)
"""Types of columns that Arrow has not, or not as other stores give them."""
_BUSY = {159, 173, 201, 202, 203, 209, 210, 236, 242, 243, 252, 319, 439, 745, 999}
"""Codes of a server that may answer the same query later."""
_TOO_LATE, _TOO_MUCH, _STOPPED = 159, 241, 394
_WRONG: Final[Mapping[int | None, tuple[str, str]]] = {
    62: ("The query cannot be parsed", ""),
    407: (
        "The query failed",
        "Decimals have 38 digits: calculate with toFloat64(price) or toDecimal256(price, 18).",
    ),
    164: (
        "The query is refused",
        "Only queries that read are answered, without settings of their own.",
    ),
}
"""By code, what is wrong with a query, and what to do."""
_ECHO = re.compile(r"\s*FORMAT ArrowStream|\.?:? In scope .*?(?=\. Maybe you meant|$)", re.DOTALL)


class ClickHouseReader(Reader):
    """Reads through a client of its own, which connects with the first query."""

    def __init__(self, target: Target, *, memory_limit_mb: int | None = None) -> None:
        self._target = target
        self._settings: dict[str, object] = {
            **ALWAYS,
            "readonly": 1,
            "database": target.database,
            "output_format_arrow_string_as_string": 1,
            "output_format_arrow_low_cardinality_as_dictionary": 0,
        }
        if memory_limit_mb is not None:
            self._settings["max_memory_usage"] = memory_limit_mb * 1_000_000
        self._client: Client | None = None
        self._running = ""

    def query(self, sql: str, *, timeout_s: float = 3600.0, limit: int | None = None) -> pa.Table:
        """See :meth:`forebay.ports.Reader.query`.

        Columns have the types that other stores give: ids are texts, times have no zone, and so
        do those that Arrow has not. A column of texts that are not all UTF-8 is binary.
        """
        word = _checked(sql)
        sql = sql.strip().rstrip(";")
        client = self._connected()
        cast("HttpClient", client).timeout = Timeout(connect=CONNECT_S, read=timeout_s + LATE_S)
        self._running = str(uuid4())
        settings = {**self._settings, "max_execution_time": timeout_s, "query_id": self._running}
        try:
            if word in _TELLS:
                return _limited(_rows(client, sql, settings), limit)
            shown = _shown(client, sql, settings)
            if limit is None:
                return _rows(client, shown, settings)
            first = _rows(client, shown, {**settings, "limit": max(limit, 1)})
            if first.num_rows < limit:
                return _limited(first, limit)
            return _limited(first, limit, _count(client, sql, settings, limit + COUNTED + 1))
        except ClickHouseError as error:
            raise _translated(error, timeout_s) from error
        except pa.ArrowException as error:
            raise Permanent(f"The query failed: {error}") from error
        finally:
            self._running = ""

    def _connected(self) -> Client:
        if self._client is None:
            self._client = self._target.connect()
        return self._client

    def interrupt(self) -> None:
        """See :meth:`forebay.ports.Reader.interrupt`; does not wait for the server."""
        if running := self._running:
            threading.Thread(target=self._kill, args=(running,), daemon=True).start()

    def _kill(self, query_id: str) -> None:
        statement = f"KILL QUERY WHERE query_id = '{query_id}'"
        try:
            self._connected().command(statement, settings={"max_execution_time": LATE_S})
        except (ClickHouseError, ForebayError):
            return  # it may not, or cannot now: the query ends at its limit of time

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


def _checked(sql: str) -> str:
    """Return the first word. Raises :class:`~forebay.errors.Permanent` unless it is to read."""
    begin = _BEFORE.match(sql)
    word = _WORD.match(sql, begin.end() if begin else 0)
    first = word[0].upper() if word else ""
    if first in _SELECTS | _TELLS:
        return first
    message = f"Only queries that read are answered, not {first or 'none'}."
    raise Permanent(message, hint="Use SELECT, WITH, SHOW, DESCRIBE, EXISTS or EXPLAIN.")


def _shown(client: Client, sql: str, settings: Mapping[str, object]) -> str:
    """Return a query whose columns Arrow can hold: see :data:`_AS_TEXT`."""
    answer = _asked(client, f"DESCRIBE TABLE (\n{sql}\n)\nFORMAT JSONEachRow", settings)
    told = [json.loads(line) for line in answer.splitlines()]
    changed = [
        f"{_replaced(each['type'], _name(each['name']))} AS {_name(each['name'])}"
        for each in told
        if _AS_TEXT.search(each["type"])
    ]
    return f"SELECT * REPLACE ({', '.join(changed)}) FROM (\n{sql}\n)" if changed else sql


def _replaced(kind: str, name: str) -> str:
    return f"toDateTime64({name}, 0)" if _SECONDS.match(kind) else f"toString({name})"


def _name(name: str) -> str:
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def _count(client: Client, sql: str, settings: Mapping[str, object], most: int) -> str:
    """Return how many rows a query has, as the metadata say it."""
    counting = f"SELECT count() FROM (SELECT 1 FROM (\n{sql}\n) LIMIT {most})\nFORMAT TabSeparated"
    count = int(_asked(client, counting, settings))
    return f"{most - 1}+" if count >= most else str(count)


def _asked(client: Client, statement: str, settings: Mapping[str, object]) -> bytes:
    return client.raw_query(statement, settings=dict(settings), use_database=False)


def _rows(client: Client, sql: str, settings: Mapping[str, object]) -> pa.Table:
    with pa.ipc.open_stream(_asked(client, f"{sql}\nFORMAT ArrowStream", settings)) as stream:
        rows = stream.read_all()
    columns = [_as_elsewhere(column) for column in rows.columns]
    return pa.Table.from_arrays(columns, names=rows.column_names)


def _as_elsewhere(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column as a store without zones, and with bytes beside texts, has it."""
    kind = column.type
    if pa.types.is_timestamp(kind) and kind.tz == "UTC":
        return column.cast(pa.timestamp(kind.unit))
    if pa.types.is_string(kind):
        try:
            column.validate(full=True)
        except pa.ArrowInvalid:
            return column.cast(pa.binary())
    return column


def _limited(rows: pa.Table, limit: int | None, counted: str = "") -> pa.Table:
    if limit is None:
        return rows
    return rows.slice(0, limit).replace_schema_metadata({"rows": counted or str(rows.num_rows)})


def _translated(error: ClickHouseError, timeout_s: float) -> ForebayError:
    code = error.code if isinstance(error, Error) else None
    if code == _TOO_LATE:
        message = f"The query took longer than {timeout_s:g} s and was stopped."
        return Transient(message, hint="Narrow it down, or raise query.timeout_s.")
    if code == _STOPPED:
        return Transient("The query was stopped.", hint="Ask again.")
    if code == _TOO_MUCH:
        message = "The query needs more memory than it may use."
        hint = "Narrow it down, or raise store.memory_limit_mb, or max_memory_usage of the user."
        return Transient(message, hint=hint)
    ours = translate(error)
    if code in _BUSY or isinstance(ours, Unreachable | Corrupt):
        return ours
    words, _, _ = _ECHO.sub("", said(error)).partition(". Expected one of")
    what, hint = _WRONG.get(code, ("The query failed", ""))
    return Permanent(f"{what}: {words}.", hint=hint)
