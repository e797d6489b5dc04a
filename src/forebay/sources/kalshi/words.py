"""Kalshi: the words of its open sets that are known; others are kept, and said to be unknown.

From the venue's OpenAPI and AsyncAPI documents, its changelog and recorded answers. The sets grow:
of ``price_level_structure`` alone nine values came from July to September of 2026.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from forebay.domain.listing import MarketState

STATES: Final[Mapping[str, MarketState]] = {
    "initialized": "coming",
    "active": "open",
    "inactive": "open",
    **dict.fromkeys(("closed", "determined", "disputed", "amended", "finalized"), "ended"),
}
"""What each status of an answer means; of an inactive market trading pauses. What can be asked for
are other words, see :data:`~forebay.sources.kalshi.instruments.STATUSES`."""
KNOWN: Final[Mapping[str, frozenset[str]]] = {
    "status": frozenset(STATES),
    "result": frozenset({"yes", "no", "scalar"}),
    "market_type": frozenset({"binary", "scalar"}),
    "price_level_structure": frozenset(
        {
            *("linear_cent", "deci_cent", "tapered_deci_cent"),
            *(f"center_whole_edge_{edge}_cent" for edge in ("half", "quint")),
            *(f"center_half_edge_{edge}_cent" for edge in ("half", "quint", "deci")),
            *(f"center_quint_edge_{edge}_cent" for edge in ("quint", "deci")),
            *(f"center_{center}_edge_centi_cent" for center in ("centi", "deci")),
        }
    ),
    "strike_type": frozenset(
        {
            *("greater", "greater_or_equal", "less", "less_or_equal", "between"),
            *("functional", "custom", "structured"),
        }
    ),
}
"""By column."""

CHANGES: Final = frozenset(
    {
        *("created", "activated", "deactivated", "close_date_updated", "determined", "settled"),
        *("price_level_structure_updated", "metadata_updated"),
    }
)
"""What the websocket says that has become of a market."""


def unknown_words(said: Mapping[str, str | None]) -> list[tuple[str, str]]:
    """Return the columns of an open set with the values that are not known; nothing is none."""
    return [
        (column, word)
        for column, words in KNOWN.items()
        if (word := said.get(column)) and word not in words
    ]
