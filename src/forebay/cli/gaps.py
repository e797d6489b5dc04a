"""``forebay gaps``: holes in coverage, declared, filled or on record for good."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import asdict, dataclass, fields
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
    out,
    print_json,
)
from forebay.cli.settings import DataFlag, offline_job, reading, whoever
from forebay.errors import ConfigError
from forebay.text import counted
from forebay.visible import visible

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


ALL_TOGETHER = (
    "The venue numbers what it sends over a connection, whatever symbol it is of, and gives no "
    "message again by its number. What may have been lost are the gaps in time, in_connection, of "
    "the streams that the connection carried."
)
"""What a gap of every symbol together is."""


GapState = StrEnum("GapState", "all open permanent accepted filled")
"""What became of a gap."""
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
        out.print(visible(line))


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
    from forebay.cli.sql import records

    found = records(reading(data).gaps())
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


@dataclass(frozen=True, slots=True)
class GapFlags:
    """What tells apart gaps of one symbol at one place."""

    venue: Annotated[str | None, typer.Option(help="Venue, if there are several gaps.")] = None
    market: Annotated[str | None, typer.Option(help="Market type, likewise.")] = None
    channel: Annotated[str | None, typer.Option(help="Kind of event, likewise.")] = None
    epoch: Annotated[str | None, typer.Option(help="Connection, likewise.")] = None


@app.command()
def explain(
    symbol: Symbol,
    inside: Inside,
    *,
    among: GapFlags,
    data: DataOption = DEFAULT_DATA,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what is known about a gap: why, between which events, and what became of it.

    Of bars it says, too, which alternative sources of the configuration have some of that time.

    Example: forebay gaps explain BTC-USD 70001234 --data DIR
    """
    (gap,) = _meant(_gaps(data), symbol, among, inside)
    beside = _beside(data, gap)
    count = _count(gap)
    meaning = REASONS.get(gap["reason"], "")
    filling, elsewhere = _filling(data, gap), _elsewhere(data, config, gap)
    if as_json:
        more = {"meaning": meaning, "filling": filling, "neighbours": beside}
        ids = {"ids": count} if gap["unit"] == "id" else {}
        others = {"elsewhere": elsewhere} if elsewhere else {}
        print_json({**gap, "count": count, **ids, **more, **others})
        return
    shown = _readable(gap)
    parts = [gap["venue"], gap["market"], gap["channel"], gap["symbol"], gap["epoch"]]
    size = f"{count:,} {COUNTED.get(gap['unit'], gap['unit'])}"
    _say(f"{' '.join(filter(None, parts))}: {size}, {shown['first']} to {shown['last']}")
    _say(f"{gap['state']}, {gap['reason']}: {meaning} {filling}")
    for source, events in elsewhere.items():
        _say(f"{source} has {counted(events, 'event')} of that time, stored as its own")
    if gap["state"] == "accepted":
        _say(f"accepted by {gap['accepted_by']}: {gap['accepted_reason']}")
    for event in beside:
        number = "" if event["venue_seq"] is None else f" {event['venue_seq']}"
        happened, received = event["event_ts"], event["received_ts"]
        _say(f"neighbour{number} at {happened}, received {received}")


def _position(gap: dict[str, Any], inside: str) -> int | None:
    """Return ``inside`` in the gap's unit, None if it is a time and the gap is in no such unit."""
    from forebay.times import to_ns

    if inside.isdecimal():
        return int(inside)
    return to_ns(inside) if gap["unit"] == "time" else None


