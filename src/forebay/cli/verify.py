"""``forebay verify``."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forebay.cli.backfill import downloaded
from forebay.cli.output import (
    ConfigOption,
    JsonOption,
    explained,
    out,
    print_json,
    print_table,
    progress,
)
from forebay.cli.settings import EXAMPLE_VENUE, DataFlag
from forebay.errors import ConfigError, ForebayError
from forebay.text import counted

if TYPE_CHECKING:
    from forebay.app.offline.download_plan import WantedBars
    from forebay.app.offline.verifying import Verified
    from forebay.app.wiring.config import Config
    from forebay.app.wiring.data_folder import DataFolder
    from forebay.services.readback import Findings
    from forebay.telemetry import Observer
    from forebay.transports.kind import TransportConfig

SHOWN = 5
"""Examples of a problem."""


@dataclass(frozen=True, slots=True)
class BarFlags:
    """Flags that say which bars are compared with a venue's history."""

    venue: Annotated[str, typer.Option(help=f"Venue: {EXAMPLE_VENUE}.")] = ""
    timeframe: Annotated[
        list[str] | None, typer.Option(help="Time frame, such as 1m; repeat it.")
    ] = None
    since: Annotated[str, typer.Option("--from", help="When the first one opens, ISO 8601.")] = ""
    until: Annotated[str, typer.Option("--to", help="Its end, not included; else now.")] = ""
    symbol: Annotated[
        list[str] | None, typer.Option(help="Symbol; repeat it. Else all that are stored.")
    ] = None
    market: Annotated[str, typer.Option(help="Market type, if not the venue's first.")] = ""
    rest_url: Annotated[str, typer.Option(help="Another REST address.")] = ""


