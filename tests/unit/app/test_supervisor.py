"""The exit code of a capture whose processes were stopped."""

from __future__ import annotations

import asyncio
import errno
import json
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from forebay import telemetry
from forebay.app.processes.supervisor import LEAN, Supervisor
from forebay.app.processes.system import RunningSystem
from forebay.app.wiring.config import Config, HttpConfig
from forebay.telemetry import ProcessDied, TelemetryEvent, ignore

if TYPE_CHECKING:
    from pathlib import Path

DIES_SO = """
import os, signal
signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), {number}))
print(flush=True)
while True:
    signal.pause()
"""
EXITS_SO = """
import os, signal
signal.signal(signal.SIGTERM, lambda *_: os._exit({number}))
print(flush=True)
while True:
    signal.pause()
"""
SAYS = """
import os, signal
said = {said!r}
signal.signal(signal.SIGTERM, lambda *_: (print(said, flush=True), os._exit(0)))
print(flush=True)
while True:
    signal.pause()
"""
NOT_READY = "import signal; print(flush=True); signal.pause()"


class Stopped(Supervisor):
    """Runs a script instead of a role and is stopped as soon as that is ready."""

    script = ""

    async def _start(self, role: str) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", self.script), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        await process.stdout.readline()
        self.stop.set()
        return process


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (DIES_SO.format(number=int(signal.SIGUSR1)), 1),
        (DIES_SO.format(number=int(signal.SIGKILL)), 1),
        (EXITS_SO.format(number=0), 0),
        (EXITS_SO.format(number=3), 3),
        (NOT_READY, 0),
    ],
)
async def test_a_process_that_crashes_while_it_stops_is_no_success(
    tmp_path: Path, script: str, code: int
) -> None:
    supervisor = Stopped(Config(data=str(tmp_path / "data")), ignore, only=("capture",))
    supervisor.script = script

    assert await supervisor.run() == code


async def test_a_terminal_that_closes_stops_it_and_any_other_hangup_reloads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor = Supervisor(Config(data=str(tmp_path / "data")), ignore)
    reloads: list[int] = []
    monkeypatch.setattr(Supervisor, "_reload", lambda _: reloads.append(1))
    for had, has, stops in ((False, False, False), (True, True, False), (True, False, True)):
        supervisor._terminal = had
        monkeypatch.setattr("os.isatty", lambda _, has=has: has)
        supervisor._hung_up()
        assert supervisor.stop.is_set() is stops
    assert len(reloads) == 2


async def test_hangups_behind_a_process_that_hangs_do_not_pile_up(tmp_path: Path) -> None:
    supervisor = Supervisor(Config(data=str(tmp_path / "data")), ignore)
    supervisor._terminal = False
    hung, begun = asyncio.Event(), 0

    class Hung:
        async def reload(self) -> None:
            nonlocal begun
            begun += 1
            await hung.wait()

    supervisor.system = Hung()  # type: ignore[assignment]
    for _ in range(60):
        supervisor._hung_up()
        await asyncio.sleep(0)
    assert begun == 2, "one that runs, and one that will read what is written by then"
    hung.set()
    await asyncio.gather(*supervisor._reloads)
    await asyncio.sleep(0)
    supervisor._hung_up()
    await asyncio.sleep(0)
    assert begun == 3
    await asyncio.gather(*supervisor._reloads)


async def test_a_process_that_cannot_be_started_is_tried_again(tmp_path: Path) -> None:
    told: list[TelemetryEvent] = []

    class Poor(Stopped):
        tries = 0

        async def _start(self, role: str) -> asyncio.subprocess.Process:
            self.tries += 1
            if self.tries <= 2:
                raise OSError(errno.EMFILE, "Too many open files")
            return await super()._start(role)

    supervisor = Poor(Config(data=str(tmp_path / "data")), told.append, only=("capture",))
    supervisor.script = EXITS_SO.format(number=0)

    assert await supervisor.run() == 0
    died = [each.status for each in told if isinstance(each, ProcessDied)]
    assert len(died) == 2
    assert all("Too many open files" in status for status in died)


async def test_its_processes_are_told_to_be_lean_unless_the_environment_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[str, str] = {}

    async def refuse(*_: object, env: dict[str, str], **__: object) -> None:
        told.update(env)
        supervisor.stop.set()
        raise OSError(errno.EMFILE, "Too many open files")

    name, *others = LEAN
    monkeypatch.setenv(name, "of the operator")
    for other in others:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setattr(asyncio, "create_subprocess_exec", refuse)
    supervisor = Supervisor(Config(data=str(tmp_path / "data")), ignore, only=("capture",))
    await supervisor.run()
    assert {key: told[key] for key in LEAN} == {**LEAN, name: "of the operator"}
    assert told["PATH"]


@pytest.mark.timeout(30)  # a supervisor that does not notice goes on for ever
async def test_it_does_not_go_on_without_its_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def blind(_: object) -> None:
        raise RuntimeError("the watch broke")

    class Steady(Supervisor):
        async def _start(self, role: str) -> asyncio.subprocess.Process:
            return await asyncio.create_subprocess_exec(sys.executable, "-c", NOT_READY)

    monkeypatch.setattr(RunningSystem, "watch", blind)
    supervisor = Steady(Config(data=str(tmp_path / "data")), ignore, only=("capture",))
    with pytest.raises(RuntimeError, match="the watch broke"):
        await supervisor.run()


# ---------------------------------------------------------------------- the farewell


def ended(folder: Path, said: str) -> tuple[Supervisor, list[TelemetryEvent]]:
    """Run a deliver process that says that when it is stopped."""
    told: list[TelemetryEvent] = []
    config = Config(data=str(folder), http=HttpConfig(enabled=False))
    supervisor = Stopped(config, told.append, only=("deliver",))
    supervisor.script = SAYS.format(said=said)
    assert asyncio.run(supervisor.run()) == 0
    return supervisor, told


def test_the_last_happening_of_a_stop_says_what_came_of_it(tmp_path: Path) -> None:
    last = {"rows": 7, "backlog": 3, "gaps": {"open": 2, "filled": 9}}
    supervisor, told = ended(tmp_path / "data", json.dumps(last))
    account = telemetry.Stopped(events=7, waiting=3, gaps_open=2)
    assert supervisor.stopped == told[-1] == account
    assert [each.level for each in told if isinstance(each, telemetry.Stopping)] == ["info"]


@pytest.mark.parametrize("said", ["", "null", "[]", "7", "{", "no JSON"])
def test_a_process_that_says_nothing_is_not_spoken_for(tmp_path: Path, said: str) -> None:
    supervisor, told = ended(tmp_path / "data", said)
    assert supervisor.stopped is None
    assert not any(isinstance(each, telemetry.Stopped) for each in told)
