"""``forebay book``."""

from __future__ import annotations

from itertools import zip_longest
from typing import Annotated, Any

import typer

from forebay.cli.output import (
    DEFAULT_DATA,
    DataOption,
    JsonOption,
    err,
    print_json,
    print_table,
)
from forebay.cli.settings import reading
from forebay.visible import visible

SHOWN = 10
"""Levels of each side in a table, unless it is said how many."""


def book(
    venue: Annotated[str, typer.Argument(help="Venue.")],
    symbol: Annotated[str, typer.Argument(help="Symbol.")],
    *,
    at: Annotated[
        str | None, typer.Option(help="Moment, by the venue's clock; else the last one known.")
    ] = None,
    depth: Annotated[
        int | None, typer.Option(min=1, help="Best levels of each side; else all, 10 in a table.")
    ] = None,
    market: Annotated[str, typer.Option(help="Market type; else the venue's first.")] = "",
    data: DataOption = DEFAULT_DATA,
    as_json: JsonOption = False,
) -> None:
    """Show an order book as it was at a moment, or say that it is not known.

    It is known from a snapshot on, until something may be missing: a connection was over, or a
    message could not be read. Of what is unknown, no level is shown.

    Example: forebay book VENUE BTC-USD --at 2026-11-28T10:00:00Z --depth 5 --data DIR
    """
    from forebay.app.querying import require_known

    opened = reading(data)
    told = opened.book_at(venue, symbol, at, depth, market)
    if told["state"] == "unknown":
        require_known([symbol], opened.symbols())
    if as_json:
        print_json(told)
    else:
        _print(told, depth or SHOWN)


def _print(told: dict[str, Any], depth: int) -> None:
    name = visible(f"{told['venue']} {told['symbol']} at {told['at'] or 'any time'}")
    if told["state"] == "unknown":
        as_of = f" It was known as of {told['as_of']}." if told["as_of"] else ""
        err.print(f"{name}: unknown. {told['reason']}{as_of}")
        return
    sides = zip_longest(told["bids"][:depth], told["asks"][:depth], fillvalue=("", ""))
    rows = [(*reversed(bid), *ask) for bid, ask in sides]
    state = ", crossed" if told["crossed"] else "" if rows else ", empty"
    title = f"{name}, as of {told['as_of']}{state}"
    print_table(title, ("size", "bid", "ask", "size"), rows)
