"""Transports of a data folder, read back and mended, beside a running capture or without one."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from forebay.app.processes.local_socket import ask
from forebay.app.wiring import transports, venues
from forebay.clock import SystemClock
from forebay.errors import ConfigError
from forebay.journal import CursorFile, StateFile
from forebay.services.audit.transports import problems_of_transport, transports_of
from forebay.services.publisher import Publisher, lanes_told
from forebay.services.readback import Findings, Mending, Published, TransportStage, read_back
from forebay.text import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from forebay.app.wiring.config import Config
    from forebay.app.wiring.data_folder import DataFolder
    from forebay.services.readback.mending import Alone
    from forebay.telemetry import Observer
    from forebay.transports.kind import TransportConfig

REPUBLISH = "republish"
"""The request to a publish process: publish what the transport lacks."""
REPAIR_S = 86_400.0
"""How long it may take: all that a transport keeps is read."""


def state_of(folder: DataFolder, name: str) -> StateFile:
    """Return what the publisher of a transport remembers."""
    return StateFile(folder.cursor(transports.ROLE + name).with_suffix(".state"))


def chosen(config: Config, names: Sequence[str]) -> list[TransportConfig]:
    """Return the transports that are kept to be read: those of ``names``, or all of them.

    Raises :class:`~forebay.errors.ConfigError` for a name that is none, or keeps nothing.
    """
    known = {transports.name_of(each): each for each in config.transports}
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known, "Give the configuration with -c.")
            raise ConfigError(f"No transport is called {name!r}.", hint=hint)
        if not transports.kind_of(known[name]).durable(known[name]):
            message = f"The transport {name} keeps nothing, so nothing can be read back."
            raise ConfigError(message, hint="Only who listens at that moment has what it tells.")
    return [
        each
        for name, each in known.items()
        if name in names or (not names and transports.kind_of(each).durable(each))
    ]


def stages(
    folder: DataFolder, config: Config, names: Sequence[str], observer: Observer
) -> list[TransportStage]:
    """Return the stages of an audit for the transports of a configuration; see :func:`chosen`."""
    return [
        TransportStage(
            transports.name_of(each),
            partial(opened, folder, each, observer),
            insisted=transports.name_of(each) in names,
        )
        for each in chosen(config, names)
    ]


def forgotten(folder: DataFolder, config: Config) -> list[str]:
    """Return which transports the capture publishes to that the configuration does not have."""
    known = {transports.ROLE + transports.name_of(each) for each in config.transports}
    names = (each.name for each in folder.consumers() if each.name.startswith(transports.ROLE))
    return sorted(name.removeprefix(transports.ROLE) for name in names if name not in known)


@contextlib.contextmanager
def opened(folder: DataFolder, said: TransportConfig, observer: Observer) -> Iterator[Published]:
    """Open a transport to read it; raises :class:`~forebay.errors.Unreachable`."""
    kind, name = transports.kind_of(said), transports.name_of(said)
    kind.probe(said)
    told = lanes_told(state_of(folder, name))
    with contextlib.closing(kind.open(said, observer)) as transport:
        yield Published(name, transport, *told)


def look(
    folder: DataFolder,
    said: TransportConfig,
    observer: Observer,
    *,
    alone: Alone | None = None,
    expired: bool = False,
    progress: Callable[[int, int], object] = lambda *_: None,
) -> Findings:
    """Read a transport back; with ``alone``, publish what it lacks, too.

    With ``expired`` it lacks what it has deleted because of its age.
    """
    with opened(folder, said, observer) as published:
        return read_back(
            published,
            folder.journal,
            venues.parsers(),
            ledger_folder=folder.ledger,
            mending=Mending(published.transport, alone) if alone else None,
            expired=expired,
            progress=progress,
        )


def document(found: Findings) -> dict[str, Any]:
    """Return what was found of a transport, to be printed."""
    (account,) = transports_of([found], ())
    problems = problems_of_transport(found)
    told = {"same": found.ok, "problems": msgspec.to_builtins(problems)}
    return {**msgspec.to_builtins(account), **told}


def republish(
    folder: DataFolder, said: TransportConfig, observer: Observer, *, expired: bool = False
) -> int:
    """Have a transport told what it lacks; return how many events and dead letters that were.

    A publisher that runs does it between its own steps. Where none runs, what waits in the
    journal is published first. Raises :class:`~forebay.errors.Unreachable` if the transport is
    away.
    """
    name = transports.name_of(said)
    socket = folder.socket(transports.ROLE + name)
    if folder.in_use():
        reply, _ = ask(socket, {"op": REPUBLISH, "expired": expired}, timeout_s=REPAIR_S)
        return int(reply["published"])
    with folder.owned():
        before = _drain(folder, said, observer)
        alone = contextlib.nullcontext
        return before + look(folder, said, observer, alone=alone, expired=expired).mended


def _drain(folder: DataFolder, said: TransportConfig, observer: Observer) -> int:
    kind, role = transports.kind_of(said), transports.ROLE + transports.name_of(said)
    kind.probe(said)
    with contextlib.closing(kind.open(said, observer)) as transport:
        publisher = Publisher(
            *(
                folder.journal,
                transport,
                venues.parsers(),
                state_of(folder, said.name or said.kind),
            ),
            clock=SystemClock(),
            cursor=CursorFile(folder.cursor(role)),
            observer=observer,
        )
        with contextlib.closing(publisher):
            publisher.drain()
            return publisher.published.total()
