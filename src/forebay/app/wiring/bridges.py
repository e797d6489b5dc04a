"""What a configuration says of a bridge, and so of what this machine does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from forebay.app.wiring import stores, transports
from forebay.errors import ConfigError
from forebay.stores.kind import DEFAULT, StoreConfig
from forebay.text import did_you_mean

if TYPE_CHECKING:
    from forebay.app.wiring.complaints import Complaints
    from forebay.app.wiring.config import Config
    from forebay.transports.kind import TransportConfig

ROLE = "bridge"
"""The process of a bridge."""


class BridgeConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a transport carries, stored: several machines may share the work."""

    transport: str = ""
    """The name of the transport that is read; empty: there is no bridge."""
    group: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$")] = "bridge"
    """Who shares the work: the bridges of one group, into one store."""
    batch_rows: Annotated[int, Meta(ge=1, le=16384)] = 1000
    """So many rows of a lane are stored at once; of a backlog, up to 16384."""
    batch_s: Annotated[float, Meta(gt=0, le=3600)] = 10.0
    """Fewer are stored once the first of them has waited so long."""
    tries: Annotated[int, Meta(ge=1)] = 3
    """How often the store may refuse rows before they become dead letters."""
    store: StoreConfig = StoreConfig()
    """Where the bridge stores what it reads."""


def runs_bridge(config: Config) -> bool:
    """Return whether there is a bridge."""
    return bool(config.bridge.transport)


def captures(config: Config) -> bool:
    """Return whether something is captured here: a machine may have a bridge alone."""
    return bool(config.venues) or not runs_bridge(config)


def needed(role: str, processes: int) -> bool:
    """Return whether a process is needed for what the others do, of which there are so many.

    Publishers and mirrors are not, since the journal stands in for them, and a bridge beside a
    capture is not.
    """
    return not role.startswith((stores.MIRROR, transports.ROLE)) and (
        role != ROLE or processes == 1
    )


def transport_of(config: Config) -> TransportConfig:
    """Return the transport that is read."""
    wanted = config.bridge.transport
    return next(each for each in config.transports if transports.name_of(each) == wanted)


def breaker_of(config: Config) -> str:
    """Return the name of the breaker of what a bridge writes."""
    return f"{stores.name_of(config.bridge.store)}-bridge"


def check_bridge(config: Config, complaints: Complaints) -> None:
    """Note what is wrong with the table."""
    names = [transports.name_of(each) for each in config.transports]
    bridge = config.bridge
    if not bridge.transport and bridge != BridgeConfig():
        hint = f"Add transport = {names[0]!r}." if names else "Add [[transports]] and its name."
        message = "The table [bridge] does not say which transport is read."
        complaints.errors.append(ConfigError(message, hint=hint))
    if not bridge.transport:
        return
    if bridge.transport not in names:
        there = f"There is: {', '.join(names)}." if names else "Add a [[transports]] table."
        message = f"There is no transport called {bridge.transport!r} (bridge.transport)."
        hint = did_you_mean(bridge.transport, names, there)
        complaints.errors.append(ConfigError(message, hint=hint))
    if not bridge.store.plugin:
        with complaints.noted():
            stores.check_kind(bridge.store.kind)
    server = not bridge.store.plugin and bridge.store.kind != DEFAULT
    if server and config.venues and stores.name_of(bridge.store) == stores.name_of(config.store):
        message = f"[store] and [bridge.store] are both called {stores.name_of(bridge.store)!r}."
        complaints.errors.append(ConfigError(message, hint="Give one of them a name of its own."))
