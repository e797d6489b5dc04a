"""Runs one drill from an empty folder to its report."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from importlib.metadata import version
from typing import TYPE_CHECKING

import msgspec

from forebay.errors import Transient, Unreachable
from forebay.lab import servers
from forebay.lab.commands import FOREBAY, until
from forebay.lab.drills.bridge_side import DATABASE, STEADY_S, bridges_beside
from forebay.lab.drills.broker_servers import brokers_beside
from forebay.lab.drills.brokers import TOPIC
from forebay.lab.drills.held_against import hold_against, letters_of, stored_rows
from forebay.lab.drills.history import HistoryStage
from forebay.lab.drills.limits import small_disk
from forebay.lab.drills.line import on_a_line
from forebay.lab.drills.plan import AlertSeen, ServerUsed, TransportHeld
from forebay.lab.drills.read_back import read_back, stored_ids
from forebay.lab.drills.saturation import history_beside
from forebay.lab.drills.stage import Stage, bound_by_modes
from forebay.ops import alerts
from forebay.services.lanes import DEAD
from forebay.stores.kind import DEFAULT as STORE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from forebay.clock import Clock
    from forebay.lab.drills.bridge_side import BridgeSide
    from forebay.lab.drills.plan import BridgedHeld, Drill, DrillReport, Timing

FACTOR = 1 / 120
"""What the durations in the rules are shortened by: a minute is half a second."""
WINDOW_S = 5.0
"""No window is shorter: what happens once a second must be in each."""
FLAT = 1.2
"""So many times that they may have in a fault, while the journal keeps what waits."""


async def run_drill(
    drill: Drill,
    root: Path,
    *,
    seed: int,
    timing: Timing,
    clock: Clock,
    with_alerts: bool = False,
    say: Callable[[str], None] = lambda _what: None,
    forebay: Sequence[str] = FOREBAY,
) -> DrillReport:
    """Run a drill in the empty folder ``root``; ``with_alerts`` beside Prometheus.

    ``forebay`` runs our commands.

    Whatever goes wrong in it makes the report red. Raises
    :class:`~forebay.errors.Transient` if ``forebay run`` does not begin to capture, and
    :class:`~forebay.errors.Unreachable` if the simulated exchange or a server does not start, or
    this user may not bring the fault about.
    """
    began = clock.monotonic_ns()
    drill.needs()
    if drill.history is not None:
        downloading = HistoryStage(drill, root, seed, timing, clock, say, command=forebay)
        await downloading.play(drill.history)
        return _ended(downloading, began)
    stage = Stage(drill, root, seed, timing, clock, say, command=bound_by_modes(forebay))
    playing = functools.partial(_captured, stage, with_alerts=with_alerts)
    await (on_a_line(drill.line_kbit, playing) if drill.line_kbit else playing())
    return _ended(stage, began)


async def _captured(stage: Stage, *, with_alerts: bool) -> None:
    """Play a drill around a capture from its exchange's start to the audit."""
    drill = stage.drill
    async with contextlib.AsyncExitStack() as beside:
        if drill.disk_mb:
            await beside.enter_async_context(small_disk(stage.data.root, drill.disk_mb))
        async with stage.exchange() as urls:
            if drill.bars:
                await beside.enter_async_context(history_beside(stage))
            if drill.brokers:
                await beside.enter_async_context(brokers_beside(stage, drill.brokers))
            if drill.bridging:
                await beside.enter_async_context(bridges_beside(stage, drill.bridging))
            async with stage.capture(urls):
                with stage.noting_errors():
                    async with watching(stage) if with_alerts else contextlib.nullcontext():
                        await _play(stage)
            with stage.noting_errors():
                await _count(stage)
            if stage.transports:
                await _read_back(stage)
            if stage.bridged:
                with stage.noting_errors():
                    await _hold_bridged(stage, stage.bridged)


def _ended(stage: Stage, began_ns: int) -> DrillReport:
    stage.report.took_s = round((stage.clock.monotonic_ns() - began_ns) / 1e9, 1)
    _judge(stage)
    return stage.report


async def _play(stage: Stage) -> None:
    """Healthy, the fault, healthy again, and the market's end, also when the fault was none."""
    if stage.bridged:
        await stage.bridged.begin(stage)
    await stage.healthy()
    if stage.bridged:
        stage.bridged.well()
    with stage.noting_errors():
        await stage.drill.act(stage)
        await stage.recovered()
    await stage.healthy()
    await stage.settled()
    if stage.bridged and stage.mirrors:  # they end with the capture
        await stage.bridged.has_all(stage, stage.watch.stored)


