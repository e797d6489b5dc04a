"""Kalshi: its markets by websocket, and by REST what was before or is asked for that way."""

from __future__ import annotations

from forebay.sources.history import Series
from forebay.sources.kalshi.connector import KalshiSession, check_credentials, sign
from forebay.sources.kalshi.directory import DIRECTORY
from forebay.sources.kalshi.history import (
    MOST_CANDLES,
    MOST_MARKETS,
    PagedBars,
    PagedTrades,
    bar_times,
    books_path,
    candles_path,
    following_trades,
    latest_candles_path,
    latest_trades_path,
    probe_path,
)
from forebay.sources.kalshi.instruments import (
    STATUSES,
    markets_path,
    next_markets,
    parse_markets,
    series_of,
)
from forebay.sources.kalshi.protocol import (
    BARS,
    BOOK_DELTAS,
    BOOK_SNAPSHOTS,
    MARKET,
    PERIODS_MIN,
    SESSION_OF,
    TICKER,
    TRADES,
    UNBUILT,
    KalshiParser,
)
from forebay.sources.kalshi.recordings import Restarts
from forebay.sources.venue import Limits, Listing, Poll, Venue, per_second

VENUE = Venue(
    name="kalshi",
    title="Kalshi",
    parser=KalshiParser(),
    session=KalshiSession,
    markets=(MARKET,),
    ws_url="wss://external-api-ws.kalshi.com/trade-api/ws/v2",
    rest_url="https://external-api.kalshi.com/trade-api/v2",
    spelling=TICKER,
    default_channels=(TRADES.kind,),
    history={
        TRADES.kind: PagedTrades(),
        BARS.kind: PagedBars(
            series={
                name: Series(
                    minutes * 60, MOST_CANDLES * minutes * 60, session=SESSION_OF.get(name, "UTC")
                )
                for name, minutes in PERIODS_MIN.items()
            },
            path=candles_path,
            bars=bar_times,
        ),
    },
    polls={
        TRADES.kind: Poll(latest_trades_path, 15.0, following=following_trades, optional=True),
        BOOK_SNAPSHOTS.kind: Poll(
            books_path,
            15.0,
            at_once=MOST_MARKETS,
            optional=True,
            instead_of=(BOOK_DELTAS.kind,),
        ),
        BARS.kind: Poll(latest_candles_path, 60.0, 4.0, at_once=MOST_MARKETS),
    },
    listing=Listing(markets_path, parse_markets, next_markets, STATUSES, series_of),
    directory=DIRECTORY,
    probe=probe_path,
    sign=sign,
    check_credentials=check_credentials,
    restarts=Restarts,
    # Of the lowest tier: 200 tokens a second and 10 a call; never more than 20 in any second.
    limits=Limits(
        rest=(per_second(18, burst=2),),
        connects=(per_second(8, burst=5),),
        symbols_per_connection=500,
    ),
    stale_s=30.0,  # the venue pings each 10 s
    cannot_see="tickers have no numbers, so that one which was left out is not missed",
    not_captured=UNBUILT,
)
