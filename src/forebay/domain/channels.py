"""What a venue's protocol declares of each of its channels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from forebay.domain.identity import IdentityClass  # noqa: TC001 - messages are read back by it

if TYPE_CHECKING:
    from collections.abc import Mapping

Unit = Literal["id", "seq", "time", "none"]
"""What a stream's coverage counts.

``id``: the venue's own contiguous ids. ``seq``: numbers that rise by one within a connection.
``time``: the times during which a connection that carries the stream was heard. ``none``: nothing.
"""

UNITS_OF: dict[IdentityClass, tuple[Unit, ...]] = {
    "native": ("id", "seq", "time", "none"),
    "session": ("seq", "time", "none"),
    "content": ("seq", "time", "none"),
    "observation": ("seq", "time", "none"),
}
"""The units that a channel of each class may declare: only a venue's own ids can be counted
beyond one connection."""


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel of a venue: its kind of event, what identifies one, and what is owed."""

    kind: str
    """Of :data:`forebay.domain.kinds.KINDS`; named, so that capture need not load Arrow."""
    identity: IdentityClass
    unit: Unit
    time_unit_ns: int = 1
    """Coarsest unit in which any path of the channel gives time: ``event_ts`` is floored to it."""
    history: bool = False
    """Whether the venue's history can be asked for a gap, in this unit."""
    believed_after_s: tuple[int, ...] = (60, 600, 3600, 21_600)
    """That history lacks something is believed when it said so once more than there are waits:
    with at least the first one between the first two times, and so on."""
    relative: bool = False
    """Of changes of a book: whether a size is what is added to a level or taken from it, and not
    what the level has from then on. Only those of one connection add up."""
    counted: bool = False
    """Whether its messages over a connection have numbers, over all symbols together: see
    :class:`~forebay.domain.parsed.CountedMessages`."""

    def __post_init__(self) -> None:
        if self.unit not in UNITS_OF[self.identity]:
            message = f"a channel of class {self.identity} cannot count in the unit {self.unit}"
            raise ValueError(message)
        if self.relative and self.identity != "session":
            message = f"differences of class {self.identity} fit no other connection's snapshot"
            raise ValueError(message)

    @property
    def unseeable(self) -> str:
        """What can never be seen of this channel without a second source, as clauses."""
        left_out = _NOT_NUMBERED if self.counted else _LEFT_OUT[self.unit]
        clauses = (left_out, _TOLD_TWICE[self.identity], _ALTERED)
        return "; ".join(filter(None, clauses))


SERIES = ":"
"""Between a kind and a series of it in the name of a channel, such as ``bar:1m``."""


def kind_of(name: str) -> str:
    """Return the kind of event of a channel that may name one series of it."""
    return name.partition(SERIES)[0]


def declared_of(channels: Mapping[str, Channel], name: str) -> Channel | None:
    """Return what a venue declares of a channel; ``channels`` are by kind.

    A series of bars counts the times that its bars are of, however the kind is counted.
    """
    kind, _, series = name.partition(SERIES)
    channel = channels.get(kind)
    return replace(channel, unit="time") if channel is not None and series else channel


_LEFT_OUT: dict[Unit, str] = {
    "id": "",
    "seq": "how many events passed between two connections",
    "time": "an event that was left out while a connection was heard",
    "none": "an event that never came",
}
_NOT_NUMBERED = "an event that the venue did not number and left out"
_TOLD_TWICE: dict[IdentityClass, str] = {
    "native": "",
    "session": "",
    "content": "an event that the venue told twice over one connection",
    "observation": "an event that the venue told twice",
}
_ALTERED = "an event that came with another content than it had, and was told once"
