"""Venues that are told what to send, command by command, and count nothing of a connection."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import TYPE_CHECKING

from forebay.lab.exchanges.model import Dialogue, Reply, VenueModel

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from forebay.lab.exchanges.model import Topic
    from forebay.lab.faults import SwitchedFaults


@dataclass(frozen=True, slots=True)
class Request:
    """A command that can be carried out."""

    subscribe: bool
    """Else unsubscribe."""
    topics: tuple[Topic, ...]
    """Each once, in the order given."""
    refused: bytes = b""
    """How the client is told of what cannot be had, while the rest can."""


@dataclass(frozen=True, slots=True)
class Login:
    """A key that is shown, where a venue wants one before anything else."""

    right: bool
    """Else the connection is closed behind the answer."""
    answer: bytes


class CommandVenue(VenueModel):
    """One that understands subscribing, unsubscribing and a key, and nothing else."""

    without_key: bytes = b""
    """What somebody is told who asks before a right key was shown; empty: none is wanted."""

    @abc.abstractmethod
    def understand(self, raw: bytes, symbols: Collection[str]) -> Request | Login | bytes:
        """What a client asks for, or how it is told that it cannot be."""

    @abc.abstractmethod
    def acknowledgement(self, topics: Sequence[Topic], new: Sequence[Topic]) -> bytes:
        """What is told after a request.

        ``topics`` are all that the connection is now sent, ``new`` those that it was not before.
        """

    def dialogue(self, switched: SwitchedFaults, now_ns: int) -> CommandDialogue:
        del switched, now_ns
        return CommandDialogue(self)


class CommandDialogue(Dialogue):
    """What one connection has asked for so far."""

    def __init__(self, venue: CommandVenue) -> None:
        self._venue = venue
        self._topics: dict[Topic, None] = {}
        self._admitted = not venue.without_key

    def answer(self, raw: bytes, symbols: Collection[str], now_ns: int) -> Reply:
        del now_ns
        request = self._venue.understand(raw, symbols)
        if isinstance(request, Login):
            self._admitted = request.right
            return self._reply(request.answer, over=not request.right)
        if not isinstance(request, Request):
            return self._reply(request)
        if not self._admitted:
            return self._reply(self._venue.without_key)
        before = {*self._topics}
        if request.subscribe:
            self._topics.update(dict.fromkeys(request.topics))
        else:
            for topic in request.topics:
                self._topics.pop(topic, None)
        new = tuple(topic for topic in self._topics if topic not in before)
        said = self._venue.acknowledgement(list(self._topics), new)
        refused = (request.refused,) if request.refused else ()
        topics = tuple(self._topics)
        return Reply((*refused, said), topics, new, new, subscribed=request.subscribe)

    def _reply(self, said: bytes, *, over: bool = False) -> Reply:
        return Reply((said,), tuple(self._topics), over=over)
