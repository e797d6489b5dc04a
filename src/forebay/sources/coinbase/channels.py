"""What Coinbase Exchange declares of its channels; capture reads it too, so it needs no Arrow.

Only trades have ids. Of all else the same facts at the same time are one event, whichever
connection told them, and what is owed is to be heard: see ``docs/explanation/coinbase.md``.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from forebay.domain.channels import Channel

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from forebay.domain.frames import FrameBatch

_MICROSECOND, _SECOND = 1000, 1_000_000_000

TRADES = Channel("trade", identity="native", unit="id", time_unit_ns=_MICROSECOND, history=True)
"""``trade_id`` rises by one and is the same on every path; times are in microseconds."""
_HEARD = partial(Channel, identity="content", unit="time")
TICKERS = _HEARD("ticker", time_unit_ns=_MICROSECOND)
QUOTES = _HEARD("quote", time_unit_ns=_MICROSECOND)
"""Best bid and ask as the ticker tells them: with each trade, and not with each change."""
BOOK_SNAPSHOTS = _HEARD("book_snapshot")
"""It has no time of the venue's, mostly; then it is that of receipt, in nanoseconds."""
BOOK_DELTAS = _HEARD("book_delta", time_unit_ns=_MICROSECOND)
BARS = Channel("bar", identity="content", unit="none", time_unit_ns=_SECOND, history=True)
"""Candles are asked for by REST, whenever that is."""
PERIODS_S = {"1m": 60, "5m": 300, "15m": 900, "1h": 3600, "1d": 86_400}
"""Seconds of a candle by time frame; Forebay has no word for the venue's 21 600, six hours."""

CHANNELS: Mapping[str, Channel] = {
    channel.kind: channel
    for channel in (TRADES, TICKERS, QUOTES, BOOK_SNAPSHOTS, BOOK_DELTAS, BARS)
}
"""By kind of event."""
MARKET = "spot"


def taken(batch: FrameBatch) -> Collection[str]:
    """Return the kinds of events that were asked for: all, where the context names none."""
    return batch.context.channels or CHANNELS.keys()
