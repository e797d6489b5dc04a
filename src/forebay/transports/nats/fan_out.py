"""Core NATS as a transport: who listens now hears it, and nobody keeps it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.errors import ConfigError
from forebay.transports.nats.batches import entries_of
from forebay.transports.nats.streams import control_subject

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from forebay.domain.messages import Message
    from forebay.ports import Membership, Subscription
    from forebay.transports.nats.batches import Entry
    from forebay.transports.nats.connection import NatsConnection

_OF_PERIODS = 4
"""Tokens of a subject that has a timeframe."""


class NatsFanOut:
    """The publishing half of a :class:`~forebay.ports.Transport`: live, and best effort.

    It counts as durable nowhere. A return from :meth:`publish` says that the server has read it,
    not that anybody was there.
    """

    def __init__(self, connection: NatsConnection) -> None:
        self._connection = connection

    def lanes(self, topic: str) -> list[str]:
        """See :class:`~forebay.ports.Transport`; there is nothing to make."""
        return [topic]

    def identity(self, lane: str) -> str:
        """See :class:`~forebay.ports.Transport`; it is always the same one."""
        return f"{lane}@core"

    def publish(self, lane: str, messages: Sequence[Message]) -> None:
        """Send the events alone: what is beside them is for who has all that was told before."""
        told = (entry for message in messages for entry in entries_of(lane, message))
        events = [entry for entry in told if entry.subject != control_subject(lane)]
        self._connection.run(self._connection.send([*events, *without_venue(events)]))

    def subscribe(self, lane: str, group: str) -> Subscription:
        """Refuse: there is nothing that could be read from where somebody has committed."""
        raise _unread([lane], group)

    def join(self, topics: Sequence[str], group: str) -> Membership:
        """Refuse, as :meth:`subscribe` does."""
        raise _unread(topics, group)

    def close(self) -> None:
        """See :class:`~forebay.ports.SharedLanes`."""
        self._connection.close()


def _unread(what: Sequence[str], group: str) -> ConfigError:
    message = f"Core NATS keeps nothing: {group} cannot read {', '.join(what)} from it."
    return ConfigError(message, hint='Set mode = "jetstream" in [[transports]].')


def without_venue(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Return what goes to ``bars.{symbol}.{timeframe}`` as well, where no stream keeps it."""
    for entry in entries:
        tokens = entry.subject.split(".")
        if len(tokens) == _OF_PERIODS:
            prefix, _, symbol, timeframe = tokens
            yield entry._replace(subject=f"{prefix}.{symbol}.{timeframe}")
