"""The market registry, pure: what is known of each market, what is wanted, what began and ended.

Symbols that are asked for may be patterns. A market that a pattern stands for is wanted from
shortly before it opens until shortly after it ended; a symbol that is written out is wanted until
it ended. What is owed of a market begins when it opens, if it was asked for by then, and ends when
it does, whatever its schedule said. Nothing here does I/O, keeps time or rolls dice: times are UTC
nanoseconds and given.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from forebay.domain.listing import ListedMarket, ListQuery, head_of, is_pattern, matcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from forebay.domain.listing import MarketState

MOST_KNOWN: Final = 100_000
"""Markets that are known at once; more are left out, and counted."""
MOST_WORDS: Final = 1_000
"""Unknown values that are told apart."""
MISSED: Final = 2
"""A market that so many looks in a row asked for by name, and were not told of, is gone."""
_SECOND: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class RegistryTimes:
    """How long before and after, in nanoseconds."""

    lead_ns: int = 120 * _SECOND
    """A market is captured so long before it opens."""
    linger_ns: int = 30 * _SECOND
    """And so long after its end was noticed: what the venue says at last belongs to it."""
    keep_ns: int = 3_600 * _SECOND
    """It is remembered so long after that, so that it is not taken for a new one."""
    overlap_ns: int = 300 * _SECOND
    """So far behind the last look it is asked what ended: lists lag, and clocks differ."""


class MarketOwing(NamedTuple):
    """From when to when a market is owed; None: from its first acceptance, and to no end."""

    symbol: str
    since_ns: int | None
    until_ns: int | None = None


class RegistryMemory(msgspec.Struct):
    """What survives the process."""

    asked: dict[str, int] = {}
    """Since when each symbol or pattern is asked for."""
    looked_ns: int = 0
    """When the whole list was asked last; 0: never."""
    open: dict[str, tuple[int | None, int | None]] = {}
    """What was open then: when it opened, and since when it is owed."""


@dataclass(slots=True)
class KnownMarket:
    """What is known of one market."""

    told: ListedMarket
    seen_ns: int
    """When the venue told of it last."""
    since_ns: int | None = None
    until_ns: int | None = None
    """When it ended, None while it did not."""
    lingers_ns: int = 0
    """Of one that ended: how long it is captured on."""
    missed: int = 0
    """How many looks in a row asked for it by name, and were not told of it."""

    @property
    def owing(self) -> MarketOwing:
        return MarketOwing(self.told.symbol, self.since_ns, self.until_ns)


@dataclass(slots=True)
class RegistryNews:
    """What followed from what was told."""

    owing: list[MarketOwing] = field(default_factory=list)
    """What is owed now, where that changed."""
    gone: list[str] = field(default_factory=list)
    """Markets of which the venue does not tell any more."""
    unknown: list[tuple[str, str]] = field(default_factory=list)
    """Columns with values that nobody told before and that we do not know."""
    impossible: list[tuple[str, str]] = field(default_factory=list)
    """Markets that contradict themselves, and in which columns."""


class Registry:
    """The markets of one venue that some symbols or patterns stand for."""

    def __init__(
        self,
        asked: Sequence[str],
        now_ns: int,
        memory: RegistryMemory | None = None,
        times: RegistryTimes | None = None,
    ) -> None:
        memory = memory or RegistryMemory()
        self._times = times or RegistryTimes()
        self._asked = {name: min(memory.asked.get(name, now_ns), now_ns) for name in asked}
        self._exact = tuple(name for name in self._asked if not is_pattern(name))
        self._patterns: list[tuple[str, Callable[[str], bool]]]
        self._patterns = [(name, matcher(name)) for name in self._asked if is_pattern(name)]
        self.looked_ns = memory.looked_ns
        self.known: dict[str, KnownMarket] = {}
        self.left_out = 0
        """Markets that there was no room for, at the last look."""
        self._words: set[tuple[str, str]] = set()
        for symbol, (open_ns, since_ns) in memory.open.items():
            if self._asked_ns(symbol) is not None:
                market = ListedMarket(symbol=symbol, state="open", open_ns=open_ns)
                self.known[symbol] = KnownMarket(market, 0, since_ns)

    # ------------------------------------------------------------------- what to ask

    def queries(self, now_ns: int) -> Iterator[ListQuery]:
        """Return what a look that begins now asks for the patterns; :meth:`unseen` comes after."""
        self.left_out = 0
        heads = dict.fromkeys(head_of(name) for name, _ in self._patterns)
        states: tuple[MarketState, ...] = ("coming", "open", "ended")
        for head in heads:
            for state in states:
                if state != "ended":
                    yield ListQuery(head=head, state=state)
                elif self.looked_ns:
                    since_ns = self.looked_ns - self._times.overlap_ns
                    yield ListQuery(head=head, state=state, since_ns=since_ns, until_ns=now_ns)

    def unseen(self, began_ns: int) -> list[str]:
        """Return what has to be asked by name: what a look that began then was not told of."""
        names = dict.fromkeys(
            symbol
            for symbol, market in self.known.items()
            if market.until_ns is None and market.seen_ns < began_ns
        )
        names |= dict.fromkeys(name for name in self._exact if name not in self.known)
        return list(names)

    def asked_of(self, symbols: Iterable[str]) -> list[str]:
        """Return which of some symbols are asked for."""
        return sorted(symbol for symbol in symbols if self._asked_ns(symbol) is not None)

    # ------------------------------------------------------------------ what is told

    def tell(self, markets: Iterable[ListedMarket], now_ns: int) -> RegistryNews:
        """Return what follows from what the venue says; who nobody asked for is passed over."""
        news = RegistryNews()
        for market in markets:
            asked_ns = self._asked_ns(market.symbol)
            if asked_ns is None:
                continue
            self._note_words(market, news)
            known = self.known.get(market.symbol)
            if known is None:
                self._meet(market, asked_ns, now_ns, news)
                continue
            if market.impossible and market.impossible != known.told.impossible:
                news.impossible.append((market.symbol, market.impossible))
            before, known.told = known.told, market
            known.seen_ns, known.missed = now_ns, 0
            ended = known.until_ns is not None
            if market.state != before.state or ended != (market.state == "ended"):
                self._move(known, asked_ns, now_ns, news)
        return news

    def untold(self, names: Iterable[str], now_ns: int) -> RegistryNews:
        """Return what follows if the venue was asked for ``names`` and told nothing of them."""
        news = RegistryNews()
        for name in names:
            known = self.known.get(name)
            if known is None or known.until_ns is not None:
                continue
            known.missed += 1
            if known.missed >= MISSED:
                known.until_ns = known.seen_ns or now_ns
                known.lingers_ns = now_ns
                news.gone.append(name)
                news.owing.append(known.owing)
        return news

    def looked(self, began_ns: int) -> None:
        """Take that the whole list was asked, beginning then."""
        self.looked_ns = began_ns

    def pass_time(self, now_ns: int) -> RegistryNews:
        """Return what is owed of markets that are let go now; forget those that ended long ago."""
        news = RegistryNews()
        for symbol, known in list(self.known.items()):
            if known.until_ns is None:
                continue
            if known.lingers_ns and known.lingers_ns <= now_ns:
                # Once more, behind the last frame: only then is it known what is missing.
                news.owing.append(known.owing)
                known.lingers_ns = 0
                known.seen_ns = now_ns
            elif (
                not known.lingers_ns
                and symbol not in self._exact
                and now_ns - known.seen_ns > self._times.keep_ns
            ):
                del self.known[symbol]
        return news

    # ------------------------------------------------------------------ what follows

    def wanted(self, now_ns: int) -> tuple[str, ...]:
        """Return the symbols that are to be captured now; those known longest come first."""
        symbols = [name for name in self._exact if self._wants(name, now_ns, unknown=True)]
        symbols += [symbol for symbol in self.known if self._wants(symbol, now_ns)]
        return tuple(dict.fromkeys(symbols))

    def counts(self) -> dict[str, int]:
        """Return how many markets are known, by state."""
        found = dict.fromkeys(("coming", "open", "ended"), 0)
        for known in self.known.values():
            found[known.told.state if known.until_ns is None else "ended"] += 1
        return found

    def memory(self) -> RegistryMemory:
        """Return what is to survive the process."""
        still_open = {
            symbol: (known.told.open_ns, known.since_ns)
            for symbol, known in self.known.items()
            if known.told.state == "open" and known.until_ns is None
        }
        return RegistryMemory(dict(self._asked), self.looked_ns, still_open)

    def _wants(self, symbol: str, now_ns: int, *, unknown: bool = False) -> bool:
        known = self.known.get(symbol)
        if known is None:
            return unknown
        if known.told.state == "coming" and symbol not in self._exact:
            open_ns = known.told.open_ns
            return open_ns is not None and open_ns - now_ns <= self._times.lead_ns
        return known.until_ns is None or now_ns < known.lingers_ns

    def _asked_ns(self, symbol: str) -> int | None:
        """Return since when a market is asked for; None: it is not."""
        since = [self._asked[name] for name, matches in self._patterns if matches(symbol)]
        if symbol in self._asked:
            since.append(self._asked[symbol])
        return min(since, default=None)

    def _meet(self, market: ListedMarket, asked_ns: int, now_ns: int, news: RegistryNews) -> None:
        """Begin to know a market; one that ended before it was asked for is none of ours."""
        ended_ns = _end_of(market, now_ns) if market.state == "ended" else None
        if ended_ns is not None and ended_ns <= asked_ns and market.symbol not in self._exact:
            return
        if len(self.known) >= MOST_KNOWN:
            self.left_out += 1
            return
        if market.impossible:
            news.impossible.append((market.symbol, market.impossible))
        known = KnownMarket(market, now_ns)
        self.known[market.symbol] = known
        if market.state != "coming":
            known.since_ns = _since(market, asked_ns, now_ns)
            known.until_ns = ended_ns
            news.owing.append(known.owing)  # also of one that is listed, and no more than that

    def _move(self, known: KnownMarket, asked_ns: int, now_ns: int, news: RegistryNews) -> None:
        """Follow a market from one state into another."""
        market, owed = known.told, known.owing
        if market.state == "coming":
            return  # one that ended is owed again when it opens
        if known.since_ns is None:
            known.since_ns = _since(market, asked_ns, now_ns)
        if market.state == "open":
            known.until_ns, known.lingers_ns = None, 0
        elif known.until_ns is None:
            known.until_ns = _end_of(market, now_ns)
            known.lingers_ns = now_ns + self._times.linger_ns
        if known.owing != owed:
            news.owing.append(known.owing)

    def _note_words(self, market: ListedMarket, news: RegistryNews) -> None:
        for word in market.unknown:
            if word not in self._words and len(self._words) < MOST_WORDS:
                self._words.add(word)
                news.unknown.append(word)


def _since(market: ListedMarket, asked_ns: int, now_ns: int) -> int | None:
    """Return since when a market is owed that is open or was: if it opened after it was asked for.

    Of one that was open before, what came first is not known, and its first acceptance counts.
    """
    open_ns = market.open_ns
    return min(open_ns, now_ns) if open_ns is not None and open_ns > asked_ns else None


def _end_of(market: ListedMarket, now_ns: int) -> int:
    """Return when a market ended: the earliest time that it can have, which is not to come."""
    begin_ns = market.open_ns or 0
    return min((end for end in market.ends_ns if begin_ns < end <= now_ns), default=now_ns)
