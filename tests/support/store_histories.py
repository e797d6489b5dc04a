"""Random lives of a store: commits as delivery makes them, with late, repeated and altered rows."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from forebay.domain.coverage import Arrival, IdCoverage, StreamKey
from forebay.journal import Position
from forebay.ports import Commit
from tests.support.delivery import TableStore, events_of, plain_rows
from tests.support.frames import HOUR, LOG, SECOND, T0, Told

if TYPE_CHECKING:
    from collections.abc import Iterator

SYMBOLS = ("BTC-USD", "ETH-USD")
STEP = 100
"""Frames of a commit, of which most hold no trade."""
TABLES = ("trades", "dead_letters", "conflicts", "coverage", "gaps", "cursors")


def told(dice: random.Random, native: int) -> Told:
    """Tell trade ``native``: mostly the same way, sometimes with another price or time."""
    time_ns = T0 - (100_000 - native) * 1000 * SECOND
    if dice.random() < 0.08:
        time_ns -= dice.choice((1000, SECOND, 90 * HOUR))
    price = "7" if dice.random() < 0.08 else "10000.01"
    return Told(native, price, time_ns=time_ns, symbol=dice.choice(SYMBOLS))


def history(seed: int, commits: int = 12) -> Iterator[Commit]:
    """Yield commits with honest coverage; every one of them may be committed again at once."""
    dice = random.Random(seed)
    coverage = {symbol: IdCoverage() for symbol in SYMBOLS}
    for number in range(1, commits + 1):
        trades = [told(dice, dice.randrange(number * 8)) for _ in range(dice.randrange(1, 12))]
        before = [_see(coverage[trade.symbol], trade, live=dice.random() < 0.5) for trade in trades]
        new = [not seen for seen in before]
        events = events_of(*trades, seen_before=before, vouched_new=new, first_seq=number * STEP)
        yield Commit(
            {"store": Position(LOG, (number + 1) * STEP)},
            expected={"store": Position(LOG, number * STEP) if number > 1 else None},
            events={"trades": events},
            coverage={
                StreamKey("coinbase", "spot", "trade", symbol): stream.copy()
                for symbol, stream in coverage.items()
            },
        )


def _see(coverage: IdCoverage, trade: Told, *, live: bool) -> bool:
    """Take one trade into coverage; return whether that had it before."""
    ids, times = np.array([trade.trade_id]), np.array([trade.received_ns])
    return bool(coverage.see(Arrival("e1", live, ids, times)).before[0])


def content(store: TableStore) -> dict[str, list[tuple[object, ...]]]:
    """Return all that a store has, to be compared; how a conflict is spelled is its own matter."""
    found = {name: plain_rows(store.table(name)) for name in TABLES if name != "conflicts"}
    conflicts = store.table("conflicts")
    ids = [str(told) for told in conflicts["event_id"].to_pylist()] if len(conflicts) else []
    return {**found, "conflicts": [(told,) for told in sorted(ids)]}


def hours_of(store: TableStore) -> set[int]:
    """Return the starts of the hours that a store has trades of."""
    times = store.table("trades")["event_ts"].cast(pa.int64()).to_pylist()
    return {time_ns // HOUR * HOUR for time_ns in times}
