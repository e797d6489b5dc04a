"""Housekeeping beside delivery: its turn, its configuration, and what it must not stop."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NoReturn

import pytest

from forebay.app.offline import preflight
from forebay.app.processes import maintenance
from forebay.app.processes.maintenance import (
    BREATH_S,
    IDLE_S,
    DeliveryPace,
    JournalMaintenance,
    needed,
    rules,
    run_maintenance,
)
from forebay.app.wiring.config import Config, JournalConfig
from forebay.app.wiring.data_folder import Consumer, DataFolder
from forebay.clock import ManualClock, SystemClock
from forebay.errors import Corrupt, Transient
from forebay.journal import (
    CursorFile,
    FsckReport,
    JournalWriter,
    PendingBlock,
    Position,
    fsck,
    inspect,
)
from forebay.journal.overview import JournalOverview
from forebay.journal.retention import HousekeepingStep, Rules
from forebay.services.deliver import BACKLOG_FRAMES
from forebay.telemetry import HousekeepingRefused, TelemetryEvent, WorkResumed, WorkShed
from tests.support.frames import context, match

if TYPE_CHECKING:
    from pathlib import Path


class Steps:
    """A task whose steps are told beforehand."""

    name = "task"

    def __init__(self, *results: object) -> None:
        self.results = list(results)
        self.calls = 0
        self.closed = False

    def step(self) -> HousekeepingStep | None:
        self.calls += 1
        result = self.results.pop(0) if self.results else None
        if isinstance(result, Exception):
            raise result
        return None if result is None else HousekeepingStep("seal", 1, Position("a" * 32, 2))

    def close(self) -> None:
        self.closed = True


async def run(
    task: Steps, pace: DeliveryPace, seconds: float
) -> tuple[list[float], list[TelemetryEvent]]:
    """Let so much time pass; the pauses it made, and what it told."""
    clock = ManualClock()
    told: list[TelemetryEvent] = []
    async with run_maintenance(task, pace, clock, told.append):
        await settle()
        for _ in range(round(seconds / BREATH_S)):
            clock.advance(BREATH_S)
            await settle()
    return clock.slept, told


@pytest.fixture(autouse=True)
async def one_worker() -> None:
    """Whatever is called in a thread comes behind what was called before: then it has settled."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))


async def settle() -> None:
    """Let the loop and its threads come to rest."""
    for _ in range(5):
        await asyncio.to_thread(lambda: None)
        await asyncio.sleep(0)


IDLE = DeliveryPace(0)


async def test_it_looks_every_few_seconds_and_goes_on_at_once_while_there_is_something() -> None:
    task = Steps("a step", "a step", None)
    slept, told = await run(task, IDLE, 2 * IDLE_S + 2)
    assert slept[:4] == [IDLE_S, BREATH_S, BREATH_S, IDLE_S]
    assert task.calls == 4
    assert task.closed
    assert told == []


@pytest.mark.parametrize(
    "pace", [DeliveryPace(), DeliveryPace(BACKLOG_FRAMES), DeliveryPace(0, stopping=True)]
)
async def test_never_while_delivery_is_behind_or_is_to_end(pace: DeliveryPace) -> None:
    task = Steps("a step")
    await run(task, pace, 4 * IDLE_S)
    assert task.calls == 0
    assert task.closed


async def test_its_turn_comes_when_delivery_has_caught_up() -> None:
    assert not DeliveryPace(BACKLOG_FRAMES - 1).behind
    task = Steps("a step")
    await run(task, DeliveryPace(BACKLOG_FRAMES - 1), IDLE_S + 1)
    assert task.calls


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (Transient("The disk is busy.", hint="Wait."), "The disk is busy. Wait."),
        (Corrupt("The ledger is damaged.", hint="Look."), "The ledger is damaged. Look."),
        (ZeroDivisionError("no"), "ZeroDivisionError: no"),
    ],
)
async def test_whatever_goes_wrong_is_told_and_tried_again(error: Exception, says: str) -> None:
    task = Steps(error, error, "a step")
    _, told = await run(task, IDLE, 3 * IDLE_S + 1)
    assert told == [HousekeepingRefused("look", "", says)] * 2
    assert task.calls >= 3


