"""Order books: a snapshot says all of a book, a delta what changed. One message is one row.

Levels are lists of the same length, prices beside sizes, in the venue's order. A size is what is
there now: in a delta, 0 takes the level away. Of a channel that is
:attr:`~forebay.domain.channels.Channel.relative`, a delta's size is what is added, or taken away if
it is negative: a level that has 0 is gone. Why a message is not a row a level is in
``docs/adr/0020``, why a difference is stored as such in ``docs/adr/0065``.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from forebay.domain.flags import CROSSED
from forebay.domain.kinds.checks import Checks, EventKind
from forebay.domain.schema import DECIMALS

if TYPE_CHECKING:
    from decimal import Decimal


_LEVELS = pa.schema(
    [(name, DECIMALS) for name in ("bid_prices", "bid_sizes", "ask_prices", "ask_sizes")]
)


def check_delta(checks: Checks) -> None:
    """Reject messages with a price that is not positive, or not as many sizes as prices.

    A side may be empty.
    """
    relative = checks.raw.channel.relative
    checks.levels("bid_prices", "bid_sizes", differences=relative)
    checks.levels("ask_prices", "ask_sizes", differences=relative)


def check_snapshot(checks: Checks) -> None:
    """Reject as :func:`check_delta`; flag those whose best bid is not below their best ask."""
    checks.levels("bid_prices", "bid_sizes")
    checks.levels("ask_prices", "ask_sizes")
    bids, asks = _best(checks, "bid_prices", "max"), _best(checks, "ask_prices", "min")
    crossed = [row for row, bid in bids.items() if row in asks and bid >= asks[row]]
    mask = np.zeros(len(checks.flags), dtype=np.bool_)
    mask[crossed] = True
    checks.flag(mask, CROSSED)


def _best(checks: Checks, name: str, function: str) -> dict[int, Decimal]:
    """Return the best price of each row that has any; of a rejected one, whatever."""
    lists = checks.columns[name]
    told = pa.table({"row": pc.list_parent_indices(lists), "price": lists.flatten()})
    best = told.group_by("row", use_threads=False).aggregate([("price", function)])
    prices = best[f"price_{function}"].to_pylist()
    return {
        row: price
        for row, price in zip(best["row"].to_pylist(), prices, strict=True)
        if price is not None
    }


_book = partial(EventKind, columns=_LEVELS, topic="book_archive", idempotent=True)
BOOK_SNAPSHOT = _book("book_snapshot", "book_snapshots", check=check_snapshot)
BOOK_DELTA = _book("book_delta", "book_deltas", check=check_delta)
