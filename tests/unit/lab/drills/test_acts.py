"""The acts of the drills, on a stage that is played: whatever happens, the fault is taken away."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import stat
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from forebay.app.wiring.data_folder import DataFolder
from forebay.errors import Transient
from forebay.lab.drills import acts
from forebay.lab.drills.catalogue import DRILLS
from forebay.lab.drills.plan import REST, Timing
from forebay.lab.drills.watch import Observation, process_state
from forebay.lab.faults import (
    BROKEN,
    FLAP,
    HANG,
    NO_UPGRADE,
    REFUSE,
    RESTATE,
    SILENCE,
    TEAR,
    TOO_MANY,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

SECOND = 1_000_000_000


@dataclass
class Played:
    """A stage on which everything that is waited for happens at once, or never."""

    root: Path
    happens: bool = True
    seen_now: Observation | None = None
    moments: list[int] = field(default_factory=lambda: [1, 2])
    metrics: float = 4.0
    did: list[str] = field(default_factory=list)
    checks: dict[str, bool] = field(default_factory=dict)
    hits_told: list[int] = field(default_factory=list)
    on: dict[str, dict[str, int]] = field(default_factory=dict)
    timing: Timing = field(default_factory=Timing)
    drill: Any = DRILLS["rest-429"]

    @property
    def data(self) -> DataFolder:
        return DataFolder(self.root)

    def say(self, what: str) -> None:
        self.did.append(what)

    def check(self, what: str, ok: bool) -> None:
        self.checks[what] = ok

    def happened(self, event: str) -> list[dict[str, Any]]:
        return [{"event": event}] * 2

    def fault_over(self, hits: int) -> None:
        self.hits_told.append(hits)

    async def trouble(
        self, name: str, settings: Mapping[str, int] | None = None, *, on: bool = True
    ) -> None:
        if on:
            self.on[name] = dict(settings or {})
        else:
            del self.on[name]

    async def hits(self, name: str) -> list[int]:
        return self.moments

    async def breaker(self, name: str, *states: str) -> Observation:
        return await self.until(lambda _: True, f"the breaker {name}")

    async def until(
        self, holds: Callable[[Observation], bool], what: str, *_: float
    ) -> Observation:
        if not self.happens:
            raise Transient(what)
        return await self.seen()

    async def comes(self, holds: Callable[[Observation], bool], what: str) -> None:
        self.check(what, ok=holds(await self.seen()))

    async def goes_on(self) -> None:
        self.did.append("goes on")
        await self.last()

    async def last(self) -> None:
        self.did.append("lasts")

    async def seen(self) -> Observation:
        return self.seen_now or seen()

    async def metric(self, name: str) -> float:
        return self.metrics

    async def get(self, path: str) -> tuple[int, Any]:
        return (200, {}) if path == "/health/live" else (503, {"status": "emergency"})


def seen(
    state: str = "critical", *, rows: int = 5, pid: int = 1, down: dict[str, str] | None = None
) -> Observation:
    told = {"pid": pid, "rows": rows, "gaps": {"open": 1}, "dead_letters": 2, "conflicts": 2}
    return Observation(0, "http://there", state, {}, down or {}, {**told, "connected": 1}, told)


TROUBLED = {
    TOO_MANY: acts.rest_429,
    BROKEN: acts.rest_500,
    HANG: acts.rest_timeouts,
    FLAP: acts.websocket_flap,
    SILENCE: acts.websocket_half_open,
    NO_UPGRADE: acts.websocket_refused,
    TEAR: acts.payload_torn,
    RESTATE: acts.payload_restated,
}


@pytest.mark.parametrize("name", TROUBLED)
async def test_a_trouble_is_switched_on_and_off_and_its_hits_are_told(
    tmp_path: Path, name: str
) -> None:
    stage = Played(tmp_path, moments=[SECOND, 2 * SECOND])

    await TROUBLED[name](stage)  # type: ignore[arg-type]

    assert stage.on == {}
    assert stage.hits_told == [2]
    assert "lasts" in stage.did


@pytest.mark.parametrize("name", [TOO_MANY, BROKEN, HANG, FLAP, SILENCE, NO_UPGRADE])
async def test_a_trouble_that_trips_nothing_is_switched_off_all_the_same(
    tmp_path: Path, name: str
) -> None:
    stage = Played(tmp_path, happens=False)

    with pytest.raises(Transient):
        await TROUBLED[name](stage)  # type: ignore[arg-type]
    assert stage.on == {}
    assert stage.hits_told == [2]


@pytest.mark.parametrize(
    ("moments_s", "honoured"),
    [
        ([0, 0, 3, 3, 6], True),  # two callers, each as late as it was asked
        ([0, 0, 2, 3, 6], False),
        ([0, 0, 0], False),
        ([0], True),
    ],
)
async def test_retry_after_is_honoured_if_no_caller_comes_sooner(
    tmp_path: Path, moments_s: list[int], honoured: bool
) -> None:
    stage = Played(tmp_path, moments=[second * SECOND for second in moments_s])

    await acts.rest_429(stage)  # type: ignore[arg-type]

    said = [ok for what, ok in stage.checks.items() if what.startswith("Retry-After")]
    assert said == [honoured]


async def test_rest_alone_is_a_root_and_nothing_critical(tmp_path: Path) -> None:
    good, bad = Played(tmp_path), Played(tmp_path)
    good.seen_now = seen("healthy", down={REST: REST})
    bad.seen_now = seen("critical", down={REST: "capture"})

    for stage in (good, bad):
        await acts.rest_500(stage)  # type: ignore[arg-type]

    assert (good.checks["REST is a root"], good.checks["and no critical one"]) == (True, True)
    assert (bad.checks["REST is a root"], bad.checks["and no critical one"]) == (False, False)


# ------------------------------------------------------------------------ the store


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def set_mode(path: Path, mode: int) -> None:
    path.chmod(mode)


async def test_the_folder_is_read_only_meanwhile_and_as_before_afterwards(tmp_path: Path) -> None:
    set_mode(tmp_path, 0o750)
    stage = Played(tmp_path)
    modes = []

    async def goes_on() -> None:
        modes.append(mode_of(tmp_path))

    stage.goes_on = goes_on  # type: ignore[method-assign]
    await acts.store_read_only(stage)  # type: ignore[arg-type]

    assert modes == [0o550]
    assert mode_of(tmp_path) == 0o750
    assert (stage.hits_told, stage.checks["nothing is stored during the fault"]) == ([2], True)


async def test_the_folder_is_as_before_also_if_no_breaker_trips(tmp_path: Path) -> None:
    set_mode(tmp_path, 0o700)

    with pytest.raises(Transient):
        await acts.store_read_only(Played(tmp_path, happens=False))  # type: ignore[arg-type]
    assert mode_of(tmp_path) == 0o700


async def test_rows_that_are_stored_during_the_fault_are_noticed(tmp_path: Path) -> None:
    stage = Played(tmp_path)
    rows = iter(range(100))

    async def growing() -> Observation:
        return seen(rows=next(rows))

    stage.seen = growing  # type: ignore[method-assign]
    await acts.store_read_only(stage)  # type: ignore[arg-type]

    assert not stage.checks["nothing is stored during the fault"]


@pytest.mark.parametrize(("refused", "ok"), [(3.0, True), (0.0, False)])
async def test_an_emergency_needs_a_refused_write(tmp_path: Path, refused: float, ok: bool) -> None:
    stage = Played(tmp_path, metrics=refused, seen_now=seen("emergency"))

    await acts.emergency(stage)  # type: ignore[arg-type]

    assert stage.checks[f"{refused:g} writes were refused"] is ok
    assert stage.on == {}
    assert REFUSE not in stage.on
    assert stage.checks["/health answers (503, 'emergency')"]


# ------------------------------------------------------------------- real processes


@contextmanager
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        try:
            yield child
        finally:
            child.kill()


class Stopping(Played):
    """A stage on which nothing comes before the process has stopped, which takes a moment."""

    async def comes(self, holds: Callable[[Observation], bool], what: str) -> None:
        pid = (await self.seen()).pid("deliver") or 0
        await asyncio.to_thread(os.waitid, os.P_PID, pid, os.WSTOPPED)
        await super().comes(holds, what)


async def test_a_hung_process_is_stopped_and_goes_on(tmp_path: Path) -> None:
    with sleeper() as child:
        stage = Stopping(tmp_path, seen_now=seen(pid=child.pid, down={"store": "deliver"}))
        await acts.deliver_hung(stage)  # type: ignore[arg-type]

        assert stage.hits_told == [1]
        assert process_state(child.pid) != "T"
        assert all(stage.checks.values())


async def test_descriptors_are_few_meanwhile_and_as_before_afterwards(tmp_path: Path) -> None:
    with sleeper() as child:
        before = resource.prlimit(child.pid, resource.RLIMIT_NOFILE)
        stage = Played(tmp_path, seen_now=seen(pid=child.pid))
        await acts.descriptors_exhausted(stage)  # type: ignore[arg-type]

        assert resource.prlimit(child.pid, resource.RLIMIT_NOFILE) == before
        assert stage.hits_told == [1]


async def test_a_process_is_killed_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shot: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: shot.append((pid, number)))
    stage = Played(tmp_path, seen_now=seen(pid=77))

    await acts.deliver_killed(stage)  # type: ignore[arg-type]

    assert shot == [(77, signal.SIGKILL)] * 2
    assert stage.hits_told == [2]
