"""Seeded faults of single events and of REST requests; which they strike is in closed form too."""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from forebay.errors import ConfigError
from forebay.text import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from forebay.lab.exchanges.line import Line


class Ending(enum.Enum):
    """How the server ends a connection; the value is the websocket close code."""

    GOING_AWAY = 1001
    CUT = 1006
    """In the middle of a frame, without a close frame."""
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012


def stream_of(feed: str, symbol: str) -> str:
    """What the ledger knows the events of a feed by: a trade by its symbol alone."""
    return symbol if feed == "trade" else f"{feed}|{symbol}"


@dataclass(frozen=True, slots=True)
class Emission:
    """One event on its way to those who subscribed to it."""

    symbol: str
    index: int
    frame: bytes
    feed: str = "trade"

    @property
    def stream(self) -> str:
        """What the ledger knows it by."""
        return stream_of(self.feed, self.symbol)


@dataclass(frozen=True, slots=True)
class Scene:
    """Where and when a fault strikes."""

    emission: Emission
    listeners: Sequence[Line]
    """Connections that would get the frame; never empty."""
    everyone: Sequence[Line]
    """All connections that are alive; a half-open one is not."""
    roll: int
    """Chooses details; closed form like the decision itself."""
    now_ns: int


# ------------------------------------------------------------------------- what each fault does


def disconnect(scene: Scene) -> None:
    """End every connection, in one of the ways servers do; the event itself reaches nobody."""
    endings = tuple(Ending)
    for line in scene.everyone:
        line.end(endings[scene.roll % len(endings)], scene.emission)


def half_open(scene: Scene) -> None:
    """Mute one listener, pings and pongs too, and leave it open; the others get the frame."""
    victim = scene.listeners[scene.roll % len(scene.listeners)]
    for line in scene.listeners:
        if line is victim:
            line.mute()
        else:
            line.send(scene.emission)


def drop(scene: Scene) -> None:
    """Send nothing."""
    del scene


def corrupt(scene: Scene) -> None:
    """Send a proper prefix of the frame, never empty: a poison frame that yields no event."""
    length = 1 + scene.roll % (len(scene.emission.frame) - 1)
    for line in scene.listeners:
        line.send_torn(scene.emission, length)


def late(scene: Scene) -> None:
    """Hold the frame back for 50 to 500 ms, so that it arrives out of order."""
    delay_ms = _SHORTEST_MS + scene.roll % (_LONGEST_MS - _SHORTEST_MS + 1)
    for line in scene.listeners:
        line.hold(scene.emission, scene.now_ns + delay_ms * 1_000_000)


def reorder(scene: Scene) -> None:
    """Let the next frame of each connection go first."""
    for line in scene.listeners:
        line.swap(scene.emission)


def duplicate(scene: Scene) -> None:
    """Send the frame twice in a row."""
    for line in scene.listeners:
        line.send(scene.emission)
        line.send(scene.emission)


def retry_after(roll: int) -> str | None:
    """Return the Retry-After header of a refused request, or None, every other time."""
    return "1" if roll & 1 else None


CORRUPT: Final = "corrupt"
HALF_OPEN: Final = "halfopen"
RATE_LIMIT: Final = "rate_limit"
"""A REST request is answered with 429."""
_SHORTEST_MS: Final = 50
_LONGEST_MS: Final = 500
STRIKES: Final[Mapping[str, Callable[[Scene], None]]] = MappingProxyType(
    {
        "disconnect": disconnect,
        HALF_OPEN: half_open,
        "drop": drop,
        CORRUPT: corrupt,
        "late": late,
        "reorder": reorder,
        "duplicate": duplicate,
    }
)
"""Faults of single events; if several would strike one event, the first of these does."""

_PLACES: Final = tuple(STRIKES)
NAMES: Final = (*STRIKES, RATE_LIMIT)
OTHER_FEEDS: Final = ("ticker", "book", "bar", "second")
"""What faults can strike besides trades, by names such as ``book_disconnect``."""
_ALL: Final = (*NAMES, *(f"{feed}_{name}" for feed in OTHER_FEEDS for name in STRIKES))
_REQUESTS = "requests"  # what the dice of REST requests are asked about


# ------------------------------------------------------------------------- whom they strike

_WORD: Final = 8
"""Bytes of one number."""
_WORDS: Final = 8
"""Numbers of one throw."""


class Dice:
    """Seeded dice for several faults at once: one throw is one hash.

    Args:
        seed: the simulator's.
        probabilities: 0 to 1, one for each of at most seven faults. A fault's place decides
            which number it gets, so the probability of one does not change another.
    """

    def __init__(self, seed: int, probabilities: list[float]) -> None:
        self._limits = [
            (fault, int(probability * (1 << 64)))
            for fault, probability in enumerate(probabilities)
            if probability
        ]
        self._base = hashlib.blake2b(f"{seed}|faults|".encode(), digest_size=_WORD * _WORDS)

    def throw(self, name: str, index: int) -> tuple[int, int] | None:
        """Place of the first fault that strikes here and a number for its details, or None."""
        if not self._limits:
            return None
        dice = self._base.copy()
        dice.update(f"{name}|{index}".encode())
        digest = dice.digest()
        for fault, limit in self._limits:
            at = fault * _WORD
            if int.from_bytes(digest[at : at + _WORD], "big") < limit:
                return fault, int.from_bytes(digest[-_WORD:], "big")
        return None


class Faults:
    """Decides which fault strikes which event; probabilities by fault name, 0 to 1."""

    def __init__(self, seed: int, probabilities: Mapping[str, float]) -> None:
        self._events = {
            feed: Dice(seed, [probabilities.get(f"{feed}_{name}", 0.0) for name in STRIKES])
            for feed in OTHER_FEEDS
        }
        self._trades = Dice(seed, [probabilities.get(name, 0.0) for name in STRIKES])
        self._requests = Dice(seed, [probabilities.get(RATE_LIMIT, 0.0)])

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
    near = nearest(name, _ALL, cutoff=0.5)
    return f"Did you mean {near!r}?" if near else f"There are {', '.join(NAMES)}."
