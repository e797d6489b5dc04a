"""Steps of a journal, put together from the messages of a lane. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from forebay.domain.messages import Mark

if TYPE_CHECKING:
    from forebay.domain.messages import Message, Step
    from forebay.ports import Received


@dataclass(slots=True)
class WholeStep:
    """A step whose mark has come."""

    step: Step
    messages: list[Message]
    """All that came of its parts in order, then the mark."""
    resume: int
    """Offset from which on nothing is lost once this step is stored."""
    lacking: bool
    """Whether a part did not come."""

    @property
    def weight(self) -> int:
        """How many rows and messages it has."""
        rows = (message.rows for message in self.messages)
        return sum(1 if each is None else len(each) for each in rows)


@dataclass(slots=True)
class _Open:
    begin: int
    offset: int
    """Of its first message."""
    parts: dict[int, Message] = field(default_factory=dict)


class Steps:
    """Puts the steps of every publisher of a lane together. Pure."""

    def __init__(self) -> None:
        self._open: dict[str, _Open] = {}

    def add(self, received: Received) -> WholeStep | None:
        """Take the next message of the lane; return the step that it completes.

        A step that begins anew was told in part by a publisher that was killed: all of it comes
        again. A message that cannot be read is lacking when the mark comes.
        """
        if received.message is None:
            return None
        head = received.message.head
        log_id, begin = head.step.log_id, head.step.begin
        held = self._open.get(log_id)
        if held is None or held.begin != begin or head.part == 0:
            held = self._open[log_id] = _Open(begin, received.offset)
        held.parts[head.part] = received.message
        if not isinstance(head.told, Mark):
            return None
        del self._open[log_id]
        came = [held.parts[part] for part in range(head.told.parts) if part in held.parts]
        resume = self.resume(received.resume)
        lacking = len(came) < head.told.parts
        return WholeStep(head.step, [*came, received.message], resume, lacking)

    def resume(self, offset: int) -> int:
        """Return from where on nothing is lost once all that was completed before is stored."""
        return min([offset, *(each.offset for each in self._open.values())])

    def is_open(self, log_id: str) -> bool:
        """Return whether a step of a journal has begun, and its mark has not come."""
        return log_id in self._open
