"""Text as it may be shown: nothing in it moves a cursor, hides, or reads as something else."""

from __future__ import annotations


def visible(text: str) -> str:
    r"""Return ``text`` with every character that has no picture of its own written as ``\x1b``.

    Those are control characters, the marks that turn the direction of writing, widths of zero,
    lone surrogates, and every space but the usual one: what Python holds to be not printable.
    """
    return text if text.isprintable() else "".join(map(_seen, text))


def _seen(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()