def verify(
    *,
    bars: BarFlags = BarFlags(),
    transport: Annotated[
        list[str] | None,
        typer.Option(help="Transport to read back; repeat it. Without --venue: all of them."),
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Mend what lacks or differs, and look again.")
    ] = False,
    expired: Annotated[
        bool,
        typer.Option("--expired", help="A transport lacks what it deleted by age, too."),
    ] = False,
    data: DataFlag = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare what a venue's history has with what is stored, by day: counts and digests.

    With --repair, what lacks or differs is downloaded. Without --venue, what transports hold is
    compared with what was published to them, and --repair publishes what they lack; with both,
    --repair mends the transports of the configuration, too. A capture that runs does that itself,
    between its own steps. With --expired, what a transport has deleted because of its age is
    lacking, too, as far as the journal has it: for a reader who was away for longer than that.

    Exit code 1 says that they differ; with --repair, that they still do. A transport that does not
    answer is exit code 3.

    Example: forebay verify --venue coinbase --timeframe 1m --from 2026-01-01 --to 2026-02-01

    Example: forebay verify --transport kafka --repair
    """
    with explained():
        from forebay.app.offline.download_plan import WantedBars
        from forebay.app.wiring import logs, venues
        from forebay.app.wiring.config import load
        from forebay.app.wiring.data_folder import DataFolder

        settings, _ = load(config, {"data": str(data) if data else None})
        folder = DataFolder(Path(settings.data)).existing()
        logs.configure("warning", process="verify")
        venues.install(folder, settings.venues)
        document: dict[str, Any] = {"same": True}
        if bars.venue:
            _require_all(bars)
            flags = bars.venue, tuple(bars.symbol or ()), tuple(bars.timeframe or ()), bars.since
            wanted = WantedBars(*flags, bars.until, bars.market, bars.rest_url)
            found = asyncio.run(_verified(folder, settings, wanted, repair=repair))
            document["same"] = all(each.same for each in found)
            document["streams"] = [each.document() for each in found]
        if transport or repair or not bars.venue:
            how = {"repair": repair, "expired": expired}
            _transports(folder, settings, transport or [], document, bars=bars, **how)
        if as_json:
            print_json(document)
        else:
            _show(document.get("streams", []))
            _show_transports(document.get("transports", []))
        if not document["same"]:
            raise typer.Exit(1)


def _require_all(bars: BarFlags) -> None:
    for flag, said in (("--timeframe", bars.timeframe), ("--from", bars.since)):
        if not said:
            message = f"--venue was given without {flag}."
            raise ConfigError(message, hint="Add for instance --timeframe 1m --from 2026-01-01.")


def _transports(
    folder: DataFolder,
    settings: Config,
    names: list[str],
    document: dict[str, Any],
    *,
    repair: bool,
    expired: bool,
    bars: BarFlags,
) -> None:
    """Add to the document what transports hold, after they were mended if they are to be."""
    from forebay.app.offline.reading_back import chosen
    from forebay.app.wiring import logs
    from forebay.app.wiring.transports import name_of

    wanted = chosen(settings, names)
    if not wanted and not bars.venue:
        message = "There is nothing to verify: no --venue, and no transport in the configuration."
        raise ConfigError(message, hint="Say --venue, or add a [[transports]] table.")
    for said in wanted:
        try:
            account = _read_back(folder, said, logs.observer(), repair=repair, expired=expired)
        except ForebayError as error:
            if names or not bars.venue:
                raise
            account = {"name": name_of(said), "looked_at": False, "error": error.message}
        document.setdefault("transports", []).append(account)
        document["same"] = document["same"] and account.get("same", True)


def _read_back(
    folder: DataFolder, said: TransportConfig, observer: Observer, *, repair: bool, expired: bool
) -> dict[str, Any]:
    from forebay.app.offline import reading_back
    from forebay.app.wiring.transports import name_of

    def look() -> Findings:
        with progress() as shown:
            task = shown.add_task(f"reading {name_of(said)} back", total=None)
            return reading_back.look(
                *(folder, said, observer),
                expired=expired,
                progress=lambda done, total: shown.update(task, completed=done, total=total),
            )

    found, published = look(), 0
    if repair and not found.ok:
        published = reading_back.republish(folder, said, observer, expired=expired)
        found = look()
    return reading_back.document(found) | {"published": published}


async def _verified(
    folder: DataFolder, settings: Config, wanted: WantedBars, *, repair: bool
) -> list[Verified]:
    from forebay.app.offline import verifying
    from forebay.app.reader import Data
    from forebay.app.wiring import logs

    async def look() -> list[Verified]:
        with progress() as shown:
            task = shown.add_task("comparing", total=None)
            return await verifying.verify_bars(
                Data(folder.root),
                settings,
                wanted,
                logs.observer(),
                lambda done, pages: shown.update(task, completed=done, total=pages),
            )

    async def download(part: WantedBars) -> dict[str, Any]:
        return await downloaded(folder, settings, part)

    found = await look()
    if repair and await verifying.repair(found, wanted, download):
        found = await look()
    return found


def _show(documents: list[dict[str, Any]]) -> None:
    names = ("missing", "differing", "extra")
    rows = [
        (
            *(each["symbol"], each["timeframe"], day["day"]),
            *(day["source"]["count"], day["stored"]["count"]),
            *(day[name]["count"] for name in names),
        )
        for each in documents
        for day in each["days"]
        if not day["same"]
    ]
    if rows:
        print_table("", ("symbol", "timeframe", "day", "source", "stored", *names), rows)
    for each in documents:
        days = counted(len(each["days"]), "day")
        count = sum(day["stored"]["count"] for day in each["days"])
        what = "as the source has it" if each["same"] else "not as the source has it"
        refused = f"; {each['refused']} rows of the source are none" if each["refused"] else ""
        out.print(f"{each['symbol']} {each['timeframe']}: {days}, {count:,} bars, {what}{refused}")


def _show_transports(documents: list[dict[str, Any]]) -> None:
    for each in documents:
        if not each["looked_at"]:
            out.print(f"{each['name']}: not looked at: {each['error']}")
            continue
        for problem in each["problems"]:
            out.print(f"{problem['text']} {', '.join(problem['examples'][:SHOWN])}".rstrip())
        what = "as it was published" if each["same"] else "not as it was published"
        mended = f"; {each['published']:,} published now" if each["published"] else ""
        lanes = counted(len(each["lanes"]), "lane")
        out.print(f"{each['name']}: {lanes}, {each['events']:,} events, {what}{mended}")
