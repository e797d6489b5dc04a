"""Texts that many parts write alike: counts, hints, and what SQL has of names and values."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def counted(number: int, name: str) -> str:
    """Return a number and what it counts, in the plural where that is right."""
    return f"{number:,} {name}{'' if number == 1 else 's'}"


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return which of ``known`` is probably meant by ``name``; nothing if none is that alike."""
    return next(iter(difflib.get_close_matches(name, [*known], n=1, cutoff=cutoff)), "")


def did_you_mean(name: str, known: Iterable[str], otherwise: str) -> str:
    """Return the hint for a name that there is not: the nearest one, or else ``otherwise``."""
    near = nearest(name, known)
    return f"Did you mean {near!r}?" if near else otherwise


def identifier(name: str) -> str:
    """Return a name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text as SQL has it, where it takes no parameter."""
    return "'" + text.replace("'", "''") + "'"
