"""What a venue lists, page by page."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from forebay.domain.listing import MOST_PAGES
from forebay.errors import Permanent, Stuck, Transient

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from forebay.ports import Instrument
    from forebay.sources.venue import Venue


class ListedPart(NamedTuple):
    """Which part of a list is wanted; the venue may list more than that."""

    market: str
    status: str = ""
    """In the venue's words; empty: any."""
    head: str = ""
    """How symbols begin."""


def ignored(count: int) -> None:
    """Hear of no progress."""
    del count


async def instruments(
    venue: Venue,
    part: ListedPart,
    ask: Callable[[str], Awaitable[bytes]],
    progress: Callable[[int], object] = ignored,
) -> list[Instrument]:
    """Return what a venue lists, at least of ``part``; ``progress`` hears how many as they come.

    Raises :class:`~forebay.errors.Transient` if that cannot be had now.
    """
    listing = venue.listing
    if listing is None:
        raise Permanent(f"{venue.title} does not list its symbols.")
    of = listing.statuses.get(part.status, "") + listing.beginning(part.head)
    found: list[Instrument] = []
    asked, path = set[str](), listing.first(part.market)
    while path:
        if path in asked or len(asked) >= MOST_PAGES:
            what = "names a page twice" if path in asked else f"has more than {MOST_PAGES} pages"
            message = f"The list of symbols of {venue.title} {what}."
            raise Stuck(message, hint="The source is not advancing; try again later.")
        asked.add(path)
        body = await ask(path + of)
        try:
            found += listing.parse(body)
            path = listing.following(body)
        except (ValueError, RecursionError) as error:
            message = f"The list of symbols of {venue.title} cannot be read: {error}."
            raise Transient(message, hint="Check the venue's status page.") from error
        progress(len(found))
    return found
