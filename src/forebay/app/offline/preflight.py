"""Reaching every configured part before a capture depends on it."""

from __future__ import annotations

import asyncio
import functools
import itertools
import random
import resource
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace as replaced

from forebay.app.processes.maintenance import GIGABYTE, needed, rules
from forebay.app.wiring import stores, transports, venues
from forebay.app.wiring.config import token_of
from forebay.app.wiring.data_folder import DataFolder
from forebay.clock import SystemClock
from forebay.domain.frames import Context, EpochAccepted, StreamsRefused
from forebay.domain.listing import ListQuery, head_of, is_pattern, matcher, read_pages
from forebay.errors import ConfigError, ForebayError
from forebay.journal.overview import overview
from forebay.secret_files import open_to_all
from forebay.sources.live import Wiring
from forebay.sources.websocket.turnstile import start_s
from forebay.telemetry import ConnectionClosed, ConnectionFailed, RestRetried, ignore
from forebay.text import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from forebay.app.wiring.config import Config, VenueConfig
    from forebay.app.wiring.stores import FolderStore
    from forebay.domain.frames import Control
    from forebay.domain.listing import Directory, ListPage
    from forebay.sources.live import LiveSource
    from forebay.sources.venue import Stream
    from forebay.telemetry import Observer, TelemetryEvent
    from forebay.transports.kind import TransportConfig

MIN_FREE_BYTES = 1 << 30
MIN_DESCRIPTORS = 256
SUBSCRIBE_S = 15.0
_SHOWN = 20
"""Names of one complaint that are listed."""
REFUSED = "refused: "
"""How the reason of a connection that the venue closed on our subscription begins."""
SUBSCRIBED = 10
"""Markets that are subscribed to for a try, where they come and go."""
TRIES = 3
"""A part that failed so often in a row is not reached: waiting longer would tell no more."""


@dataclass(frozen=True, slots=True)
class PartFinding:
    """What was found of one part; ``exit_code`` 0 is fine."""

    part: str
    text: str
    exit_code: int = 0


async def check_all(config: Config) -> list[PartFinding]:
    """Return a finding for the data folder, the limits, each venue, store and transport.

    Nothing is made.
    """
    found = check_here(config)
    for venue in config.venues:
        directory = venues.VENUES[venue.name].directory
        if directory is None:
            found += await asyncio.gather(_rest(venue), _websocket(venue))
        else:
            found += await _markets(venue, directory)
    for findings in await asyncio.gather(*map(_store, stores.stores_of(config))):
        found += findings
    found += await asyncio.gather(*map(_transport, config.transports))
    return found


def check_here(config: Config) -> list[PartFinding]:
    """Return what can be found without reaching anybody."""
    found = [_folder(config), _descriptors(), _administration(config)]
    if found[0].exit_code == 0:
        found += _retention(config)
    return found + _secrets(config)


def _secrets(config: Config) -> list[PartFinding]:
    """Warn of secrets that every user of this machine may read; no reason not to start."""
    named = [each.credentials_file for each in config.venues]
    named += [each.credentials_file for each in config.transports]
    named += [each.credentials_file for each in (config.store, *config.mirrors)]
    files = dict.fromkeys(name for each in named for name in open_to_all(each))
    text = "may be read by every user here. Run: chmod 600"
    return [PartFinding("secrets", f"{name} {text} {name}") for name in files]


def _folder(config: Config) -> PartFinding:
    try:
        there = DataFolder(Path(config.data)).look()
    except ForebayError as error:
        return PartFinding("data folder", str(error), error.exit_code)
    free = shutil.disk_usage(there).free
    if free < MIN_FREE_BYTES:
        text = f"{config.data} has {free >> 20} MB left. Free some space, or choose another disk."
        return PartFinding("data folder", text, 3)
    state = "can be written to" if there == Path(config.data) else "can be made"
    return PartFinding("data folder", f"{config.data} {state}, {free >> 30} GB free")


def _administration(config: Config) -> PartFinding:
    part, http = "http", config.http
    if not http.enabled:
        return PartFinding(part, "is off: neither health nor metrics can be asked for")
    try:
        admin = "on" if token_of(http) else "off, since there is no http.token_file"
    except ConfigError as error:
        return PartFinding(part, str(error), error.exit_code)
    return PartFinding(part, f"http://{http.host}:{http.port}, administration is {admin}")


def _retention(config: Config) -> list[PartFinding]:
    """Warn if the disk will be full before the oldest frames may go; no reason not to start."""
    kept, journal = rules(config.journal), DataFolder(Path(config.data)).journal
    if not journal.exists():
        return []
    try:
        seen = overview(journal)
    except ForebayError as error:
        return [PartFinding("retention", str(error), error.exit_code)]
    need = needed(seen, kept)
    if seen.days_left is None or need is None or need <= seen.free_bytes + seen.bytes:
        return []
    text = (
        f"keeping frames for {config.journal.retain} takes {need / GIGABYTE:.1f} GB at the present "
        f"rate, and the disk is full before. Set journal.retain or journal.retain_gb lower."
    )
    return [PartFinding("retention", text)]


