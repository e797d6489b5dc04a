"""The ticker: the last trade's price, the last 24 hours, and the best bid and ask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from forebay.domain.parsed import RawEvents
from forebay.sources.coinbase.channels import MARKET, QUOTES, TICKERS
from forebay.sources.coinbase.times import apart

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import numpy as np
    import numpy.typing as npt

    from forebay.domain.channels import Channel
    from forebay.domain.parsed import Cells

KINDS = (TICKERS.kind, QUOTES.kind)


class CoinbaseTicker(msgspec.Struct, tag="ticker"):
    """Told with each trade, and when a subscription begins."""

    product_id: str
    price: str | None = None
    trade_id: int | None = None
    """Of the last trade; absent or 0 if the product was never traded."""
    last_size: str | None = None
    best_bid: str | None = None
    best_bid_size: str | None = None
    """The venue has told sizes since 2022."""
    best_ask: str | None = None
    best_ask_size: str | None = None
    open_24h: str | None = None
    high_24h: str | None = None
    low_24h: str | None = None
    volume_24h: str | None = None
    time: str | None = None


def events(
    told: Sequence[tuple[int, CoinbaseTicker]],
    kinds: Collection[str],
    received_ns: npt.NDArray[np.int64],
) -> list[RawEvents]:
    """Return the tickers and the quotes among ``kinds`` that messages tell.

    The ticker is the first event of its frame, the quote the second. A product that was never
    traded has no ticker, and one whose book lacks a side has no quote.
    """
    found = []
    for timed in apart(told, received_ns):
        if TICKERS.kind in kinds:
            traded = [entry for entry in timed if not _never_traded(entry[1])]
            found.append(_events(TICKERS, 0, traded, _ticker_columns(traded)))
        if QUOTES.kind in kinds:
            both = [each for each in timed if _price(each[1].best_bid) and _price(each[1].best_ask)]
            found.append(_events(QUOTES, 1, both, _quote_columns(both)))
    return [part for part in found if len(part)]


def _events(
    channel: Channel,
    item: int,
    told: Sequence[tuple[int, CoinbaseTicker]],
    columns: dict[str, Cells],
) -> RawEvents:
    products = [ticker.product_id for _, ticker in told]
    return RawEvents(
        channel=channel,
        market=MARKET,
        frame=[index for index, _ in told],
        item=[item] * len(told),
        venue_symbol=products,
        symbol=products,
        time=[ticker.time for _, ticker in told] if told and told[0][1].time else None,
        columns=columns,
    )


def _ticker_columns(told: Sequence[tuple[int, CoinbaseTicker]]) -> dict[str, Any]:
    return {
        "price": [ticker.price for _, ticker in told],
        "size": [ticker.last_size for _, ticker in told],
        "bid_size": [ticker.best_bid_size for _, ticker in told],
        "ask_size": [ticker.best_ask_size for _, ticker in told],
        "volume_24h": [ticker.volume_24h for _, ticker in told],
        "bid_price": [_price(ticker.best_bid) for _, ticker in told],
        "ask_price": [_price(ticker.best_ask) for _, ticker in told],
        "open_24h": [_price(ticker.open_24h) for _, ticker in told],
        "high_24h": [_price(ticker.high_24h) for _, ticker in told],
        "low_24h": [_price(ticker.low_24h) for _, ticker in told],
    }


def _quote_columns(told: Sequence[tuple[int, CoinbaseTicker]]) -> dict[str, Any]:
    return {
        "bid_price": [ticker.best_bid for _, ticker in told],
        "bid_size": [ticker.best_bid_size for _, ticker in told],
        "ask_price": [ticker.best_ask for _, ticker in told],
        "ask_size": [ticker.best_ask_size for _, ticker in told],
    }


def _price(text: str | None) -> str | None:
    """Return a price; the venue writes one that does not exist as 0, or as nothing."""
    return text if text and (text[0] != "0" or text.strip("0.")) else None


def _never_traded(ticker: CoinbaseTicker) -> bool:
    return not ticker.trade_id and _price(ticker.price) is None
