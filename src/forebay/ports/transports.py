"""The socket of transports: what carries events between processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebay.domain.messages import Message
    from forebay.journal import Position


class Received(NamedTuple):
    """One message of a topic."""

    offset: int
    message: Message | None
    """None if its bytes are none that we know."""


class Subscription(Protocol):
    """What one group reads of one topic, in order. Blocking; for one thread.

    A position in a topic is the topic's identity, which is another one when it is made anew under
    its name, and the offset of the next message.
    """

    def read(self, *, max_messages: int = 1024, max_bytes: int = 8 << 20) -> Sequence[Received]:
        """Return what follows, without waiting for more; nothing while paused.

        At least one message is given if there is one, even if it is larger than ``max_bytes``.
        Keep calling it while paused, or the group may go to another reader. Raises
        :class:`~forebay.errors.Transient` if the transport cannot be asked now, and
        :class:`~forebay.errors.CursorBeyondEnd` if the topic has been made anew.
        """
        ...

    def position_after(self, offset: int) -> Position:
        """Return the position behind a message that was read."""
        ...

    def pause(self) -> None:
        """Read nothing more until :meth:`resume`; what was read stays read."""
        ...

    def resume(self) -> None:
        """Go on where :meth:`pause` was called."""
        ...

    def seek(self, position: Position | None) -> None:
        """Go on at ``position``, or at the oldest message that is kept if that is newer or None.

        Raises :class:`~forebay.errors.CursorBeyondEnd` if it is of another topic, or beyond the
        end of this one.
        """
        ...

    def commit(self, position: Position) -> None:
        """Tell that the group needs nothing before ``position``: what reads next begins there.

        Nothing else moves on: what was read and not committed comes again. Raises as
        :meth:`read`.
        """
        ...

    def close(self) -> None:
        """Let go of the subscription; what was committed stays."""
        ...


class Transport(Protocol):
    """What carries messages between processes. Blocking: call it from a thread.

    Every adapter passes ``tests/conformance/test_transport.py``.
    """

    def publish(self, topic: str, messages: Sequence[Message]) -> None:
        """Return once all of ``messages`` are acknowledged, in order behind all before.

        A topic that is full makes this wait; nothing is ever dropped for it. Raises
        :class:`~forebay.errors.Transient` if not all are acknowledged: some may be in the topic,
        and the same call may be made again.
        """
        ...

    def subscribe(self, topic: str, group: str) -> Subscription:
        """Read a topic from where ``group`` has committed, or from its oldest message.

        Raises :class:`~forebay.errors.Transient` if that is not possible now.
        """
        ...

    def close(self) -> None:
        """Let go of the transport; what was acknowledged stays."""
        ...
