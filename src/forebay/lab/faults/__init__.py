"""Seeded faults, one file each; which events they strike is in closed form too."""

from __future__ import annotations

import difflib
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from forebay.errors import ConfigError
from forebay.lab.faults import (
    corrupt,
    disconnect,
    drop,
    duplicate,
    half_open,
    late,
    rate_limit,
    reorder,
)
from forebay.lab.faults.dice import Dice

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from forebay.lab.faults.scene import Scene

STRIKES: Final[Mapping[str, Callable[[Scene], None]]] = MappingProxyType(
    {
        disconnect.NAME: disconnect.strike,
        half_open.NAME: half_open.strike,
        drop.NAME: drop.strike,
        corrupt.NAME: corrupt.strike,
        late.NAME: late.strike,
        reorder.NAME: reorder.strike,
        duplicate.NAME: duplicate.strike,
    }
)
"""Faults of single events; if several would strike one event, the first of these does."""

_PLACES: Final = tuple(STRIKES)
NAMES: Final = (*STRIKES, rate_limit.NAME)
OTHER_FEEDS: Final = ("ticker", "book")
"""What faults can strike besides trades, by names such as ``book_disconnect``."""
_ALL: Final = (*NAMES, *(f"{feed}_{name}" for feed in OTHER_FEEDS for name in STRIKES))
_REQUESTS = "requests"  # what the dice of REST requests are asked about


class Faults:
    """Decides which fault strikes which event; probabilities by fault name, 0 to 1."""

    def __init__(self, seed: int, probabilities: Mapping[str, float]) -> None:
        self._events = {
            feed: Dice(seed, [probabilities.get(f"{feed}_{name}", 0.0) for name in STRIKES])
            for feed in OTHER_FEEDS
        }
        self._trades = Dice(seed, [probabilities.get(name, 0.0) for name in STRIKES])
        self._requests = Dice(seed, [probabilities.get(rate_limit.NAME, 0.0)])

    def of_event(self, symbol: str, index: int, feed: str = "trade") -> tuple[str, int] | None:
        """Name of the fault that strikes this event, and a number to choose details with."""
        if feed == "trade":
            thrown = self._trades.throw(symbol, index)
        else:
            thrown = self._events[feed].throw(f"{feed}|{symbol}", index)
        return None if thrown is None else (_PLACES[thrown[0]], thrown[1])

    def of_request(self, number: int) -> int | None:
        """A number to choose details with if REST request ``number`` is refused, else None."""
        thrown = self._requests.throw(_REQUESTS, number)
        return None if thrown is None else thrown[1]


def parse_faults(text: str) -> dict[str, float]:
    """Probabilities from ``drop=0.001,late=0.01``; an empty text is no faults.

    Raises:
        ConfigError: an unknown fault, or something that is no probability.
    """
    probabilities: dict[str, float] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, _, value = part.partition("=")
        if name not in _ALL:
            raise ConfigError(f"{name!r} is not a fault.", hint=_suggestion(name))
        probabilities[name] = _probability(name, value)
    return probabilities


def _probability(name: str, value: str) -> float:
    try:
        probability = float(value)
    except ValueError:
        probability = -1.0
    if not 0 <= probability <= 1:
        message = f"{value!r} is not a probability of the fault {name}."
        raise ConfigError(message, hint=f"Give a number from 0 to 1, such as {name}=0.001.")
    return probability


def _suggestion(name: str) -> str:
    close = difflib.get_close_matches(name, _ALL, n=1, cutoff=0.5)
    return f"Did you mean {close[0]!r}?" if close else f"There are {', '.join(NAMES)}."