async def _count(stage: Stage) -> None:
    """Report what happened, and what of it is stored, counted by the audit."""
    report = stage.report
    truth, withheld = await stage.truth(), await stage.withheld()
    audit = await stage.audit()
    said = "".join(f": {problem.text}" for problem in audit.problems)
    stage.check(f"the audit is green{said}", audit.ok)
    for bounds in (truth["symbols"] or truth["feeds"]["trade"]).values():
        if bounds["first"] is not None:
            report.produced += bounds["last"] + 1 - bounds["first"]
    for told in withheld.values():
        spans = (*told["certain"], *told["in_doubt"])
        report.withheld += sum(last + 1 - first for first, last, _ in spans)
    stages = (stream.stages.get("store") for stream in audit.streams)
    report.stored = sum(stored.count for stored in stages if stored is not None)
    report.missing, report.doubled, report.mutated = audit.missing, audit.doubled, audit.mutated
    states = {gap.state for gap in audit.gaps}
    lasting = {"permanent"} if stage.drill.lasting else set()
    if stage.drill.gaps:
        stage.check("the hole is declared and filled", states - lasting == {"filled"})
    stage.check("no gap is left", states <= {"filled"} | lasting)
    await stage.drill.checked(stage, audit)


async def _read_back(stage: Stage) -> None:
    """Report what the topics of each transport have of what is stored."""
    stage.say("reading topics back")
    stored = await asyncio.to_thread(stored_ids, stage.data)
    await asyncio.gather(*(_compare(stage, name, stored) for name in stage.transports))


async def _compare(stage: Stage, name: str, stored: set[bytes]) -> None:
    with stage.noting_errors():
        _note(stage, await asyncio.to_thread(read_back, stage.transports[name], stored))


def _note(stage: Stage, held: TransportHeld) -> None:
    stage.report.transports.append(held)
    said = f"{held.events} events are in {held.transport}, {held.lost} lost, {held.doubled} doubled"
    more = f"{held.displaced} displaced, {held.unread} unread; {held.again} records sent again"
    unread, displaced = held.unread, held.displaced
    if stage.bridged is not None:
        unread -= stage.bridged.poison
        displaced *= not stage.bridged.republished
    wrong = held.lost or held.doubled or displaced or unread
    stage.check(f"{said}, {more}", ok=held.events > 0 and not wrong)


async def _hold_bridged(stage: Stage, side: BridgeSide) -> None:
    """Report what ClickHouse has of what is stored, once the bridges are through."""
    stage.say("holding ClickHouse against the store")
    with stage.noting_errors():
        await side.has_all(stage, stage.report.stored)
    for bridge in side.bridges:
        code = await bridge.end()
        stage.check(f"{bridge.name} ends with exit code {code}", code == 0)
    rows = await asyncio.to_thread(stored_rows, stage.data)
    for name, server in side.servers.items():
        held = await asyncio.to_thread(hold_against, rows, server.url, DATABASE)
        _note_held(stage, msgspec.structs.replace(held, store=name))
    if side.bridges:
        await _note_bridges(stage, side)


def _note_held(stage: Stage, held: BridgedHeld) -> None:
    stage.report.bridged.append(held)
    said = f"{held.store} has {held.events} events, {held.lost} lost, {held.doubled} doubled"
    more = f"{held.doubled_raw} doubled as they lie, {held.mutated} mutated"
    wrong = held.lost or held.doubled or held.doubled_raw or held.mutated
    stage.check(f"{said}, {more}", ok=held.events > 0 and not wrong)


async def _note_bridges(stage: Stage, side: BridgeSide) -> None:
    """Report what bridges needed, and which dead letters they made."""
    most = max(side.bridges, key=lambda bridge: bridge.watch.peak_rss_mb())
    healthy_mb, peak_mb = most.healthy_mb, most.watch.peak_rss_mb()
    letters, good = await asyncio.to_thread(_letters, stage)
    stage.report.bridged[0] = msgspec.structs.replace(
        stage.report.bridged[0],
        healthy_rss_mb=healthy_mb,
        peak_rss_mb=peak_mb,
        drained_per_s=side.drained_per_s,
        letters=letters,
        good_letters=good,
    )
    said = f"{letters} dead letters, of which {good} of good events"
    stage.check(said, ok=letters == side.poison and not good)
    if stage.timing.healthy_s >= STEADY_S:
        told = f"a bridge's memory is flat: {peak_mb} MB at most, {healthy_mb} MB before"
        stage.check(told, peak_mb <= FLAT * healthy_mb)


