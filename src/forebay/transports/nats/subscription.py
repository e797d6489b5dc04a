"""Reading a stream in order, from any place in it.

Messages are got by their sequence numbers, without a consumer: there is none that the server may
forget, count tries for or leave behind the stream.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec

from forebay.errors import CursorBeyondEnd
from forebay.journal import Position
from forebay.ports import Extent
from forebay.transports.nats.batches import PIECE, PieceReader
from forebay.transports.nats.errors import NOT_FOUND, ServerRefused
from forebay.transports.nats.groups import GroupPlace, keep, kept_at, subject_of
from forebay.transports.nats.stream_calls import info_of, made, reaches
from forebay.transports.nats.streams import StreamLimits, identity_of, stream_of_groups
from forebay.transports.spelling import EVENT_ID, MessageAssembler

if TYPE_CHECKING:
    from collections.abc import Mapping

    from forebay.ports import Received
    from forebay.transports.nats.connection import NatsConnection

FETCH = 1024
FETCH_BYTES = 4 << 20
"""What is asked for at once: nothing slows a server down that sends it."""


class NatsSubscription:
    """The :class:`~forebay.ports.Subscription` of a stream."""

    def __init__(
        self, connection: NatsConnection, lane: str, group: str, limits: StreamLimits
    ) -> None:
        self._connection = connection
        self._lane = lane
        self._kept = subject_of(lane, group)
        self._limits = limits
        self._paused = False
        connection.run(self._join())

    def read(self, *, max_messages: int = 1024, max_bytes: int = 8 << 20) -> list[Received]:
        """See :class:`~forebay.ports.Subscription`."""
        if self._paused:
            return []
        return self._connection.run(self._read(max_messages, max_bytes))

    def extent(self) -> Extent:
        """See :class:`~forebay.ports.Subscription`."""
        state = self._connection.run(info_of(self._connection, self._lane))["state"]
        # Behind the last message that there is, some may have been deleted.
        left = self._offset <= state["last_seq"] and not state.get("num_deleted")
        return Extent(trimmed=state["first_seq"] > 1, left=bool(self._ready) or left)

    def position_at(self, offset: int) -> Position:
        """See :class:`~forebay.ports.Subscription`."""
        return Position(self._identity, offset)

    def pause(self) -> None:
        """See :class:`~forebay.ports.Subscription`."""
        self._paused = True

    def resume(self) -> None:
        """See :class:`~forebay.ports.Subscription`."""
        self._paused = False

    def seek(self, position: Position | None) -> None:
        """See :class:`~forebay.ports.Subscription`."""
        self._connection.run(self._seek(position))

    def commit(self, position: Position) -> None:
        """See :class:`~forebay.ports.Subscription`."""
        self._connection.run(self._commit(GroupPlace(position.log_id, position.seq)))

    def close(self) -> None:
        """See :class:`~forebay.ports.Subscription`; there is nothing to let go of."""

    # ------------------------------------------------------------------------- reading

    def _go_to(self, info: dict[str, Any], offset: int) -> None:
        self._identity = identity_of(info)
        self._offset: int = max(offset, info["state"]["first_seq"], 1)
        self._assembler = MessageAssembler()
        self._pieces = PieceReader()
        self._ready: deque[tuple[Received, int]] = deque()
        """What was read and not given yet, and its bytes."""
        self._size = 0

    async def _read(self, max_messages: int, max_bytes: int) -> list[Received]:
        given: list[Received] = []
        while len(given) < max_messages:
            if not self._ready:
                if not await self._fetch():
                    break
                continue
            received, size = self._ready[0]
            max_bytes -= size
            if given and max_bytes < 0:
                break
            given.append(received)
            self._ready.popleft()
        return given

    async def _fetch(self) -> bool:
        """Take what follows in the stream; return whether there was anything."""
        info = await info_of(self._connection, self._lane)
        await self._check(info, self._identity, self._offset)
        state = info["state"]
        if state["last_seq"] < self._offset:
            return False
        wanted = {"seq": self._offset, "batch": FETCH, "max_bytes": FETCH_BYTES}
        payload = msgspec.json.encode({**wanted, "next_by_subj": ">"})
        subject = f"$JS.API.DIRECT.GET.{self._lane}"
        before = self._offset
        for message in await self._connection.collect(subject, payload, last="204"):
            headers = message.headers or {}
            offset = int(headers["Nats-Sequence"])
            expired = offset <= state["first_seq"] or state.get("num_deleted")
            if offset > self._offset and not expired:
                break  # it came from a server that has not got all of the stream yet
            self._offset = offset + 1
            self._size += len(message.data)
            received = self._assembled(offset, message.data, headers)
            if received is not None:
                self._ready.append((received, self._size))
                self._size = 0
        return self._offset > before

    def _assembled(self, offset: int, value: bytes, headers: Mapping[str, str]) -> Received | None:
        is_event = EVENT_ID in headers
        if PIECE in headers:
            whole = self._pieces.add(offset, value, headers[PIECE])
            if whole is None:
                return None
            # A message begins with the first piece of its control record.
            offset, value = offset if is_event else whole[0], whole[1]
        return self._assembler.add(offset, value, is_event=is_event)

    async def _check(self, info: dict[str, Any], identity: str, offset: int) -> None:
        """Raise if a stream is another one, or an older copy that ends before ``offset``."""
        if identity_of(info) != identity:
            raise CursorBeyondEnd(f"The stream {self._lane} was made anew.")
        if not await reaches(self._connection, info, offset - 1):
            raise CursorBeyondEnd(f"{offset} is beyond the end of the stream {self._lane}.")

    async def _seek(self, position: Position | None) -> None:
        info = await info_of(self._connection, self._lane)
        if position is not None:
            await self._check(info, position.log_id, position.seq)
        self._go_to(info, position.seq if position else 0)

    # ------------------------------------------------------------------------- groups

    async def _join(self) -> None:
        info = await info_of(self._connection, self._lane)
        await made(self._connection, stream_of_groups(self._limits))
        committed = (await kept_at(self._connection, self._kept)).committed
        offset = 0
        if committed.identity == identity_of(info):
            known = await reaches(self._connection, info, committed.offset - 1)
            offset = committed.offset if known else 0
        self._go_to(info, offset)

    async def _commit(self, committed: GroupPlace) -> None:
        payload = msgspec.json.encode(committed)
        try:
            await keep(self._connection, self._kept, payload)
        except ServerRefused as refused:
            if refused.number != NOT_FOUND:
                raise
            await made(self._connection, stream_of_groups(self._limits))
            await keep(self._connection, self._kept, payload)
