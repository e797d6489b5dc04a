"""When events happen, and what the history shows of them."""

from __future__ import annotations

import pytest

from forebay.lab.exchanges.market import HISTORY, Market, MarketConfig
from forebay.lab.truth.trades import BLOCK
from tests.unit.lab.fakes import BTC, ETH, SECOND


def market(rate: float = 1_000, events: int | None = None, *symbols: str) -> Market:
    return Market("coinbase", MarketConfig(1, symbols or (BTC,), rate, events))


def happen(market: Market, now_ns: int) -> list[tuple[str, int]]:
    return [(trade.symbol, trade.index) for trade in market.advance(now_ns)]


def test_nothing_happens_before_somebody_subscribes() -> None:
    quiet = market()
    assert happen(quiet, 10**12) == []
    assert quiet.last(BTC) == HISTORY - 1
    assert not quiet.clock_started


def test_the_clock_starts_with_the_first_subscription_only() -> None:
    busy = market()
    busy.subscribed(BTC, 5 * SECOND)
    assert happen(busy, 5 * SECOND) == []
    assert len(happen(busy, 5 * SECOND + SECOND // 100)) == 10
    busy.subscribed(BTC, 6 * SECOND)
    assert len(happen(busy, 5 * SECOND + SECOND // 50)) == 10
    assert busy.owed["trade"] == {BTC: HISTORY}


def test_symbols_take_turns() -> None:
    busy = market(1_000, None, BTC, ETH)
    busy.subscribed(BTC, 0)
    assert happen(busy, 5_000_000) == [(BTC, 100), (ETH, 100), (BTC, 101), (ETH, 101), (BTC, 102)]
    assert (busy.last(BTC), busy.last(ETH)) == (102, 101)
    busy.subscribed(ETH, 6_000_000)
    assert busy.owed["trade"] == {BTC: 100, ETH: 102}


def test_the_rate_is_kept_over_any_ticks() -> None:
    busy = market(rate=333)
    busy.subscribed(BTC, 0)
    total = sum(len(happen(busy, now)) for now in range(0, 3 * SECOND + 1, 7_000_001))
    total += len(happen(busy, 3 * SECOND))
    assert total == 999


def test_catching_up_is_bounded_and_complete() -> None:
    busy = market(rate=10_000)
    busy.subscribed(BTC, 0)
    bursts = [len(happen(busy, SECOND)) for _ in range(6)]
    assert bursts == [2_000] * 5 + [0]


def test_it_ends_after_so_many_events_and_not_before() -> None:
    busy = market(1_000, 7, BTC, ETH)
    busy.subscribed(BTC, 0)
    ended = []
    for now_ns in (6_000_000, SECOND):
        happen(busy, now_ns)
        ended.append(busy.finished)
    assert ended == [False, True]
    assert happen(busy, 9 * SECOND) == []
    assert (busy.last(BTC), busy.last(ETH)) == (103, 102)


def test_without_a_number_it_never_ends() -> None:
    busy = market()
    busy.subscribed(BTC, 0)
    happen(busy, SECOND)
    assert not busy.finished


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, range(99, 89, -1)),
        ({"after": 50}, range(49, 39, -1)),
        ({"before": 95}, range(99, 95, -1)),
        ({"before": 5}, range(99, 89, -1)),
        ({"before": 44, "after": 50}, range(49, 44, -1)),
        ({"after": 3}, range(2, -1, -1)),
        ({"after": 0}, range(0)),
        ({"before": 99}, range(0)),
        ({"after": 10**6}, range(99, 89, -1)),
    ],
)
def test_pages_are_newest_first_and_hold_only_what_happened(
    query: dict[str, int], expected: range
) -> None:
    quiet = market()
    origin = quiet.trades[BTC].first_trade_id
    shifted = {name: origin + value for name, value in query.items()}
    page = quiet.page(BTC, before=shifted.get("before"), after=shifted.get("after"), limit=10)
    assert [trade.index for trade in page] == list(expected)


def test_ids_of_another_planet_are_no_error() -> None:
    assert market().page(BTC, before=None, after=5, limit=10) == []
    assert len(market().page(BTC, before=0, after=None, limit=1_000)) == 100


# ------------------------------------------------------------------ in step with the clock


@pytest.mark.parametrize("rate", [0.5, 7.0, 200.0, 333.0, 1_000.0, 3_000.0, 40_000.0])
@pytest.mark.parametrize("symbols", [(BTC,), (BTC, ETH)])
def test_venue_time_passes_as_fast_as_events_come(rate: float, symbols: tuple[str, ...]) -> None:
    config = MarketConfig(1, symbols, rate, start_ns=0, now_ns=17).in_step()
    assert config.rate == pytest.approx(rate, rel=0.01)
    busy, began = Market("coinbase", config), 90 * SECOND  # long after it was made
    busy.subscribed(BTC, began)
    for seconds in (1, 60, 86_400):
        elapsed = seconds * SECOND
        busy._happened = max(busy._happened, int(elapsed * config.rate / 1e9) - 10)
        told = [trade.event_ts for trade in busy.advance(began + elapsed)]
        step_ns = config.step_us * 1_000
        if told:
            behind = (began - 17) + elapsed - max(told)
            assert 0 <= behind <= 2 * BLOCK * step_ns, seconds


def test_a_market_that_is_not_to_keep_pace_begins_when_it_was_told_to() -> None:
    busy = Market("coinbase", MarketConfig(1, (BTC,), 200.0, start_ns=5_000).in_step())
    busy.subscribed(BTC, 90 * SECOND)
    assert (busy.start_ns, busy.config.step_us) == (5_000, 5_000)
    (first, *_) = busy.advance(91 * SECOND)
    assert first.event_ts == 5_000 + HISTORY * 5_000_000


def test_a_rate_that_no_step_can_follow_is_kept() -> None:
    config = MarketConfig(1, (BTC,), 400_000.0).in_step()
    assert (config.rate, config.step_us) == (400_000.0, 2)
