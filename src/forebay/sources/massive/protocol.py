"""Massive, formerly Polygon, pure: what its messages mean.

Facts from the venue's published pages and its official client (massive-com/client-python):

* Numbers are JSON numbers, times whole milliseconds on the stream and in bars, nanoseconds in
  pages of quotes and trades.
* A frame of the stream is a JSON array, also with one event; a page of REST is an object whose
  ``results`` are absent, null or empty when there is nothing.
* ``t`` of a bar is its start. None exists of a period in which nothing happened.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

from forebay.domain.calendars import FOREX
from forebay.domain.frames import FrameKind
from forebay.sources.massive.channels import CHANNELS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from forebay.domain.calendars import Calendar
    from forebay.domain.channels import Channel
    from forebay.domain.frames import FrameBatch
    from forebay.domain.parsed import Parsed

PARSER = "massive/1"
"""Name and version of this parser, kept with every dead letter."""
UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""Everything msgspec raises over bytes: the last two are no DecodeError."""


class MassiveParser:
    """Parser of everything that the streams and the REST answers send."""

    name = PARSER
    channels: Mapping[str, Channel] = CHANNELS
    calendars: Mapping[str, Calendar] = MappingProxyType({"forex": FOREX})
    """See :class:`~forebay.ports.KnowsHours`; crypto never closes."""

    def parse(self, batch: FrameBatch) -> Parsed:
        """Account for every frame of ``batch``; see :class:`~forebay.ports.Parser`."""
        # Capture imports this module too, and needs no Arrow.
        from forebay.sources.massive.pages import read_pages  # noqa: PLC0415

        if batch.kind is FrameKind.REST:
            return read_pages(batch)
        from forebay.sources.massive.stream import read_stream  # noqa: PLC0415

        return read_stream(batch)