def _beside(data: Path, gap: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the events on both sides of a gap; none of a kind that is not known."""
    from forebay.cli.sql import records
    from forebay.domain.coverage import Gap
    from forebay.domain.kinds import KINDS

    if gap["channel"] not in KINDS:
        return []
    wanted = Gap(**{each.name: gap[each.name] for each in fields(Gap)})
    return records(reading(data).beside(wanted))


def _elsewhere(data: Path, config: Path | None, gap: dict[str, Any]) -> dict[str, int]:
    """Return how many events of a gap's time each alternative source has."""
    from forebay.app.checked_bars import held_elsewhere
    from forebay.app.wiring.config import load
    from forebay.domain.channels import SERIES
    from forebay.domain.coverage import Gap

    if SERIES not in gap["channel"]:
        return {}
    settings, _ = load(config, {"data": str(data)})
    hole = Gap(**{each.name: gap[each.name] for each in fields(Gap)})
    return held_elsewhere(reading(data).sql, settings, hole)


def _filling(data: Path, gap: dict[str, Any]) -> str:
    """Say whether an open gap can be filled, or where to look instead; nothing of others."""
    from forebay.app.wiring.data_folder import DataFolder
    from forebay.app.wiring.venues import install, parsers
    from forebay.domain.channels import declared_of
    from forebay.domain.coverage.gaps import FAR_BEHIND
    from forebay.domain.frames import EVERY_SYMBOL

    install(DataFolder(data))
    if gap["symbol"] == EVERY_SYMBOL:
        return ALL_TOGETHER
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
    from forebay.app.offline.gaps import fill_gaps

    settings, folder, observer = offline_job("fill", config, data)
    counts = asyncio.run(fill_gaps(folder.existing(), settings, observer, rest_url=rest_url))
    if as_json:
        print_json(counts)
    else:
        err.print(", ".join(f"{count} {state}" for state, count in counts.items()))
    if counts["open"]:
        raise typer.Exit(1)


@app.command()
def check(
    *, data: DataFlag = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Compare stored bars with those that calendars expect, without a running capture.

    What is missing is an open gap from then on. A running capture does this every hour, and after
    each outage. Exit code 1 says that something is missing.

    Example: forebay gaps check --data DIR
    """
    from forebay.app.offline.gaps import check_bars

    settings, folder, observer = offline_job("check", config, data)
    checked = asyncio.run(check_bars(folder.existing(), settings, observer))
    documents = [series.document() for series in checked]
    if as_json:
        print_json(documents)
    else:
        for each in documents:
            named = f"{each['venue']} {each['market']} {each['symbol']} {each['channel']}"
            _say(f"{named}: {each['missing']:,} of {each['expected']:,} missing")
        if not documents:
            _say(f"No series in {folder.root} that a calendar could speak of.")
    if any(each["missing"] for each in documents):
        raise typer.Exit(1)


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
    among: GapFlags,
    data: DataFlag = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a hopeless gap: it stays on record as missing, with a name and a reason.

    What is accepted is not asked for any more, does not make an audit fail, and counts as filled
    if it comes all the same.

    Example: forebay gaps accept BTC-USD 70001234 --reason "never listed" --data DIR
    """
    from forebay.app.offline.gaps import accept, acceptance

    if not reason.split():
        raise ConfigError("A gap is accepted for a reason.", hint='Say it with --reason "…".')
    by = by or whoever()
    settings, folder, observer = offline_job("accept", config, data)
    folder.existing()
    gaps = _meant(_gaps(folder.root), symbol, among, inside, last)
    told = [
        (gap["venue"], acceptance(gap, by, reason))
        for gap in gaps
        if gap["state"] in ("open", "permanent")
    ]
    if told:
        asyncio.run(accept(folder, settings, told, observer))
        gaps = _meant(_gaps(folder.root), symbol, among, inside, last)
    if as_json:
        print_json(gaps)
    else:
        for gap in gaps:
            _say(*_lines(gap))


def _meant(
    gaps: list[dict[str, Any]],
    symbol: str,
    among: GapFlags,
    inside: str,
    last: str | None = None,
) -> list[dict[str, Any]]:
    """Return the one gap at a place, or what all have from there to ``last``.

    Raises :class:`~forebay.errors.ConfigError` if there is none, or it is not clear which.
    """
    wanted = {"symbol": symbol, **asdict(among)}
    found = []
    for gap in gaps:
        ends = _position(gap, inside), _position(gap, inside if last is None else last)
        fits = all(text in (None, gap[name]) for name, text in wanted.items())
        if fits and None not in ends and gap["first"] <= ends[1] and ends[0] <= gap["last"]:
            whole = last is None or gap["reason"].startswith(
                "far_"
            )  # that is of one id, at its end
            first = gap["first"] if whole else max(gap["first"], ends[0])
            end = gap["last"] if whole else min(gap["last"], ends[1])
            found.append({**gap, "first": first, "last": end})
    where = f"at {inside}" if last is None else f"from {inside} to {last}"
    if not found:
        raise ConfigError(f"{symbol} has no gap {where}.", hint="See `forebay gaps list`.")
    if last is None and len(found) > 1:
        differ = [name for name in wanted if len({gap[name] for gap in found}) > 1]
        message = f"{symbol} has {len(found)} gaps {where}."
        raise ConfigError(message, hint=f"Say which with --{' or --'.join(differ)}.")
    return found
