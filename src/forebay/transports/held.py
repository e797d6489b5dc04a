"""A subscription that is good for as long as a lane is a member's."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from forebay.journal import Position
    from forebay.ports import Extent, Received, Subscription


class HeldSubscription:
    """The :class:`~forebay.ports.Subscription` that a :class:`~forebay.ports.Membership` gives."""

    def __init__(
        self,
        reader: Subscription,
        check: Callable[[], None],
        commit: Callable[[Position], None],
    ) -> None:
        """``check`` raises :class:`~forebay.errors.LaneLost`, and so does ``commit``."""
        self._reader = reader
        self._check = check
        self._commit = commit

    def read(self, *, max_messages: int = 1024, max_bytes: int = 8 << 20) -> Sequence[Received]:
        """See :class:`~forebay.ports.Subscription`."""
        self._check()
        return self._reader.read(max_messages=max_messages, max_bytes=max_bytes)

    def extent(self) -> Extent:
        """See :class:`~forebay.ports.Subscription`."""
        self._check()
        return self._reader.extent()

    def position_at(self, offset: int) -> Position:
        """See :class:`~forebay.ports.Subscription`."""
        return self._reader.position_at(offset)

    def pause(self) -> None:
        """See :class:`~forebay.ports.Subscription`."""
        self._reader.pause()

    def resume(self) -> None:
        """See :class:`~forebay.ports.Subscription`."""
        self._reader.resume()

    def seek(self, position: Position | None) -> None:
        """See :class:`~forebay.ports.Subscription`."""
        self._check()
        self._reader.seek(position)

    def commit(self, position: Position) -> None:
        """See :class:`~forebay.ports.Subscription`."""
        self._commit(position)

    def close(self) -> None:
        """See :class:`~forebay.ports.Subscription`."""
        self._reader.close()
