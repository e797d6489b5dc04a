"""Rate limit: a REST request is answered with 429, every other time saying how long to wait."""

from __future__ import annotations

NAME = "rate_limit"


def retry_after(roll: int) -> str | None:
    """Value of the Retry-After header, whole seconds, or None for no header."""
    return "1" if roll & 1 else None
