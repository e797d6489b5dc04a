"""What streams are asked for, beyond their messages."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from forebay.journal import new_id
from forebay.transports.nats.errors import NOT_FOUND, ServerRefused
from forebay.transports.nats.streams import TURNED_BACK, identity_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from forebay.transports.nats.connection import NatsConnection

_LOOKS = 8
_LOOK_S = 0.25
"""A server that has just begun to lead a stream may still be reading its log."""


async def info_of(connection: NatsConnection, name: str) -> dict[str, Any]:
    """Return what is known of a stream; raises :class:`~.errors.ServerRefused` without it."""
    return await connection.ask(f"STREAM.INFO.{name}")


async def made(connection: NatsConnection, wanted: dict[str, Any]) -> dict[str, Any]:
    """Return what is known of a stream, which is made if it is not there."""
    try:
        return await info_of(connection, wanted["name"])
    except ServerRefused as refusal:
        if refusal.number != NOT_FOUND:
            raise
    return await connection.ask(f"STREAM.CREATE.{wanted['name']}", wanted)


async def reaches(connection: NatsConnection, info: Mapping[str, Any], last: int) -> bool:
    """Return whether a stream has had a message ``last``.

    Otherwise it is an older copy of itself, for what it had was acknowledged by it.
    """
    config = info["config"]
    found: int = info["state"]["last_seq"]
    for _ in range(_LOOKS if config["num_replicas"] > 1 else 0):
        if found >= last:
            break
        await asyncio.sleep(_LOOK_S)
        found = (await info_of(connection, config["name"]))["state"]["last_seq"]
    return found >= last


async def turn_back(connection: NatsConnection, info: Mapping[str, Any]) -> str:
    """Give a stream another identity, since it has lost what it had; return that."""
    config = info["config"]
    metadata = {**(config.get("metadata") or {}), TURNED_BACK: new_id()}
    changed = {**config, "metadata": metadata}
    return identity_of(await connection.ask(f"STREAM.UPDATE.{config['name']}", changed))
