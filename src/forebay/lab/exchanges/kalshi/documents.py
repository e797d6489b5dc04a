"""What REST says of a trade, a book, a market, an event and a series, as JSON objects.

Answers are of the newer schema, of dollars and fixed point, with the whole cents and contracts of
the older one beside them, as they were in the spring of 2026; :func:`as_asked` leaves out either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from forebay.lab.exchanges.kalshi import messages, truth
from forebay.lab.exchanges.kalshi.lives import price_ranges, settlement_value, title
from forebay.lab.exchanges.kalshi.symbols import event_of, series_of
from forebay.lab.truth.texts import iso_micros

if TYPE_CHECKING:
    from collections.abc import Iterable

    from forebay.lab.exchanges.kalshi.truth import KalshiTrades
    from forebay.lab.truth import Trade

DOLLARS: Final = "_dollars"
COUNT: Final = "_fp"
_NOTHING: Final = "0.0000"
_NO_CONTRACTS: Final = "0.00"
_HOUR_NS = 3_600_000_000_000
_OLD_WORDS: Final = {"finalized": "settled", "inactive": "closed"}


def cents(dollars: str) -> int:
    """Whole cents of a price, rounded down."""
    return int(dollars.replace(".", "")) // 100


def contracts(count: str) -> int:
    """Whole contracts, rounded down."""
    return int(count.partition(".")[0])


def both(**fields: str) -> dict[str, Any]:
    """Prices and counts in both schemas, by the newer one's names."""
    old = {
        name.removesuffix(DOLLARS).removesuffix(COUNT): (
            cents(text) if name.endswith(DOLLARS) else contracts(text)
        )
        for name, text in fields.items()
    }
    return {**old, **fields}


def as_asked(document: Any, *, older: bool, newer: bool) -> Any:  # noqa: ANN401 - JSON
    """Return an answer with one schema alone, if that is wanted."""
    if not (older or newer):
        return document
    if isinstance(document, list):
        return [as_asked(each, older=older, newer=newer) for each in document]
    if not isinstance(document, dict):
        return document
    names = {*document}
    kept = {}
    for name, value in document.items():
        has_new = bool(names & {name + DOLLARS, name + COUNT})
        if (newer and has_new) or (older and name.endswith(COUNT)):
            continue
        kept[name] = as_asked(value, older=older, newer=newer)
    if older and kept.get("status") in _OLD_WORDS:
        kept["status"] = _OLD_WORDS[kept["status"]]
    return kept


def trade_row(trades: KalshiTrades, trade: Trade) -> dict[str, Any]:
    """One trade."""
    outcome, side = ("yes", "bid") if trade.side == "buy" else ("no", "ask")
    prices = both(
        yes_price_dollars=trade.price,
        no_price_dollars=truth.complement(trade.price),
        count_fp=trade.size,
    )
    return {
        "trade_id": trade.maker_order_id,
        "ticker": trades.symbol,
        **prices,
        "price": cents(trade.price) / 100,
        "taker_side": outcome,
        "taker_outcome_side": outcome,
        "taker_book_side": side,
        "created_time": iso_micros(trade.event_ts),
        "is_block_trade": False,
    }


def book(trades: KalshiTrades, last: int, depth: int) -> dict[str, Any]:
    """A book, of each side as many of the best levels as asked for; 0 is all of them."""
    yes, no = (
        side[-depth:] if depth else side
        for side in messages.levels(truth.KalshiBook(trades).snapshot(last))
    )
    old = {
        "yes": [[cents(price), contracts(size)] for price, size in yes] or None,
        "no": [[cents(price), contracts(size)] for price, size in no] or None,
    }
    sides = {"yes_dollars": yes, "no_dollars": no}
    return {"orderbook": {**old, **sides}, "orderbook_fp": dict(sides)}


