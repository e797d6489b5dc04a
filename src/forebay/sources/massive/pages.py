"""What REST answers: pages of aggregates, quotes and trades."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from forebay.domain.calendars.grid import STEPS
from forebay.domain.parsed import DeadLetter, Parsed
from forebay.sources.massive.connector import (
    ANSWERED,
    AskedBars,
    asked_bars,
    asked_ticks,
    series_of,
)
from forebay.sources.massive.messages import BarRow, QuoteRow, TradeRow, bars, on_grid, ticks
from forebay.sources.massive.protocol import BARS, MILLISECOND, pair_of, taken, ticker_of
from forebay.sources.parsing import SKEW_NS, PageReader

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from forebay.domain.frames import FrameBatch
    from forebay.domain.parsed import Reason
    from forebay.ports import HistoryRequest
    from forebay.sources.parsing import Placed, ReadPage

T = TypeVar("T")
_ADJUSTED = re.compile(r"(?<=[?&])adjusted=(true|false)(?=&|$)")


class _Page(msgspec.Struct, Generic[T]):
    """An answer; ``results`` are absent, null or empty when nothing matches."""

    results: list[T] | None = None
    adjusted: bool | None = None
    ticker: str | None = None
    status: str = ""


def _reader(row: Any) -> PageReader:  # noqa: ANN401 - a type as msgspec takes it
    return PageReader(row, lambda one: _Page[one], lambda page: page.results or ())  # type: ignore[valid-type]


_bar_pages = _reader(BarRow)
_tick_pages = {row.channel.kind: _reader(row) for row in (QuoteRow, TradeRow)}


def read_pages(batch: FrameBatch) -> Parsed:
    """Account for answers to one question."""
    target = batch.context.request.removeprefix("GET ")
    ticked, asked, parsed = asked_ticks(target), asked_bars(target), Parsed()
    if asked is not None and BARS.kind in taken(batch):
        _read_bars(batch, asked, target, parsed)
    elif ticked is not None and ticked[0] in taken(batch):
        kind, pair = ticked
        symbol, pages = _pages(batch, _tick_pages[kind], pair, pair_of, parsed)
        if rows := [row for page in pages for row in page.rows]:
            parsed.events = [ticks(rows, 1, **_named(batch, symbol, pair, len(rows)))]
    else:  # an answer that holds no events, such as the list of tickers
        parsed.control = len(batch)
        if asked is None and ticked is None:
            parsed.unbuilt[f"GET {target.partition('?')[0]}"] = len(batch)
    return parsed


def _named(batch: FrameBatch, symbol: str, name: str, count: int) -> dict[str, Any]:
    market = batch.context.market
    return {"market": market, "symbol": [symbol] * count, "venue_symbol": [name] * count}


def _pages(
    batch: FrameBatch,
    reader: PageReader,
    name: str,
    naming: Callable[[str, str], str],
    parsed: Parsed,
) -> tuple[str, list[ReadPage]]:
    """Return the symbol asked for that is called ``name``, and the pages about it with rows."""
    market, symbols = batch.context.market, batch.context.symbols
    symbol = next((each for each in symbols if naming(market, each) == name), "")
    pages: list[ReadPage] = []
    for frame, payload in enumerate(batch.payloads):
        letters = len(parsed.dead)
        read = reader.read(frame, payload, parsed.dead)
        if read is None:
            continue
        if wrong := _wrong(read, name if symbol else ""):
            parsed.dead[letters:] = [DeadLetter(frame, 0, *wrong)]
        elif not read.page.results:
            parsed.control += 1  # nothing matches; not even a token makes it more
        else:
            pages.append(read)
    return symbol, pages


def _wrong(read: ReadPage, name: str) -> tuple[Reason, str] | None:
    """Return why a page is none about ``name``, if it is none."""
    if read.page.status not in ANSWERED:
        return "bad_value", f"status {read.page.status!r:.200}"
    if not name or read.page.ticker not in (None, name):
        return "unknown_symbol", f"{read.page.ticker!r:.200} was not asked for"
    return None


# ------------------------------------------------------------------------------- bars


def _read_bars(batch: FrameBatch, asked: AskedBars, target: str, parsed: Parsed) -> None:
    symbol, pages = _pages(batch, _bar_pages, asked.ticker, ticker_of, parsed)
    said = {word == "true" for word in _ADJUSTED.findall(target)} or {True, False}
    kept: dict[bool, list[Placed]] = {False: [], True: []}
    for read in pages:
        kept[read.page.adjusted is True] += _sifted(read, asked, said, parsed.dead)
    parsed.events = [
        bars(
            batch,
            rows,
            asked.timeframe,
            adjusted=adjusted,
            skew_ns=SKEW_NS,
            **_named(batch, symbol, asked.ticker, len(rows)),
        )
        for adjusted, rows in kept.items()
        if rows
    ]


def bar_times(request: HistoryRequest, body: bytes) -> list[tuple[int, int]]:
    """Return when the bars of a page begin and end, in nanoseconds.

    A row that the parser refuses is none, so that it is asked for again. Raises ``ValueError`` if
    the page is none.
    """
    dead: list[DeadLetter] = []
    timeframe, adjusted = series_of(request.series)
    ticker = ticker_of(request.market, request.symbol)
    read = _bar_pages.read(0, body, dead)
    if read is None:
        raise ValueError(dead[0].error)
    if wrong := _wrong(read, ticker):
        raise ValueError(wrong[1])
    asked = AskedBars(ticker, timeframe, request.first // MILLISECOND, request.last // MILLISECOND)
    step_ms = STEPS[timeframe] * 1000
    return [
        (row.begin * MILLISECOND, (row.begin + step_ms) * MILLISECOND)
        for _, _, row in _sifted(read, asked, {adjusted}, dead)
        if row.possible
    ]


def _sifted(
    read: ReadPage, asked: AskedBars, adjusted: Collection[bool], dead: list[DeadLetter]
) -> list[Placed]:
    """Return the rows of a page that can be what was asked for; the others go to ``dead``.

    Answers have held rows outside their window, off the grid, and several with one start. Of
    equal ones the first is the bar; of different ones nobody knows which is. A page says whether
    its bars are adjusted, or none of them counts.
    """
    first: dict[int, BarRow] = {}
    differing, kept = set(), []
    several = len({row.begin for _, _, row in read.rows}) < len(read.rows)
    for _, _, row in read.rows if several else ():
        if (other := first.setdefault(row.begin, row)) is not row and other != row:
            differing.add(row.begin)
    said = read.page.adjusted
    for frame, item, row in read.rows:
        reason: Reason = "bad_value"
        if said not in adjusted:
            reason = "missing_field" if said is None else reason
            error = f"adjusted is {said}, asked for {', '.join(map(str, adjusted))}"
        elif not on_grid(row.begin, asked.timeframe):
            reason, error = "bad_time", f"{row.begin} begins no bar of {asked.timeframe}"
        elif not asked.within(row.begin):
            reason = "bad_time"
            error = f"{row.begin} is outside of {asked.first_ms} to {asked.last_ms}"
        elif row.begin in differing:
            error = f"different bars of one page begin at {row.begin}"
        elif several and first[row.begin] is not row:
            error = f"bar {row.begin} is told twice"
        else:
            kept.append((frame, item, row))
            continue
        dead.append(DeadLetter(frame, item, reason, error))
    return kept
