"""``forebay verify``."""

from __future__ import annotations

import asyncio
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
from forebay.text import counted

if TYPE_CHECKING:
    from forebay.app.offline.download_plan import WantedBars
    from forebay.app.offline.verifying import Verified
    from forebay.app.wiring.config import Config
    from forebay.app.wiring.data_folder import DataFolder


def verify(
    *,
    venue: Annotated[str, typer.Option(help=f"Venue: {EXAMPLE_VENUE}.")],
    timeframe: Annotated[list[str], typer.Option(help="Time frame, such as 1m; repeat it.")],
    since: Annotated[str, typer.Option("--from", help="When the first one opens, ISO 8601.")],
    until: Annotated[str, typer.Option("--to", help="Its end, not included; else now.")] = "",
    symbol: Annotated[
        list[str] | None, typer.Option(help="Symbol; repeat it. Else all that are stored.")
    ] = None,
    market: Annotated[str, typer.Option(help="Market type, if not the venue's first.")] = "",
    repair: Annotated[
        bool, typer.Option("--repair", help="Download what lacks or differs, and look again.")
    ] = False,
    rest_url: Annotated[str, typer.Option(help="Another REST address.")] = "",
    data: DataFlag = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare what a venue's history has with what is stored, by day: counts and digests.

    Exit code 1 says that they differ; with --repair, that they still do.

    Example: forebay verify --venue coinbase --timeframe 1m --from 2026-01-01 --to 2026-02-01
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
        symbols, frames = tuple(symbol or ()), tuple(timeframe)
        wanted = WantedBars(venue, symbols, frames, since, until, market, rest_url)
        found = asyncio.run(_verified(folder, settings, wanted, repair=repair))
        same = all(each.same for each in found)
        if as_json:
            documents = [each.document() for each in found]
            print_json({"same": same, "streams": documents})
        else:
            _show([each.document() for each in found])
        if not same:
            raise typer.Exit(1)


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
