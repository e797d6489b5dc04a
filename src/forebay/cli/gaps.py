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
    "in_connection": "What is on both sides came over one connection, so the venue or the network "
    "left this out.",
    "between_connections": "No connection delivered it: nothing was connected then, or the "
    "collector died before it was captured.",
    "absent_from_history": "The venue's history was asked for all of it and does not have it.",
}
COUNTED = {"id": "ids", "seq": "numbers of one connection", "time": "nanoseconds"}
"""What a gap's unit counts."""


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
            rows = [list(_readable(gap).values()) for gap in found]
            print_table(f"{len(found)} gaps in {data}", columns, rows)


def _gaps(data: Path) -> list[dict[str, Any]]:
    from forebay.app.reading import Data

    with Data(data) as opened:
        found: list[dict[str, Any]] = opened.gaps().to_pylist()
    return found


def _readable(gap: dict[str, Any]) -> dict[str, Any]:
    """Return a gap whose ends are as people write them: times as ISO 8601."""
    from forebay.app.times import to_text

    if gap["unit"] != "time":
        return gap
    return gap | {end: to_text(gap[end], exact=True) for end in ("first", "last")}


@app.command()
def explain(
    symbol: Annotated[str, typer.Argument(help="Symbol of the gap's stream.")],
    inside: Annotated[str, typer.Argument(help="An id, a number or a time inside the gap.")],
    *,
    venue: Annotated[str | None, typer.Option(help="Venue, if there are several gaps.")] = None,
    market: Annotated[str | None, typer.Option(help="Market type, likewise.")] = None,
    channel: Annotated[str | None, typer.Option(help="Kind of event, likewise.")] = None,
    epoch: Annotated[str | None, typer.Option(help="Connection, likewise.")] = None,
    data: DataOption = DEFAULT_DATA,
    as_json: JsonOption = False,
) -> None:
    """Say what is known about a gap: why, between which events, and what became of it.

    Example: forebay gaps explain BTC-USD 70001234 --data DIR
    """
    with explained():
        named = {
            "symbol": symbol,
            "venue": venue,
            "market": market,
            "channel": channel,
            "epoch": epoch,
        }
        gap = _the_one(_gaps(data), named, inside)
        beside = _beside(data, gap)
        count = gap["last"] - gap["first"] + 1
        meaning = REASONS.get(gap["reason"], "")
        filling = _filling(data, gap)
        if as_json:
            more = {"meaning": meaning, "filling": filling, "neighbours": beside}
            counted = {"ids": count} if gap["unit"] == "id" else {}
            print_json({**gap, "count": count, **counted, **more})
            return
        shown = _readable(gap)
        parts = [gap["venue"], gap["market"], gap["channel"], gap["symbol"], gap["epoch"]]
        size = f"{count:,} {COUNTED.get(gap['unit'], gap['unit'])}"
        out.print(f"{' '.join(filter(None, parts))}: {size}, {shown['first']} to {shown['last']}")
        out.print(f"{gap['state']}, {gap['reason']}: {meaning} {filling}")
        for event in beside:
            number = "" if event["venue_seq"] is None else f" {event['venue_seq']}"
            happened, received = event["event_ts"], event["received_ts"]
            out.print(f"neighbour{number} at {happened}, received {received}")


def _the_one(
    gaps: list[dict[str, Any]], wanted: dict[str, str | None], inside: str
) -> dict[str, Any]:
    """Return the gap that is meant; raises :class:`~forebay.errors.ConfigError`."""
    fitting = [
        gap
        for gap in gaps
        if all(text in (None, gap[name]) for name, text in wanted.items())
        and _position(gap, inside) in range(gap["first"], gap["last"] + 1)
    ]
    named = wanted["symbol"]
    if not fitting:
        raise ConfigError(f"{named} has no gap at {inside}.", hint="See `forebay gaps list`.")
    if len(fitting) > 1:
        differ = [name for name in wanted if len({gap[name] for gap in fitting}) > 1]
        message = f"{named} has {len(fitting)} gaps at {inside}."
        raise ConfigError(message, hint=f"Say which with --{' or --'.join(differ)}.")
    return fitting[0]


def _position(gap: dict[str, Any], inside: str) -> int | None:
    """Return ``inside`` in the gap's unit, None if it is a time and the gap is in no such unit."""
    from forebay.app.times import to_ns

    if inside.isdecimal():
        return int(inside)
    return to_ns(inside) if gap["unit"] == "time" else None


def _beside(data: Path, gap: dict[str, Any]) -> list[dict[str, object]]:
    """Return the events on both sides of a gap; none of a kind that is not known."""
    from forebay.app.reading import Data
    from forebay.cli.sql import rows
    from forebay.domain.coverage import Gap
    from forebay.domain.kinds import KINDS

    if gap["channel"] not in KINDS:
        return []
    with Data(data) as opened:
        table = opened.beside(Gap(**gap))
    return [dict(zip(table.column_names, row, strict=True)) for row in rows(table)]


def _filling(data: Path, gap: dict[str, Any]) -> str:
    """Say whether an open gap can be filled; nothing of others."""
    from forebay.app.data_folder import DataFolder
    from forebay.app.venues import install, parsers

    install(DataFolder(data))
    parser = parsers().get(gap["venue"])
    channel = parser.channels.get(gap["channel"]) if parser else None
    if gap["state"] != "open":
        return ""
    if channel is not None and channel.history and channel.unit == gap["unit"]:
        return "The venue's history is asked for it."
    return "The venue has no history to fill it from, so it stays open."


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
