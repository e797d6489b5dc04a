"""What each drill does: brings its fault about, watches what must happen, takes it away."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import stat
from typing import TYPE_CHECKING

from forebay.lab import faults
from forebay.lab.drills.limits import fill
from forebay.lab.drills.plan import REST, WEBSOCKET
from forebay.lab.drills.watch import open_descriptors, process_state

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from forebay.lab.drills.stage import Stage

# ------------------------------------------------------------------------------- the exchange

RETRY_AFTER_S = 3
FILLS_AT_ONCE = 2
"""Callers of REST at a time, see :class:`forebay.services.capture.CaptureSettings`."""
_EARLY = 0.9
"""The exchange sees a request a little earlier or later after its answer than it was asked."""


@contextlib.asynccontextmanager
async def trouble(
    stage: Stage, name: str, settings: Mapping[str, int] | None = None
) -> AsyncIterator[None]:
    """Switch a trouble of the exchange on while the context is open; its hits are the fault's."""
    await stage.trouble(name, settings)
    try:
        yield
    finally:
        await stage.trouble(name, on=False)
        stage.fault_over(len(await stage.hits(name)))


async def rest_429(stage: Stage) -> None:
    """The exchange's REST answers 429 with Retry-After.

    Nobody may come sooner than it says.
    """
    await _rest_troubled(stage, faults.TOO_MANY, {"retry_after_s": RETRY_AFTER_S})
    moments = await stage.hits(faults.TOO_MANY)
    later = zip(moments, moments[FILLS_AT_ONCE:], strict=False)
    waits_s = [(after - before) / 1e9 for before, after in later]
    honoured = all(wait_s >= RETRY_AFTER_S * _EARLY for wait_s in waits_s)
    stage.check(f"Retry-After is honoured by {len(moments)} requests", honoured)


async def rest_500(stage: Stage) -> None:
    """The exchange's REST answers 500."""
    await _rest_troubled(stage, faults.BROKEN)


async def rest_timeouts(stage: Stage) -> None:
    """The exchange's REST takes requests and never answers.

    Time-outs come one after another, with long pauses.
    """
    await _rest_troubled(stage, faults.HANG)


async def _rest_troubled(
    stage: Stage, name: str, settings: Mapping[str, int] | None = None
) -> None:
    async with trouble(stage, name, settings):
        await stage.breaker(REST, "open")
        await stage.comes(lambda seen: seen.down.get(REST) == REST, "REST is a root")
        await stage.comes(lambda seen: seen.state != "critical", "and no critical one")
        await stage.goes_on()
        stage.check("gaps stay open meanwhile", bool((await stage.seen()).gaps_open))


async def websocket_flap(stage: Stage) -> None:
    """The exchange closes each websocket right after it accepted the subscription."""
    await _websocket_troubled(stage, faults.FLAP)


async def websocket_half_open(stage: Stage) -> None:
    """The exchange's websocket stays open and is silent, pongs included."""
    await _websocket_troubled(stage, faults.SILENCE)


async def websocket_refused(stage: Stage) -> None:
    """Nobody gets a websocket: no gatherer is healthy."""
    await _websocket_troubled(stage, faults.NO_UPGRADE)


async def _websocket_troubled(stage: Stage, name: str) -> None:
    async with trouble(stage, name):
        await stage.breaker(WEBSOCKET, "open")
        await stage.comes(lambda seen: seen.state == "critical", "the system is critical")
        await stage.last()


async def payload_torn(stage: Stage) -> None:
    """Every hundredth event arrives as JSON cut short.

    Those are dead letters, whose holes are filled from history.
    """
    await _payload_troubled(stage, faults.TEAR, "dead_letters", "frames are dead letters")


async def payload_restated(stage: Stage) -> None:
    """Every hundredth event comes a second time with another price.

    The first stays, the other is a conflict.
    """
    await _payload_troubled(stage, faults.RESTATE, "conflicts", "events are conflicts")


async def _payload_troubled(stage: Stage, name: str, counted: str, what: str) -> None:
    async with trouble(stage, name):
        await stage.goes_on()
    hits = len(await stage.hits(name))
    await stage.comes(
        lambda seen: bool(seen.deliver and seen.deliver[counted] >= hits), f"{hits} {what}"
    )


# ------------------------------------------------------------------------- store and disk

WRITES_REFUSED = "forebay_store_writes_refused_total"
_READ_ONLY = stat.S_IRUSR | stat.S_IXUSR | stat.S_IRGRP | stat.S_IXGRP


@contextlib.contextmanager
def _folder_read_only(stage: Stage) -> Iterator[None]:
    """Take the right to make and remove files beside the database, and give it back.

    What is open stays writable, so nothing fails until DuckDB moves its log into the table,
    which makes and removes files. That commit's answer is lost, though it happened; and no
    other one can begin before the database is opened again, which the folder does not allow.
    """
    folder = stage.data.root
    mode = stat.S_IMODE(folder.stat().st_mode)
    folder.chmod(_READ_ONLY)
    stage.say("the database's folder is read-only")
    try:
        yield
    finally:
        folder.chmod(mode)
        stage.fault_over(len(stage.happened("store_unavailable")))


