"""What a configuration says of other sources of bars; apart, since configuration is long."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class AlternativeConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where bars of a symbol come from; while the first is away, the next one is asked."""

    sources: Annotated[tuple[str, ...], Meta(min_length=2)]
    """In order: venue:SYMBOL, or venue/market:SYMBOL, each as that venue spells it."""
