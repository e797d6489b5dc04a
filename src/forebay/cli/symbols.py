"""``forebay symbols``."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from forebay.cli.output import ConfigOption, JsonOption, print_json, print_table, progress
from forebay.cli.settings import EXAMPLE_VENUE
from forebay.errors import ConfigError
from forebay.text import counted

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from forebay.ports import Instrument


def symbols(
    *,
    venue: Annotated[str, typer.Option(help=f"Venue: {EXAMPLE_VENUE}.")],
    status: Annotated[
        str, typer.Option(help="Only those of a status, in the venue's words: open.")
    ] = "",
    match: Annotated[
        str, typer.Option(help="Only those that a pattern stands for: KXGOLD15M-*.")
    ] = "",
    rest_url: Annotated[str, typer.Option(help="Another REST address.")] = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List what can be captured at a venue.

    Example: forebay symbols --venue coinbase --json

    Example: forebay symbols --venue kalshi --status open --match 'KXGOLD15M-*'
    """
    found = asyncio.run(_instruments(venue, status, match, rest_url, config))
    if as_json:
        print_json([dataclasses.asdict(instrument) for instrument in found])
    else:
        names = [field.name for field in dataclasses.fields(found[0])] if found else ["symbol"]
        title = f"{venue}: {counted(len(found), 'symbol')}"
        print_table(title, names, map(dataclasses.astuple, found))


async def _instruments(
    venue: str, status: str, match: str, rest_url: str, file: Path | None
) -> Sequence[Instrument]:
    from forebay.app.wiring import venues
    from forebay.app.wiring.config import VenueConfig, load
    from forebay.clock import SystemClock
    from forebay.domain.listing import head_of, matcher
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
    with progress("{task.description}") as display:
        task = display.add_task(f"{venue}: asking", total=None)

        def told(count: int) -> None:
            display.update(task, description=f"{venue}: {counted(count, 'symbol')}")

        async with venues.source(config, wiring) as source:
            found = await source.instruments(status, head_of(match), told)
    listing = venues.VENUES[venue].listing
    askable = {} if listing is None else listing.statuses
    if status and status not in askable:
        found = _of_status(found, status, askable)
    matches = matcher(match or "*")
    return [each for each in found if matches(each.symbol)]


def _of_status(
    found: Sequence[Instrument], status: str, askable: Collection[str]
) -> list[Instrument]:
    """Return those of a status that the venue cannot be asked for.

    Raises :class:`~forebay.errors.ConfigError` if none has it.
    """
    there = dict.fromkeys([*askable, *sorted({each.status for each in found} - {""})])
    if status not in there:
        message = f"No symbol has the status {status!r}."
        raise ConfigError(message, hint=f"There is: {', '.join(there) or 'none'}.")
    return [each for each in found if each.status == status]
