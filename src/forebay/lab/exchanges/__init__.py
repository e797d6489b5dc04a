"""Simulated exchanges: one chassis for all, and a folder per venue for what is the venue's own.

A venue is a :class:`~forebay.lab.exchanges.model.VenueModel`, and a line here.
"""

from __future__ import annotations

import importlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from forebay.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from forebay.lab.exchanges.model import VenueModel

_MODULES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "coinbase": "forebay.lab.exchanges.coinbase",
        "massive": "forebay.lab.exchanges.massive",
    }
)
NAMES: Final = tuple(_MODULES)


def check_venue(name: str) -> None:
    """Raise :class:`~forebay.errors.ConfigError` if there is no simulator of this venue."""
    if name not in _MODULES:
        message = f"There is no simulator of {name!r}."
        raise ConfigError(message, hint=f"There is {', '.join(NAMES)}.")


def venue_named(name: str) -> VenueModel:
    """What is the venue's own; raises :class:`~forebay.errors.ConfigError` if there is none."""
    check_venue(name)
    model: VenueModel = importlib.import_module(_MODULES[name]).VENUE
    return model
