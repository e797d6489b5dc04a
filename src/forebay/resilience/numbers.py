"""The numbers that strategies are told: refused when they are told, or nothing fails later."""

from __future__ import annotations

import math
import sys

from forebay.errors import ConfigError

LONGEST_S = 1e9
"""Over thirty years: no duration is longer, so that each fits every clock and time-out."""

MOST_JITTER = math.nextafter(1.0, 0.0)
"""Below a whole, of which a wait could be none."""


def require_number(
    name: str, value: object, *, least: float = 0.0, above: bool = False, most: float = LONGEST_S
) -> None:
    """Raise ConfigError unless ``value`` is from ``least`` to ``most``, or ``above`` the least.

    Others than ``int`` and ``float`` may overflow in what is computed of them, as NumPy's do.
    """
    kind = " Give it as an int or a float."
    if isinstance(value, int | float):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if (least < number if above else least <= number) and number <= most:
            return
        kind = ""
    low = f"more than {least:g}" if above else f"{least:g} or more"
    hint = f"It must be {low}, and {most:.16g} at most.{kind}"
    raise ConfigError(f"{name} is {value}.", hint=hint)


def require_count(name: str, value: object, *, least: int = 1) -> None:
    """Raise ConfigError unless ``value`` is an ``int`` from ``least`` to ``sys.maxsize``."""
    if not isinstance(value, int) or not least <= value <= sys.maxsize:
        raise ConfigError(
            f"{name} is {value}.",
            hint=f"It must be a whole number, {least} or more.",
        )


def grown(base: float, factor: float, times: int, most: float) -> float:
    """Return ``base * factor ** times``, and at most ``most``, however large all of it is."""
    try:
        return min(most, base * float(factor) ** times)
    except OverflowError:
        return most
