"""What is configured of a venue."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from forebay.app.wiring.history_config import Positive

AtLeastOne = Annotated[int, Meta(ge=1)]


class VenueConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What to capture; repeat the table for more venues."""

    name: str
    """The venue, as `forebay symbols --venue` knows it."""
    symbols: Annotated[tuple[str, ...], Meta(min_length=1)]
    """What to capture of it, see `forebay symbols`; where markets come and go, * and ? are wild."""
    channels: tuple[str, ...] = ()
    """Kinds of event, or "all"; left out: the venue's own choice."""
    polled: tuple[str, ...] = ()
    """Kinds to ask for by REST again and again, though a connection brings them."""
    market: str = ""
    """The part of the venue; left out: its first."""
    depth: AtLeastOne | None = None
    """Levels of an order book a side, where the venue leaves the choice."""
    ws_url: str = ""
    """A websocket address other than the venue's public one."""
    rest_url: str = ""
    """A REST address other than the venue's public one."""
    credentials_file: str = ""
    """A TOML file of secrets, one KEY = "…" a line; its path begins at the current folder."""
    stale_after_s: Positive | None = None
    """A connection that is silent for longer is replaced; left out: the venue's own."""
    reconnect_base_s: Positive = 0.5
    """The first wait between two tries to connect; full jitter, at most 30 s."""
    symbols_per_connection: AtLeastOne | None = None
    """How many symbols one connection carries; left out: the venue's own."""
    refresh_s: Positive | None = None
    """How often to look for markets that are new or over, where they come and go; left out: 60."""
    connections: AtLeastOne | None = None
    """Among how many connections the symbols are divided; left out: as few as may be."""
    calendar: str = ""
    """When bars are expected: 24/7, forex, exchange:XNYS, or yours; left out: the venue's own."""
    plugin: str = ""
    """Where a venue of your own comes from: package.module:VENUE."""
