"""JetStream as a transport: a lane is a stream, and what is acknowledged is kept by it.

What is told goes in atomic batches, one after the other: none of a batch is stored without the
rest, nothing of others comes between, and a lost answer leaves no hole. A batch that is sent
again because its answer was lost is recognised by its id, which is of this transport alone: what
another process tells again always arrives, within the duplicate window too.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple

from nats.errors import MaxPayloadError, NoRespondersError

from forebay.clock import SystemClock
from forebay.errors import Transient
from forebay.journal import new_id
from forebay.telemetry import Observer, TopicDiffers, ignore
from forebay.transports.nats.batches import Batch, batches_of
from forebay.transports.nats.connection import HEADERS, NatsConnection, answered
from forebay.transports.nats.errors import (
    DRIVER_ERRORS,
    DUPLICATE,
    NO_BATCHES,
    NO_MESSAGE,
    NO_ROOM,
    NOT_FOUND,
    WRONG_LAST,
    ServerRefused,
)
from forebay.transports.nats.fan_out import without_venue
from forebay.transports.nats.membership import NatsMembership
from forebay.transports.nats.stream_calls import info_of, made, reaches, turn_back
from forebay.transports.nats.streams import StreamLimits, differences, identity_of, stream_of
from forebay.transports.nats.subscription import NatsSubscription

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from nats.aio.client import Client
    from nats.aio.msg import Msg

    from forebay.clock import Clock
    from forebay.domain.messages import Message

ROOM_S = 5.0
"""How long a publisher waits for room before it is told to come again."""
LOOK_S = 0.25
_NOBODY = "nobody"
_LOST = "has lost what it had acknowledged."
_AGAIN = "It counts as another one, and is told all of it again."


class _End(NamedTuple):
    """Up to where a lane has what we told it."""

    created: str
    last: int
    connected: int
    """The number of the connection over which that was seen last."""


class NatsTransport:
    """The :class:`~forebay.ports.Transport` of JetStream."""

    def __init__(
        self,
        connection: NatsConnection,
        limits: StreamLimits = StreamLimits(),  # noqa: B008 - frozen
        *,
        observer: Observer = ignore,
        room_s: float = ROOM_S,
        clock: Clock | None = None,
    ) -> None:
        self._connection = connection
        self._limits = limits
        self._observe = observer
        self._room_s = room_s
        self._clock = clock or SystemClock()
        self._session = new_id()
        self._ends: dict[str, _End] = {}
        self._differences: set[TopicDiffers] = set()
        """What was told already: topics are asked for again and again."""

    def lanes(self, topic: str) -> list[str]:
        """See :class:`~forebay.ports.Transport`; a topic has one lane of its own name."""
        wanted = stream_of(topic, self._limits)
        info = self._connection.run(made(self._connection, wanted))
        end = self._ends.get(topic)
        if end is not None and end.created != info["created"]:
            del self._ends[topic]
        for difference in differences(wanted, info["config"]):
            event = TopicDiffers("nats", topic, *difference)
            if event not in self._differences:
                self._observe(event)
                self._differences.add(event)
        return [topic]

    def identity(self, lane: str) -> str:
        """See :class:`~forebay.ports.Transport`."""
        return self._connection.run(self._identity(lane))

    def publish(self, lane: str, messages: Sequence[Message]) -> None:
        """See :class:`~forebay.ports.Transport`."""
        largest = self._connection.run(self._connection.largest())
        for batch in batches_of(lane, messages, largest):
            self._connection.run(self._publish(lane, batch))

    def subscribe(self, lane: str, group: str) -> NatsSubscription:
        """See :class:`~forebay.ports.Transport`."""
        return NatsSubscription(self._connection, lane, group, self._limits)

    def join(self, topics: Sequence[str], group: str) -> NatsMembership:
        """See :class:`~forebay.ports.SharedLanes`."""
        lanes = [lane for topic in topics for lane in self.lanes(topic)]
        return NatsMembership(self._connection, lanes, group, self._limits, self._clock)

    def close(self) -> None:
        """See :class:`~forebay.ports.Transport`."""
        self._connection.close()

    async def _identity(self, lane: str) -> str:
        info = await info_of(self._connection, lane)
        end = self._ends.get(lane)
        if end is not None and end.created == info["created"]:
            if await reaches(self._connection, info, end.last):
                return identity_of(info)
            return await self._went_back(lane, info)
        self._ends.pop(lane, None)
        return identity_of(info)

    async def _same(self, lane: str) -> None:
        """Raise if a lane is not what it was, which can be so behind another connection only."""
        await self._connection.client()
        end, connected = self._ends.get(lane), self._connection.number
        if end is None:
            info = await info_of(self._connection, lane)
            if not info["config"].get("allow_atomic"):
                # An old server would store each entry by itself, and again with every try.
                said = {"err_code": NO_BATCHES, "description": "it takes no batches"}
                raise ServerRefused(said, f"the stream {lane}")
            end = _End(info["created"], 0, connected)
        elif end.connected != connected:
            await self._identity(lane)
            if lane not in self._ends:
                raise Transient(f"The stream {lane} {_LOST}", hint=_AGAIN)
        self._ends[lane] = end._replace(connected=connected)

    async def _went_back(self, lane: str, info: dict[str, Any]) -> str:
        self._ends.pop(lane, None)
        return await turn_back(self._connection, info)

    # --------------------------------------------------------------------- publishing

    async def _publish(self, lane: str, batch: Batch) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._room_s
        await self._same(lane)
        while True:
            try:
                await self._stored(lane, batch)
                return
            except ServerRefused as refusal:
                if refusal.number not in NO_ROOM or loop.time() + LOOK_S > deadline:
                    raise
            await asyncio.sleep(LOOK_S)

    async def _stored(self, lane: str, batch: Batch) -> None:
        """Return once the stream has a batch, whether it took it now or before."""
        msg_id = f"{self._session}:{batch.name}"
        try:
            last = await self._offered(lane, batch, msg_id)
        except ServerRefused as refusal:
            if refusal.number != DUPLICATE:
                raise
            # It took it once. Whether it still has it is another question.
            if await self._has(lane, batch, msg_id):
                return
            last = await self._offered(lane, batch, "")
        await self._note(lane, last - len(batch.entries) + 1, last)
        if live := [*without_venue(batch.entries)]:
            with contextlib.suppress(*DRIVER_ERRORS):  # best effort: no stream keeps it
                await self._connection.send(live)

    async def _offered(self, lane: str, batch: Batch, msg_id: str) -> int:
        """Send a batch; return the sequence number of its last entry."""
        count, answer_s = len(batch.entries), self._connection.answer_s
        named = {"Nats-Batch-Id": new_id()}
        first = {"Nats-Expected-Stream": lane} | ({"Nats-Msg-Id": msg_id} if msg_id else {})

        async def sent(client: Client) -> Msg:
            if max(entry.size for entry in batch.entries) + HEADERS > client.max_payload:
                raise MaxPayloadError  # the server would close the connection without a word
            headers: dict[str, str] = {}
            for number, entry in enumerate(batch.entries, 1):
                headers = {**entry.headers, **named, "Nats-Batch-Sequence": str(number)}
                if number == 1:
                    headers |= first
                if number < count:
                    await client.publish(entry.subject, entry.value, headers=headers)
            headers["Nats-Batch-Commit"] = "1"
            return await client.request(entry.subject, entry.value, answer_s, headers=headers)

        ack = await self._acknowledged(lane, sent)
        if ack.get("count") != count:
            raise ServerRefused({"description": f"it answers {ack}"}, f"a batch in {lane}")
        last: int = ack["seq"]
        return last

    async def _acknowledged(
        self, lane: str, sent: Callable[[Client], Coroutine[Any, Any, Msg]]
    ) -> dict[str, Any]:
        try:
            answer = await self._connection.use(sent)
        except NoRespondersError:
            said = {"err_code": NOT_FOUND, "description": "no stream takes it"}
            raise ServerRefused(said, f"a batch in {lane}") from None
        return answered(answer, f"a batch in {lane}")

    async def _has(self, lane: str, batch: Batch, msg_id: str) -> bool:
        """Return whether a stream has a batch that it remembers."""
        # Never stored itself: no message was the last one before it.
        headers = {"Nats-Msg-Id": msg_id, "Nats-Expected-Last-Msg-Id": _NOBODY}
        subject = batch.entries[0].subject
        try:
            ack = answered(await self._connection.request(subject, b"", headers), subject)
            first: int = ack["seq"]
            for seq in (first, first + len(batch.entries) - 1):
                await self._connection.ask(f"STREAM.MSG.GET.{lane}", {"seq": seq})
        except ServerRefused as refusal:
            if refusal.number in (NO_MESSAGE, WRONG_LAST):
                return False
            raise
        return True

    async def _note(self, lane: str, first: int, last: int) -> None:
        """Remember how far a lane is; raise if that is not behind what we had told it."""
        end = self._ends[lane]
        if first > end.last:
            self._ends[lane] = end._replace(last=last)
            return
        info = await info_of(self._connection, lane)
        if end.created == info["created"]:
            await self._went_back(lane, info)
        self._ends.pop(lane, None)
        raise Transient(f"The stream {lane} {_LOST}", hint=_AGAIN)
