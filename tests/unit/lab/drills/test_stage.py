"""The configuration that a drill writes, and what it reads of the run."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from forebay.app.wiring.config import load
from forebay.clock import ManualClock
from forebay.errors import Permanent, Transient, Unreachable
from forebay.lab.drills import stage as staging
from forebay.lab.drills import watch as watching
from forebay.lab.drills.catalogue import DRILLS
from forebay.lab.drills.plan import Timing
from forebay.lab.drills.stage import Stage, bound_by_modes
from forebay.lab.drills.watch import Observation, Watch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

URLS = {"ws_url": "ws://127.0.0.1:1", "rest_url": "http://127.0.0.1:2"}


class Impatient(ManualClock):
    """Whoever sleeps has slept."""

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)


def stage(root: Path, name: str = "emergency") -> Stage:
    return Stage(DRILLS[name], root, 1, Timing(), ManualClock())


@pytest.mark.parametrize("name", DRILLS)
def test_the_configuration_of_every_drill_is_one(tmp_path: Path, name: str) -> None:
    made = stage(tmp_path, name)
    made._configure(URLS)

    config, _ = load(made.config, {}, {})

    assert config.data == str(tmp_path / "data")
    assert config.venues[0].ws_url == URLS["ws_url"]
    assert config.http.host == "127.0.0.1"
    wanted = DRILLS[name].config.get("resilience.store", {}).get("recovery_timeout_s")
    assert config.resilience.store.recovery_timeout_s == wanted


def test_the_configuration_names_what_is_published_to(tmp_path: Path) -> None:
    made = stage(tmp_path, "kafka-down")
    options = {"message.timeout.ms": "3000", "client.id": 'a "b"'}
    made.transports["kafka"] = {"kind": "kafka", "servers": "there:1", "options": options}
    made.transports["nats"] = {"kind": "nats", "servers": "there:2", "replicas": 3}
    made._configure(URLS)

    config, _ = load(made.config, {}, {})

    kafka, nats = config.transports
    assert (kafka.kind, kafka.servers, kafka.options) == ("kafka", "there:1", options)
    assert (nats.kind, nats.servers, nats.replicas) == ("nats", "there:2", 3)
    assert made.watch.transports == ("kafka", "nats")


class Process:
    """A process that ends when asked to."""

    returncode = pid = 0

    def terminate(self) -> None:
        self.returncode = 4

    async def wait(self) -> int:
        return self.returncode


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Process:
    """A run that is started and never looked at: its watch sees nothing."""
    process = Process()

    async def start_run(made: Stage) -> None:
        made.run = process  # type: ignore[assignment]

    async def look(_: Watch) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Stage, "start_run", start_run)
    monkeypatch.setattr(Watch, "run", look)
    return process


UP = Observation(0, "http://there", "healthy", {}, {}, {"connected": 1}, {"rows": 1})


@pytest.mark.parametrize(
    "seen",
    [
        None,
        replace(UP, url=""),
        replace(UP, capture={"connected": 0}),
        replace(UP, deliver=None),
        replace(UP, deliver={"rows": 0}),
    ],
    ids=["nothing", "no HTTP", "not connected", "no deliver", "nothing stored"],
)
async def test_a_run_that_does_not_come_up_is_an_error_and_is_stopped(
    tmp_path: Path, started: Process, seen: Observation | None
) -> None:
    made = stage(tmp_path)
    made.clock = Impatient()
    made.watch.last = seen

    with pytest.raises(Transient, match=r"forebay run to begin.*log is .*run\.log"):
        async with made.capture(URLS):
            pytest.fail("it began")

    assert started.returncode == 4


async def test_what_goes_wrong_in_a_run_that_is_up_makes_the_report_red(
    tmp_path: Path, started: Process
) -> None:
    made = stage(tmp_path)
    made.watch.last = UP

    async with made.capture(URLS):
        with made.noting_errors():
            await made.until(lambda _: False, "something", 0)

    assert [check.what for check in made.report.checks if not check.ok] == [
        "Waited 0 s in vain for something.",
        "forebay run ends with exit code 4",
    ]


@pytest.mark.parametrize("said", ["", "no JSON\n"])
async def test_an_exchange_that_does_not_start_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    @contextlib.asynccontextmanager
    async def running(*_: str) -> AsyncIterator[Any]:
        stdout = asyncio.StreamReader()
        stdout.feed_data(said.encode())
        stdout.feed_eof()
        yield SimpleNamespace(stdout=stdout)

    monkeypatch.setattr(staging, "running", running)

    with pytest.raises(Unreachable, match="exchange did not start"):
        async with stage(tmp_path).exchange():
            pytest.fail("it started")


def test_what_happened_is_read_from_the_log_whatever_else_is_in_it(tmp_path: Path) -> None:
    made = stage(tmp_path)
    lines = ['{"event": "a", "n": 1}', "Traceback", '{"event": "b"}', '{"event": "a", "n": 2}']
    (tmp_path / "run.log").write_text("\n".join(lines))

    assert [line["n"] for line in made.happened("a")] == [1, 2]


async def test_a_metric_is_summed_over_its_labels_and_no_other_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = '# HELP x_total t\nx_total{a="1"} 2.0\nx_total{a="2"} 3.0\nx_total_more 9.0\n'

    async def get(*_: Any) -> tuple[int, str]:  # noqa: ANN401
        return 200, text

    monkeypatch.setattr(Stage, "get", get)

    assert await stage(tmp_path).metric("x_total") == 5.0
    assert await stage(tmp_path).metric("y_total") == 0.0


async def test_an_exchange_that_refuses_a_switch_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask(*_: Any) -> tuple[int, str]:  # noqa: ANN401
        return 400, "no"

    monkeypatch.setattr(staging, "ask", ask)

    with pytest.raises(Permanent, match="400"):
        await stage(tmp_path).trouble("rest-429")


@pytest.mark.parametrize(
    ("state", "breakers", "lag", "well"),
    [
        ("healthy", ("closed", "closed"), 5, True),
        ("critical", ("closed", "closed"), 5, False),
        ("healthy", ("half_open", "closed"), 5, False),
        ("healthy", ("closed", "open"), 5, False),
        ("healthy", ("closed", "closed"), 5000, False),
        ("healthy", ("closed", "closed"), None, False),
    ],
)
def test_all_is_well_only_if_breakers_state_and_lag_are(
    tmp_path: Path, state: str, breakers: tuple[str, str], lag: int | None, well: bool
) -> None:
    told = None if lag is None else {"next_seq": lag}
    names = dict(zip(("store", "coinbase-rest"), breakers, strict=True))
    seen = Observation(0, "", state, names, {}, told, {"seq": 0})

    assert stage(tmp_path)._is_well(seen) is well


# ------------------------------------------------------------------ the machine


def test_resources_are_read_from_proc_and_of_nobody_they_are_nothing(tmp_path: Path) -> None:
    mine = os.getpid()
    (tmp_path / "some").write_bytes(b"x" * 100_000)

    assert watching.peak_rss_bytes(mine) > 1 << 20
    assert watching.process_state(mine) == "R"
    assert watching.open_descriptors(mine) > 2
    assert watching.disk_bytes(tmp_path) >= 100_000
    gone = tmp_path / "proc"
    assert watching.peak_rss_bytes(1, gone) == watching.open_descriptors(1, gone) == 0
    assert watching.process_state(1, gone) == ""


@pytest.mark.skipif(sys.platform != "linux", reason="capabilities are Linux's")
def test_a_plain_user_is_bound_by_a_read_only_folder_even_as_root(tmp_path: Path) -> None:
    writes = f"open({json.dumps(str(tmp_path / 'folder' / 'file'))}, 'w')"
    (tmp_path / "folder").mkdir(mode=0o555)
    command = bound_by_modes([sys.executable, "-c", writes])

    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert "PermissionError" in done.stderr
    assert not (tmp_path / "folder" / "file").exists()


def test_who_is_not_root_has_nothing_to_give_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    assert bound_by_modes(["some"]) == ["some"]


@pytest.mark.skipif(sys.platform != "linux", reason="capabilities are Linux's")
def test_root_who_cannot_give_up_what_it_may_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(Unreachable, match="no setpriv"):
        bound_by_modes(["some"])
