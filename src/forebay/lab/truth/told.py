"""What events have in common that are known by what they say, and not by a number."""

from __future__ import annotations

from typing import Any

import msgspec

from forebay.lab.truth.texts import MARKET, content_bits, iso_micros, uuid_text


class TruthEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event whose id is made of its content; equal ones never share a time here.

    Decimals are exact texts.
    """

    index: int
    venue: str
    symbol: str
    event_ts: int
    """Venue time, nanoseconds since the epoch, a whole number of microseconds."""

    def channel(self) -> str:
        """Forebay's word for what this is."""
        raise NotImplementedError

    def content(self) -> str:
        """Canonical text of what is its own."""
        raise NotImplementedError

    @property
    def event_id(self) -> int:
        """The 128 bits of the UUID."""
        return content_bits(self.venue, self.channel(), self.symbol, self.event_ts, self.content())

    @property
    def time(self) -> str:
        """Venue time as an exchange writes it, with six decimals."""
        return iso_micros(self.event_ts)

    def row(self) -> str:
        """Canonical text that digests are made of."""
        head = f"{uuid_text(self.event_id)}|{self.venue}|{MARKET}|{self.symbol}|{self.event_ts}"
        return f"{head}|{self.content()}"

    def document(self) -> dict[str, Any]:
        """What ``forebay lab truth`` prints, one JSON object a line."""
        told = msgspec.structs.asdict(self)
        head = {name: told.pop(name) for name in ("index", "venue", "symbol", "event_ts")}
        event_id = uuid_text(self.event_id)
        return {"index": head.pop("index"), "event_id": event_id, **head, "time": self.time, **told}
