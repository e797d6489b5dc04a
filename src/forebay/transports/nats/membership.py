"""One member of a group: which streams are its own, by what the server keeps of all members.

Members say again and again that they are there, in a stream that forgets what is older than a
session, by the clock of the server. Who reads a stream is written where it is kept how far the
group has got in it. All members share the streams out by one rule; each takes those that fall to
it once nobody who is there has them, and gives up those that fall to another.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from forebay.errors import ForebayError, LaneLost, Transient
from forebay.journal import new_id
from forebay.transports.held import HeldSubscription
from forebay.transports.nats.errors import (
    WRONG_SEQUENCE,
    ServerRefused,
)
from forebay.transports.nats.groups import GroupPlace, Kept, keep, kept_at, last_at, subject_of
from forebay.transports.nats.stream_calls import made
from forebay.transports.nats.streams import MEMBERS, stream_of_groups, stream_of_members
from forebay.transports.nats.subscription import NatsSubscription
from forebay.transports.sharing import share_out
from forebay.transports.subjects import token

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from forebay.clock import Clock
    from forebay.journal import Position
    from forebay.transports.nats.connection import NatsConnection
    from forebay.transports.nats.streams import StreamLimits

_ROUNDS = 8
"""So often in a session a member says that it is there."""
_SOON = 5
"""So much sooner it looks again while it waits for others to give up what is to be its own."""


class _Held(NamedTuple):
    """A lane that is ours."""

    claim: str
    """Another one each time that it has become so."""
    number: int
    """Of the message that says so: once there is another one, it is not ours."""


class NatsMembership:
    """See :class:`~forebay.ports.Membership`."""

    def __init__(
        self,
        connection: NatsConnection,
        lanes: Sequence[str],
        group: str,
        limits: StreamLimits,
        clock: Clock,
    ) -> None:
        self._connection = connection
        self._lanes = lanes
        self._group = group
        self._limits = limits
        self._clock = clock
        self._session_ns = limits.session_ns
        self._made = False
        """Whether the streams are there in which it is kept, as far as we know."""
        self._name = new_id()
        """How others know us."""
        self._until_ns = 0
        """Until then we are, if we are not heard of again."""
        self._held: dict[str, _Held] = {}
        self._problem: Exception | None = None
        self._closing = asyncio.Event()
        self._turn = asyncio.Lock()
        connection.run(self._begin())
        connection.start(self._take_part())

    def lanes(self) -> frozenset[str]:
        """See :class:`~forebay.ports.Membership`."""
        if self._clock.monotonic_ns() < self._until_ns:
            return frozenset(self._held)
        said = f": {self._problem}" if self._problem else ""
        raise Transient(f"NATS does not know of us as a member of {self._group}{said}.")

    def subscribe(self, lane: str) -> HeldSubscription:
        """See :class:`~forebay.ports.Membership`."""
        held = self._held.get(lane)
        claim = held.claim if held else ""
        self._check(lane, claim)
        reader = NatsSubscription(self._connection, lane, self._group, self._limits)

        def commit(position: Position) -> None:
            self._connection.run(self._commit(lane, claim, position))

        return HeldSubscription(reader, functools.partial(self._check, lane, claim), commit)

    def close(self) -> None:
        """See :class:`~forebay.ports.Membership`."""
        with contextlib.suppress(ForebayError):  # it is missed after a session
            self._connection.run(self._leave())

    def _check(self, lane: str, claim: str) -> None:
        held = self._held.get(lane)
        if held is None or held.claim != claim or self._clock.monotonic_ns() >= self._until_ns:
            message = f"{lane} is read by another member of {self._group}."
            raise LaneLost(message, hint="It goes on there.")

    # --------------------------------------------------------------- on the event loop

    async def _begin(self) -> None:
        async with self._turn:
            await self._round()

    async def _take_part(self) -> None:
        while not self._closing.is_set():
            wait_s = self._session_ns / 1e9 / _ROUNDS
            try:
                async with self._turn:
                    whole = await self._round()
                self._problem = None
                wait_s /= 1 if whole else _SOON
            except Exception as error:  # noqa: BLE001 - it is told by lanes(), and tried again
                self._problem = error
                self._made = False
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), wait_s)

    async def _round(self) -> bool:
        """Say that we are there and settle what is whose; return whether all of that is done."""
        if not self._made:
            await made(self._connection, stream_of_groups(self._limits))
            info = await made(self._connection, stream_of_members(self._limits))
            self._session_ns = info["config"]["max_age"]  # whoever made it has decided
            self._made = True
        begun_ns = self._clock.monotonic_ns()
        payload = msgspec.json.encode(self._lanes)
        await keep(self._connection, self._announced(self._name), payload)
        readers = await self._readers()
        kept = {lane: await self._kept(lane) for lane in self._lanes}
        owners = {lane: each.committed.owner for lane, each in kept.items()}
        shared = share_out(readers, owners)
        settled = [
            await self._settle(lane, is_ours=shared[lane] == self._name, others=readers, kept=each)
            for lane, each in kept.items()
        ]
        self._until_ns = begun_ns + self._session_ns
        return all(settled)

    async def _readers(self) -> dict[str, list[str]]:
        """Return who is there, with the lanes that each would read."""
        wanted = {"subjects_filter": self._announced("*")}
        info = await self._connection.ask(f"STREAM.INFO.{MEMBERS}", wanted)
        readers = {self._name: [*self._lanes]}
        for subject in info["state"].get("subjects") or {}:
            found = await last_at(self._connection, subject)
            with contextlib.suppress(msgspec.DecodeError):  # it is not one of ours
                if found is not None:
                    lanes = msgspec.json.decode(found[0], type=list[str])
                    readers[subject.rpartition(".")[2]] = lanes
        return readers

    async def _settle(
        self, lane: str, *, is_ours: bool, others: Container[str], kept: Kept
    ) -> bool:
        """Take or give up a lane; return whether it is whose it is to be."""
        held, has = self._held.get(lane), kept.committed.owner
        if held is not None and (held.number != kept.number or not is_ours):
            self._drop(lane)
            held = None
        try:
            if is_ours and held is None and (has == self._name or has not in others):
                number = await self._write(lane, kept, self._name)
                self._held = self._held | {lane: _Held(new_id(), number)}
            elif not is_ours and has == self._name:
                await self._write(lane, kept, "")
        except ServerRefused as refused:
            if refused.number not in WRONG_SEQUENCE:  # another one was quicker
                raise
            return False
        return not is_ours or lane in self._held

    def _drop(self, lane: str) -> None:
        self._held = {name: each for name, each in self._held.items() if name != lane}

    async def _write(self, lane: str, kept: Kept, owner: str) -> int:
        payload = msgspec.json.encode(msgspec.structs.replace(kept.committed, owner=owner))
        return await keep(self._connection, subject_of(lane, self._group), payload, kept.number)

    async def _kept(self, lane: str) -> Kept:
        return await kept_at(self._connection, subject_of(lane, self._group))

    async def _commit(self, lane: str, claim: str, position: Position) -> None:
        async with self._turn:
            self._check(lane, claim)
            kept = Kept(GroupPlace(position.log_id, position.seq), self._held[lane].number)
            try:
                number = await self._write(lane, kept, self._name)
            except ServerRefused as refused:
                if refused.number not in WRONG_SEQUENCE:
                    raise
                self._drop(lane)
                self._check(lane, claim)
            else:
                self._held = self._held | {lane: _Held(claim, number)}

    async def _leave(self) -> None:
        self._closing.set()
        async with self._turn:
            self._held, self._until_ns = {}, 0
            for lane in self._lanes:
                kept = await self._kept(lane)
                if kept.committed.owner == self._name:
                    await self._write(lane, kept, "")
            purged = {"filter": self._announced(self._name)}
            await self._connection.ask(f"STREAM.PURGE.{MEMBERS}", purged)

    def _announced(self, name: str) -> str:
        return f"{MEMBERS}.{token(self._group)}.{name}"
