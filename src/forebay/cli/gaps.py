"""``forebay gaps``: holes in coverage, declared, filled or on record for good."""

from __future__ import annotations

import asyncio
import getpass
import os
from collections import Counter
from dataclasses import fields
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from forebay.cli.gaps_check import check
from forebay.cli.output import (
    DEFAULT_DATA,
    ConfigOption,
    DataOption,
    JsonOption,
    err,
    explained,
    out,
    print_json,
)
from forebay.cli.settings import DataFlag
from forebay.errors import ConfigError

app = typer.Typer(no_args_is_help=True, help="Gaps: what is missing between what was captured.")

REASONS = {
    "in_connection": "What is on both sides came over one connection, so the venue or the network "
    "left this out.",
    "between_connections": "No connection delivered it: nothing was connected then, or the "
    "collector died before it was captured.",
    "absent_from_history": "The venue's history was asked for all of it, again and again, and does "
    "not have it.",
    "not_stored": "The market was open and the calendar expects it, and the store does not have "
    "it.",
    "far_ahead": "One id came that is far ahead of all others, and nothing else vouches for it. If "
    "it is a mistake, accept this.",
    "far_behind": "One id came that is far behind all others, and nothing else vouches for it. If "
    "it is a mistake, accept this.",
}
COUNTED = {"id": "ids", "seq": "numbers of one connection", "time": "nanoseconds"}
"""What a gap's unit counts."""


class GapState(StrEnum):
    """What became of a gap."""

    all = "all"
    open = "open"
    permanent = "permanent"
    accepted = "accepted"
    filled = "filled"


ORDER = [state.value for state in GapState][1:]
"""What a person has to look at comes first."""


