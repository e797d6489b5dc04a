"""The page of the tables: columns and types from the code, what they mean from here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from forebay.domain import schema
from forebay.domain.flags import FLAGS
from forebay.domain.kinds import KINDS

if TYPE_CHECKING:
    from forebay.domain.kinds import EventKind

HEAD = """\
# Tables

What `forebay sql` and `forebay.open(DIR).sql` can ask for. The page is made from the code:
`make docs`.

Times are UTC with nanoseconds. Prices and sizes are exact decimals with 18 places. `event_ts` is
never null and is what ranges go by; a column that a venue does not tell is null. `DESCRIBE trades`
tells the types as the store has them.

**In ClickHouse the product of two of them is wrong without an error**: write
`toDecimal256(price, 18) * size`, see
[Store in ClickHouse](../how-to/clickhouse.md#without-a-broker).

In DuckDB the product of two stored decimals is a DOUBLE, right to 15 digits, so that
`sum(price * size) / sum(size)` does not overflow; sums, comparisons and `price * 2` stay exact. For
exact products cast to fewer places: `price::DECIMAL(18, 8) * size::DECIMAL(18, 8)`. In a DuckDB of
your own, on the database or the Parquet files, write `price::DOUBLE * size`.

`forebay sql` prints a table of 100 rows at most, unless `--limit` says another number. In JSON and
CSV decimals, times and bytes are texts, exact and without needless zeros; what is no number is
`"NaN"`, `"Infinity"` or `"-Infinity"`, and bytes are as DuckDB writes them (`\\xAB`). In CSV lists
are JSON, NULL is nothing and an empty text is `""`. Of two columns of one name the second is `a_1`.

## Every event

The tables of events, below, have these columns, then their own, then `flags`.
"""
TABLES = {
    "trades": "What changed hands. `side` is **the taker's**, also where a venue tells the "
    "maker's, as Coinbase does: `buy` means that somebody bought what was offered.",
    "quotes": "Best bid and best ask.",
    "tickers": "A venue's summary of a market, with the last trade.",
    "bars": "What a market did in one period, as the venue told it.",
    "book_snapshots": "Whole order books; `forebay book` folds the changes into them.",
    "book_deltas": "Changes of order books: the new size of a price, 0 if it is gone. Where a "
    "venue tells differences, what is added to a price's size, or taken from it if it is negative.",
    "market_series": "What a venue says of its series: what comes again and again, an event at a "
    "time; `symbol` is the series. See [Market registry](../explanation/registry.md).",
    "market_events": "What a venue says of its events: happenings that one or more markets are "
    "about; `symbol` is the event.",
    "markets": "What a venue says of its markets, whole (`change` is `listed`) or in part: what is "
    "not said is null. Prices and volumes are in other tables.",
}
ENVELOPE = {
    "event_id": "identity: of the stream and the venue's own id, never of the time of receipt",
    "venue": "as in `forebay run --venue`",
    "market": "part of a venue, such as `spot`",
    "symbol": "the same for every venue, such as `BTC-USD`",
    "venue_symbol": "the venue's own word for it",
    "collector": "which collector told it first",
    "epoch": "the connection of that collector",
    "log_id": "the journal that has the frame",
    "seq": "where in that journal it is",
    "venue_seq": "the number that coverage counts; null where it counts none",
    "event_ts": "when it happened, by the venue, floored to what all its ways can tell",
    "exchange_ts": "the same as precisely as it was told; null if it was not",
    "received_ts": "when its frame was received",
}
OWN = {
    "trade_id": "the venue's; empty where it gives none",
    "price": "of one unit; of the last trade in `tickers`",
    "size": "how many units changed hands",
    "side": "`buy`, `sell` or `unknown`: the taker's",
    "bid_price": "best price that somebody pays",
    "bid_size": "how much there is of it",
    "ask_price": "best price that somebody takes",
    "ask_size": "how much there is of it",
    "volume_24h": "units traded in the last 24 hours",
    "open_24h": "price 24 hours ago",
    "high_24h": "highest price of the last 24 hours",
    "low_24h": "lowest price of the last 24 hours",
    "vwap_24h": "mean price of the last 24 hours, by volume",
    "timeframe": "`1m`, `5m`, `15m`, `1h`, `4h`, `1d`, `1w`",
    "session": "what a day is: `UTC`, or from 17:00 (`NY17`) or midnight (`NY00`) in New York",
    "of": "of which prices: `trade`, `bid`, `ask`, `mid`",
    "adjusted": "whether for splits and the like",
    "open_ts": "begin of the period",
    "close_ts": "its end, no longer in it",
    "open": "first price",
    "high": "highest price",
    "low": "lowest price",
    "close": "last price",
    "volume": "units traded",
    "trades": "how many trades",
    "vwap": "mean price, by volume",
    "origin": "`venue`, `aggregated` or `backfill`",
    "state": "`provisional` or `final`",
    "revision": "how often it was told anew",
    "bid_prices": "a list of prices",
    "bid_sizes": "a list: how much there is at each of them",
    "ask_prices": "a list of prices",
    "ask_sizes": "a list: how much there is at each of them",
    "change": "`listed` if all is said, else the venue's word for what changed",
    "changed_ts": "when that changed, by the venue; null if it does not say",
    "unknown": "columns with words that this version does not know, joined by commas",
    "impossible": "columns that contradict others or could not be read, joined by commas",
    "title": "what it is about",
    "subtitle": "more of it",
    "category": "the venue's",
    "tags": "JSON: the venue's",
    "frequency": "how often there is an event",
    "fee_type": "how fees are reckoned",
    "fee_multiplier": "by how much they are multiplied",
    "terms_url": "where the terms are",
    "settlement_sources": "JSON: who says what happened",
    "extra": "JSON: what the venue says besides, and does not change with every trade",
    "series_symbol": "the series that it is of: `symbol` of `market_series`",
    "event_symbol": "the event that it is of: `symbol` of `market_events`",
    "status": "the venue's word",
    "mutually_exclusive": "whether at most one of its markets can pay",
    "collateral_return_type": "the venue's word",
    "strike_ts": "when it happens",
    "strike_period": "in which period it happens",
    "market_type": "`binary`, or another word of the venue",
    "yes_title": "what YES means",
    "no_title": "what NO means",
    "result": "`yes` or `no`, once it is known",
    "created_ts": "when the market was made",
    "expected_expiration_ts": "when the result should be known",
    "latest_expiration_ts": "when it is known at the latest",
    "determined_ts": "when it was determined",
    "settled_ts": "when it was paid",
    "can_close_early": "whether trading may end before it is scheduled to",
    "early_close_condition": "when it may",
    "price_level_structure": "the venue's word for its price steps",
    "price_ranges": "JSON: the steps of prices, by range",
    "tick_size": "the smallest of them",
    "notional_value": "how much one contract pays at most",
    "strike_type": "how the strikes are meant",
    "floor_strike": "the lower strike",
    "cap_strike": "the upper strike",
    "custom_strike": "JSON: strikes of another kind",
    "settlement_value": "how much one YES contract paid",
    "expiration_value": "what was measured",
    "settlement_delay_s": "seconds from the determination to the payment",
    "rules_primary": "the rules",
    "rules_secondary": "more of them",
}
IN_MARKETS = {
    "open_ts": "when trading begins",
    "close_ts": "when it ends; until then, when it is scheduled to",
}
"""Columns that mean something else there."""
FLAG = {
    "backfill": "came from the venue's history, not from a live connection",
    "late": "received more than 60 s after it happened",
    "out_of_order": "a later event of the stream came first on this connection",
    "skewed": "the venue's time is more than 5 s ahead of ours",
    "crossed": "its bid is not below its ask",
    "partial": "from a recording that was filtered, so its neighbours say nothing",
    "closed_hours": "nothing happened in it while its market was closed: filler, and no coverage",
    "ambiguous": "equal ones may be missing: a connection began, or a page of history ended, in "
    "its instant",
}
TAIL = """
## Beside the events

| table | has |
|---|---|
| `gaps` | holes in what a stream must contain: `forebay gaps explain` reads one to you |
| `coverage` | what each stream has been seen to contain |
| `dead_letters` | what could not be read: its reason, and its bytes in `payload` |
| `letter_states` | what became of them: `replayed` or `failed` in a run, or `discarded`; who, why |
| `conflicts` | events that came again with other content; the first is the one stored |
| `cursors` | how far in the journal the store is |
| `book_checkpoints` | whole books folded from events; made again when they are missing |

`meta`, `hours_to_write`, `stream_epochs` and `stream_ordinals` are Forebay's own and may change.
"""


def page() -> str:
    """The page of all tables."""
    parts = [HEAD, _columns(schema.ENVELOPE, ENVELOPE)]
    parts += [f"\n{_flags()}"]
    parts += [_table(kind) for kind in KINDS.values()]
    return "\n".join([*parts, TAIL.strip("\n")]) + "\n"


def _table(kind: EventKind) -> str:
    meanings = OWN | IN_MARKETS if kind.table == "markets" else OWN
    states = f"\n\n{_states(kind)}" if kind.holds else ""
    columns = _columns(kind.columns, meanings)
    return f"\n## {kind.table}\n\n{TABLES[kind.table]}{states}\n\n{columns}"


def _states(kind: EventKind) -> str:
    return (
        f"The view `{kind.states}` says from when to when each held: `valid_from`, `valid_to` "
        "(null while nothing else was said) and what was said last of each column by then."
    )


def _columns(fields: pa.Schema, meanings: dict[str, str]) -> str:
    rows = [
        f"| `{field.name}` | {_type(field.type)} | {meanings[field.name]} |" for field in fields
    ]
    return "\n".join(["| column | type | is |", "|---|---|---|", *rows])


def _flags() -> str:
    rows = [f"| `{name}` | {FLAG[name]} |" for name in FLAGS]
    head = "`flags` is a text: names joined by commas, empty when there is none."
    return "\n".join([head, "", "| flag | means |", "|---|---|", *rows])


def _type(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return f"list of {_type(kind.value_type)}"
    names = {
        schema.DECIMAL: "decimal",
        schema.TIME: "time",
        schema.LABEL: "text",
        pa.string(): "text",
        pa.uuid(): "UUID",
        pa.int64(): "integer",
        pa.bool_(): "boolean",
    }
    return names[kind]
