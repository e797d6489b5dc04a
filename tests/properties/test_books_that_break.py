"""Books of differences beside the truth: whatever is lost, a book is right or unknown."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from forebay.services.checkpoints import BookCheckpoints
from tests.support.clickhouse_stores import a_clickhouse_store
from tests.support.made_books import PARSERS, TICK_NS, Days, Market, Stored, StoredIn, Wire

SYMBOLS = ["A", "B", "C"]


def verdicts(stored: StoredIn, market: Market, moments: list[tuple[str, int]]) -> Counter[str]:
    """Compare books with the truth; return how many were known, or unknown for which reason."""
    found: Counter[str] = Counter()
    for symbol, at_ns in moments:
        told = stored.said(symbol, at_ns)
        if not isinstance(told, str):
            assert told == market.at(symbol, at_ns), (symbol, at_ns)
        found[told if isinstance(told, str) else "known"] += 1
    return found


def drawn_moments(days: Days, since_ns: int, count: int) -> list[tuple[str, int]]:
    """Draw moments of books: of changes, just before and behind them, and any others."""
    drawn = []
    for _ in range(count):
        symbol = days.dice.choice(days.market.symbols)
        at_ns = days.dice.choice(days.market.moments(symbol)) + days.dice.randint(-1, 1)
        if days.dice.random() < 0.3:
            at_ns = days.dice.randrange(since_ns, days.now_ns + TICK_NS)
        drawn.append((symbol, at_ns))
    return drawn


def played(seed: int, loss: float, most: int = 200) -> tuple[Days, list[Wire]]:
    """Let one or two wires tell a market for a while, with reconnects."""
    dice = random.Random(seed)
    days = Days(Market(SYMBOLS, seed), dice)
    days.pass_(dice.randint(0, 20))
    wires: list[Wire] = []
    for number in range(dice.randint(2, 5)):
        days.pass_(dice.randint(0, 30))
        wire = Wire(days.market, f"e{number}", lost=lambda _: dice.random() < loss)
        wires.append(days.open(wire))
        days.pass_(dice.randint(20, most))
        while len(days.wires) > dice.randint(0, 1):
            days.close(dice.choice(days.wires))
    return days, wires


def test_a_book_is_the_truth_or_unknown_whatever_is_lost() -> None:
    found = examined(1, 0.03, 8, most=60)
    assert len(found) > 1, "known, and not"


@pytest.mark.drill
@pytest.mark.parametrize("loss", [0.0, 0.003, 0.02, 0.1, 0.3])
def test_many_books_are_the_truth_or_unknown_whatever_is_lost(loss: float) -> None:
    found = sum((examined(seed, loss, 25) for seed in range(100, 106)), Counter())
    assert found["known"] > sum(found.values()) * (0.5 - loss), found


@pytest.mark.drill
def test_clickhouse_reads_the_same_books() -> None:
    days, wires = played(2, 0.02)
    some = drawn_moments(days, days.market.moments("A")[0], 30)
    plain = Stored(*wires)
    with a_clickhouse_store() as store:
        found = StoredIn(store, *wires)
        for symbol, at_ns in some:
            assert found.said(symbol, at_ns) == plain.said(symbol, at_ns), (symbol, at_ns)
            assert found.said(symbol, None) == plain.said(symbol, None)


def examined(seed: int, loss: float, count: int, *, most: int = 200) -> Counter[str]:
    """Compare some books with the truth, without checkpoints and with them."""
    days, wires = played(seed, loss, most)
    stored = Stored(*wires, dice=days.dice)
    some = drawn_moments(days, days.market.moments("A")[0], count)
    found = verdicts(stored, days.market, some)
    BookCheckpoints(stored.store, PARSERS, fewest=8).all()
    assert verdicts(stored, days.market, some) == found
    return found
