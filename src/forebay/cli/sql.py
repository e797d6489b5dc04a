"""``forebay sql``."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forebay.cli.cells import plain, text, unique
from forebay.cli.output import (
    DEFAULT_DATA,
    DataOption,
    JsonOption,
    StoreOption,
    err,
    out,
    print_table,
)
from forebay.cli.settings import reading
from forebay.errors import ConfigError, Permanent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    import pyarrow as pa

SHOWN = 100
"""Rows of a table, unless it is said how many."""
_BATCH = 10_000
"""Rows that are made to text at a time."""
_QUOTED = frozenset('",\r\n')


Format = StrEnum("Format", "table json csv parquet")
"""How rows are printed."""


def sql(
    query: Annotated[str, typer.Argument(help="One reading SQL statement.")],
    *,
    data: DataOption = DEFAULT_DATA,
    store: StoreOption = None,
    style: Annotated[
        Format | None, typer.Option("--format", help="Form of the answer; else a table.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help=f"At most so many rows; else all, {SHOWN} in a table."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Write it here; .csv, .json or .parquet says the form.")
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(min=0.001, help="Seconds that it may take; else query.timeout_s."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Query what was captured, while a capture is running or not, in the store's own SQL.

    Tables: trades, quotes, tickers, bars, book_snapshots, book_deltas, book_checkpoints,
    gaps, coverage, dead_letters, letter_states, conflicts, cursors. "DESCRIBE trades" lists the
    columns of one; side is the taker's, and event_ts is when it happened.

    Decimals, times and bytes are exact texts in JSON and CSV; NULL is nothing in CSV, and an
    empty text is "". In DuckDB the product of two stored decimals is a DOUBLE, so that
    sum(price * size) / sum(size) cannot overflow; in ClickHouse it is wrong without an error:
    write toDecimal256(price, 18) * size.

    Example: forebay sql "SELECT symbol, count(*) AS n FROM trades GROUP BY ALL" --data DIR
    """
    if as_json and style not in (None, Format.json):
        raise ConfigError(f"--json and --format {style} say two things.", hint="Leave one out.")
    suffix = output.suffix.removeprefix(".") if output else ""
    if style is None and suffix and suffix not in {*Format, "txt"}:
        message = f"{output} does not say in which form to write."
        raise ConfigError(message, hint="Let it end in .csv, .json or .parquet, or add --format.")
    named = Format(suffix) if suffix in set(Format) else Format.table
    style = Format.json if as_json else style or named
    if style is Format.parquet and output is None and sys.stdout.isatty():
        message = "Parquet is not for a terminal."
        raise ConfigError(message, hint="Add --output FILE, or send it into a file or a pipe.")
    most = limit or (SHOWN if style is Format.table and output is None else None)
    typed = os.fsencode(query).decode(errors="replace")  # UTF-8 in any locale
    table = reading(data, store).sql(typed, timeout_s=timeout, limit=most)
    write(table, style, output, others=", --format csv all")


def write(table: pa.Table, style: Format, output: Path | None = None, *, others: str = "") -> None:
    """Print ``table`` to stdout, or into a file: whole or not at all.

    ``others`` says how to see the rows that a limit left out of a table, beside a higher limit.
    """
    if style is Format.table and output is None:
        _print(table, others)
        return
    with _sink(output) as sink:
        if style is Format.json:
            sink.writelines(_json(table))
        elif style is Format.csv:
            sink.writelines(_csv(table))
        elif style is Format.parquet:
            _parquet(table, sink)
        else:
            with contextlib.redirect_stdout(io.TextIOWrapper(sink, "utf-8")) as printed:
                _print(table, others)
                printed.flush()
                printed.detach()
    if style is not Format.table and (more := more_rows(table)):
        err.print(f"There are {more} more rows.")


@contextlib.contextmanager
def _sink(output: Path | None) -> Iterator[BinaryIO]:
    """Return where bytes go; a file takes the place of an earlier one when all is written."""
    if output is None:
        sys.stdout.flush()
        yield sys.stdout.buffer
    elif output.exists() and not output.is_file():
        with output.open("wb") as device:
            yield device
    else:
        target = output.resolve()
        beside = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            with beside.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            beside.replace(target)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise


def rows(table: pa.Table) -> list[list[Any]]:
    """Return rows of plain values; times are RFC 3339 texts with all their digits."""
    return [list(row) for row in zip(*map(plain, table.columns), strict=True)]


def records(table: pa.Table) -> list[dict[str, Any]]:
    """Return rows as :func:`rows` does, by the name of their column."""
    return [dict(zip(table.column_names, row, strict=True)) for row in rows(table)]


def _batched(table: pa.Table) -> Iterator[list[Any]]:
    for first in range(0, table.num_rows, _BATCH):
        yield from rows(table.slice(first, _BATCH))


def _json(table: pa.Table) -> Iterator[bytes]:
    names, mark = unique(table.column_names), "["
    for row in _batched(table):
        yield f"{mark}{json.dumps(dict(zip(names, row, strict=True)))}".encode()
        mark = ", "
    yield b"[]\n" if mark == "[" else b"]\n"


def _csv(table: pa.Table) -> Iterator[bytes]:
    for cells in itertools.chain([unique(table.column_names)], _batched(table)):
        yield (",".join(map(_field, cells)) + "\n").encode()


def _field(cell: object) -> str:
    """Return a cell of CSV: NULL is nothing, an empty text is two quotes."""
    if cell is None:
        return ""
    shown = text(cell)
    if shown and _QUOTED.isdisjoint(shown):
        return shown
    return '"' + shown.replace('"', '""') + '"'


def _parquet(table: pa.Table, sink: BinaryIO) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    def storable(column: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
        """Return a column as it is, or as texts if Parquet has no such type."""
        try:
            pyarrow.parquet.write_table(pa.table({"a": column.slice(0, 0)}), io.BytesIO())
        except pa.ArrowException:
            return pa.array([None if cell is None else text(cell) for cell in plain(column)])
        return column

    columns = list(map(storable, table.columns))
    try:
        pyarrow.parquet.write_table(pa.table(columns, unique(table.column_names)), sink)
    except pa.ArrowException as error:
        message = f"Parquet cannot hold this answer: {error}"
        raise Permanent(message, hint="Cast the column to VARCHAR.") from error


def _print(table: pa.Table, others: str) -> None:
    if table.column_names == ["explain_key", "explain_value"]:  # a drawing, not a cell
        out.print("\n".join(table["explain_value"].to_pylist()))
        return
    cells = [["NULL" if cell is None else text(cell) for cell in row] for row in rows(table)]
    print_table("", unique(table.column_names), cells, fold=False)
    if more := more_rows(table):
        sys.stdout.write(f"… {more} more rows; --limit N shows more{others}.\n")


def more_rows(table: pa.Table) -> str:
    """Return how many rows there are beyond those of the table, nothing if none."""
    known = (table.schema.metadata or {}).get(b"rows")
    if known is None:
        return ""
    counted = known.decode()
    more = int(counted.removesuffix("+")) - table.num_rows
    return f"{'more than ' if counted.endswith('+') else ''}{more:,}" if more else ""
