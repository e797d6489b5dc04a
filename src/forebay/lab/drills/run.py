"""Runs one drill from an empty folder to its report."""

from __future__ import annotations

import contextlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from forebay.app.wiring.stores import DEFAULT as STORE
from forebay.errors import ForebayError
from forebay.lab.drills.disk import small_disk
from forebay.lab.drills.plan import VENUE
from forebay.lab.drills.report import DrillCheck, DrillReport, ServerUsed
from forebay.lab.drills.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from forebay.clock import Clock
    from forebay.lab.drills.alarms import Alarms
    from forebay.lab.drills.plan import Drill, Timing

_MB = 1_000_000
_SERVERS = (
    ServerUsed(STORE, version(STORE)),
    ServerUsed(VENUE, "", substitute="a simulated exchange"),
)


async def run_drill(
    drill: Drill,
    root: Path,
    *,
    seed: int,
    timing: Timing,
    clock: Clock,
    alarms: Alarms | None = None,
    say: Callable[[str], None] = lambda _what: None,
) -> DrillReport:
    """Run a drill in the empty folder ``root``; ``alarms`` looks at its alerts.

    Whatever goes wrong in it makes the report red. Raises
    :class:`~forebay.errors.Transient` if ``forebay run`` does not begin to capture, and
    :class:`~forebay.errors.Unreachable` if the simulated exchange does not start or a disk of
    the drill's own cannot be mounted.
    """
    began = clock.monotonic_ns()
    async with contextlib.AsyncExitStack() as beside:
        stage = Stage(drill, root, seed, timing, clock, say)
        if drill.disk_mb:
            await beside.enter_async_context(small_disk(stage.data.root, drill.disk_mb))
        async with stage.exchange() as urls:
            async with stage.capture(urls):
                if alarms is not None:
                    await beside.enter_async_context(alarms.watching(stage))
                await _play(stage)
                if alarms is not None:
                    await alarms.cleared(stage)
            account = await _account(stage)
    took_s = (clock.monotonic_ns() - began) / 1e9
    return _report(stage, account, alarms, took_s)


async def _play(stage: Stage) -> None:
    """Healthy, the fault, healthy again, and the market's end, also when the fault was none."""
    await stage.healthy()
    try:
        await stage.drill.act(stage)
        await stage.recovered()
    except ForebayError as error:
        stage.check(str(error), ok=False)
    await stage.healthy()
    await stage.settled()


async def _account(stage: Stage) -> dict[str, int]:
    """Return what happened, and what of it is stored, counted by the audit."""
    found = dict.fromkeys(
        ("produced", "withheld", "stored", "missing", "doubled", "mutated", "gaps"), 0
    )
    try:
        truth, withheld = await stage.truth(), await stage.withheld()
        audit = await stage.audit()
    except ForebayError as error:
        stage.check(str(error), ok=False)
        return found
    said = "".join(f": {problem['text']}" for problem in audit["problems"])
    stage.check(f"the audit is green{said}", audit["ok"])
    streams: list[dict[str, Any]] = audit["streams"]
    for bounds in truth["symbols"].values():
        if bounds["first"] is not None:
            found["produced"] += bounds["last"] + 1 - bounds["first"]
    for told in withheld.values():
        spans = (*told["certain"], *told["in_doubt"])
        found["withheld"] += sum(last + 1 - first for first, last, _ in spans)
    found["stored"] = sum(each["stages"].get("store", {}).get("count", 0) for each in streams)
    for key in ("missing", "doubled", "mutated"):
        found[key] = audit[key]
    states = {gap["state"] for gap in audit["gaps"]}
    found["gaps"] = len(audit["gaps"])
    if stage.drill.gaps:
        stage.check("the hole is declared and filled", states == {"filled"})
    stage.check("no gap is left", states <= {"filled"})
    return found


def _report(
    stage: Stage, account: dict[str, int], alarms: Alarms | None, took_s: float
) -> DrillReport:
    watch, drill = stage.watch, stage.drill
    moves = watch.transitions()
    for name in drill.breakers:
        went = moves.get(name, [])
        stage.check(f"{name} went {' → '.join(went)}", _tripped_and_closed(went))
    lost = {key: account[key] for key in ("missing", "doubled", "mutated")}
    stage.check(
        f"{account['stored']} events are stored, and nothing is lost",
        account["stored"] > 0 and not any(lost.values()),
    )
    stage.check(f"the fault struck {stage.fault_hits} times", stage.fault_hits > 0)
    stage.check("all recovered without a person", stage.recovery_s is not None)
    alerts = [] if alarms is None else alarms.seen(drill.alerts)
    checks = [
        *stage.checks,
        *(DrillCheck(f"{a.name} fired and cleared", a.fired and a.cleared) for a in alerts),
    ]
    return DrillReport(
        name=drill.name,
        ok=all(check.ok for check in checks),
        seed=stage.seed,
        fault_happened=stage.fault_hits > 0,
        fault_hits=stage.fault_hits,
        produced=account["produced"],
        withheld=account["withheld"],
        stored=account["stored"],
        **lost,
        recovery_s=None if stage.recovery_s is None else round(stage.recovery_s, 2),
        peak_rss_mb=round(watch.peak_rss_bytes() / _MB, 1),
        healthy_rss_mb=round(stage.healthy_rss / _MB, 1),
        peak_disk_mb=round(watch.disk / _MB, 1),
        servers=[*_SERVERS, *([] if alarms is None else alarms.servers)],
        breakers=moves,
        states=watch.states,
        alerts=alerts,
        alerts_skipped="not asked for" if alarms is None else alarms.skipped,
        checks=checks,
        took_s=round(took_s, 1),
        folder=str(stage.root),
    )


def _tripped_and_closed(went: list[str]) -> bool:
    """Whether a breaker opened, let probes through, and is CLOSED at the end."""
    return "open" in went and "half_open" in went and went[-1] == "closed"
