"""A second venue that speaks as Coinbase does, under a name of its own."""

from __future__ import annotations

from dataclasses import replace

from forebay.sources import coinbase
from forebay.sources.venue import Limits

VENUE = replace(coinbase.VENUE, name="mirror", title="Mirror", limits=Limits(rest=()))