def market(trades: KalshiTrades, last: int) -> dict[str, Any]:
    """One market, as of its latest event."""
    life, ticker = trades.life, trades.symbol
    over = life.status in ("determined", "finalized")
    return {
        "ticker": ticker,
        "event_ticker": event_of(ticker),
        "market_type": "binary",
        "title": title(ticker),
        "subtitle": "",
        "yes_sub_title": "Yes",
        "no_sub_title": "No",
        "status": life.status,
        "result": life.result if over else "",
        "can_close_early": True,
        "category": "",
        "response_price_units": "usd_cent",
        "risk_limit_cents": 0,
        "tick_size": max(1, trades.grid.step // 100),
        "settlement_timer_seconds": 60,
        "exchange_index": 0,
        "price_level_structure": trades.grid.structure,
        "price_ranges": price_ranges(trades),
        "strike_type": "greater_or_equal",
        "floor_strike": 4405.11,
        "expiration_value": life.result if over else "",
        "rules_primary": f"If it is so, then {ticker} resolves to Yes.",
        "rules_secondary": "",
        **_times(trades),
        **_prices(trades, last),
        **({"settlement_value_dollars": settlement_value(trades)} if over else {}),
        **_combined(ticker),
        **life.told,
    }


def _times(trades: KalshiTrades) -> dict[str, str]:
    life = trades.life
    times = {
        "created_time": life.created_ns,
        "open_time": life.open_ns,
        "close_time": life.close_ns,
        "expected_expiration_time": life.close_ns + _HOUR_NS,
        "expiration_time": life.close_ns + 168 * _HOUR_NS,
        "latest_expiration_time": life.close_ns + 168 * _HOUR_NS,
        "updated_time": life.updated_ns,
        **({} if life.settled_ns is None else {"settlement_ts": life.settled_ns}),
    }
    return {name: iso_micros(ns) for name, ns in times.items()}


def _prices(trades: KalshiTrades, last: int) -> dict[str, Any]:
    bid, bid_size, ask, ask_size = _NOTHING, _NO_CONTRACTS, "1.0000", _NO_CONTRACTS
    if trades.halted_ns is None and last >= 0:
        best_bid, best_ask = truth.KalshiBook(trades).best(last)
        (bid, bid_size), (ask, ask_size) = best_bid, best_ask
    volume = truth.volume(last)
    traded = trades.event(last).price if last >= 0 else _NOTHING
    return {
        **both(
            yes_bid_dollars=bid,
            yes_ask_dollars=ask,
            no_bid_dollars=truth.complement(ask),
            no_ask_dollars=truth.complement(bid),
            last_price_dollars=traded,
            previous_price_dollars=_NOTHING,
            previous_yes_bid_dollars=_NOTHING,
            previous_yes_ask_dollars=_NOTHING,
            liquidity_dollars=_NOTHING,
            notional_value_dollars="1.0000",
            volume_fp=volume,
            volume_24h_fp=volume,
            open_interest_fp=volume,
        ),
        "yes_bid_size_fp": bid_size,
        "yes_ask_size_fp": ask_size,
    }


def _combined(ticker: str) -> dict[str, Any]:
    """What only a market has that is made of others."""
    if not ticker.startswith("KXMVE"):
        return {}
    legs = [{"event_ticker": "KXA", "market_ticker": f"KXA-{leg}", "side": "yes"} for leg in (1, 2)]
    return {"mve_collection_ticker": event_of(ticker), "mve_selected_legs": legs}


def event(ticker: str) -> dict[str, Any]:
    """One event."""
    return {
        "event_ticker": ticker,
        "series_ticker": series_of(ticker),
        "title": title(ticker),
        "sub_title": "",
        "category": "Simulated",
        "collateral_return_type": "",
        "mutually_exclusive": False,
        "available_on_brokers": False,
        "strike_period": "",
        "exchange_index": 0,
        "product_metadata": {},
        "settlement_sources": _sources(),
    }


def series(ticker: str) -> dict[str, Any]:
    """One series."""
    return {
        "ticker": ticker,
        "title": title(ticker),
        "category": "Simulated",
        "tags": ["Simulated"],
        "frequency": "custom",
        "settlement_sources": _sources(),
        "contract_url": "https://example.org/contract",
        "contract_terms_url": "https://example.org/terms",
        "fee_type": "quadratic",
        "fee_multiplier": 1,
        "additional_prohibitions": [],
        "product_metadata": {},
    }


def _sources() -> list[dict[str, str]]:
    return [{"name": "The simulator", "url": "https://example.org"}]


def unique(names: Iterable[str]) -> list[str]:
    """Return each once, in the order of the first."""
    return list(dict.fromkeys(names))