def _descriptors() -> PartFinding:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < MIN_DESCRIPTORS:
        text = f"only {soft} file descriptors may be open. Raise it: ulimit -n 4096."
        return PartFinding("descriptors", text, 3)
    return PartFinding("descriptors", f"{soft} may be open")


@dataclass(slots=True)
class _Failures:
    """Hears why a part is not reached, or not all of it."""

    last: str = ""
    count: int = 0
    enough: asyncio.Event = field(default_factory=asyncio.Event)

    def __call__(self, event: TelemetryEvent) -> None:
        if isinstance(event, (ConnectionFailed, ConnectionClosed, RestRetried)):
            self.last = event.reason
            self.count += not self.last.startswith(REFUSED)  # by whom is being found out
            if self.count == TRIES:
                self.enough.set()


def _wiring(observer: Observer = ignore) -> Wiring:
    return Wiring("check", SystemClock(), random.Random(), observer)


async def _rest(config: VenueConfig) -> PartFinding:
    part, failures = f"{config.name} REST", _Failures()
    if venues.VENUES[config.name].listing is None:
        return PartFinding(part, "lists no symbols, so those of the configuration are not checked")
    async with venues.source(config, _wiring(failures)) as source:
        asking = asyncio.create_task(source.instruments())
        await _first_of(asking, failures)
        if not asking.done():
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            late = f"no answer within {SUBSCRIBE_S:g} s. Check rest_url and the network."
            return PartFinding(part, failures.last or late, 3)
        try:
            known = {instrument.symbol for instrument in asking.result()}
        except ForebayError as error:
            return PartFinding(part, str(error), error.exit_code)
    if unknown := sorted(set(config.symbols) - known):
        meant = dict.fromkeys(filter(None, (venues.near(each, known) for each in unknown)))
        hint = f"Did you mean {_listed(list(meant))}? " if meant else ""
        text = f"there is no {_listed(unknown)}. {hint}See `forebay symbols --venue {config.name}`."
        return PartFinding(part, text, 2)
    return PartFinding(part, f"answers, {counted(len(known), 'symbol')}")


async def _markets(config: VenueConfig, directory: Directory) -> list[PartFinding]:
    """Return what is found of a venue whose markets come and go: a few of them are subscribed."""
    part, failures = f"{config.name} REST", _Failures()
    async with venues.source(config, _wiring(failures)) as source:
        asking = asyncio.create_task(_listed_now(config, directory, source))
        await _first_of(asking, failures)
        if not asking.done():
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            late = f"no answer within {SUBSCRIBE_S:g} s. Check rest_url and the network."
            return [PartFinding(part, failures.last or late, 3)]
        try:
            there = asking.result()
        except ForebayError as error:
            return [PartFinding(part, str(error), error.exit_code)]
    exact = venues.exact(config)
    if unknown := [name for name in exact if name not in there]:
        text = (
            f'there is no {_listed(unknown)}; all of a series are "{unknown[0]}-*". '
            f"See `forebay symbols --venue {config.name}`."
        )
        return [PartFinding(part, text, 2)]
    idle = [each for each in config.symbols if not any(map(matcher(each), there))]
    none = f", none of {_listed(idle)}: upper and lower case differ" if idle else ""
    found = [PartFinding(part, f"answers, {counted(len(there), 'market')} now{none}")]
    some = (*exact, *(name for name in there if name not in exact))[:SUBSCRIBED]
    if not some:
        text = "no market is open now that could be subscribed to; one is as soon as it opens"
        return [*found, PartFinding(f"{config.name} websocket", text)]
    return [*found, await _websocket(replaced(config, symbols=some))]


async def _listed_now(config: VenueConfig, directory: Directory, source: LiveSource) -> list[str]:
    """Return the open markets that the symbols stand for, and those written out that there are."""
    exact, patterns = venues.exact(config), [each for each in config.symbols if is_pattern(each)]
    queries = [ListQuery(head=head_of(pattern)) for pattern in patterns]
    queries += [ListQuery(names=exact)] if exact else []
    wanted = [matcher(each) for each in config.symbols]
    met: dict[str, None] = {}

    def take(page: ListPage) -> None:
        for market in page.markets:
            if any(matches(market.symbol) for matches in wanted):
                met[market.symbol] = None

    context = Context(venue=config.name, source="rest", purpose="live", collector="check", epoch="")

    async def ask(target: str) -> bytes:
        return await source.page(target, 1, context, _Probe(()))  # type: ignore[arg-type]

    for query in queries:
        await read_pages(directory, query, ask, take)
    return list(met)


