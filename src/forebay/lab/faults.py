"""Faults of the simulated exchange: those that dice decide, and those that a drill switches.

A seeded fault is rolled for each event or REST request; which it strikes is in closed form too. A
switched one lasts: from when it is switched on until it is switched off it strikes everything that
it concerns, and it counts how often it did, because a drill whose fault never happened proves
nothing.
"""

from __future__ import annotations

import enum
import hashlib
from collections import deque
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from forebay.errors import ConfigError
from forebay.lab.exchanges.model import FEEDS, TRADE
from forebay.text import did_you_mean, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from forebay.lab.exchanges.line import Line
    from forebay.lab.exchanges.model import Feed


class Ending(enum.Enum):
    """How the server ends a connection; the value is the websocket close code."""

    GOING_AWAY = 1001
    CUT = 1006
    """In the middle of a frame, without a close frame."""
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012


def stream_of(feed: Feed, symbol: str) -> str:
    """What the ledger knows the events of a feed by: a trade by its symbol alone."""
    return symbol if feed == TRADE else f"{feed}|{symbol}"


@dataclass(frozen=True, slots=True)
class Emission:
    """One event on its way to those who subscribed to it."""

    symbol: str
    index: int
    frame: bytes
    feed: Feed = TRADE

    @property
    def stream(self) -> str:
        return stream_of(self.feed, self.symbol)


@dataclass(frozen=True, slots=True)
class Scene:
    """Where and when a fault strikes."""

    sent: Sequence[tuple[Line, Emission]]
    """Connections that would get the event, each with it as it would be told; never empty."""
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
        line.end(endings[scene.roll % len(endings)], scene.sent[0][1])


def half_open(scene: Scene) -> None:
    """Mute one listener, pings and pongs too, and leave it open; the others get the frame."""
    victim, _ = scene.sent[scene.roll % len(scene.sent)]
    victim.mute(scene.now_ns)
    for line, emission in scene.sent:
        if line is not victim:
            line.send(emission)


def corrupt(scene: Scene) -> None:
    """Send a proper prefix of the frame, never empty: a poison frame that yields no event."""
    for line, emission in scene.sent:
        line.send_torn(emission, 1 + scene.roll % (len(emission.frame) - 1))


def late(scene: Scene) -> None:
    """Hold the frame back for 50 to 500 ms, so that it arrives out of order."""
    delay_ms = _SHORTEST_MS + scene.roll % (_LONGEST_MS - _SHORTEST_MS + 1)
    for line, emission in scene.sent:
        line.hold(emission, scene.now_ns + delay_ms * 1_000_000)


def reorder(scene: Scene) -> None:
    """Let the next frame of each connection go first."""
    for line, emission in scene.sent:
        line.swap(emission)


def duplicate(scene: Scene) -> None:
    """Send the frame twice in a row."""
    for line, emission in scene.sent:
        line.send(emission)
        line.send(emission)


def retry_after(roll: int) -> int:
    """Return the seconds in Retry-After of a refused request; 0 for none, every other time."""
    return roll & 1


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
        "drop": lambda _scene: None,
        CORRUPT: corrupt,
        "late": late,
        "reorder": reorder,
        "duplicate": duplicate,
    }
)
"""Faults of single events; if several would strike one event, the first of these does."""

_PLACES: Final = tuple(STRIKES)
NAMES: Final = (*STRIKES, RATE_LIMIT)
_ALL: Final = (*NAMES, *(f"{feed}_{name}" for feed in FEEDS if feed != TRADE for name in STRIKES))
"""What else faults strike is in their names, such as ``book_disconnect``."""


# ------------------------------------------------------------------------- whom they strike

_WORD: Final = 8
"""Bytes of one number."""
_WORDS: Final = 8
"""Numbers of one throw; the last one chooses details."""
_Limits = list[tuple[int, int]]
"""Place of a fault, and what its number must be below for it to strike."""


