"""The exam's venue, as a plugin: ``plugin = "tests.exam.made:made_native_id"`` and so on.

It uses every part that a venue may have, so that none is ahead of its user.
"""

from __future__ import annotations

from forebay.sources.history import by_id, by_time, by_token
from forebay.sources.venue import Limits, Listing, Poll, Venue, per_minutes, per_second
from tests.exam.made import connector
from tests.exam.made.instruments import parse_symbols
from tests.exam.made.protocol import COLUMNS, EDITIONS, POLLED, Edition, MadeParser


def _venue(edition: Edition) -> Venue:
    history = {
        "": None,
        "id": by_id(path=connector.by_id_path, ids=connector.ids, rows=connector.ROWS, cost=2),
        "time": by_time(
            path=connector.by_time_path,
            count=connector.count,
            rows=connector.ROWS,
            window_s=3600.0,
            step_ns=1000,
        ),
        "token": by_token(path=connector.by_token_path, token=connector.token),
    }[edition.history]
    return Venue(
        name=edition.venue,
        title=f"Made up, {edition.identity} and {edition.unit}",
        parser=MadeParser(edition),
        session=connector.MadeSession,
        depths=(connector.DEPTH,),
        default_channels=(*COLUMNS, POLLED),
        history=dict.fromkeys(COLUMNS, history) if history else {},
        polls={POLLED: Poll(connector.poll_path, every_s=2.0, after_s=0.5, cost=2)},
        listing=Listing("/symbols", parse_symbols),
        sign=connector.sign,
        limits=Limits(
            rest=(per_second(200, burst=50), per_minutes(1, 60_000, of="weight")),
            symbols_per_connection=10,
            wait=connector.banned_for,
        ),
        stale_s=600.0,
    )


VENUES = {edition.venue: _venue(edition) for edition in EDITIONS}


def plugin(edition: Edition) -> str:
    """Return what a configuration says of an edition."""
    return f"{__name__}:{edition.venue.replace('-', '_')}"


def __getattr__(name: str) -> Venue:
    try:
        return VENUES[name.replace("_", "-")]
    except KeyError:
        raise AttributeError(name) from None
