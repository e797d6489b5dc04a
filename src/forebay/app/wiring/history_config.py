"""What a configuration says of filling gaps, and from where; apart, since configuration is long."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

Positive = Annotated[float, Meta(gt=0, le=1e9)]


class FillConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Filling gaps from the venues' history."""

    enabled: bool = True
    """Whether gaps are filled without being asked."""
    poll_s: Positive = 1.0
    """Seconds between two looks for open gaps."""
    check_s: Positive = 3600.0
    """Seconds between two comparisons of stored bars with those that calendars expect."""


class AlternativeConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where bars of a symbol come from; while the first is away, the next one is asked."""

    sources: Annotated[tuple[str, ...], Meta(min_length=2)]
    """In order: venue:SYMBOL, or venue/market:SYMBOL, each as that venue spells it."""
