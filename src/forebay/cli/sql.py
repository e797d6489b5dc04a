"""``forebay sql``."""

from __future__ import annotations

import math
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from forebay.cli.output import (
    DEFAULT_DATA,
    DataOption,
    JsonOption,
    explained,
    plain,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    import pyarrow as pa


class Format(StrEnum):
    """How rows are printed."""

    table = "table"
    json = "json"
    csv = "csv"
    parquet = "parquet"


def sql(
    query: Annotated[str, typer.Argument(help="One reading SQL statement.")],
    *,
    data: DataOption = DEFAULT_DATA,
    style: Annotated[Format, typer.Option("--format", help="Form of the answer.")] = Format.table,
    timeout: Annotated[
        float | None,
        typer.Option(min=0.001, help="Seconds that it may take; else query.timeout_s."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Query what was captured, while a capture is running or not.

    Tables: trades, quotes, tickers, bars, book_snapshots, book_deltas, book_checkpoints,
    gaps, coverage, dead_letters, conflicts, cursors.

    Example: forebay sql "SELECT symbol, count(*) FROM trades GROUP BY ALL" --data DIR
    """
    with explained():
        from forebay.app.reading import Data

        with Data(data) as opened:
            table = opened.sql(query, timeout_s=timeout)
        write(table, Format.json if as_json else style)


def write(table: pa.Table, style: Format) -> None:
    """Print ``table`` to stdout."""
    if style is Format.json:
        names = table.column_names
        print_json([dict(zip(names, map(_finite, row), strict=True)) for row in rows(table)])
    elif style is Format.csv:
        import pyarrow.csv

        pyarrow.csv.write_csv(_flat(_printable(table)), sys.stdout.buffer)
    elif style is Format.parquet:
        import pyarrow.parquet

        pyarrow.parquet.write_table(table, sys.stdout.buffer)
    else:
        print_table("", table.column_names, rows(table))


def rows(table: pa.Table) -> list[list[object]]:
    """Answer rows of plain values; times are RFC 3339 texts with all their digits."""
    columns = [column.to_pylist() for column in _printable(table).columns]
    return [[plain(cell) for cell in row] for row in zip(*columns, strict=True)]


def _finite(cell: object) -> object:
    """Answer ``cell`` as JSON can hold it: there is no NaN and no infinity in it."""
    if isinstance(cell, float):
        return cell if math.isfinite(cell) else None
    if isinstance(cell, dict):
        return {key: _finite(value) for key, value in cell.items()}
    if isinstance(cell, list | tuple):
        return [_finite(value) for value in cell]
    return cell


def _printable(table: pa.Table) -> pa.Table:
    """Times as text, since Python's own have no nanoseconds; ids and decimals as text too."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = []
    for column in table.columns:
        kind = column.type
        if pa.types.is_timestamp(kind):
            utc = column.cast(pa.timestamp(kind.unit))
            columns.append(pc.strftime(utc, format="%Y-%m-%dT%H:%M:%SZ"))
        elif isinstance(kind, pa.UuidType):
            columns.append(pa.array([str(cell) if cell else None for cell in column.to_pylist()]))
        elif pa.types.is_decimal(kind):
            columns.append(column.cast(pa.string()))
        elif pa.types.is_list(kind) and pa.types.is_decimal(kind.value_type):
            columns.append(column.cast(pa.list_(pa.string())))
        else:
            columns.append(column)
    return pa.table(dict(zip(_unique(table.column_names), columns, strict=True)))


def _flat(table: pa.Table) -> pa.Table:
    """Lists as texts with commas: CSV has no place for a list."""
    import pyarrow as pa

    columns = [
        pa.array(
            [None if cell is None else ",".join(map(str, cell)) for cell in column.to_pylist()]
        )
        if pa.types.is_list(column.type)
        else column
        for column in table.columns
    ]
    return pa.table(dict(zip(table.column_names, columns, strict=True)))


def _unique(names: list[str]) -> list[str]:
    """A query may name two columns alike; an Arrow dictionary may not."""
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return unique
