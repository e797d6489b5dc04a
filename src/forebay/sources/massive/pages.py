"""What REST answers: pages of aggregates, quotes and trades."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from forebay.domain.parsed import DeadLetter, Parsed, RawEvents, Reason
from forebay.sources.massive import bars, ticks
from forebay.sources.massive.channels import (
    BARS,
    CHANNELS,
    MILLISECOND,
    SECONDS,
    pair_of,
    taken,
    ticker_of,
)
from forebay.sources.massive.paths import ANSWERED, AskedBars, asked_bars, asked_ticks, series_of
from forebay.sources.massive.protocol import UNDECODABLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from forebay.domain.frames import FrameBatch
    from forebay.ports import HistoryRequest

T = TypeVar("T")


class _Page(msgspec.Struct, Generic[T]):
    """An answer; ``results`` are absent, null or empty when nothing matches."""

    results: list[T] | None = None
    adjusted: bool | None = None
    ticker: str | None = None
    status: str = ""


class _Rows:
    """Decodes the rows of a page together, and one by one where that cannot be."""

    def __init__(self, row: Any) -> None:  # noqa: ANN401 - a type as msgspec takes it
        self._page = msgspec.json.Decoder(_Page[row]).decode
        self._row = msgspec.json.Decoder(row).decode

    def of(self, frame: int, payload: bytes, dead: list[DeadLetter]) -> _Read | None:
        """Return one page; None if it is dead as a whole."""
        try:
            page = self._page(payload)
            return _Read(page, [(frame, item, row) for item, row in enumerate(page.results or ())])
        except UNDECODABLE:
            pass
        try:
            raw = _decode(payload)
        except UNDECODABLE as error:
            dead.append(DeadLetter(frame, 0, _why(error), str(error)))
            return None
        read = _Read(raw, [])
        for item, each in enumerate(raw.results or ()):
            try:
                read.rows.append((frame, item, self._row(each)))
            except UNDECODABLE as error:
                dead.append(DeadLetter(frame, item, _why(error), str(error)))
        return read


@dataclass(slots=True)
class _Read:
    """A page and its rows, each with frame and item."""

    page: _Page[Any]
    rows: list[tuple[int, int, Any]] = field(default_factory=list)


_decode = msgspec.json.Decoder(_Page[msgspec.Raw]).decode
_bar_rows = _Rows(bars.BarRow)
_tick_rows = {kind: _Rows(row) for kind, row in ticks.ROWS.items()}


def _why(error: Exception) -> Reason:
    if not isinstance(error, msgspec.ValidationError):
        return "not_json"
    return "missing_field" if "missing required field" in str(error) else "wrong_type"


def read_pages(batch: FrameBatch) -> Parsed:
    """Account for answers to one question."""
    target = batch.context.request.removeprefix("GET ")
    if (asked := asked_bars(target)) is not None and BARS.kind in taken(batch):
        return _read_bars(batch, asked, target)
    if (ticked := asked_ticks(target)) is not None and ticked[0] in taken(batch):
        return _read_ticks(batch, *ticked)
    # An answer that holds no events, such as the list of tickers.
    parsed = Parsed(control=len(batch))
    if asked is None and ticked is None:
        parsed.unbuilt[f"GET {target.partition('?')[0]}"] = len(batch)
    return parsed


def _symbol_of(batch: FrameBatch, name: str, naming: Callable[[str, str], str]) -> str | None:
    """Return the symbol that a question is about: the one asked for that is called ``name``."""
    market = batch.context.market
    for symbol in batch.context.symbols:
        if naming(market, symbol) == name:
            return symbol
    return None


def _read(
    batch: FrameBatch,
    rows: _Rows,
    name: str,
    naming: Callable[[str, str], str],
    events: Callable[[str, list[_Read], list[DeadLetter]], RawEvents | None],
) -> Parsed:
    """Account for pages about ``name``; ``events`` are made of symbol and pages."""
    parsed = Parsed()
    symbol = _symbol_of(batch, name, naming)
    pages: list[_Read] = []
    for frame, payload in enumerate(batch.payloads):
        letters = len(parsed.dead)
        read = rows.of(frame, payload, parsed.dead)
        if read is None:
            continue
        if read.page.status not in ANSWERED:
            error = f"status {read.page.status!r:.200}"
            parsed.dead[letters:] = [DeadLetter(frame, 0, "bad_value", error)]
        elif symbol is None or read.page.ticker not in (None, name):
            error = f"{read.page.ticker or name!r:.200} was not asked for"
            parsed.dead[letters:] = [DeadLetter(frame, 0, "unknown_symbol", error)]
        elif not read.page.results:
            parsed.control += 1  # nothing matches; not even a token makes it more
        else:
            pages.append(read)
    if symbol is not None and pages:
        made = events(symbol, pages, parsed.dead)
        parsed.events = [made] if made is not None and len(made) else []
    return parsed


def _read_bars(batch: FrameBatch, asked: AskedBars, target: str) -> Parsed:
    def events(symbol: str, pages: list[_Read], dead: list[DeadLetter]) -> RawEvents:
        kept: list[bars.Told] = []
        adjusted: list[bool] = []
        for read in pages:
            if (said := _adjusted(read, target, dead)) is None:
                continue
            sifted = bars.sifted(read.rows, asked, dead)
            kept += sifted
            adjusted += [said] * len(sifted)
        step_ms = SECONDS[asked.timeframe] * 1000
        return bars.bars(
            batch,
            kept,
            market=batch.context.market,
            symbols=[symbol] * len(kept),
            venue_symbols=[asked.ticker] * len(kept),
            timeframes=[asked.timeframe] * len(kept),
            ends_ms=[row.t + step_ms for _, _, row in kept],
            adjusted=adjusted,
            skew_ns=bars.SKEW_NS,
        )

    return _read(batch, _bar_rows, asked.ticker, ticker_of, events)


def bar_times(request: HistoryRequest, body: bytes) -> list[tuple[int, int]]:
    """Return when the bars of a page begin and end, in nanoseconds.

    A row that cannot be a bar is none, so that it is asked for again. Raises ``ValueError`` if the
    page is none.
    """
    dead: list[DeadLetter] = []
    timeframe, _ = series_of(request.series)
    ticker = ticker_of(request.market, request.symbol)
    read = _bar_rows.of(0, body, dead)
    if read is None:
        raise ValueError(dead[0].error)
    first_ms, last_ms = request.first // MILLISECOND, request.last // MILLISECOND
    asked = AskedBars(ticker, timeframe, first_ms, last_ms)
    begins = [row.t for _, _, row in bars.sifted(read.rows, asked, dead) if bars.possible(row)]
    step_ns = SECONDS[timeframe] * 1000 * MILLISECOND
    return [(begin * MILLISECOND, begin * MILLISECOND + step_ns) for begin in begins]


def _adjusted(read: _Read, target: str, dead: list[DeadLetter]) -> bool | None:
    """Return whether a page says that its bars are adjusted.

    None, and its rows are dead letters, if it does not say, or not as it was asked.
    """
    said = read.page.adjusted
    wanted = {f"adjusted={'true' if each else 'false'}": each for each in (True, False)}
    asked = [wanted[part] for part in target.partition("?")[2].split("&") if part in wanted]
    if said is not None and asked in ([], [said]):
        return said
    reason: Reason = "missing_field" if said is None else "bad_value"
    for frame, item, _ in read.rows:
        dead.append(DeadLetter(frame, item, reason, f"adjusted is {said}, asked for {asked}"))
    return None


def _read_ticks(batch: FrameBatch, kind: str, pair: str) -> Parsed:
    def events(symbol: str, pages: list[_Read], dead: list[DeadLetter]) -> RawEvents | None:
        del dead
        rows = [each for read in pages for each in read.rows]
        return ticks.events(CHANNELS[kind], batch.context.market, symbol, pair, rows)

    return _read(batch, _tick_rows[kind], pair, pair_of, events)
