"""Coinbase Exchange: its feed by websocket, history and candles by REST."""

from __future__ import annotations

from forebay.sources.coinbase.connector import (
    CANDLE_ROWS,
    MINUTE_S,
    TRADE_ROWS,
    CoinbaseSession,
    bar_times,
    bars_path,
    latest_candles_path,
    probe_path,
    trade_ids,
    trades_path,
)
from forebay.sources.coinbase.instruments import parse_products
from forebay.sources.coinbase.protocol import PERIODS_S, UNBUILT, CoinbaseParser
from forebay.sources.history import Series, by_bars, by_id
from forebay.sources.venue import Limits, Listing, Poll, Venue, per_second

VENUE = Venue(
    name="coinbase",
    title="Coinbase Exchange",
    parser=CoinbaseParser(),
    session=CoinbaseSession,
    ws_url="wss://ws-feed.exchange.coinbase.com",
    spelling="[A-Z0-9]{1,20}-[A-Z0-9]{1,20}",
    rest_url="https://api.exchange.coinbase.com",
    default_channels=("trade",),
    history={
        "trade": by_id(path=trades_path, ids=trade_ids, rows=TRADE_ROWS),
        "bar": by_bars(
            series={name: Series(step, CANDLE_ROWS * step) for name, step in PERIODS_S.items()},
            path=bars_path,
            bars=bar_times,
        ),
    },
    polls={"bar": Poll(latest_candles_path, every_s=MINUTE_S, after_s=4.0)},
    listing=Listing("/products", parse_products),
    probe=probe_path,
    limits=Limits(  # "Rate limits": of an address, by REST and by websocket
        rest=(per_second(10, burst=15),), connects=(per_second(8, burst=20),)
    ),
    stale_s=10.0,  # heartbeats come each second
    cannot_see="a level of the book that changed twice within 50 ms is told once",
    not_captured=UNBUILT,
)
