"""Random lives of a store: commits as delivery makes them, with late, repeated and altered rows."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from forebay.domain.coverage import StreamCoverage, StreamKey
from forebay.journal import Position
from forebay.ports import Commit, Store
from tests.support.delivery import plain_rows
from tests.support.frames import HOUR, LOG, SECOND, T0, Told, rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator

SYMBOLS = ("BTC-USD", "ETH-USD")
TABLES = ("trades", "dead_letters", "conflicts", "coverage", "gaps", "cursors")


def told(dice: random.Random, native: int) -> Told:
    """Tell trade ``native``: mostly the same way, sometimes with another price or time."""
    time_ns = T0 - (100_000 - native) * 1000 * SECOND
    if dice.random() < 0.08:
        time_ns -= dice.choice((1000, SECOND, 90 * HOUR))
    price = "7" if dice.random() < 0.08 else "10000.01"
    return Told(native, price, time_ns=time_ns, symbol=dice.choice(SYMBOLS))


def history(seed: int, commits: int = 12) -> Iterator[Commit]:
    """Answer commits with honest coverage; every one of them may be committed again at once."""
    dice = random.Random(seed)
    coverage = {symbol: StreamCoverage() for symbol in SYMBOLS}
    for seq in range(1, commits + 1):
        trades = [told(dice, dice.randrange(seq * 8)) for _ in range(dice.randrange(1, 12))]
        covered = []
        for trade in trades:
            stream = coverage[trade.symbol]
            covered.append(trade.trade_id in stream.covered())
            stream.cover(dice.choice(("live", "fill")), trade.trade_id, trade.trade_id)
        yield Commit(
            "store",
            Position(LOG, seq),
            rows={"trades": rows_of(*trades)},
            covered={"trades": np.array(covered)},
            coverage={
                StreamKey("coinbase", "trade", symbol): stream.copy()
                for symbol, stream in coverage.items()
            },
        )


def content(store: Store) -> dict[str, list[tuple[object, ...]]]:
    """Answer all that a store has, to be compared; how a conflict is spelled is its own matter."""
    found = {name: plain_rows(store.table(name)) for name in TABLES if name != "conflicts"}
    conflicts = store.table("conflicts")
    ids = [str(told) for told in conflicts["event_id"].to_pylist()] if len(conflicts) else []
    return {**found, "conflicts": [(told,) for told in sorted(ids)]}


def hours_of(store: Store) -> set[int]:
    """Answer the starts of the hours that a store has trades of."""
    times = store.table("trades")["event_ts"].cast(pa.int64()).to_pylist()
    return {time_ns // HOUR * HOUR for time_ns in times}
