"""What a drill remembers of the run that it looks at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from forebay.app.wiring.data_folder import DataFolder
from forebay.clock import ManualClock
from forebay.errors import Unreachable
from forebay.lab import commands
from forebay.lab.drills import watch as watching
from forebay.lab.drills.watch import Observation, Watch

ANSWERS: list[tuple[int, Any] | Unreachable] = []


async def answered(url: str) -> tuple[int, Any]:
    """Answer what a test told, one after the other."""
    answer = ANSWERS.pop(0)
    if isinstance(answer, Unreachable):
        raise answer
    return answer


def health(status: str, *moves: tuple[str, str], state: str = "closed") -> tuple[int, Any]:
    history = [{"at": at, "now": now, "was": "", "reason": ""} for at, now in moves]
    return 200, {
        "status": status,
        "breakers": [{"name": "store", "state": state, "history": history}],
        "services": [
            {"name": "store", "root": "deliver"},
            {"name": "journal", "root": None},
        ],
    }


TOLD: dict[str, dict[str, Any]] = {
    "capture": {"pid": 11, "connected": 1, "captured": 7, "next_seq": 40},
    "deliver": {"pid": 12, "rows": 5, "seq": 30, "gaps": {"open": 2}},
}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    found: dict[str, Any] = dict(TOLD)
    monkeypatch.setattr(commands, "ask", answered)
    monkeypatch.setattr(watching, "statuses", lambda *_, **__: found)
    monkeypatch.setattr(watching, "ask", lambda *_, **__: ({"http": "http://there"}, b""))
    return found


def watch(*answers: tuple[int, Any] | Unreachable) -> Watch:
    ANSWERS[:] = answers
    return Watch(DataFolder(Path("nowhere")), ManualClock())


async def test_a_look_tells_state_breakers_services_and_both_processes(
    told: dict[str, Any],
) -> None:
    seen = await watch(health("critical", ("1", "open"), state="open")).look()

    assert (seen.state, seen.breakers, seen.down) == (
        "critical",
        {"store": "open"},
        {"store": "deliver"},
    )
    assert (seen.lag, seen.connected, seen.stored, seen.gaps_open) == (10, True, 5, 2)
    assert (seen.pid("capture"), seen.pid("deliver")) == (11, 12)


async def test_a_part_that_does_not_answer_is_no_zero(told: dict[str, Any]) -> None:
    told.update(capture=None, deliver=None)
    seen = await watch(Unreachable("gone")).look()

    assert (seen.state, seen.breakers, seen.connected) == ("", {}, False)
    assert [seen.lag, seen.stored, seen.gaps_open, seen.pid("deliver")] == [None] * 4


async def test_states_are_remembered_when_they_change(told: dict[str, Any]) -> None:
    looking = watch(*(health(state) for state in ("healthy", "healthy", "critical", "healthy")))
    for _ in range(4):
        await looking.look()

    assert looking.states == ["healthy", "critical", "healthy"]


async def test_transitions_are_each_remembered_once_also_beyond_a_restart(
    told: dict[str, Any],
) -> None:
    looking = watch(
        health("healthy"),
        health("critical", ("2", "open")),
        health("critical", ("2", "open"), ("3", "half_open"), ("4", "open")),
        health("healthy"),  # a process that was started again remembers none of them
        health("critical", ("9", "open")),
    )
    for _ in range(5):
        await looking.look()

    assert looking.transitions() == {"store": ["closed", "open", "half_open", "open", "open"]}


async def test_the_peak_of_memory_is_of_all_processes_together(
    told: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {0: 5, 11: 10, 12: 20, 13: 1}
    monkeypatch.setattr(watching, "peak_rss_bytes", sizes.__getitem__)
    looking = watch(health("healthy"), health("healthy"))
    await looking.look()
    told["deliver"] = {**TOLD["deliver"], "pid": 13}
    await looking.look()

    assert looking.rss == {0: 5, 11: 10, 12: 20}
    assert looking.peak_rss_mb() == 0.0


def test_lag_is_never_negative() -> None:
    ahead = {"next_seq": 3}, {"seq": 9}
    assert Observation(0, "", "", {}, {}, *ahead).lag == 0


@pytest.mark.parametrize(
    ("backlog", "deliver", "lag"), [(4, 30, 10), (70, 30, 70), (0, 40, 0), (None, 30, None)]
)
async def test_the_lag_is_of_whoever_is_last(
    told: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    backlog: int | None,
    deliver: int,
    lag: int | None,
) -> None:
    told["deliver"] = {**TOLD["deliver"], "seq": deliver}
    status = {"transport": "kafka", "backlog": backlog, "published": 9}
    others = [{"pid": 11, "status": {}}, {"pid": 13, "status": {**status, "transport": "other"}}]
    processes = others if backlog is None else [*others, {"pid": 14, "status": status}]
    answer = {"http": "", "report": {"processes": processes}}
    monkeypatch.setattr(watching, "ask", lambda *_, **__: (answer, b""))
    made = watch(health("healthy"))
    made.transports = ("kafka",)

    seen = await made.look()

    assert seen.lag == lag
    assert (seen.published("kafka"), seen.pid("kafka")) == ((None,) * 2 if lag is None else (9, 14))
    assert [*seen.publishers] == ["kafka"]


def test_workers_are_found_by_their_roles(tmp_path: Path) -> None:
    (tmp_path / "7" / "task" / "7").mkdir(parents=True)
    (tmp_path / "7" / "task" / "7" / "children").write_text("8 9 10 ")
    for pid, words in ((8, "capture"), (9, "publish-kafka"), (10, "deliver")):
        (tmp_path / str(pid)).mkdir()
        command = ("python", "-m", "forebay.app.processes.worker", words, "")
        (tmp_path / str(pid) / "cmdline").write_bytes("\0".join(command).encode())

    assert watching.workers(7, {"capture", "publish-kafka"}, tmp_path) == [8, 9]
    assert watching.workers(6, {"capture"}, tmp_path) == []
