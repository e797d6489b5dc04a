"""Paging a venue's history: one planner for each kind of cursor, pure, and one thin driver.

A planner is a generator. It yields the path of a page, is given the page's body, and returns the
ranges that history lacked. It reads no more of a page than paging needs, by a function
of the venue's that raises ``ValueError`` when the page is none: a row that is poison in another
field must not stop a fill.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, TypeVar

from forebay.domain.intervals import IntervalSet
from forebay.errors import Permanent, Stuck, Unusable
from forebay.sources.venue import AnsweredPart, Pages
from forebay.times import to_text

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from forebay.domain.intervals import Interval
    from forebay.ports import HistoryRequest


Ask = Callable[[str], Awaitable[bytes]]
"""Has a page captured and returns its body."""
T = TypeVar("T")
MOST_PAGES = 10_000
"""A range whose pages are more than these is an error, and not at its end."""


async def drive(
    pages: Pages, ask: Ask, answered: Callable[[AnsweredPart], object] = lambda _: None
) -> tuple[Interval, ...]:
    """Ask for page after page; return what the plan returns. Raises what asking raises.

    ``answered`` is told of each part as soon as it is known to be answered.
    """
    try:
        target = next(pages)
        while True:
            if isinstance(target, AnsweredPart):
                answered(target)
                target = next(pages)
            else:
                target = pages.send(await ask(target))
    except StopIteration as done:
        absent: tuple[Interval, ...] = done.value
        return absent


@dataclass(frozen=True, slots=True, kw_only=True)
class ById:
    """Ids that rise by one, listed downwards from an id."""

    path: Callable[[str, int, int], str]
    """From symbol, id and count: asks for so many rows with ids just below that, newest first."""
    ids: Callable[[bytes], Sequence[int]]
    """Returns the ids of a page in its order."""
    rows: int
    """Most rows of a page."""
    cost: int = 1
    unit: Literal["id", "time"] = "id"

    def plan(self, request: HistoryRequest) -> Pages:
        """Page from ``request.last`` down to ``request.first``, with an id more on each side.

        What lies between two ids that history lists and is not listed itself is lacking, if asked
        for again it is not there either; what lies beyond may only be late.
        """
        first, last = request.first, request.last
        listed, after, ended = IntervalSet(), last + 2, False
        while not ended and (not listed or listed.first >= first):
            ids = yield from self._page(request, after, min(self.rows, after - first + 1))
            ended = not ids
            for number in ids:
                listed.add(number)
            after = ids[-1] if ids else after
        if not listed:
            message = f"The history of {_named(request)} is empty below {after}."
            raise Unusable(message, hint="It may lag behind; the fill is tried again.")
        lacking = []
        floor = first if ended else max(first, listed.first)
        for hole in listed.holes(floor, min(last, listed.last)):
            again = yield from self._page(request, hole[1] + 1, 1)
            if not again or again[0] < hole[0]:
                lacking.append(hole)
        return tuple(lacking)

    def _page(
        self, request: HistoryRequest, after: int, rows: int
    ) -> Generator[str, bytes, Sequence[int]]:
        ids = _read(self.ids, (yield self.path(request.symbol, after, rows)), request)
        if any(newer <= older for newer, older in pairwise([after, *ids])):
            message = f"The page of {_named(request)} below {after} is not in falling order of ids."
            raise Unusable(message, hint="Nothing follows from it; the fill is tried again.")
        return ids


by_id = ById


@dataclass(frozen=True, slots=True, kw_only=True)
class ByToken:
    """Pages over times that say what the next one is called."""

    path: Callable[[HistoryRequest, str], str]
    """From the request and a token, empty for the first page."""
    token: Callable[[bytes], str]
    """Returns the token of the next page, empty after the last."""
    cost: int = 1
    unit: Literal["id", "time"] = "time"

    def plan(self, request: HistoryRequest) -> Pages:
        """Page until one names no next: neither a short page nor an empty one is the end."""
        token, seen = "", {""}
        while True:
            token = _read(self.token, (yield self.path(request, token)), request)
            if not token:
                return ()
            if token in seen:
                raise _stuck(request, f"names a page twice: {token!r}")
            if len(seen) >= MOST_PAGES:
                raise _endless(request, len(seen))
            seen.add(token)


by_token = ByToken


@dataclass(frozen=True, slots=True)
class ByTime:
    """Windows of time; see :func:`by_time`."""

    path: Callable[[str, int, int], str]
    count: Callable[[bytes], int]
    rows: int
    window_ns: int
    step_ns: int
    margin_ns: int
    cost: int = 1
    unit: Literal["id", "time"] = "time"

    def plan(self, request: HistoryRequest) -> Pages:
        """Page through windows; one that is full may be cut off, and is halved until it is not.

        A window is from its begin, included, to its end, not included, both multiples of the step.
        The range is widened by the margin, since a gap is in receipts and history in the venue's
        own time.
        """
        step = self.step_ns
        begin = (request.first - self.margin_ns) // step * step
        end = -(-(request.last + self.margin_ns + 1) // step) * step
        window = max(self.window_ns // step * step, step)
        while begin < end:
            until = min(begin + window, end)
            body = yield self.path(request.symbol, begin, until)
            if _read(self.count, body, request) < self.rows:
                begin = until
                window = max(self.window_ns // step * step, step)
            elif until - begin > step:
                window = max((until - begin) // 2 // step * step, step)
            else:
                message = f"A page of {_named(request)} is full within the smallest window."
                raise Unusable(message, hint="What it lacks cannot be asked for.")
        return ()


def by_time(
    *,
    path: Callable[[str, int, int], str],
    count: Callable[[bytes], int],
    rows: int,
    window_s: float,
    step_ns: int,
    margin_s: float = 1.0,
    cost: int = 1,
) -> ByTime:
    """Return a pager over windows of time.

    ``path`` is given symbol, begin (included) and end (not included) in UTC nanoseconds; ``count``
    returns how many rows a page has, ``rows`` being the most; ``step_ns`` is the venue's unit.
    """
    return ByTime(path, count, rows, round(window_s * 1e9), step_ns, round(margin_s * 1e9), cost)


@dataclass(frozen=True, slots=True)
class Series:
    """One series of bars that a venue's history has."""

    step_s: int
    """From one bar to the next; of days and weeks, about."""
    page_s: int
    """The longest span that is asked for at once: one page answers it, mostly."""
    lag_s: float = 5.0
    """How long after its end a bar is in history, and final."""
    since: str = ""
    """When the oldest bar opened, ISO 8601; empty: nobody knows."""
    session: str = "UTC"
    """As ``adjusted`` and ``of``, what the rows of its bars say of themselves."""
    adjusted: bool = False
    of: str = ""
    """Empty: what the venue's bars are of, which may differ by market."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ByBars:
    """Bars of several series by their time; requests say which series they are of."""

    series: Mapping[str, Series]
    path: Callable[[HistoryRequest, int, int], str]
    """From request, begin (included) and end (not included) in UTC nanoseconds."""
    bars: Callable[[HistoryRequest, bytes], Sequence[tuple[int, int]]]
    """Returns when each bar of a page opened and closed, the end not included."""
    following: Callable[[bytes], str] = lambda _: ""
    """Returns path and query of the next page, empty after the last."""
    most_pages: int = MOST_PAGES
    cost: int = 1
    unit: Literal["id", "time"] = "time"

    def plan(self, request: HistoryRequest) -> Pages:
        """Page from ``request.first`` to ``request.last``; what no bar of a page covers is lacking.

        Neither a short page nor an empty one is the end, and a page that tells nothing new or
        leads back is a source that does not advance. Where bars rise from page to page, what is
        before the last one is answered as soon as there is a next page. A range is cut into spans
        of one page: a gap may be longer, and what a page has no room for is not lacking.
        """
        if request.series not in self.series:
            has = ", ".join(self.series)
            raise Permanent(f"There is no history of {_named(request)}.", hint=f"There is: {has}.")
        told, known = IntervalSet(), request.first
        page_ns = self.series[request.series].page_s * 10**9
        for begin in range(request.first, request.last + 1, page_ns):
            end = min(begin + page_ns, request.last + 1)
            known = yield from self._span(request, (begin, end), known, told)
            if end <= request.last:
                yield AnsweredPart(end - 1, tuple(told.holes(known, end - 1)))
                known = end
        return tuple(told.holes(known, request.last))

    def _span(
        self, request: HistoryRequest, ends: tuple[int, int], known: int, told: IntervalSet
    ) -> Generator[str | AnsweredPart, bytes, int]:
        """Ask for one span, page after page, and add the times of its bars to ``told``.

        What is before ``known`` was answered; return from where on it is not now.
        """
        asked, here = set[str](), IntervalSet()
        target = self.path(request, *ends)
        while target:
            if len(asked) >= self.most_pages:
                raise _endless(request, len(asked))
            asked.add(target)
            body = yield target
            spans = _read(lambda page: self.bars(request, page), body, request)
            if spans and all(opened in here for opened, _ in spans):
                raise _stuck(request, "tells a page twice")
            rising = not told or all(opened > told.last for opened, _ in spans)
            for opened, closed in spans:
                here.add(opened, closed - 1)
                told.add(opened, closed - 1)
            target = _read(self.following, body, request)
            if target in asked:
                raise _stuck(request, f"names a page twice: {target!r}")
            if target and spans and rising and told.last < ends[1] - 1:
                yield AnsweredPart(told.last, tuple(told.holes(known, told.last)))
                known = told.last + 1
        return known


by_bars = ByBars


def _endless(request: HistoryRequest, pages: int) -> Stuck:
    where = f"from {to_text(request.first)} to {to_text(request.last)}"
    message = f"The history of {_named(request)} {where} has more than {pages} pages."
    return Stuck(message, hint="That is our own bound, and not the end of it.")


def _stuck(request: HistoryRequest, what: str) -> Stuck:
    message = f"The history of {_named(request)} {what}."
    return Stuck(message, hint="The source is not advancing; it is tried again.")


def _read(reader: Callable[[bytes], T], body: bytes, request: HistoryRequest) -> T:
    try:
        return reader(body)
    except (ValueError, RecursionError) as error:
        message = f"The page of {_named(request)} cannot be read: {error}."
        raise Unusable(message, hint="It is kept as a dead letter.") from error


def _named(request: HistoryRequest) -> str:
    return f"{request.channel} of {request.symbol}"
