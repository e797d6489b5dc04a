"""``forebay symbols``."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from typing import TYPE_CHECKING, Annotated

import typer

from forebay.cli.output import JsonOption, explained, print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebay.ports import Instrument


def symbols(
    *,
    venue: Annotated[str, typer.Option(help="Venue: coinbase.")],
    rest_url: Annotated[str, typer.Option(help="Another REST address.")] = "",
    as_json: JsonOption = False,
) -> None:
    """List what can be captured at a venue.

    Example: forebay symbols --venue coinbase --json
    """
    with explained():
        found = asyncio.run(_instruments(venue, rest_url))
        if as_json:
            print_json([dataclasses.asdict(instrument) for instrument in found])
        else:
            names = [field.name for field in dataclasses.fields(found[0])] if found else ["symbol"]
            print_table(f"{venue}: {len(found)} symbols", names, map(dataclasses.astuple, found))


async def _instruments(venue: str, rest_url: str) -> Sequence[Instrument]:
    from forebay.app import venues
    from forebay.app.config import VenueConfig
    from forebay.clock import SystemClock
    from forebay.telemetry import ignore

    venues.check_venue(venue)
    config = VenueConfig(name=venue, symbols=("BTC-USD",), rest_url=rest_url)
    venues.check_addresses(config)
    rng = random.Random()
    wiring = venues.Wiring("symbols", SystemClock(), rng, ignore)
    async with venues.source(config, wiring) as source:
        return await source.instruments()
