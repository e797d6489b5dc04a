"""Switched faults: what a drill switches on and off while the simulated exchange runs.

A fault is rolled by dice for each event, and known in advance. A switched one lasts: from when it
is switched on until it is switched off it strikes everything that it concerns, and it counts how
often it did, because a drill whose fault never happened proves nothing.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from forebay.errors import ConfigError
from forebay.text import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

TOO_MANY: Final = "rest-429"
BROKEN: Final = "rest-500"
HANG: Final = "rest-hang"
REFUSE: Final = "rest-refuse"
PAGE: Final = "rest-page"
FLAP: Final = "websocket-flap"
SILENCE: Final = "websocket-silence"
NO_UPGRADE: Final = "websocket-refuse"
TEAR: Final = "websocket-tear"
RESTATE: Final = "websocket-restate"

ABOUT: Final[Mapping[str, str]] = MappingProxyType(
    {
        TOO_MANY: "REST answers 429; `retry_after_s` whole seconds in Retry-After, 0 for none; "
        "`form` 1: no body, 2: a page, 3: seconds with a fraction, 4: a date, 5: a word, 6: a 0",
        BROKEN: "REST answers with HTTP status `status`",
        PAGE: "REST answers with a page for people and HTTP status `status`",
        HANG: "REST takes requests and never answers",
        REFUSE: "REST resets each connection that asks",
        FLAP: "the websocket closes each connection right after it accepted its subscription",
        SILENCE: "the websocket stays open and is silent, pongs included",
        NO_UPGRADE: "the websocket closes, and answers every upgrade with 503",
        TEAR: "every event whose index `every` divides arrives as JSON cut short",
        RESTATE: "every event whose index `every` divides comes again with another price",
    }
)
SETTINGS: Final[Mapping[str, Mapping[str, int]]] = MappingProxyType(
    {
        TOO_MANY: {"retry_after_s": 1, "form": 0},
        PAGE: {"status": 200},
        BROKEN: {"status": 500},
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

    name: str
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
        self._all = {name: Trouble(name, settings=dict(it)) for name, it in self._known.items()}

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

    def setting(self, name: str, key: str) -> int:
        """Return a setting of a trouble."""
        return self._all[name].settings[key]

    def document(self) -> dict[str, Any]:
        """Return every trouble as JSON can hold it."""
        return {
            trouble.name: {
                "on": trouble.on,
                "hits": trouble.hits,
                "settings": trouble.settings,
                "moments_ns": list(trouble.moments_ns),
            }
            for trouble in self._all.values()
        }