async def test_a_step_in_work_is_waited_for() -> None:
    begun, go_on = threading.Event(), threading.Event()

    class Slow(Steps):
        def step(self) -> HousekeepingStep | None:
            begun.set()
            assert go_on.wait(20)
            assert not self.closed
            return super().step()

    task, clock = Slow(), ManualClock()
    async with run_maintenance(task, IDLE, clock, lambda _: None):
        await settle()
        clock.advance(IDLE_S)
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as other:
            await loop.run_in_executor(other, begun.wait, 20)
        loop.call_later(0.01, go_on.set)
    assert (task.calls, task.closed) == (1, True)


def test_the_rules_are_those_of_the_configuration() -> None:
    assert rules(JournalConfig()) == Rules(7 * 86_400 * 10**9, None)
    assert rules(JournalConfig(retain="0", retain_gb=1.5)) == Rules(0, 1_500_000_000)


# ------------------------------------------------------------ with a real journal and ledger


def captured(folder: DataFolder, frames: int = 60) -> Position:
    """A closed journal of many segments."""
    with JournalWriter.open(folder.journal, clock=SystemClock(), segment_bytes=900) as writer:
        for native in range(1, frames + 1):
            writer.commit([PendingBlock(1, context().encode(), [match(native)], [0])])
        return writer.position


def steps(task: JournalMaintenance) -> list[str]:
    done: list[str] = []
    while (step := task.step()) is not None:
        done.append(step.action)
    return done


def knows_all(table: str, rows: object) -> NoReturn:
    """Nobody asks which events were told before: coverage knows by their ids."""
    raise AssertionError(table)


def maintenance_of(
    folder: DataFolder, position: Position | None, *, retain: str = "7d"
) -> JournalMaintenance:
    return JournalMaintenance(
        folder,
        JournalConfig(retain=retain),
        lambda: position,
        knows_all,
        clock=SystemClock(),
        observer=lambda _: None,
    )


def test_with_the_real_ledger_everything_is_recorded_and_sealed(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "d").create()
    end = captured(folder)
    CursorFile(folder.cursor("store")).store(end)
    task = maintenance_of(folder, end)
    done = steps(task)
    task.close()
    older = len(inspect(folder.journal)) - 1
    assert older > 5
    assert done == ["record"] * older + ["seal"] * older
    assert [each.sealed for each in inspect(folder.journal)] == [True] * older + [False]
    assert folder.ledger.is_dir()
    again = maintenance_of(folder, end, retain="0")
    assert steps(again) == ["remove"] * older
    again.close()


@pytest.mark.parametrize("which", ["stored", "told", "both"])
def test_without_both_cursors_nothing_is_touched(tmp_path: Path, which: str) -> None:
    folder = DataFolder(tmp_path / "d").create()
    end = captured(folder)
    if which == "stored":
        CursorFile(folder.cursor("store")).store(end)
    task = maintenance_of(folder, end if which == "told" else None, retain="0")
    assert steps(task) == []
    task.close()


def test_the_lower_of_both_cursors_counts(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "d").create()
    end = captured(folder)
    third = inspect(folder.journal)[2].first_seq
    CursorFile(folder.cursor("store")).store(end)
    task = maintenance_of(folder, Position(end.log_id, third))
    assert steps(task) == ["record"] * 2 + ["seal"] * 2
    task.close()
    CursorFile(folder.cursor("store")).store(Position(end.log_id, third))
    task = maintenance_of(folder, end)
    assert steps(task) == []
    task.close()


def with_a_second(folder: DataFolder, *, required: bool) -> tuple[Position, int]:
    """Capture something that the store is past, and a second consumer only to the third segment.

    Return the end, and how many segments there are.
    """
    end = captured(folder)
    segments = inspect(folder.journal)
    folder.remember_consumers([Consumer("second", required)])
    CursorFile(folder.cursor("store")).store(end)
    CursorFile(folder.cursor("second")).store(Position(end.log_id, segments[2].first_seq))
    return end, len(segments)


def checked(folder: DataFolder) -> FsckReport:
    files: dict[bool, list[Path]] = {True: [], False: []}
    for consumer in folder.consumers():
        files[consumer.required].append(folder.cursor(consumer.name))
    return fsck(folder.journal, cursors=files[True], best_effort=files[False])


def test_segments_stay_until_every_required_consumer_is_past_them(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "d").create()
    end, before = with_a_second(folder, required=True)
    task = maintenance_of(folder, end, retain="0")
    assert Counter(steps(task))["remove"] == 2
    assert len(inspect(folder.journal)) == before - 2
    report = checked(folder)
    assert report.ok
    assert [(each.name, each.required, each.behind > 0) for each in report.cursors] == [
        ("store", True, False),
        ("second", True, True),
    ]

    CursorFile(folder.cursor("second")).store(end)
    assert Counter(steps(task))["remove"] == before - 3
    task.close()


