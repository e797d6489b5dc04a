"""``forebay backfill``."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forebay.cli.output import (
    ConfigOption,
    JsonOption,
    err,
    explained,
    out,
    print_json,
    progress,
)
from forebay.cli.settings import EXAMPLE_VENUE, DataFlag
from forebay.clock import SystemClock
from forebay.errors import Unreachable
from forebay.text import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from forebay.app.offline.download_plan import WantedBars
    from forebay.app.wiring.config import Config
    from forebay.app.wiring.data_folder import DataFolder
    from forebay.services.downloader import Progress

    Telling = Callable[[int, int, int], None]
    """Is told pages answered, pages in all, and bars stored."""

NICENESS = 10
"""Whatever else runs on this machine comes first."""
LINE_S = 10.0
"""How often a line tells of the progress where there is no terminal."""
Names = Annotated[list[str], typer.Option("--symbol", help="Symbol; repeat it for more.")]
Frames = Annotated[
    list[str], typer.Option("--timeframe", help="Time frame, such as 1m; repeat it for more.")
]


def backfill(
    *,
    venue: Annotated[str, typer.Option(help=f"Venue: {EXAMPLE_VENUE}.")],
    symbol: Names,
    timeframe: Frames,
    since: Annotated[str, typer.Option("--from", help="When the first bar opens, ISO 8601.")],
    until: Annotated[str, typer.Option("--to", help="Its end, not included; else now.")] = "",
    market: Annotated[str, typer.Option(help="Market type, if not the venue's first.")] = "",
    at_once: Annotated[int, typer.Option(min=1, max=32, help="Pages asked for together.")] = 4,
    rest_url: Annotated[str, typer.Option(help="Another REST address.")] = "",
    data: DataFlag = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Download bars from a venue's history: what is there already is not asked for again.

    It may be stopped or killed at any moment; the same command goes on from there. Exit code 1 says
    that not everything was answered.

    Example: forebay backfill --venue coinbase --symbol BTC-USD --timeframe 1m --from 2026-01-01
    """
    with explained():
        from forebay.app.offline.download_plan import WantedBars
        from forebay.app.wiring import logs, venues
        from forebay.app.wiring.config import load
        from forebay.app.wiring.data_folder import DataFolder

        settings, _ = load(config, {"data": str(data) if data else None})
        folder = DataFolder(Path(settings.data))
        folder.look()
        logs.configure("error" if err.is_terminal else "warning", process="backfill")
        venues.install(folder, settings.venues)
        os.nice(NICENESS)
        wanted = WantedBars(
            venue, tuple(symbol), tuple(timeframe), since, until, market, rest_url, at_once
        )
        with telling() as tell:
            document = asyncio.run(downloaded(folder, settings, wanted, tell))
        if as_json:
            print_json(document)
        else:
            for line in lines_of(document):
                out.print(line)
        if not document["complete"]:
            raise typer.Exit(1)


async def downloaded(
    folder: DataFolder, settings: Config, wanted: WantedBars, tell: Telling = lambda *_: None
) -> dict[str, Any]:
    """Download, or have the capture that has the folder do it; return what came of it."""
    from forebay.app.offline.download import download
    from forebay.app.processes.downloads import by_capture
    from forebay.app.wiring import logs

    def told(now: Sequence[Progress], stored: int) -> None:
        tell(sum(each.answered for each in now), sum(each.pages for each in now), stored)

    try:
        return (await download(folder, settings, wanted, logs.observer(), told)).document()
    except Unreachable:
        if not folder.in_use():
            raise
        return await by_capture(folder, wanted, SystemClock(), tell)


@contextlib.contextmanager
def telling() -> Iterator[Telling]:
    """Show how far downloads are: a bar on a terminal, a line now and then elsewhere."""
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

    words = TextColumn("{task.description}", markup=False)
    columns = (words, BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    clock = SystemClock()
    began_ns = said_ns = clock.monotonic_ns()
    with progress(*columns) as bars:
        task = bars.add_task("", total=None)

        def tell(done: int, pages: int, stored: int) -> None:
            nonlocal said_ns
            passed_ns = clock.monotonic_ns() - began_ns
            rate = stored / (passed_ns / 1e9) if passed_ns else 0.0
            text = f"{done:,} of {counted(pages, 'page')}, {counted(stored, 'bar')}, {rate:,.0f}/s"
            bars.update(task, description=text, total=pages, completed=done)
            if not err.is_terminal and clock.monotonic_ns() - said_ns > LINE_S * 1e9:
                left_s = passed_ns / 1e9 * (pages - done) / done if done else 0.0
                said_ns = clock.monotonic_ns()
                err.print(f"{text}, about {left_s:,.0f} s left")

        yield tell


def lines_of(document: dict[str, Any]) -> Iterator[str]:
    """Return what is said of a download to people."""
    for each in document["downloads"]:
        named = f"{each['venue']} {each['symbol']} {each['timeframe']}"
        text = f"{named}, {each['from']} to {each['to']}: "
        if each["refused"]:
            text += f"refused: {each['refused']}"
        elif each["answered"] < each["pages"]:
            text += f"{each['answered']} of {counted(each['pages'], 'page')}: {each['problem']}"
        else:
            text += f"complete, {counted(each['pages'], 'page')} asked for"
        yield text
        if empty := each["empty"]:
            first = f"{empty[0]['from']} to {empty[0]['to']}"
            more = f" and {len(empty) - 1} more" if len(empty) > 1 else ""
            yield f"  the source has nothing from {first}{more}"
    new = f"{counted(document['stored'], 'new bar')} stored"
    letters = document["dead_letters"]
    yield new + (f", {counted(letters, 'dead letter')}: see `forebay dlq list`" if letters else "")