async def _store(place: FolderStore) -> list[PartFinding]:
    """Return whether a server answers, and what of its set-up would do harm."""
    part, said = f"store {place.name}", place.config
    try:
        kind = stores.kind_of(said)
        if kind.probe is None:
            return []
        told = await asyncio.wait_for(asyncio.to_thread(kind.probe, said), SUBSCRIBE_S)
        amiss = await asyncio.wait_for(asyncio.to_thread(kind.complaints, said), SUBSCRIBE_S)
    except TimeoutError:
        text = f"no answer within {SUBSCRIBE_S:g} s. Check its url and the network."
        return [PartFinding(part, text, 3)]
    except ForebayError as error:
        return [PartFinding(part, str(error), error.exit_code)]
    return [PartFinding(part, f"answers, {told}"), *(PartFinding(part, each, 1) for each in amiss)]


async def _transport(config: TransportConfig) -> PartFinding:
    part = f"transport {transports.name_of(config)}"
    try:
        kind = transports.kind_of(config)
        told = await asyncio.wait_for(asyncio.to_thread(kind.probe, config), SUBSCRIBE_S)
        kept = "required" if transports.required(config) else "best effort"
    except TimeoutError:
        text = f"no answer within {SUBSCRIBE_S:g} s. Check transports.servers and the network."
        return PartFinding(part, text, 3)
    except ForebayError as error:
        return PartFinding(part, str(error), error.exit_code)
    return PartFinding(part, f"answers, {told}; {kept}")


def _listed(names: Sequence[str], between: str = ", ") -> str:
    more = f"{between}and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return between.join(names[:_SHOWN]) + more


async def _first_of(task: asyncio.Task[Any], failures: _Failures, more_s: float = 0.0) -> None:
    """Wait until ``task`` ends, or it failed too often, or for :data:`SUBSCRIBE_S` and more."""
    enough = asyncio.create_task(failures.enough.wait())
    within_s = SUBSCRIBE_S + more_s
    try:
        await asyncio.wait({task, enough}, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        enough.cancel()
        await asyncio.gather(enough, return_exceptions=True)


class _Probe:
    """A sink that keeps nothing and notes which streams are accepted or refused."""

    def __init__(self, wanted: Iterable[Stream]) -> None:
        self._waited = set(wanted)
        self.accepted = False
        """Whether any is."""
        self.refused: dict[Stream, str] = {}
        """Why the venue does not give some streams."""
        self.settled = asyncio.Event()

    def open(self, context: Context) -> object:
        """Return an epoch of which only the control records count."""
        control = functools.partial(self._control, context)
        return SimpleNamespace(frame=_ignore, batch=_ignore, control=control)

    def _control(self, context: Context, control: Control) -> None:
        if isinstance(control, EpochAccepted):
            self.accepted = True
            self._settle(control.streams or itertools.product(context.channels, context.symbols))
        elif isinstance(control, StreamsRefused):
            self.refused |= dict.fromkeys(control.streams, control.reason)
            self._settle(control.streams)

    def _settle(self, streams: Iterable[Stream]) -> None:
        self._waited.difference_update(streams)
        if not self._waited:
            self.settled.set()

    def on_pressure(self, callback: object) -> object:
        del callback
        return lambda: None

    async def flushed(self) -> int:
        return 0


def _ignore(*_: object) -> None:
    """Keep no frame."""


async def _websocket(config: VenueConfig) -> PartFinding:
    wanted = [(kind, symbol) for kind in venues.kinds(config) for symbol in config.symbols]
    part, probe = f"{config.name} websocket", _Probe(wanted)
    failures = _Failures()
    async with venues.source(config, _wiring(failures)) as source:
        running = asyncio.create_task(source.run(probe))  # type: ignore[arg-type]
        settled = asyncio.create_task(probe.settled.wait())
        await _first_of(settled, failures, start_s(source.connections))
        reason = failures.last  # what is told after this is of our own making
        for task in (running, settled):
            task.cancel()
        await asyncio.gather(running, settled, return_exceptions=True)
    if probe.refused:
        refused = sorted(probe.refused.items())
        told = [f"refuses {kind} of {symbol}: {why}" for (kind, symbol), why in refused]
        return PartFinding(part, _listed(told, "; "), 2)
    if probe.accepted:
        what = f"{', '.join(config.symbols)} ({', '.join(venues.kinds(config))})"
        return PartFinding(part, f"accepts a subscription to {what}")
    if reason.startswith(REFUSED):
        return PartFinding(part, reason.removeprefix(REFUSED), 2)
    text = reason.rstrip(".") or f"no subscription was accepted within {SUBSCRIBE_S:g} s"
    advice = "" if "credentials_file" in text else " Check ws_url and the network."
    return PartFinding(part, f"{text}.{advice}", 3)
