"""``forebay gaps``: holes in coverage, declared, filled or on record for good."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from forebay.cli.output import (
    DEFAULT_DATA,
    ConfigOption,
    DataOption,
    JsonOption,
    err,
    explained,
    out,
    print_json,
    print_table,
)
from forebay.cli.settings import DataFlag
from forebay.errors import ConfigError

app = typer.Typer(no_args_is_help=True, help="Gaps: what is missing between what was captured.")

REASONS = {
    "in_connection": "The ids on both sides came over one connection, so the venue or the "
    "network left these out.",
    "between_connections": "No connection delivered them: nothing was connected then, or the "
    "collector died before they were captured.",
    "absent_from_history": "The venue's history was asked for all of them and does not have them.",
}


class State(StrEnum):
    """What became of a gap."""

    open = "open"
    filled = "filled"
    permanent = "permanent"


@app.command("list")
def list_gaps(
    *,
    data: DataOption = DEFAULT_DATA,
    state: Annotated[State | None, typer.Option(help="Only these.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List gaps.

    Example: forebay gaps list --data DIR --state open
    """
    with explained():
        table = _gaps(data)
        found = [gap for gap in table if state in (None, gap["state"])]
        if as_json:
            print_json(found)
        else:
            columns = list(found[0]) if found else ["gap"]
            rows = [list(gap.values()) for gap in found]
            print_table(f"{len(found)} gaps in {data}", columns, rows)


def _gaps(data: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - a path
    from forebay.app.reading import Data

    with Data(data) as opened:
        found: list[dict[str, Any]] = opened.gaps().to_pylist()
    return found


@app.command()
def explain(
    symbol: Annotated[str, typer.Argument(help="Symbol of the gap's stream.")],
    first: Annotated[int, typer.Argument(help="An id inside the gap.")],
    *,
    data: DataOption = DEFAULT_DATA,
    as_json: JsonOption = False,
) -> None:
    """Say what is known about a gap: why, between which events, and what became of it.

    Example: forebay gaps explain BTC-USD 70001234 --data DIR
    """
    with explained():
        from forebay.app.reading import Data
        from forebay.cli.sql import rows

        fitting = [
            gap
            for gap in _gaps(data)
            if gap["symbol"] == symbol and gap["first"] <= first <= gap["last"]
        ]
        if not fitting:
            raise ConfigError(f"{symbol} has no gap at {first}.", hint="See `forebay gaps list`.")
        gap = fitting[0]
        edges = f"{gap['first'] - 1}, {gap['last'] + 1}"
        query = (
            "SELECT trade_id, event_ts, received_ts FROM trades "  # noqa: S608 - our own integers
            f"WHERE symbol = '{gap['symbol']}' AND venue = '{gap['venue']}' "
            f"AND trade_id::BIGINT IN ({edges}) ORDER BY trade_id::BIGINT"
        )
        with Data(data) as opened:
            table = opened.sql(query)
        neighbours = [dict(zip(table.column_names, row, strict=True)) for row in rows(table)]
        ids = gap["last"] - gap["first"] + 1
        if as_json:
            meaning = REASONS.get(gap["reason"], "")
            print_json({**gap, "ids": ids, "meaning": meaning, "neighbours": neighbours})
            return
        stream = f"{gap['venue']} {gap['channel']} {symbol}"
        out.print(f"{stream}: {ids} ids from {gap['first']} to {gap['last']}")
        out.print(f"{gap['state']}, {gap['reason']}: {REASONS.get(gap['reason'], '')}")
        for neighbour in neighbours:
            happened, received = neighbour["event_ts"], neighbour["received_ts"]
            out.print(f"neighbour {neighbour['trade_id']} at {happened}, received {received}")


@app.command()
def fill(
    *,
    data: DataFlag = None,
    config: ConfigOption = None,
    rest_url: Annotated[str | None, typer.Option(help="Another REST address.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Fill open gaps from the venues' history now, without a running capture.

    A running capture fills its gaps by itself.

    Example: forebay gaps fill --data DIR
    """
    with explained():
        from forebay.app import logs
        from forebay.app.config import load
        from forebay.app.data_folder import DataFolder
        from forebay.app.filling import fill_gaps

        settings, _ = load(config, {"data": str(data) if data else None})
        folder = DataFolder(Path(settings.data)).existing()
        logs.configure("warning", process="fill")
        counts = asyncio.run(fill_gaps(folder, settings, logs.observer(), rest_url=rest_url))
        if as_json:
            print_json(counts)
        else:
            err.print(", ".join(f"{count} {state}" for state, count in counts.items()))
        if counts["open"]:
            raise typer.Exit(1)
