"""Text as it may be shown: nothing in it moves a cursor, hides, or reads as something else."""

from __future__ import annotations

LONGEST_WORDS = 500
"""Characters of what somebody else says that a log line, a reason or a status repeats."""


def visible(text: str) -> str:
    r"""Return ``text`` with every character that has no picture of its own written as ``\x1b``.

    Those are control characters, the marks that turn the direction of writing, widths of zero,
    lone surrogates, and every space but the usual one: what Python holds to be not printable.
    """
    return text if text.isprintable() else "".join(map(_seen, text))


def shortened(words: str) -> str:
    """Return what somebody else says, and its beginning alone if it is long."""
    return words if len(words) <= LONGEST_WORDS else f"{words[: LONGEST_WORDS - 1]}…"


def _seen(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()
