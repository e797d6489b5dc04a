"""Pages of REST: rows one after the other, and a cursor that says where the next one begins."""

from __future__ import annotations

import base64
import binascii
import heapq
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from forebay.lab.exchanges.kalshi.troubles import ROW_AGAIN
from forebay.lab.exchanges.queries import BadQuery, number

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from forebay.lab.exchanges.kalshi.truth import KalshiTrades
    from forebay.lab.faults import SwitchedFaults
    from forebay.lab.truth import Trade

Row = TypeVar("Row")

USUAL: Final = 100
MOST: Final = 1_000
_S = 1_000_000_000


def limit_of(query: Mapping[str, str], most: int = MOST) -> int:
    """Return how many rows a page is to have."""
    limit = number(query.get("limit") or str(USUAL), "limit")
    if limit is None or not 1 <= limit <= most:
        raise BadQuery(f"limit must be between 1 and {most}")
    return limit


def cursor_of(*places: int) -> str:
    """Return a cursor; what it holds is nobody's business."""
    return base64.urlsafe_b64encode(",".join(map(str, places)).encode()).decode()


def places_of(query: Mapping[str, str], count: int) -> Sequence[int] | None:
    """Return what a cursor holds, None if there is none."""
    cursor = query.get("cursor")
    if not cursor:
        return None
    try:
        places = [int(part) for part in base64.urlsafe_b64decode(cursor).decode().split(",")]
    except (ValueError, binascii.Error):
        places = []
    if len(places) != count:
        raise BadQuery("invalid cursor")
    return places


def page(
    rows: Sequence[Row], query: Mapping[str, str], switched: SwitchedFaults, now_ns: int
) -> tuple[Sequence[Row], str]:
    """Return a page of rows that keep their places, and the cursor of the next one."""
    limit = limit_of(query)
    (first,) = places_of(query, 1) or (0,)
    end = first + limit
    if first and switched.strikes(ROW_AGAIN, now_ns):
        first -= 1
    return rows[first:end], cursor_of(end) if end < len(rows) else ""


class Window(NamedTuple):
    """Which trades are asked for, by venue time in nanoseconds, both ends included."""

    since_ns: int
    until_ns: int


class ListedTrade(NamedTuple):
    """A trade where a list of all markets' trades has it: the newest first."""

    behind_ns: int
    rank: int
    behind: int
    trades: KalshiTrades
    trade: Trade


def trades_page(
    markets: Iterable[tuple[KalshiTrades, int]],
    window: Window,
    query: Mapping[str, str],
    switched: SwitchedFaults,
    now_ns: int,
) -> tuple[list[ListedTrade], str]:
    """Return a page of trades of markets, each with its latest index, and the next one's cursor."""
    limit, after = limit_of(query), places_of(query, 3)
    again = after is not None and switched.strikes(ROW_AGAIN, now_ns)
    runs = [
        _newest_first(rank, trades, last, window, after)
        for rank, (trades, last) in enumerate(markets)
    ]
    place = tuple(after) if after is not None else None
    rows = (
        row
        for row in heapq.merge(*runs, key=lambda row: row[:3])
        if place is None or row[:3] > place or (again and row[:3] == place)
    )
    found = list(islice(rows, limit + again + 1))
    more = len(found) > limit + again
    found = found[: limit + again]
    return found, cursor_of(*found[-1][:3]) if more else ""


def _newest_first(
    rank: int, trades: KalshiTrades, last: int, window: Window, after: Sequence[int] | None
) -> Iterator[ListedTrade]:
    until_ns = window.until_ns if after is None else min(window.until_ns, -after[0])
    last = min(last, trades.index_at(until_ns))
    for index in range(last, -1, -1):
        if not trades.happened(index):
            continue
        trade = trades.event(index)
        if trade.event_ts < window.since_ns:
            return
        yield ListedTrade(-trade.event_ts, rank, -index, trades, trade)


def window_of(query: Mapping[str, str]) -> Window:
    """Return which trades a question is about."""
    since, until = number(query.get("min_ts"), "min_ts"), number(query.get("max_ts"), "max_ts")
    return Window((since or 0) * _S, (1 << 62) if until is None else until * _S)


def between(query: Mapping[str, str], name: str, ns: Any) -> bool:  # noqa: ANN401 - or None
    """Return whether a moment is as ``min_…`` and ``max_…`` of a name want it."""
    low = number(query.get(f"min_{name}_ts"), f"min_{name}_ts")
    high = number(query.get(f"max_{name}_ts"), f"max_{name}_ts")
    if low is None and high is None:
        return True
    if ns is None:
        return False
    return (low is None or ns >= low * _S) and (high is None or ns <= high * _S)