@app.command("list")
def list_gaps(
    *,
    data: DataOption = DEFAULT_DATA,
    state: Annotated[
        GapState | None, typer.Option(help="Only these; without it the open ones, in JSON all.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=0, help="No more than these; 100, in JSON no limit.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List gaps with when they were, open ones first, and count the others.

    Example: forebay gaps list --data DIR --state open
    """
    with explained():
        table = _gaps(data)
        wanted = state or (GapState.all if as_json else GapState.open)
        found = [gap for gap in table if wanted in (GapState.all, gap["state"])]
        shown = found[: (None if as_json else 100) if limit is None else limit]
        if as_json:
            print_json(shown)
            return
        for gap in shown:
            _say(*_lines(gap))
        if len(shown) < len(found):
            _say(f"{len(found) - len(shown):,} more; see --limit, or --json for all of them.")
        counts = Counter(gap["state"] for gap in table)
        told = ", ".join(f"{counts[name]:,} {name}" for name in ORDER)
        others = "; --state all lists them" if state is None and counts.keys() - {"open"} else ""
        _say(f"{told} in {data}{others}." if table else f"No gaps in {data}.")


def _say(*lines: str) -> None:
    """Write lines to stdout, whatever they hold."""
    for line in lines:
        plain = "".join(char if char.isprintable() else repr(char)[1:-1] for char in line)
        out.print(plain)


def _lines(gap: dict[str, Any]) -> list[str]:
    """Return what a list says of a gap, within 80 columns."""
    parts = [gap["venue"], gap["market"], gap["channel"], gap["symbol"], gap["epoch"]]
    named = f"{gap['state']:<9} {' '.join(part for part in parts if part not in ('', 'spot'))}"
    if gap["unit"] == "time":
        ends = _readable(gap)
        size = f"{(gap['last'] - gap['first'] + 1) / 1e9:,.3f} s"
        lines = [f"{named}, {size}", f"  {ends['first']} to {ends['last']}"]
    else:
        count = _count(gap)
        to = f" to {gap['last']}" if count > 1 else ""
        size = f"{count:,} {'filled' if gap['state'] == 'filled' else 'missing'}"
        size = "not believed" if gap["reason"].startswith("far_") else size
        between = f"{_second(gap['from_ts'])} to {_second(gap['to_ts'])}"
        lines = [f"{named} {gap['first']}{to}", f"  {between}, {size}"]
    lines.append(f"  {gap['reason']}, opened {_second(gap['opened_ts'])}")
    by = f" by {gap['accepted_by']}: {gap['accepted_reason']}" if gap["accepted_by"] else ""
    if gap["closed_ts"] or by:
        lines.append(f"  {gap['state']} {_second(gap['closed_ts'])}{by}")
    return lines


def _second(moment: str | None) -> str:
    return "?" if moment is None else f"{moment[:19]}Z"


def _count(gap: dict[str, Any]) -> int:
    count: int = gap["last"] - gap["first"] + 1
    return count


def _gaps(data: Path) -> list[dict[str, Any]]:
    """Return all gaps, those first that are open."""
    from forebay.app.reader import Data
    from forebay.cli.sql import rows

    with Data(data) as opened:
        table = opened.gaps()
    found = [dict(zip(table.column_names, row, strict=True)) for row in rows(table)]
    for name in ("from_ts", "to_ts", "opened_ts", "closed_ts", "accepted_by", "accepted_reason"):
        for gap in found:
            gap.setdefault(name, None)  # a database that nobody can add to
    return sorted(found, key=lambda gap: ORDER.index(gap["state"]))


def _readable(gap: dict[str, Any]) -> dict[str, Any]:
    """Return a gap whose ends are as people write them: times as ISO 8601."""
    from forebay.times import to_text

    if gap["unit"] != "time":
        return gap
    return gap | {end: to_text(gap[end], exact=True) for end in ("first", "last")}


Symbol = Annotated[str, typer.Argument(help="Symbol of the gap's stream.")]
Inside = Annotated[str, typer.Argument(help="An id, a number or a time inside the gap.")]
Venue = Annotated[str | None, typer.Option(help="Venue, if there are several gaps.")]
Market = Annotated[str | None, typer.Option(help="Market type, likewise.")]
Kind = Annotated[str | None, typer.Option(help="Kind of event, likewise.")]
Epoch = Annotated[str | None, typer.Option(help="Connection, likewise.")]


@app.command()
def explain(
    symbol: Symbol,
    inside: Inside,
    *,
    venue: Venue = None,
    market: Market = None,
    channel: Kind = None,
    epoch: Epoch = None,
    data: DataOption = DEFAULT_DATA,
    as_json: JsonOption = False,
) -> None:
    """Say what is known about a gap: why, between which events, and what became of it.

    Example: forebay gaps explain BTC-USD 70001234 --data DIR
    """
    with explained():
        gap = _the_one(_gaps(data), _named(symbol, venue, market, channel, epoch), inside)
        beside = _beside(data, gap)
        count = _count(gap)
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
        _say(f"{' '.join(filter(None, parts))}: {size}, {shown['first']} to {shown['last']}")
        _say(f"{gap['state']}, {gap['reason']}: {meaning} {filling}")
        if gap["state"] == "accepted":
            _say(f"accepted by {gap['accepted_by']}: {gap['accepted_reason']}")
        for event in beside:
            number = "" if event["venue_seq"] is None else f" {event['venue_seq']}"
            happened, received = event["event_ts"], event["received_ts"]
            _say(f"neighbour{number} at {happened}, received {received}")


def _named(
    symbol: str, venue: str | None, market: str | None, channel: str | None, epoch: str | None
) -> dict[str, str | None]:
    return {
        "symbol": symbol,
        "venue": venue,
        "market": market,
        "channel": channel,
        "epoch": epoch,
    }


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
    from forebay.times import to_ns

    if inside.isdecimal():
        return int(inside)
    return to_ns(inside) if gap["unit"] == "time" else None


def _beside(data: Path, gap: dict[str, Any]) -> list[dict[str, object]]:
    """Return the events on both sides of a gap; none of a kind that is not known."""
    from forebay.app.reader import Data
    from forebay.cli.sql import rows
    from forebay.domain.coverage import Gap
    from forebay.domain.kinds import KINDS

    if gap["channel"] not in KINDS:
        return []
    with Data(data) as opened:
        table = opened.beside(Gap(**{each.name: gap[each.name] for each in fields(Gap)}))
    return [dict(zip(table.column_names, row, strict=True)) for row in rows(table)]


def _filling(data: Path, gap: dict[str, Any]) -> str:
    """Say whether an open gap can be filled; nothing of others."""
    from forebay.app.wiring.data_folder import DataFolder
    from forebay.app.wiring.venues import install, parsers
    from forebay.domain.channels import declared_of
    from forebay.domain.coverage.gaps import FAR_BEHIND

    install(DataFolder(data))
    parser = parsers().get(gap["venue"])
    channel = declared_of(parser.channels, gap["channel"]) if parser else None
    if gap["state"] != "open":
        return ""
    if gap["reason"] == FAR_BEHIND:
        return "History always has older ids, so it is not asked."
    if channel is not None and channel.history and channel.unit == gap["unit"]:
        asked = "The venue's history is asked for it."
        if looks := gap.get("looks"):
            enough = len(channel.believed_after_s) + 1
            asked += f" It left it out {looks} of {enough} times, last at {gap['looked_ts']}."
        return asked
    return "The venue has no history to fill it from, so it stays open."


@app.command()
def fill(
    *,
    data: DataFlag = None,
    config: ConfigOption = None,
    rest_url: Annotated[str | None, typer.Option(help="Another REST address.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Fill open and permanent gaps from the venues' history now, without a running capture.

    A running capture fills its open gaps by itself.

    Example: forebay gaps fill --data DIR
    """
    with explained():
        from forebay.app.offline.offline_backfill import fill_gaps
        from forebay.app.wiring import logs
        from forebay.app.wiring.config import load
        from forebay.app.wiring.data_folder import DataFolder

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


app.command()(check)


@app.command()
def accept(
    symbol: Symbol,
    inside: Inside,
    last: Annotated[
        str | None, typer.Argument(help="To accept all gaps from the first id to this one.")
    ] = None,
    *,
    reason: Annotated[str, typer.Option(help="Why it stays missing.")],
    by: Annotated[str, typer.Option(help="Who says so; the name you are logged in by.")] = "",
    venue: Venue = None,
    market: Market = None,
    channel: Kind = None,
    epoch: Epoch = None,
    data: DataFlag = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a hopeless gap: it stays on record as missing, with a name and a reason.

    What is accepted is not asked for any more, does not make an audit fail, and counts as filled
    if it comes all the same.

    Example: forebay gaps accept BTC-USD 70001234 --reason "never listed" --data DIR
    """
    with explained():
        from forebay.app.offline.accepting import accept, acceptance
        from forebay.app.wiring import logs
        from forebay.app.wiring.config import load
        from forebay.app.wiring.data_folder import DataFolder

        if not reason.split():
            raise ConfigError("A gap is accepted for a reason.", hint='Say it with --reason "…".')
        settings, _ = load(config, {"data": str(data) if data else None})
        folder = DataFolder(Path(settings.data)).existing()
        logs.configure("warning", process="accept")
        named = _named(symbol, venue, market, channel, epoch)
        gaps = _meant(_gaps(folder.root), named, inside, last)
        told = [
            (gap["venue"], acceptance(gap, by or _login(), reason))
            for gap in gaps
            if gap["state"] in ("open", "permanent")
        ]
        if told:
            asyncio.run(accept(folder, settings, told, logs.observer()))
            gaps = _meant(_gaps(folder.root), named, inside, last)
        if as_json:
            print_json(gaps)
        else:
            for gap in gaps:
                _say(*_lines(gap))


def _meant(
    gaps: list[dict[str, Any]], named: dict[str, str | None], inside: str, last: str | None
) -> list[dict[str, Any]]:
    """Return the gaps that are to be accepted; raises :class:`~forebay.errors.ConfigError`."""
    if last is None:
        return [_the_one(gaps, named, inside)]
    found = []
    for gap in gaps:
        ends = _position(gap, inside), _position(gap, last)
        fits = all(text in (None, gap[name]) for name, text in named.items())
        if fits and None not in ends and gap["first"] <= ends[1] and ends[0] <= gap["last"]:
            whole = gap["reason"].startswith("far_")  # that is of one id, at its end
            first = gap["first"] if whole else max(gap["first"], ends[0])
            end = gap["last"] if whole else min(gap["last"], ends[1])
            found.append({**gap, "first": first, "last": end})
    if not found:
        message = f"{named['symbol']} has no gap from {inside} to {last}."
        raise ConfigError(message, hint="See `forebay gaps list`.")
    return found


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
