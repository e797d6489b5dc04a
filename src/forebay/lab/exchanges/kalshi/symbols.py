"""Tickers: ``SERIES-EVENT-MARKET``, and how lists of them are written."""

from __future__ import annotations

import re
from typing import Final

from forebay.errors import ConfigError

_TICKER: Final = re.compile(r"[A-Z0-9][A-Z0-9.]*(-[A-Z0-9.]+)*")
_IDLE: Final = "=idle"
_MOST: Final = 100_000


def parse_tickers(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the tickers of markets in which something happens, and of idle ones.

    ``KXA-1,KXB-26DEC31*150,KXC*1000=idle``: with ``*`` so many are made up; behind ``=idle``
    nothing ever happens. Raises :class:`~forebay.errors.ConfigError` for anything else, and for a
    ticker that is named twice.
    """
    live: list[str] = []
    idle: list[str] = []
    for part in (part.strip() for part in text.split(",")):
        named = part.removesuffix(_IDLE)
        (live if named == part else idle).extend(_made_up(named))
    every = [*live, *idle]
    if len(set(every)) < len(every):
        raise ConfigError(f"A market is named twice in {text!r}.", hint="Name each once.")
    return tuple(live), tuple(idle)


def _made_up(named: str) -> list[str]:
    ticker, star, count = named.partition("*")
    right = _TICKER.fullmatch(ticker) and (not star or count.isdecimal())
    if not right or (star and not 1 <= int(count) <= _MOST):
        hint = "Write KXGOLD-26DEC31-T1, or KXGOLD-26DEC31*150 for as many made-up ones."
        raise ConfigError(f"{named!r} is no market.", hint=hint)
    if not star:
        return [ticker]
    return [f"{ticker}-T{number:0{max(4, len(count))}}" for number in range(1, int(count) + 1)]


def is_ticker(text: str) -> bool:
    """Return whether a text can be a market's."""
    return _TICKER.fullmatch(text) is not None


def series_of(ticker: str) -> str:
    """Return the series of a market or an event."""
    return ticker.partition("-")[0]


def event_of(ticker: str) -> str:
    """Return the event of a market: all but the last of three parts, or of two the whole."""
    event, dash, _ = ticker.rpartition("-")
    return event if dash and "-" in event else ticker
