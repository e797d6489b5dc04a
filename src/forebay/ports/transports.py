"""The socket of transports: what carries events between processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebay.domain.messages import Message
    from forebay.journal import Position


class Received(NamedTuple):
    """One message of a lane."""

    offset: int
    """Of its first record: a transport may spell a message as several."""
    message: Message | None
    """None if its bytes are none that we know."""
    resume: int
    """From here on nothing is lost once this message and all that were given before it are stored.

    What other publishers have begun to tell by then is behind it.
    """
    raw: bytes = b""
    """Without a message: what cannot be read."""


class Extent(NamedTuple):
    """What of a lane there is."""

    trimmed: bool
    """Whether older records than those that it keeps were let go of."""
    left: bool
    """Whether it has something that was not read yet."""


class Subscription(Protocol):
    """What one group reads of one lane, in order. Blocking; for one thread.

    A position in a lane is the lane's identity, which is another one when it is made anew under
    its name, and the offset of the next record.
    """

    def read(self, *, max_messages: int = 1024, max_bytes: int = 8 << 20) -> Sequence[Received]:
        """Return what follows, without waiting for more; nothing while paused.

        At least one message is given if there is one, even if it is larger than ``max_bytes``.
        Keep calling it while paused, or the group may go to another reader. Raises
        :class:`~forebay.errors.Transient` if the transport cannot be asked now, and
        :class:`~forebay.errors.CursorBeyondEnd` if the lane has been made anew.
        """
        ...

    def extent(self) -> Extent:
        """Ask what there is now; raises as :meth:`read`, which may give nothing though much is."""
        ...

    def position_at(self, offset: int) -> Position:
        """Return the position of an offset, as it is in :attr:`Received.resume`."""
        ...

    def pause(self) -> None:
        """Read nothing more until :meth:`resume`; what was read stays read."""
        ...

    def resume(self) -> None:
        """Go on where :meth:`pause` was called."""
        ...

    def seek(self, position: Position | None) -> None:
        """Go on at ``position``, or at the oldest message that is kept if that is newer or None.

        Raises :class:`~forebay.errors.CursorBeyondEnd` if it is of another lane, or beyond the
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


class Membership(Protocol):
    """One of those that share the lanes of some topics among them. Blocking; for one thread.

    It stays a member by itself, however long its caller is busy with something else, and until
    its process is killed or frozen: then its lanes go to others.
    """

    def lanes(self) -> frozenset[str]:
        """Return the lanes that are this member's now; every lane is one member's at most.

        Raises :class:`~forebay.errors.Transient` if that cannot be known now.
        """
        ...

    def subscribe(self, lane: str) -> Subscription:
        """Read one of :meth:`lanes` from where the group has committed, or its oldest record.

        Once the lane is another member's, its methods raise :class:`~forebay.errors.LaneLost`:
        what a former reader commits changes nothing. Raises as :meth:`Transport.subscribe`.
        """
        ...

    def close(self) -> None:
        """Leave: the lanes are others' at once."""
        ...


class Transport(Protocol):
    """What carries messages between processes. Blocking: call it from a thread.

    A *lane* is what has one order: a topic, or a partition of one. Every adapter passes
    ``tests/conformance/test_transport.py``.
    """

    def lanes(self, topic: str) -> Sequence[str]:
        """Return the lanes of a topic, which is made if it is not there; always in one order.

        Raises :class:`~forebay.errors.Transient` if the transport cannot be asked now, and
        :class:`~forebay.errors.Permanent` if the topic may not be made.
        """
        ...

    def identity(self, lane: str) -> str:
        """Return which lane of this name it is: another one when it was made anew.

        Raises :class:`~forebay.errors.Transient` if that cannot be said now, also while it is
        not there.
        """
        ...

    def publish(self, lane: str, messages: Sequence[Message]) -> None:
        """Return once all of ``messages`` are acknowledged, in order behind all before.

        A lane that is full makes this wait; nothing is ever dropped for it. Raises
        :class:`~forebay.errors.Transient` if not all are acknowledged: some may be in the lane,
        and the same call may be made again. Raises :class:`~forebay.errors.Permanent` if they
        never will be as they are.
        """
        ...

    def subscribe(self, lane: str, group: str) -> Subscription:
        """Read a lane from where ``group`` has committed, or from its oldest record.

        Raises :class:`~forebay.errors.Transient` if that is not possible now.
        """
        ...

    def close(self) -> None:
        """Let go of the transport; what was acknowledged stays."""
        ...


class SharedLanes(Transport, Protocol):
    """A transport whose lanes the members of a group share among them."""

    def join(self, topics: Sequence[str], group: str) -> Membership:
        """Become one of ``group``, who share the lanes of ``topics``; those are made if missing.

        Raises as :meth:`lanes`.
        """
        ...
