"""Order books: a snapshot says all of a book, a delta what changed. One message is one row.

Levels are lists of the same length, prices beside sizes, in the venue's order. A size is what is
there now: in a delta, 0 takes the level away. Why a message is not a row a level is in
``docs/adr/0020``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from forebay.domain.kinds.kind import EventKind
from forebay.domain.schema import DECIMALS

if TYPE_CHECKING:
    from forebay.domain.kinds.checks import Checks

_LEVELS = pa.schema(
    [(name, DECIMALS) for name in ("bid_prices", "bid_sizes", "ask_prices", "ask_sizes")]
)


def check_book(checks: Checks) -> None:
    """Reject messages with a price that is not positive, or not as many sizes as prices.

    A side may be empty.
    """
    checks.levels("bid_prices", "bid_sizes")
    checks.levels("ask_prices", "ask_sizes")


BOOK_SNAPSHOT = EventKind("book_snapshot", "book_snapshots", _LEVELS, check_book)
BOOK_DELTA = EventKind("book_delta", "book_deltas", _LEVELS, check_book)