def test_a_best_effort_consumer_keeps_nothing_and_fsck_says_what_it_missed(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "d").create()
    end, before = with_a_second(folder, required=False)
    task = maintenance_of(folder, end, retain="0")
    assert Counter(steps(task))["remove"] == before - 1
    task.close()
    report = checked(folder)
    (missed,) = [each for each in report.findings if each.segment == "second.cursor"]
    assert report.ok
    assert "best-effort consumer" in missed.sentence

    folder.remember_consumers([Consumer("second", required=True)])
    assert not checked(folder).ok, "of a required one it is a loss"


def test_a_required_consumer_that_has_not_begun_keeps_everything(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "d").create()
    end, before = with_a_second(folder, required=True)
    folder.cursor("second").unlink()
    task = maintenance_of(folder, end, retain="0")
    assert steps(task) == []
    assert len(inspect(folder.journal)) == before

    folder.remember_consumers([])
    assert Counter(steps(task))["remove"] == before - 1, "nobody waits for it any more"
    task.close()


def test_a_ledger_that_cannot_be_opened_is_an_error_of_the_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = DataFolder(tmp_path / "d").create()
    end = captured(folder)
    CursorFile(folder.cursor("store")).store(end)

    def refuse(*_: object, **__: object) -> None:
        raise Transient("No.", hint="Later.")

    task = maintenance_of(folder, end)
    with monkeypatch.context() as patched:
        patched.setattr(maintenance, "open_ledger", refuse)
        with pytest.raises(Transient, match=r"No\. Later\."):
            task.step()
    assert task.step() is not None
    task.close()


# ------------------------------------------------------------------------ what it comes to

DAY_NS = 86_400 * 10**9


@pytest.mark.parametrize(
    ("per_day", "kept", "bytes_needed"),
    [
        (100, Rules(7 * DAY_NS), 700),
        (100, Rules(DAY_NS // 2), 50),
        (100, Rules(7 * DAY_NS, 300), 300),
        (100, Rules(DAY_NS, 300), 100),
        (None, Rules(DAY_NS, 300), None),
    ],
)
def test_the_bytes_that_are_needed(
    per_day: int | None, kept: Rules, bytes_needed: int | None
) -> None:
    seen = JournalOverview(1, 1, 0, 1, per_day, per_day, 1)
    assert needed(seen, kept) == bytes_needed


def test_a_check_warns_if_the_disk_is_full_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config(data=str(tmp_path / "d"))
    DataFolder(tmp_path / "d").create()
    assert preflight._retention(config) == []
    day = JournalOverview(10**9, 2, 0, 1, 10**10, 10**9, 6 * 10**9)
    monkeypatch.setattr(preflight, "overview", lambda _: day)
    assert preflight._retention(config) == []
    monkeypatch.setattr(preflight, "overview", lambda _: dataclasses.replace(day, free_bytes=1))
    (found,) = preflight._retention(config)
    assert (found.part, found.exit_code) == ("retention", 0)
    assert "7d takes 7.0 GB" in found.text
    assert "journal.retain_gb" in found.text


async def test_what_can_wait_waits_while_the_system_is_in_trouble_and_that_is_told_once() -> None:
    task, state = Steps(True, True, True), ["critical"]
    clock, told = ManualClock(), list[TelemetryEvent]()
    async with run_maintenance(task, IDLE, clock, told.append, lambda: state[0]):
        await settle()
        for _ in range(20):
            clock.advance(IDLE_S)
            await settle()
        assert task.calls == 0
        assert told == [WorkShed("task", "critical")]
        state[0] = ""
        clock.advance(IDLE_S)
        await settle()
        assert task.calls == 1
        assert told[1:] == [WorkResumed("task")]


async def test_another_retention_holds_from_the_next_step_on(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data").create()
    task = JournalMaintenance(
        folder,
        JournalConfig(),
        lambda: None,
        knows_all,
        clock=ManualClock(),
        observer=lambda _: None,
    )
    task.step()
    keeper = task._housekeeper
    assert keeper is not None
    assert keeper.rules.retain_ns == 7 * 86_400 * 10**9

    task.configure(JournalConfig(retain="1h"))

    assert keeper.rules.retain_ns == 3600 * 10**9
    assert task._housekeeper is keeper
    task.close()
