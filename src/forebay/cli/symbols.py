"""``forebay symbols``."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from forebay.cli.output import ConfigOption, JsonOption, print_json, print_table
from forebay.cli.settings import EXAMPLE_VENUE
from forebay.text import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebay.ports import Instrument


def symbols(
    *,
    venue: Annotated[str, typer.Option(help=f"Venue: {EXAMPLE_VENUE}.")],
    rest_url: Annotated[str, typer.Option(help="Another REST address.")] = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List what can be captured at a venue.

    Example: forebay symbols --venue coinbase --json
    """
    found = asyncio.run(_instruments(venue, rest_url, config))
    if as_json:
        print_json([dataclasses.asdict(instrument) for instrument in found])
    else:
        names = [field.name for field in dataclasses.fields(found[0])] if found else ["symbol"]
        title = f"{venue}: {counted(len(found), 'symbol')}"
        print_table(title, names, map(dataclasses.astuple, found))


async def _instruments(venue: str, rest_url: str, file: Path | None) -> Sequence[Instrument]:
    from forebay.app.wiring import venues
    from forebay.app.wiring.config import VenueConfig, load
    from forebay.clock import SystemClock
    from forebay.sources.live import Wiring

    settings, _ = load(file, {})
    venues.install(None, settings.venues)
    venues.check_venue(venue)
    known = {configured.name: configured for configured in settings.venues}
    config = known.get(venue, VenueConfig(name=venue, symbols=("any",)))
    if rest_url:
        config = msgspec.structs.replace(config, rest_url=rest_url)
    venues.check_addresses(config)
    wiring = Wiring("symbols", SystemClock(), random.Random())
    async with venues.source(config, wiring) as source:
        return await source.instruments()
