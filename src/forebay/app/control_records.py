"""Where records about gaps stand in the journal; capture reads it, without Arrow."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

from forebay.domain.channels import kind_of
from forebay.domain.frames import Context

if TYPE_CHECKING:
    from forebay.domain.frames import GapAccepted, RangeChecked


def context_of(venue: str, collector: str, told: GapAccepted | RangeChecked) -> Context:
    """Return in what context such a record stands in the journal."""
    return Context(
        venue=venue,
        source="rest",
        purpose="history",
        collector=collector,
        epoch=uuid4().hex,
        symbols=(told.symbol,),
        market=told.market,
        channels=(kind_of(told.channel),),
    )