class Faults:
    """Decides which fault strikes which event; probabilities by fault name, 0 to 1.

    One throw is one hash, of which each fault has a number of its own by its place, so that the
    probability of one does not change another.
    """

    def __init__(self, seed: int, probabilities: Mapping[str, float]) -> None:
        self._dice = hashlib.blake2b(f"{seed}|faults|".encode(), digest_size=_WORD * _WORDS)
        self._limits = {
            feed: _limits(probabilities.get(_name_of(feed, fault), 0.0) for fault in STRIKES)
            for feed in FEEDS
        }
        self._requests = _limits([probabilities.get(RATE_LIMIT, 0.0)])

    def of_event(self, symbol: str, index: int, feed: Feed = TRADE) -> tuple[str, int] | None:
        """Name of the fault that strikes this event, and a number to choose details with."""
        thrown = self._throw(self._limits[feed], stream_of(feed, symbol), index)
        return None if thrown is None else (_PLACES[thrown[0]], thrown[1])

    def of_request(self, number: int) -> int | None:
        """A number to choose details with if REST request ``number`` is refused, else None."""
        thrown = self._throw(self._requests, "requests", number)
        return None if thrown is None else thrown[1]

    def _throw(self, limits: _Limits, name: str, index: int) -> tuple[int, int] | None:
        """Place of the first fault that strikes here and a number for its details, or None."""
        if not limits:
            return None
        dice = self._dice.copy()
        dice.update(f"{name}|{index}".encode())
        digest = dice.digest()
        for fault, limit in limits:
            at = fault * _WORD
            if int.from_bytes(digest[at : at + _WORD], "big") < limit:
                return fault, int.from_bytes(digest[-_WORD:], "big")
        return None


def _limits(probabilities: Iterable[float]) -> _Limits:
    return [(place, int(often * (1 << 64))) for place, often in enumerate(probabilities) if often]


def _name_of(feed: Feed, fault: str) -> str:
    return fault if feed == TRADE else f"{feed}_{fault}"


def parse_faults(text: str) -> dict[str, float]:
    """Return probabilities from ``drop=0.001,late=0.01``; an empty text is no faults.

    Raises :class:`~forebay.errors.ConfigError` for what is no fault or no probability.
    """
    probabilities: dict[str, float] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, _, value = part.partition("=")
        if name not in _ALL:
            near = nearest(name, _ALL, cutoff=0.5)
            hint = f"Did you mean {near!r}?" if near else f"There are {', '.join(NAMES)}."
            raise ConfigError(f"{name!r} is not a fault.", hint=hint)
        try:
            probabilities[name] = float(value)
        except ValueError:
            probabilities[name] = -1.0
        if not 0 <= probabilities[name] <= 1:
            message = f"{value!r} is not a probability of the fault {name}."
            raise ConfigError(message, hint=f"Give a number from 0 to 1, such as {name}=0.001.")
    return probabilities


# ------------------------------------------------------------------------- switched faults

TOO_MANY: Final = "rest-429"
BROKEN: Final = "rest-500"
BAN: Final = "rest-418"
HANG: Final = "rest-hang"
REFUSE: Final = "rest-refuse"
PAGE: Final = "rest-page"
FLAP: Final = "websocket-flap"
SILENCE: Final = "websocket-silence"
NO_UPGRADE: Final = "websocket-refuse"
AGEING: Final = "websocket-ageing"
TEAR: Final = "websocket-tear"
RESTATE: Final = "websocket-restate"

