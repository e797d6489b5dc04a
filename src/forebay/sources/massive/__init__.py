"""Massive, formerly Polygon: forex and crypto by websocket, history by REST."""

from __future__ import annotations

from forebay.domain.calendars.grid import STEPS
from forebay.sources.history import Series, by_bars, by_token
from forebay.sources.massive.connector import (
    ADJUSTED,
    MOST_ROWS,
    MassiveSession,
    bars_path,
    next_page,
    sign,
    ticks_path,
    wait,
)
from forebay.sources.massive.instruments import next_tickers, parse_tickers, tickers_path
from forebay.sources.massive.pages import bar_times
from forebay.sources.massive.protocol import TRADED, MassiveParser
from forebay.sources.venue import Limits, Listing, Venue, per_second

_LAG_S = 900.0
"""A bar is told anew for about a quarter of an hour, and may be minutes late."""
_SERIES = {
    f"{timeframe},{ADJUSTED}" if adjusted else timeframe: Series(
        step_s,
        # A page's limit counts bars of a second, a minute or a day.
        MOST_ROWS * max(base_s for base_s in (1, 60, 86_400) if base_s <= step_s),
        lag_s=_LAG_S,
        adjusted=adjusted,
    )
    for adjusted in (False, True)
    for timeframe, step_s in STEPS.items()
}

VENUE = Venue(
    name="massive",
    title="Massive (formerly Polygon)",
    parser=MassiveParser(),
    session=MassiveSession,
    markets=tuple(TRADED),
    market_channels=TRADED,
    ws_url="wss://socket.massive.com/{market}",
    spelling="[A-Z0-9]{1,20}-[A-Z0-9]{1,20}",
    rest_url="https://api.massive.com",
    default_channels=("trade", "quote", "bar"),
    history={
        "bar": by_bars(series=_SERIES, path=bars_path, bars=bar_times, following=next_page),
        "quote": by_token(path=ticks_path, token=next_page),
        "trade": by_token(path=ticks_path, token=next_page),
    },
    listing=Listing(tickers_path, parse_tickers, next_tickers),
    sign=sign,
    limits=Limits(rest=(per_second(50, burst=50),), symbols_per_connection=10_000, wait=wait),
    stale_s=60.0,
    cannot_see=(
        "no message has a number, so that one which was left out while a connection was heard is "
        "seen only against REST"
    ),
    not_captured=("XL2",),
)
