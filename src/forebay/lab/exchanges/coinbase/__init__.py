"""The simulated Coinbase Exchange: what is the venue's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.lab.exchanges.coinbase.venue import Coinbase

if TYPE_CHECKING:
    from forebay.lab.exchanges.model import VenueModel

VENUE: VenueModel = Coinbase()
