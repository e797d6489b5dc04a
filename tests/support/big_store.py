"""A DuckDB store with millions of real-looking trades, and batches that come after them.

Trade ``i`` is of symbol ``i % 3`` and 50 ms after the one before it, give or take.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pyarrow as pa

from forebay.domain import schema
from forebay.domain.coverage import IdCoverage, StreamKey
from forebay.domain.identity import stream_prefix
from forebay.domain.intervals import IntervalSet
from forebay.domain.kinds.trade import TRADE
from forebay.journal import Position
from forebay.ports import Commit, Events
from forebay.stores.duckdb import DuckDBStore
from tests.support.frames import LOG, T0

if TYPE_CHECKING:
    from pathlib import Path

SYMBOLS = ("BTC-USD", "ETH-USD", "SOL-USD")
STEP_NS = 50_000_000
_PART = 5_000_000
_TOLD_LATER = 10**12
"""Frames of commits have numbers from here on; those of the filled store are below."""

_PREFIXES = [f"{stream_prefix('coinbase', 'spot', 'trade', name):016x}" for name in SYMBOLS]
_TRADES = f"""
    SELECT (prefix || '8' || lpad(to_hex(i // 3 + 1), 15, '0'))::UUID AS event_id,
        'coinbase' AS venue, 'spot' AS market, symbol, symbol AS venue_symbol, 'c1' AS collector,
        'e1' AS epoch, '{LOG}' AS log_id, seq, i // 3 + 1 AS venue_seq,
        make_timestamp_ns(ns) AS event_ts, make_timestamp_ns(ns + 123) AS exchange_ts,
        make_timestamp_ns(ns + 40000000 + (i * 7919) % 9000000) AS received_ts,
        (i // 3 + 1)::VARCHAR AS trade_id,
        ((6000000 + (i * 7919) % 100000) / 100)::DECIMAL(38, 18) AS price,
        ((1 + (i * 104729) % 1000003)::DECIMAL(38, 8) / 100000000)::DECIMAL(38, 18) AS size,
        CASE WHEN (i * 31) % 7 < 3 THEN 'buy' ELSE 'sell' END AS side, '' AS flags
    FROM (SELECT i, seq, {T0} + t * {STEP_NS} + ((t * 7919) % 40000) * 1000 AS ns,
        {list(SYMBOLS)}[1 + i % 3] AS symbol, {_PREFIXES}[1 + i % 3] AS prefix FROM ids)"""  # noqa: S608 - our own numbers


def fill(path: Path, rows: int) -> None:
    """Make a database of the trades 0 to ``rows``."""
    DuckDBStore(path).close()
    with duckdb.connect(str(path), config={"memory_limit": "2GB", "threads": 2}) as connection:
        for first in range(0, rows, _PART):
            ids = f"SELECT i, i AS t, i AS seq FROM range({first}, {min(rows, first + _PART)}) r(i)"  # noqa: S608
            connection.execute(f"CREATE OR REPLACE TEMP VIEW ids AS {ids}")
            connection.execute(f"INSERT INTO trades {_TRADES}")


class Batches:
    """Commits for a store of ``rows`` trades, in the order in which they are asked for."""

    def __init__(self, rows: int, size: int) -> None:
        self.rows, self.size, self.next, self.seq = rows, size, rows, 0
        self._dice = np.random.default_rng(7)
        self._sql = duckdb.connect(config={"threads": 1})
        self._sql.execute("SET arrow_lossless_conversion = true")

    def trades(self, i: np.ndarray, t: np.ndarray) -> pa.Table:
        """Return the trades ``i``, at the times of the trades ``t``, told by the next commit."""
        told = _TOLD_LATER + self.seq * self.size + np.arange(len(i))
        self._sql.register("ids", pa.table({"i": i, "t": t, "seq": told}))
        table = self._sql.sql(_TRADES).to_arrow_table()
        columns = [
            column.dictionary_encode() if field.type == schema.LABEL else column
            for column, field in zip(table.columns, TRADE.schema, strict=True)
        ]
        return pa.Table.from_arrays(columns, schema=TRADE.schema)

    def in_order(self) -> Commit:
        """Trades that follow the newest."""
        i = self._new()
        return self._commit(self.trades(i, i))

    def late(self, share: float = 0.01) -> Commit:
        """The same, but a share of them happened anywhere in the past."""
        i = self._new()
        t, late = i.copy(), round(self.size * share)
        t[self._dice.choice(self.size, late, replace=False)] = self._past(late)
        return self._commit(self.trades(i, t))

    def backfill(self) -> Commit:
        """New trades of one stretch of the past."""
        i = self._new()
        return self._commit(self.trades(i, int(self._past(1)[0]) + i - i[0]))

    def repeated(self) -> Commit:
        """Trades that are stored, of one stretch."""
        i = int(self._dice.integers(self.rows - self.size)) + np.arange(self.size)
        return self._commit(self.trades(i, i), known=True)

    def doubled(self) -> Commit:
        """Trades that follow the newest, some of them twice."""
        i = self._new()
        i[-20:] = i[:20]
        return self._commit(self.trades(i, i), known=np.arange(self.size) >= self.size - 20)

    def scattered(self, count: int = 50) -> Commit:
        """Trades that follow the newest, and some that are stored from anywhere."""
        i = self._new()
        i[:count] = self._past(count)
        return self._commit(self.trades(i, i), known=np.arange(self.size) < count)

    def retold(self) -> Commit:
        """Trades that are stored, one of them with another time."""
        i = int(self._dice.integers(self.rows - self.size)) + np.arange(self.size)
        t = i.copy()
        t[self.size // 2] = (i[0] + self.rows // 2) % self.rows
        return self._commit(self.trades(i, t), known=True)

    def _past(self, count: int) -> np.ndarray:
        return self._dice.choice(self.rows - self.size, count, replace=False)

    def _new(self) -> np.ndarray:
        self.next += self.size
        return np.arange(self.next - self.size, self.next)

    def _commit(self, rows: pa.Table, known: np.ndarray | bool = False) -> Commit:  # noqa: FBT002
        self.seq += 1
        coverage = IdCoverage(known=IntervalSet([(1, self.next // 3 + 1)]))
        coverage.live.add(1, self.next // 3 + 1)
        before = np.broadcast_to(np.asarray(known), len(rows))
        keys = [StreamKey("coinbase", "spot", "trade", name) for name in SYMBOLS]
        return Commit(
            {"store": Position(LOG, self.seq)},
            events={"trades": Events(rows, before, ~before)},
            coverage={key: coverage.copy() for key in keys},
        )
