"""The market of yes and no in closed form, against a plain fold of what it says happens."""

from __future__ import annotations

from decimal import Decimal

import pytest

from forebay.lab.exchanges.kalshi.truth import (
    GRIDS,
    PERIOD,
    KalshiBook,
    KalshiTickers,
    KalshiTrades,
    complement,
)

TICKERS: dict[str, KalshiTrades] = {}
for _number in range(40):
    _ticker = f"KXA-{_number}"
    _trades = KalshiTrades(3, _ticker, start_ns=10**18, step_us=1_000)
    TICKERS.setdefault(_trades.grid.structure, _trades)


def test_every_grid_is_some_ticker_s() -> None:
    assert {*TICKERS} == {grid.structure for grid in GRIDS}


@pytest.mark.parametrize("trades", TICKERS.values(), ids=[*TICKERS])
def test_a_book_is_the_sum_of_its_changes(trades: KalshiTrades) -> None:
    first = 100
    book = KalshiBook(trades)
    folded = dict(_sides(book, first))
    changed = 0
    for index in range(first + 1, first + 40 * PERIOD):
        delta = book.delta(index)
        if delta is not None:
            changed += 1
            ((side, price, size),) = delta.changes
            held = folded.pop((side, price), Decimal(0)) + Decimal(size)
            assert held >= 0
            assert Decimal(size) != 0
            if held:
                folded[side, price] = held
        if index % 29 == 0:
            assert folded == _sides(book, index)
            bids, asks = book.sides(index)
            assert Decimal(bids[0][0]) < Decimal(asks[0][0])
    assert changed > 30 * PERIOD
    assert all(0 < Decimal(price) < 1 for _, price in folded)


def _sides(book: KalshiBook, index: int) -> dict[tuple[str, str], Decimal]:
    named = zip(("bid", "ask"), book.sides(index), strict=True)
    return {(side, price): Decimal(size) for side, levels in named for price, size in levels}


@pytest.mark.parametrize("trades", TICKERS.values(), ids=[*TICKERS])
def test_trades_lie_on_the_grid_and_have_ids_of_their_own(trades: KalshiTrades) -> None:
    told = [trades.event(index) for index in range(2_000)]
    assert len({trade.maker_order_id for trade in told}) == len(told)
    for trade in told:
        price, size = Decimal(trade.price), Decimal(trade.size)
        assert 0 < price < 1
        assert price % Decimal(trades.price(1)) == 0
        assert Decimal(complement(trade.price)) == 1 - price
        assert size > 0
        assert size == size.quantize(Decimal("0.01"))
        assert [*map(Decimal, trades.units(trade.index))] == [price.scaleb(4), size.scaleb(8)]


def test_a_ticker_says_the_best_of_the_book() -> None:
    for trades in TICKERS.values():
        tickers, book = KalshiTickers(trades), KalshiBook(trades)
        found = [told for index in range(400) if (told := tickers.event(index))]
        assert len(found) > 50
        for told in found:
            (bid, *_), (ask, *_) = book.sides(told.index)
            assert (told.bid_price, told.bid_size) == bid
            assert (told.ask_price, told.ask_size) == ask
            assert told.event_ts % 1_000_000 == 0
