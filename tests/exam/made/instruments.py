"""The exam's venue, pure: what it lists."""

from __future__ import annotations

from forebay.ports import Instrument


def parse_symbols(body: bytes) -> list[Instrument]:
    """Return one instrument a line."""
    pairs = [(symbol, *symbol.split("-", 1)) for symbol in body.decode().split()]
    return [Instrument(symbol, symbol.lower(), base, quote, "") for symbol, base, quote in pairs]