def _letters(stage: Stage) -> tuple[int, int]:
    assert stage.brokers is not None  # noqa: S101 - bridges need some
    return letters_of(stage.brokers.bootstrap, TOPIC + DEAD, stored_ids(stage.data))


def _judge(stage: Stage) -> None:
    """Complete the report."""
    report = stage.report
    report.breakers, report.states = stage.watch.transitions(), stage.watch.states
    if stage.bridged:
        report.breakers |= stage.bridged.transitions()
    for name in stage.drill.breakers:
        went = report.breakers.get(name, [])
        # It opened, let probes through, and is CLOSED at the end.
        closed = {"open", "half_open"} <= {*went} and went[-1] == "closed"
        stage.check(f"{name} went {' → '.join(went)}", closed)
    lost = report.missing or report.doubled or report.mutated
    stage.check(
        f"{report.stored} events are stored, and nothing is lost", report.stored > 0 and not lost
    )
    report.fault_happened = report.fault_hits > 0
    stage.check(f"the fault struck {report.fault_hits} times", report.fault_happened)
    stage.check("all recovered without a person", report.recovery_s is not None)
    if stage.drill.brokers:
        told = {held.transport for held in report.transports}
        stage.check("every transport was read back", ok=told == {*stage.transports} != set())
    for alert in report.alerts:
        stage.check(f"{alert.name} fired and cleared", alert.fired and alert.cleared)
    report.peak_rss_mb, healthy_mb = stage.watch.peak_rss_mb(), report.healthy_rss_mb
    if stage.drill.brokers and stage.timing.healthy_s >= STEADY_S:
        said = f"memory is flat: {report.peak_rss_mb} MB at most, {healthy_mb} MB before"
        stage.check(said, report.peak_rss_mb <= FLAT * healthy_mb)
    report.ok = all(check.ok for check in report.checks)
    report.peak_disk_mb = round(stage.watch.disk / 1e6, 1)
    substitute = ServerUsed(stage.venue, "", substitute="a simulated exchange")
    report.servers = [ServerUsed(STORE, version(STORE)), substitute, *report.servers]


# ------------------------------------------------------------------------- alerts


@contextlib.asynccontextmanager
async def watching(stage: Stage) -> AsyncIterator[None]:
    """Scrape the run with a real Prometheus; at the end report which alerts reached a webhook.

    Where the servers cannot be had, the report says so, and no alert is judged.
    """

    async def cleared() -> bool | None:
        told = seen(stage, hook) if hook is not None else []
        return all(alert.fired and alert.cleared for alert in told) or None

    async with contextlib.AsyncExitStack() as stack:
        hook = None
        try:
            hook = await _start(stage, stack)
        except Unreachable as error:
            stage.report.alerts_skipped = str(error)
        try:
            yield
            stage.say("waiting for alerts to clear")
            with contextlib.suppress(Transient):  # the report says which did not
                await until(stage.clock, cleared, "alerts to clear", stage.timing.patience_s)
        finally:
            if hook is not None:
                stage.report.alerts_skipped = ""
                stage.report.alerts = seen(stage, hook)


async def _start(stage: Stage, stack: contextlib.AsyncExitStack) -> servers.Webhook:
    watched = await stage.until(lambda seen: bool(seen.url), "HTTP to be served")
    hook = await stack.enter_async_context(servers.webhook())
    manager = await stack.enter_async_context(
        servers.alertmanager(stage.root / "alertmanager", hook.url, clock=stage.clock)
    )
    server = await stack.enter_async_context(
        servers.prometheus(
            stage.root / "prometheus",
            [watched.url.removeprefix("http://")],
            clock=stage.clock,
            rules=alerts.scaled(alerts.text(), FACTOR, least_window_s=WINDOW_S),
            alertmanager=manager.address,
        )
    )
    stage.report.servers += [ServerUsed(each.name, each.version) for each in (manager, server)]
    return hook


def seen(stage: Stage, hook: servers.Webhook) -> list[AlertSeen]:
    """Return what was delivered of each alert that the drill expects."""
    fired, resolved = hook.seen("firing"), hook.seen("resolved")
    return [AlertSeen(name, name in fired, name in resolved) for name in stage.drill.alerts]