async def store_read_only(stage: Stage) -> None:
    """The database's folder is read-only for a while.

    Its breaker trips, capture goes on, and the journal keeps all.
    """
    with _folder_read_only(stage):
        tripped = await stage.breaker("store", "open")
        await stage.comes(lambda seen: seen.state == "critical", "the system is critical")
        await stage.goes_on()
        later = await stage.seen()
        stage.check("nothing is stored during the fault", later.stored == tripped.stored)


async def emergency(stage: Stage) -> None:
    """The store and another critical service are down at once."""
    async with trouble(stage, faults.REFUSE):
        await stage.breaker(REST, "open")
        with _folder_read_only(stage):
            await stage.breaker("store", "open")
            await stage.comes(lambda seen: seen.state == "emergency", "the system is in emergency")
            status, health = await stage.get("/health")
            said = (status, health["status"])
            stage.check(f"/health answers {said}", said == (503, "emergency"))
            await stage.goes_on()
            refused = await stage.metric(WRITES_REFUSED)
            stage.check(f"{refused:g} writes were refused", refused > 0)
            stage.check("which was told", bool(stage.happened("store_write_refused")))


async def disk_full(stage: Stage) -> None:
    """Somebody else fills the disk of the data folder.

    Capture waits; what it misses is declared, and filled.
    """
    stranger = stage.data.root / "stranger"
    stage.say("the disk is full")
    try:
        await asyncio.to_thread(fill, stranger)
        await stage.comes(
            lambda seen: bool(seen.capture and seen.capture["full"]), "the journal takes no frames"
        )
        await stage.comes(lambda seen: seen.state == "critical", "the system is critical")
        await stage.last()
    finally:
        stranger.unlink(missing_ok=True)
        stage.fault_over(len(stage.happened("journal_full_began")))


# ------------------------------------------------------------------------- processes


async def capture_killed(stage: Stage) -> None:
    """Capture is killed with SIGKILL while it works.

    What it misses is declared, and filled.
    """
    await _killed_twice(stage, "capture")


async def deliver_killed(stage: Stage) -> None:
    """Deliver is killed with SIGKILL while it works.

    It goes on where the store is.
    """
    await _killed_twice(stage, "deliver")


async def run_killed(stage: Stage) -> None:
    """The supervisor is killed with SIGKILL, and everything with it, then started again."""
    stage.run.kill()
    code = await stage.run.wait()
    stage.say("killed the supervisor")
    await stage.until(lambda seen: seen.capture is None and seen.deliver is None, "the others' end")
    await stage.last()
    await stage.start_run()
    stage.fault_over(int(code == -signal.SIGKILL))
    await stage.until(lambda seen: seen.connected, "a connection")


async def _pid_of(role: str, stage: Stage) -> int:
    seen = await stage.until(lambda seen: seen.pid(role) is not None, f"{role} to answer")
    return seen.pid(role) or 0


async def _killed_twice(stage: Stage, role: str) -> None:
    for _ in range(2):
        await _kill(stage, role)
    stage.fault_over(len(stage.happened("process_died")))


async def _kill(stage: Stage, role: str) -> None:
    pid = await _pid_of(role, stage)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    stage.say(f"killed {role}")
    await stage.until(lambda seen: seen.pid(role) not in (None, pid), f"{role} to be back")
    await stage.last()


async def deliver_hung(stage: Stage) -> None:
    """Deliver is stopped with SIGSTOP: it neither dies nor answers; capture goes on."""
    pid = await _pid_of("deliver", stage)
    os.kill(pid, signal.SIGSTOP)
    stage.say("deliver hangs")
    try:
        await stage.comes(
            lambda seen: seen.down.get("store") == "deliver", "the store is down by it"
        )
        stopped = int(process_state(pid) == "T")
        await stage.goes_on()
        status, _ = await stage.get("/health/live")
        stage.check("liveness does not depend on it", status == 200)  # noqa: PLR2004
    finally:
        os.kill(pid, signal.SIGCONT)
    stage.fault_over(stopped)


_SPARE = 2
"""Descriptors that capture may still open: fewer than a fifth, which is what is alarming."""


async def descriptors_exhausted(stage: Stage) -> None:
    """Capture may open hardly another file or socket."""
    pid = await _pid_of("capture", stage)
    used = open_descriptors(pid)
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + _SPARE, before[1]))
    stage.say(f"capture may have {used + _SPARE} descriptors")
    limited = int(resource.prlimit(pid, resource.RLIMIT_NOFILE)[0] == used + _SPARE)
    try:
        await stage.goes_on()
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    stage.fault_over(limited)
