"""Who hears what becomes of a connection, and which of a venue's complaints are told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from forebay.sources.venue import Stream
    from forebay.sources.websocket.connection import Connection

Fate: TypeAlias = Literal["venue", "asked", "last"]
"""Of what a connection's end speaks: the venue, or what was asked for while others are served;
``last``: that is asked for otherwise from here on."""
_COMPLAINTS, _AGAIN_NS = 20, 60_000_000_000
"""So many different complaints of a connection are told in so long, each of them once; the others
are counted only."""


class Ear:
    """Hears at once what becomes of a connection and its streams; this one does not listen."""

    def accepted(self, streams: Collection[Stream]) -> None:
        """The venue gives ``streams`` from here on."""

    def left_out(self, streams: Mapping[Stream, str]) -> None:
        """The venue does not give ``streams``, or says nothing of them; the others go on."""

    def complained(self) -> None:
        """The venue complained."""

    def listed(self, symbols: frozenset[str]) -> None:
        """The venue says that something about ``symbols`` has changed."""

    def over(self, connection: Connection) -> Fate:
        """A connection is over; return what that speaks of."""
        del connection
        return "venue"


class ToldComplaints:
    """What a venue complained of over one connection, of late."""

    def __init__(self) -> None:
        self._told_ns: dict[str, int] = {}
        """When words were passed on last, in that order."""

    def fresh(self, complaint: str, now_ns: int) -> bool:
        """Return whether to pass ``complaint`` on, which counts as done; times are monotonic."""
        for earlier, told_ns in list(self._told_ns.items()):
            if now_ns - told_ns < _AGAIN_NS:
                break
            del self._told_ns[earlier]
        if complaint in self._told_ns or len(self._told_ns) >= _COMPLAINTS:
            return False
        self._told_ns[complaint] = now_ns
        return True
