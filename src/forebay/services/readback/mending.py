"""RowTelling a lane what it lacks, as steps like any other."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from forebay.domain.messages import ControlTold, KnownTold, Message, Step
from forebay.services.publisher import tell
from forebay.services.readback.tellings import Tellings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from forebay.domain.intervals import IntervalSet
    from forebay.ports import Subscription, Transport
    from forebay.services.lanes import Part
    from forebay.services.readback.tellings import TellingKey

Alone = Callable[[], AbstractContextManager[object]]
"""Makes sure that nobody else tells a lane something while the context is open."""


class Mending(NamedTuple):
    """Publishes what lanes lack, behind what they have."""

    transport: Transport
    alone: Alone = contextlib.nullcontext

    def tell(self, lane: str, messages: list[Message]) -> None:
        """Publish steps, none of which is mixed with another of the same journal.

        Raises as :meth:`forebay.ports.Transport.publish`.
        """
        if messages:
            with self.alone():
                self.transport.publish(lane, messages)


class SharedTransport:
    """A :class:`~forebay.ports.Transport` whose publisher takes turns with whoever mends it."""

    def __init__(self, transport: Transport, alone: Alone) -> None:
        self._transport = transport
        self._alone = alone

    def lanes(self, topic: str) -> Sequence[str]:
        """See :class:`~forebay.ports.Transport`."""
        return self._transport.lanes(topic)

    def identity(self, lane: str) -> str:
        """See :class:`~forebay.ports.Transport`."""
        return self._transport.identity(lane)

    def publish(self, lane: str, messages: Sequence[Message]) -> None:
        """See :class:`~forebay.ports.Transport`; what is told at once are whole steps."""
        with self._alone():
            self._transport.publish(lane, messages)

    def subscribe(self, lane: str, group: str) -> Subscription:
        """See :class:`~forebay.ports.Transport`."""
        return self._transport.subscribe(lane, group)

    def close(self) -> None:
        """See :class:`~forebay.ports.Transport`."""
        self._transport.close()


def repaired(
    step: Step, parts: Iterable[Part], lacking: set[TellingKey], steps: IntervalSet
) -> list[Message]:
    """Return the messages of a step that tells rows that are lacking.

    Of collectors' records only those within ``steps`` are told, frames whose steps were lost: the
    others are there, and must not open a connection once more that was closed later.
    """
    messages = tell(step, _lacking(parts, lacking, steps), {}, {})
    return [
        message._replace(head=msgspec.structs.replace(message.head, repair=True))
        for message in messages
    ]


def _lacking(parts: Iterable[Part], lacking: set[TellingKey], steps: IntervalSet) -> Iterator[Part]:
    for part in parts:
        told = part.told
        if isinstance(told, ControlTold | KnownTold):
            ends = (told.seq,) * 2 if isinstance(told, ControlTold) else (told.first, told.last)
            if steps.within(*ends):
                yield part
            continue
        tellings = Tellings.of(part.told, part.rows)
        if tellings is None or part.rows is None:
            continue
        wanted = np.array([key in lacking for key in tellings.telling_keys()], dtype=np.bool_)
        if wanted.all():
            yield part
        elif wanted.any():
            rows = tellings.filtered(wanted).rows.rename_columns(part.rows.column_names)
            yield part._replace(rows=rows.combine_chunks())
