"""Coinbase Exchange, pure: what ``GET /products`` says there is to capture."""

from __future__ import annotations

import msgspec

from forebay.ports import Instrument


class _Product(msgspec.Struct):
    id: str
    base_currency: str
    quote_currency: str
    status: str = ""


_decode = msgspec.json.Decoder(list[_Product]).decode


def parse_products(body: bytes) -> list[Instrument]:
    """Return instruments in the order of the answer; Coinbase's spelling is Forebay's own."""
    return [
        Instrument(
            symbol=product.id,
            venue_symbol=product.id,
            base=product.base_currency,
            quote=product.quote_currency,
            status=product.status,
        )
        for product in _decode(body)
    ]