ABOUT: Final[Mapping[str, str]] = MappingProxyType(
    {
        TOO_MANY: "REST answers 429; `retry_after_s` whole seconds in Retry-After, 0 for none; "
        "`form` 1: no body, 2: a page, 3: seconds with a fraction, 4: a date, 5: a word, 6: a 0",
        BROKEN: "REST answers with HTTP status `status`",
        BAN: "REST answers 418, and in Retry-After and by a moment in milliseconds says until "
        "when, `ban_s` seconds from then",
        PAGE: "REST answers with a page for people and HTTP status `status`",
        HANG: "REST takes requests and never answers",
        REFUSE: "REST resets each connection that asks",
        FLAP: "the websocket closes each connection right after it accepted its subscription",
        SILENCE: "the websocket stays open and is silent, pongs included",
        NO_UPGRADE: "the websocket closes, and answers every upgrade with 503",
        AGEING: "what the websocket sends gets older, by `ms_per_s` milliseconds each second up to "
        "`most_ms`, in the right order",
        TEAR: "every event whose index `every` divides arrives as JSON cut short",
        RESTATE: "every event whose index `every` divides comes again with another price",
    }
)
SETTINGS: Final[Mapping[str, Mapping[str, int]]] = MappingProxyType(
    {
        TOO_MANY: {"retry_after_s": 1, "form": 0},
        PAGE: {"status": 200},
        BROKEN: {"status": 500},
        BAN: {"ban_s": 3},
        AGEING: {"ms_per_s": 500, "most_ms": 20_000},
        TEAR: {"every": 100},
        RESTATE: {"every": 100},
    }
)
"""What a trouble can be told, with its default."""
KEPT: Final = 1000
"""Moments that are kept of each trouble; the oldest go first."""


@dataclass(slots=True)
class Trouble:
    """One trouble; ``hits`` counts since the exchange began."""

    on: bool = False
    hits: int = 0
    settings: dict[str, int] = field(default_factory=dict)
    moments_ns: deque[int] = field(default_factory=lambda: deque(maxlen=KEPT))
    """When it struck, as monotonic nanoseconds."""


class SwitchedFaults:
    """All switched faults of one exchange, by name; everything is off at first."""

    def __init__(self, own: Mapping[str, Mapping[str, int]] = MappingProxyType({})) -> None:
        """``own`` are those of a venue alone, each with what it can be told."""
        self._known = {name: SETTINGS.get(name, {}) for name in ABOUT} | dict(own)
        self._all = {name: Trouble(settings=dict(it)) for name, it in self._known.items()}

    def switch(self, name: str, *, on: bool, settings: Mapping[str, object] | None = None) -> None:
        """Switch a trouble on or off.

        Raises :class:`~forebay.errors.ConfigError` if there is no such trouble or setting.
        """
        trouble = self._all.get(name)
        if trouble is None:
            hint = did_you_mean(name, self._all, f"There are {', '.join(self._all)}.")
            raise ConfigError(f"{name!r} is not a trouble.", hint=hint)
        known = self._known[name]
        for key, value in (settings or {}).items():
            if key not in known or type(value) is not int or value < 0:
                message = f"{key}={value!r} is no setting of the trouble {name}."
                raise ConfigError(message, hint=f"It takes {', '.join(known) or 'none'}.")
            trouble.settings[key] = value
        trouble.on = on

    def on(self, name: str) -> bool:
        """Whether a trouble lasts; nothing is counted."""
        return self._all[name].on

    def strikes(self, name: str, now_ns: int) -> bool:
        """Whether a trouble lasts; if so it struck, and that is counted."""
        trouble = self._all[name]
        if trouble.on:
            trouble.hits += 1
            trouble.moments_ns.append(now_ns)
        return trouble.on

    def strikes_event(self, name: str, index: int, now_ns: int) -> bool:
        """Whether a trouble of single events lasts and strikes this one, which is counted."""
        every = self._all[name].settings["every"]
        return self.on(name) and index % max(1, every) == 0 and self.strikes(name, now_ns)

    def hits(self, name: str) -> int:
        """How often a trouble struck so far."""
        return self._all[name].hits

    def setting(self, name: str, key: str) -> int:
        return self._all[name].settings[key]

    def document(self) -> dict[str, Any]:
        return {
            name: {**asdict(trouble), "moments_ns": list(trouble.moments_ns)}
            for name, trouble in self._all.items()
        }
