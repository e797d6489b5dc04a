"""The kinds of events, a file each; those of a registry are in one."""

from __future__ import annotations

from forebay.domain.kinds.bar import BAR
from forebay.domain.kinds.book import BOOK_DELTA, BOOK_SNAPSHOT
from forebay.domain.kinds.checks import EventKind
from forebay.domain.kinds.market import MARKET, MARKET_EVENT, MARKET_SERIES
from forebay.domain.kinds.quote import QUOTE
from forebay.domain.kinds.ticker import TICKER
from forebay.domain.kinds.trade import TRADE

__all__ = ["KINDS", "EventKind", "kind_of_table"]

KINDS: dict[str, EventKind] = {
    kind.channel: kind
    for kind in (
        *(TRADE, QUOTE, TICKER, BAR, BOOK_SNAPSHOT, BOOK_DELTA),
        *(MARKET_SERIES, MARKET_EVENT, MARKET),
    )
}
"""By channel. Everything that treats events reads it when it needs it, so a kind that is added
here is stored, digested and audited as the others are."""


def kind_of_table(table: str) -> EventKind:
    """Return the kind whose events are in ``table``; raises ``KeyError`` if there is none."""
    return {kind.table: kind for kind in KINDS.values()}[table]
