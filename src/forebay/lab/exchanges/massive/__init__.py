"""The simulated Massive, formerly Polygon: what is the venue's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.lab.exchanges.massive.venue import Massive

if TYPE_CHECKING:
    from forebay.lab.exchanges.model import VenueModel

VENUE: VenueModel = Massive()
