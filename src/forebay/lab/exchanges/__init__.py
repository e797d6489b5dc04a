"""Simulated exchanges: one chassis for all, and a folder per venue for what is the venue's own.

A venue is a :class:`~forebay.lab.exchanges.model.VenueModel`, and a line here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from forebay.drivers import Driven
from forebay.errors import ConfigError

if TYPE_CHECKING:
    from forebay.lab.exchanges.model import VenueModel

NAMES: Final = (
    "coinbase",
    "kalshi",
    "massive",
)  # fmt: skip
"""A venue each, whose folder is called so."""
_SIGNING: Final = "cryptography"
"""The one driver that some of them need."""


def check_venue(name: str) -> None:
    """Raise :class:`~forebay.errors.ConfigError` if there is no simulator of this venue."""
    if name not in NAMES:
        message = f"There is no simulator of {name!r}."
        raise ConfigError(message, hint=f"There is {', '.join(NAMES)}.")


def venue_named(name: str) -> VenueModel:
    """What is the venue's own.

    Raises :class:`~forebay.errors.ConfigError` if there is none, or if it needs a driver that is
    not installed: the extra of the same name has it.
    """
    check_venue(name)
    model: VenueModel = Driven(f"{__name__}.{name}", _SIGNING, name).brought_in().VENUE
    return model
