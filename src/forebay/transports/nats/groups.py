"""How far a group has got in a lane, and which member reads it: one message for each, replaced.

A member replaces the very message that it has seen last, so what it says once another one has
taken the lane over changes nothing.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from nats.errors import NoRespondersError

from forebay.transports.nats.connection import answered
from forebay.transports.nats.errors import NO_MESSAGE, NOT_FOUND, ServerRefused
from forebay.transports.nats.streams import GROUPS
from forebay.transports.subjects import token

if TYPE_CHECKING:
    from forebay.transports.nats.connection import NatsConnection


class GroupPlace(msgspec.Struct, omit_defaults=True):
    """How far a group has got."""

    identity: str = ""
    """Empty: nowhere."""
    offset: int = 0
    owner: str = ""
    """The member that reads the lane; empty if none does."""


class Kept(NamedTuple):
    """What is kept, and the number of the message that it is in."""

    committed: GroupPlace
    number: int = 0


def subject_of(lane: str, group: str) -> str:
    """Return where it is kept."""
    return f"{GROUPS}.{token(lane)}.{token(group)}"


async def kept_at(connection: NatsConnection, subject: str) -> Kept:
    """Return what is kept there; raises :class:`~.errors.ServerRefused` without the stream.

    What somebody else has written there says nothing.
    """
    found = await last_at(connection, subject)
    if found is None:
        return Kept(GroupPlace())
    try:
        return Kept(msgspec.json.decode(found[0], type=GroupPlace), found[1])
    except msgspec.DecodeError:
        return Kept(GroupPlace(), found[1])


async def last_at(connection: NatsConnection, subject: str) -> tuple[bytes, int] | None:
    """Return the last message of a subject, and its number, by who leads its stream."""
    stream = subject.partition(".")[0]
    try:
        found = await connection.ask(f"STREAM.MSG.GET.{stream}", {"last_by_subj": subject})
    except ServerRefused as refused:
        if refused.number != NO_MESSAGE:
            raise
        return None
    return base64.b64decode(found["message"].get("data", "")), found["message"]["seq"]


async def keep(
    connection: NatsConnection, subject: str, payload: bytes, after: int | None = None
) -> int:
    """Replace what is kept at a subject; return the number of its message.

    ``after`` is that of the message that is replaced, 0 for none. If another one is there, this
    raises :class:`~.errors.ServerRefused` with one of :data:`~.errors.WRONG_SEQUENCE`.
    """
    headers = None if after is None else {"Nats-Expected-Last-Subject-Sequence": str(after)}
    try:
        answer = await connection.request(subject, payload, headers)
    except NoRespondersError:
        said = {"err_code": NOT_FOUND, "description": "somebody has deleted the stream"}
        raise ServerRefused(said, f"what is kept at {subject}") from None
    number: int = answered(answer, f"what is kept at {subject}")["seq"]
    return number
