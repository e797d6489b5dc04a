"""How far a subscription got: which streams of a connection are accepted or refused. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from forebay.sources.venue import MessageVerdict, Stream


class Moved(NamedTuple):
    """What a verdict changed."""

    accepted: frozenset[Stream]
    """Streams that were not accepted before."""
    refused: Mapping[Stream, str]
    """Streams that were waited for."""
    whole: bool
    """Whether :attr:`accepted` is all that was asked for."""


class SubscriptionState:
    """What was asked for on one connection, and what became of it."""

    def __init__(self, asked: frozenset[Stream]) -> None:
        self._asked = asked
        self.accepted: frozenset[Stream] = frozenset()
        self.pending = asked
        """Neither accepted nor refused yet."""

    def move(self, verdict: MessageVerdict) -> Moved:
        """Take over a verdict; streams that nobody asked for are not looked at."""
        fresh = (verdict.accepted & self._asked) - self.accepted
        self.accepted |= fresh
        waited = self.pending - fresh
        refused = {each: why for each, why in verdict.refused.items() if each in waited}
        self.pending = waited - refused.keys()
        return Moved(fresh, refused, whole=fresh == self._asked)
