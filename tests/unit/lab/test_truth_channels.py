"""Books, tickers, quotes and bars in closed form: no history is needed, and none contradicts it."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from hashlib import sha256
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.lab.truth import SOURCES, Bars, BookTruth, Tickers, Trades, TruthDigest, events
from forebay.lab.truth.bars import MINUTE_NS
from forebay.lab.truth.texts import fixed, uuid_text

BTC = Trades(5, "coinbase", "BTC-USD")
SYMBOLS = st.sampled_from(["BTC-USD", "SOL-USD", "SKL-GBP", "AB-CD"])
TURN = 20_000
"""The index at which the price begins to fall."""

Side = dict[str, str]


def folded(trades: Trades, first: int, end: int, bids: Side, asks: Side) -> None:
    """A plain fold of deltas; what takes away what is not there raises KeyError."""
    for delta in (BookTruth(trades).delta(index) for index in range(first, end)):
        for at, price, size in delta.changes:
            side = bids if at == "bid" else asks
            if Decimal(size):
                side[price] = size
            else:
                del side[price]


def sides(trades: Trades, index: int) -> tuple[Side, Side]:
    bids, asks = BookTruth(trades).sides(index)
    return dict(bids), dict(asks)


# ------------------------------------------------------------------------- books


def test_a_book_folded_from_the_first_index_is_the_book_in_closed_form() -> None:
    bids: Side = {}
    asks: Side = {}
    for index in range(600):
        folded(BTC, index, index + 1, bids, asks)
        assert (bids, asks) == sides(BTC, index)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(), symbol=SYMBOLS, first=st.integers(0, 2 * TURN), more=st.integers(1, 150))
def test_a_book_folded_on_from_any_index_is_the_book_in_closed_form(
    seed: int, symbol: str, first: int, more: int
) -> None:
    trades = Trades(seed, "coinbase", symbol)
    bids, asks = sides(trades, first)
    folded(trades, first + 1, first + more + 1, bids, asks)
    assert (bids, asks) == sides(trades, first + more)


@pytest.mark.parametrize("turn", [0, TURN, 2 * TURN])
def test_the_fold_holds_where_the_price_turns(turn: int) -> None:
    first = max(0, turn - 100)
    bids, asks = sides(BTC, first)
    folded(BTC, first + 1, turn + 100, bids, asks)
    assert (bids, asks) == sides(BTC, turn + 99)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(), symbol=SYMBOLS, index=st.integers(0, 10**7))
def test_a_book_is_ordered_and_never_crossed_nor_empty(seed: int, symbol: str, index: int) -> None:
    bids, asks = BookTruth(Trades(seed, "coinbase", symbol)).sides(index)
    prices = [Decimal(price) for price, _ in (*reversed(bids), *asks)]
    assert prices == sorted(set(prices))
    assert min(len(bids), len(asks)) > 15
    assert all(Decimal(size) > 0 for _, size in (*bids, *asks))


def test_every_index_changes_one_to_eight_levels_each_once() -> None:
    sizes = Counter[int]()
    for delta in (BookTruth(BTC).delta(index) for index in range(1, 4_000)):
        places = [(side, price) for side, price, _ in delta.changes]
        assert len(set(places)) == len(places)
        sizes[len(places)] += 1
    assert min(sizes) >= 1
    assert max(sizes) <= 8


def test_levels_go_and_come_back() -> None:
    deltas = [BookTruth(BTC).delta(index) for index in range(100, 1_000)]
    told = [change for delta in deltas for change in delta.changes]
    gone = {(side, price) for side, price, size in told if not Decimal(size)}
    assert len(gone) > 30
    assert any((side, price) in gone for side, price, size in told if Decimal(size))
    assert {size for _, _, size in told if not Decimal(size)} == {"0", "0.00000000"}


def test_the_book_follows_the_trades() -> None:
    for index in (0, 9_999, TURN, 33_333):
        trade, (bid, ask) = BTC.event(index), BookTruth(BTC).best(index)
        middle = (Decimal(bid[0]) + Decimal(ask[0])) / 2
        assert abs(middle - Decimal(trade.price)) < middle / 500


def test_another_seed_is_another_book() -> None:
    assert BookTruth(Trades(6, "coinbase", "BTC-USD")).sides(100) != BookTruth(BTC).sides(100)


# ------------------------------------------------------------- tickers and quotes


def test_a_ticker_says_its_trade_and_the_best_of_its_book() -> None:
    tickers = list(events(Tickers(BTC).event, 0, 400))
    assert 50 < len(tickers) <= 100
    for index in (event.index for event in tickers):
        ticker, trade = Tickers(BTC).event(index), BTC.event(index)
        bids, asks = BookTruth(BTC).sides(index)
        assert ticker is not None
        assert (ticker.price, ticker.size) == (trade.price, trade.size)
        assert ticker.event_ts == trade.event_ts
        assert (ticker.bid_price, ticker.bid_size) == bids[0]
        assert (ticker.ask_price, ticker.ask_size) == asks[0]
        assert Decimal(ticker.low_24h) <= Decimal(ticker.price) <= Decimal(ticker.high_24h)


def test_no_two_tickers_have_one_time() -> None:
    times = [event.event_ts for event in events(Tickers(BTC).event, 0, 4_000)]
    assert all(before < after for before, after in pairwise(times))


def test_a_quote_is_of_a_ticker() -> None:
    tickers = [Tickers(BTC).event(index) for index in range(200)]
    quotes = [Tickers(BTC).quote(index) for index in range(200)]
    assert [q and (q.index, q.bid_price, q.ask_size) for q in quotes] == [
        t and (t.index, t.bid_price, t.ask_size) for t in tickers
    ]


def test_the_last_ticker_is_the_one_before() -> None:
    indices = [event.index for event in events(Tickers(BTC).event, 0, 400)]
    for before, after in pairwise(indices):
        last = Tickers(BTC).last(after - 1)
        assert last is not None
        assert last.index == before
    assert Tickers(BTC).last(0) is None


# -------------------------------------------------------------------------- bars


def coarse(start_ns: int = 1_767_225_625_000_000_000) -> Trades:
    """100 trades or so a minute."""
    return Trades(5, "coinbase", "BTC-USD", start_ns=start_ns, step_us=601_000)


def test_bars_are_what_their_trades_make() -> None:
    trades = coarse()
    bars = [bar for bar in map(Bars(trades).event, range(1_000)) if bar is not None]
    assert len(bars) > 8
    for bar in bars:
        own = [t for t in trades.events(0, 1_200) if bar.event_ts <= t.event_ts < bar.close_ts]
        prices = [Decimal(t.price) for t in own]
        assert bar.index == own[-1].index
        assert bar.close_ts - bar.event_ts == MINUTE_NS
        assert (bar.open, bar.close) == (own[0].price, own[-1].price)
        assert (Decimal(bar.low), Decimal(bar.high)) == (min(prices), max(prices))
        assert Decimal(bar.volume) == sum(Decimal(t.size) for t in own)


def test_a_minute_without_a_trade_has_no_bar() -> None:
    rare = Trades(5, "coinbase", "BTC-USD", step_us=150_000_000)
    opened = [event.event_ts for event in events(Bars(rare).event, 0, 40)]
    assert len(opened) > 2
    assert all(after - before > MINUTE_NS for before, after in pairwise(opened))


def test_a_longer_bar_is_the_sum_of_its_minutes_and_of_nothing_to_come() -> None:
    trades = coarse(1_767_225_600_000_000_000)
    bars, begin = Bars(trades), 1_767_225_600_000_000_000
    made = bars.sum(begin, begin + 5 * MINUTE_NS, 10_000)
    own = [t for t in trades.events(0, 600) if t.event_ts < begin + 5 * MINUTE_NS]
    volume = sum(Decimal(t.size) for t in own)
    assert Decimal(bars.texts(made)[4]) == volume
    half = bars.sum(begin, begin + 5 * MINUTE_NS, 250)
    assert bars.texts(half)[3] == trades.event(250).price
    assert bars.sum(begin, begin + 5 * MINUTE_NS, 10_000) == made


# ------------------------------------------------------------------ all channels


@pytest.mark.parametrize("channel", SOURCES)
def test_an_event_is_the_same_whatever_was_asked_before(channel: str) -> None:
    trades = coarse()
    forward = [each.document() for each in events(SOURCES[channel](trades), 0, 300)]
    source = SOURCES[channel](coarse())
    backward = [e.document() for i in reversed(range(300)) if (e := source(i)) is not None]
    assert forward
    assert forward == backward[::-1]


@pytest.mark.parametrize("channel", SOURCES)
def test_ids_are_unique(channel: str) -> None:
    ids = [event.event_id for event in events(SOURCES[channel](coarse()), 0, 2_000)]
    assert len(set(ids)) == len(ids)


def test_an_id_of_content_is_made_as_the_specification_says() -> None:
    quote = Tickers(BTC).quote(103)
    assert quote is not None
    cells = [quote.bid_price, quote.bid_size, quote.ask_price, quote.ask_size]
    own = "|".join(fixed(cell) for cell in cells)
    text = f"content|coinbase|spot|quote|BTC-USD|{quote.event_ts}|{own}"
    bits = f"{int.from_bytes(sha256(text.encode()).digest(), 'big'):0256b}"
    low = int(bits[60:122], 2)
    assert quote.event_id >> 80 == int(bits[:48], 2)
    assert (quote.event_id >> 76) & 0xF == 8
    assert (quote.event_id >> 64) & 0xFFF == int(bits[48:60], 2)
    assert (quote.event_id >> 62) & 0b11 == 2
    assert quote.event_id & ((1 << 62) - 1) == low
    assert (
        quote.row() == f"{uuid_text(quote.event_id)}|coinbase|spot|BTC-USD|{quote.event_ts}|{own}"
    )


def test_rows_have_lists_as_the_specification_says() -> None:
    delta, snapshot = BookTruth(BTC).delta(100), BookTruth(BTC).snapshot(100)
    bids = [(price, size) for side, price, size in delta.changes if side == "bid"]
    cells = delta.row().split("|")[5:]
    assert cells[0] == ",".join(fixed(price) for price, _ in bids)
    assert cells[1] == ",".join(fixed(size) for _, size in bids)
    assert len(cells) == len(snapshot.row().split("|")[5:]) == 4
    assert snapshot.row().split("|")[5].split(",")[0] == fixed(snapshot.bids[0][0])


def test_a_row_of_a_bar_has_a_cell_for_each_column_of_content() -> None:
    (bar,) = events(Bars(coarse()).event, 0, 100)
    cells = bar.row().split("|")[5:]
    assert cells[:4] == ["1m", "UTC", "trade", "false"]
    assert cells[4] == str(bar.event_ts)
    assert cells[-4:] == ["", "", "final", "1"]
    assert len(cells) == 15


def test_digests_take_events_of_any_channel() -> None:
    one, two = (TruthDigest.of(events(BookTruth(BTC).delta, 0, 50)) for _ in range(2))
    assert one == two
    assert one.count == 50
    assert one.rows != TruthDigest.of(events(BookTruth(BTC).delta, 1, 51)).rows


# ----------------------------------------------------------------------- moments


@settings(max_examples=100)
@given(index=st.integers(0, 10**6), step=st.integers(1, 10**6), late=st.integers(0, 999))
def test_the_last_event_by_a_moment_is_found_without_looking(
    index: int, step: int, late: int
) -> None:
    trades = Trades(5, "coinbase", "BTC-USD", step_us=step)
    found = trades.index_at(trades.time_ns(index) + late)
    assert found >= index
    assert trades.time_ns(found) == trades.time_ns(index)
    assert trades.time_ns(found + 1) > trades.time_ns(index)


def test_events_of_a_slow_market_have_times_of_their_own() -> None:
    """What has one time is told together, or somebody who is cut off between holds half of it."""
    slow = Trades(1, "coinbase", "BTC-USD", step_us=50_000)
    times = [slow.time_ns(index) for index in range(1_000)]
    assert len(set(times)) == 1_000
    assert len({BTC.time_ns(index) for index in range(1_000)}) < 1_000


def test_nothing_has_happened_before_the_first() -> None:
    assert BTC.index_at(BTC.time_ns(0) - 1) == -1
