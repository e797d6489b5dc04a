"""Kalshi's messages are read as columns where that is sure, and nobody can tell by the outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from forebay.services.projection import Projection
from tests.properties.test_reading_as_columns import INTERESTING, mutants, outcome, projected
from tests.support.kalshi import (
    CAREFUL,
    MARKET,
    PARSER,
    QUICK,
    batch,
    delta,
    snapshot,
    ticker,
    trade,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebay.domain.parsed import Parsed

BLOCK = (
    trade(9, is_block_trade=False)
    .replace(b',"is_block_trade":false', b"")
    .replace(b'"taker_book_side":"bid"', b'"taker_book_side":"bid","is_block_trade":false')
)


def numbers(parsed: Parsed) -> dict[str, object]:
    return {
        line.line: (line.kinds, list(line.frames), list(line.numbers)) for line in parsed.counted
    }


def quickly(parsed: Parsed) -> int:
    return sum(len(raw) for raw in parsed.events if isinstance(raw.frame, np.ndarray))


def both_say_the_same(payloads: Sequence[bytes], symbols: Sequence[str] = ()) -> int:
    """Compare the two ways; return how many events were, or came with what was, read quickly."""
    given_batch = batch(payloads, symbols)
    quick, careful = QUICK.parse(given_batch), CAREFUL.parse(given_batch)
    assert outcome(quick) == outcome(careful)
    assert numbers(quick) == numbers(careful)
    return quickly(quick)


def both_project_the_same(payloads: Sequence[bytes]) -> None:
    given_batch = batch(payloads)
    ways = (Projection({"kalshi": way}, {}).project([given_batch]) for way in (QUICK, CAREFUL))
    for one, other in zip(*map(projected, ways), strict=True):
        assert one == other


@pytest.mark.parametrize("good", [delta(), trade(), BLOCK], ids=["delta", "trade", "block"])
def test_every_small_mistake_at_every_place(good: bytes) -> None:
    assert both_say_the_same([good]) == 1, "it is read quickly"
    made = list(mutants(good, INTERESTING, b'",:0'))
    assert len(made) > 10_000
    both_say_the_same(made)
    both_project_the_same(made[::7])


TEXTS = st.sampled_from(["", "1", "0.5", ".25", "1.0000", "-0.10", "NaN", "yes", "no", "0" * 50])
VALUES: st.SearchStrategy[object] = TEXTS | st.sampled_from(
    [None, True, 0, -1, 1.5, 10**18, 2**63, [], {}]
)
NUMBERS = st.sampled_from([None, 0, 1, (1 << 40) - 1, 1 << 40, 1 << 62, 10**18 - 1, -1, "1"])
DELTA_FIELDS = st.sampled_from(
    ["market_ticker", "price_dollars", "price", "delta_fp", "delta", "side", "ts", "ts_ms"]
)
TRADE_FIELDS = st.sampled_from(
    ["market_ticker", "trade_id", "yes_price_dollars", "yes_price", "count_fp", "count",
     "taker_side", "taker_outcome_side", "taker_book_side", "ts", "ts_ms"]
)  # fmt: skip
FRAMES = st.one_of(
    st.builds(lambda seq, sid: delta(seq, sid=sid), NUMBERS, NUMBERS),
    st.builds(lambda name, value: delta(4, **{name: value}), DELTA_FIELDS, VALUES),
    st.builds(lambda name, value: trade(5, **{name: value}), TRADE_FIELDS, VALUES),
    st.builds(lambda name: delta(6, market_ticker=name), st.sampled_from(["KXB-1", "x", "K X"])),
    st.sampled_from([delta(), trade(), BLOCK, snapshot(), ticker(), b"", b"{}", b"\xff",
                     snapshot(yes_dollars_fp=[["0.4800", "1.00"]]), snapshot(levels=[[1, 2]]),
                     b'{"id":1,"sid":1,"seq":7,"type":"ok"}', b'{"type":"new","sid":1,"seq":8}']),
)  # fmt: skip


@settings(max_examples=60)
@given(st.lists(FRAMES, max_size=12))
@example([])
@example([delta(1), trade(2), delta(3, delta_fp=None, delta=5), BLOCK, delta(4)])
def test_any_frames_mean_the_same_both_ways(payloads: list[bytes]) -> None:
    both_say_the_same(payloads)
    both_say_the_same(payloads, ("KXB-1",))
    both_project_the_same(payloads)


def test_frames_enough_are_read_as_columns_by_default() -> None:
    made = [delta(number) for number in range(1, 1001)]
    assert quickly(PARSER.parse(batch(made))) == 1000
    assert quickly(PARSER.parse(batch(made[:10]))) == 0
    assert both_say_the_same([delta(1, market_ticker="K" * 50), delta(2)], (MARKET,)) == 1
