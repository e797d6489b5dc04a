"""Asks another venue for bars while the one whose bars are wanted does not answer.

What the other venue tells is captured as its own, by its own source: its rows, its dead letters,
its coverage. Nothing is marked as answered in the series that it stands in for, so that one stays
wanted, and is asked for again until its venue answers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from forebay.errors import ForebayError, JournalFull, Permanent, Transient, Unreachable, Unusable
from forebay.ports import HistoryRequest
from forebay.resilience import CircuitOpen, State
from forebay.telemetry import AlternativeAsked, Observer, ignore

if TYPE_CHECKING:
    from forebay.clock import Clock
    from forebay.ports import FrameSink
    from forebay.resilience import CircuitBreaker

SILENT_S = 60.0
"""A venue that has answered nothing for so long is away, though its breaker is not open."""


class Fills(Protocol):
    """Whoever can be asked for a hole, as :meth:`forebay.ports.Source.fill`."""

    async def fill(self, request: HistoryRequest, sink: FrameSink) -> None:
        """Ask for it, and put the answers into ``sink``."""
        ...


Translated = Callable[[HistoryRequest], Awaitable[Sequence[HistoryRequest]]]
"""Returns what of a request the other venue has still to be asked for, in its own words.

Raises :class:`~forebay.errors.Permanent` if it does not offer that."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """Bars of one symbol at another venue."""

    name: str
    """As the configuration spells it: ``venue/market:SYMBOL``."""
    source: Fills
    translated: Translated


class AnsweredElsewhere(Unreachable):
    """The venue does not answer, and another one has told what it has of that."""


class WithAlternatives:
    """A venue's history, with other venues to be asked for its bars while it is away."""

    def __init__(
        self,
        first: Fills,
        others: Mapping[tuple[str, str], Sequence[Alternative]],
        *,
        clock: Clock,
        observer: Observer = ignore,
        breaker: CircuitBreaker | None = None,
        silent_s: float = SILENT_S,
    ) -> None:
        """``others`` are by market and symbol, in the order in which they are asked.

        ``breaker`` is the one that the first venue is behind; without it, a call that it refuses
        tells that it is open.
        """
        self._first = first
        self._others = others
        self._clock = clock
        self._observe = observer
        self._breaker = breaker
        self._silent_ns = round(silent_s * 1e9)
        self._failing_ns: int | None = None
        """Since when the first venue has answered nothing."""

    async def fill(self, request: HistoryRequest, sink: FrameSink) -> None:
        """Ask the first venue, and the others if it is away.

        Raises what the first one does; :class:`AnsweredElsewhere` if another one has answered.
        """
        try:
            await self._first.fill(request, sink)
        except (Unusable, Permanent):
            self._failing_ns = None
            raise
        except JournalFull:
            raise
        except Transient as error:
            others = self._others.get((request.market, request.symbol), ())
            if not (request.series and self._is_away(error)):
                raise
            for other in others:
                if await self._ask(other, request, sink):
                    message = f"{error.message} {other.name} was asked instead."
                    raise AnsweredElsewhere(message) from error
            raise
        self._failing_ns = None

    def _is_away(self, error: Transient) -> bool:
        now_ns = self._clock.monotonic_ns()
        if self._failing_ns is None:
            self._failing_ns = now_ns
        is_open = isinstance(error, CircuitOpen) or (
            self._breaker is not None and self._breaker.state not in (State.CLOSED, State.DISABLED)
        )
        return is_open or now_ns - self._failing_ns >= self._silent_ns

    async def _ask(self, other: Alternative, request: HistoryRequest, sink: FrameSink) -> bool:
        """Have another venue asked; return whether it has answered all of it, now or before."""
        problem, asked = "", 0
        try:
            for each in await other.translated(request):
                asked += 1
                await other.source.fill(each, sink)
            await sink.flushed()
        except JournalFull:
            raise
        except ForebayError as error:
            problem = str(error)
        if asked or problem:
            named = request.channel, request.symbol, request.first, request.last
            self._observe(AlternativeAsked(*named, other.name, problem))
        return not problem
