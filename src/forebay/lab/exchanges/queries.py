"""Query parameters of HTTP requests."""

from __future__ import annotations


class BadQuery(Exception):
    """A query parameter that is not taken."""


def number(text: str | None, name: str) -> int | None:
    """A query parameter that must be a whole number; raises :class:`BadQuery` if it is not."""
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 19):  # noqa: PLR2004 - an int64
        raise BadQuery(f"Invalid {name}")
    return int(text)
