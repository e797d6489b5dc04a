"""Publishing by a running capture: what is captured is on the transport, whoever was away."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from forebay.app.processes.local_socket import ask
from forebay.app.wiring.data_folder import Consumer
from forebay.domain.messages import EventsTold
from forebay.errors import ForebayError
from tests.support.commands import TWO_SYMBOLS, capture, connected, forebay, simulator, wait_for
from tests.support.memory_socket import serving
from tests.support.memory_transport import Broker, MemoryTransport
from tests.support.socket_transport import PLUGIN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.commands import Lab, Running

ROLE = "publish-memory"
TABLE = """
[[transports]]
name = "memory"
plugin = "{plugin}"
servers = "{servers}"
drain_every = "1s"

[resilience.transport]
failure_threshold = 2
recovery_timeout_s = 0.5
"""


@pytest.fixture
def socket() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:  # its path must be short
        yield Path(folder) / "broker.sock"


@contextlib.contextmanager
def publishing(folder: Path, socket: Path, rate: int = 400) -> Iterator[Running]:
    """Run a capture with one transport, which is served at ``socket`` or not."""
    file = folder / "forebay.toml"
    with simulator("--rate", rate, "--start", "now", seed=11) as lab:
        configured(file, folder / "data", lab, socket)
        with capture(folder / "data", file=file) as running:
            connected(running)
            yield running


def configured(file: Path, data: Path, lab: Lab, socket: Path) -> None:
    table = TABLE.format(plugin=PLUGIN, servers=socket)
    file.write_text(TWO_SYMBOLS.format(data=data, lab=lab) + table)


def status(running: Running) -> dict[str, Any] | None:
    """What the publisher says of itself; None while it does not answer."""
    with contextlib.suppress(ForebayError):
        return ask(running.folder.socket(ROLE), {"op": "report"}, timeout_s=2.0)[0]
    return None


def until(running: Running, holds: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        told = status(running)
        return told if told and holds(told) else None

    return wait_for(look, what)


def waits_for(frames: int, told: dict[str, Any]) -> bool:
    return bool(told["status"]["waited"] > frames)


def is_another(pid: int, told: dict[str, Any]) -> bool:
    return bool(told["pid"] != pid)


def told(broker: Broker) -> dict[str, list[tuple[int, str]]]:
    """Return by symbol the trades on a transport, as frame and id, in their order."""
    transport = MemoryTransport(broker)
    found: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for lane in broker.lanes("trade_archive"):
        subscription = transport.subscribe(lane, "test")
        while received := subscription.read():
            for _, message, *_ in received:
                if message and isinstance(message.head.told, EventsTold) and message.rows:
                    columns = message.rows.select(["symbol", "seq", "event_id"]).to_pydict()
                    for symbol, seq, event in zip(*columns.values(), strict=True):
                        found[symbol].append((seq, str(event)))
    return found


def checked(folder: Path) -> tuple[bool, str]:
    """Return what ``forebay check`` finds of the transport."""
    parts = forebay("check", "-c", folder / "forebay.toml", "--json").json["parts"]
    (found,) = [each for each in parts if each["part"] == "transport memory"]
    return found["ok"], found["text"]


def require_all(broker: Broker, running: Running, *, once: bool) -> None:
    """Every trade that is stored is on the transport, in the order of the journal."""
    query = "SELECT symbol, event_id::VARCHAR AS id FROM trades"
    stored = forebay("sql", query, "--data", running.folder.root, "--json", "--limit", 1_000_000)
    assert len(stored.json) > 100
    found = told(broker)
    for symbol in {row["symbol"] for row in stored.json}:
        first: dict[str, int] = {}
        for seq, event in found[symbol]:
            first.setdefault(event, seq)
        assert first.keys() == {row["id"] for row in stored.json if row["symbol"] == symbol}
        assert list(first.values()) == sorted(first.values())
        assert not once or len(first) == len(found[symbol])


@pytest.mark.drill
def test_it_runs_without_its_broker_and_tells_all_when_that_comes(
    tmp_path: Path, socket: Path
) -> None:
    broker = Broker(partitions=2)
    with publishing(tmp_path, socket) as running:
        assert running.folder.consumers()[1:] == [Consumer(ROLE)]
        seen = until(running, lambda told: told["status"]["waited"] > 400, "frames that wait")
        (breaker,) = seen["breakers"]
        assert breaker["name"] == "memory"
        assert seen["status"]["published"] == 0
        whole = forebay("status", "--data", running.folder.root, "--json").json
        assert whole["not_ready"] == ""
        assert whole["health"]["state"] == "degraded"
        assert whole["deliver"]["rows"] > 0, "the store has nothing to do with it"
        shown = forebay("status", "--data", running.folder.root).stdout
        assert "memory: " in shown
        with serving(broker, socket):
            until(running, lambda told: told["status"]["backlog"] < 100, "nothing that waits")
            assert running.stop() == 0
            require_all(broker, running, once=True)
            assert checked(tmp_path) == (True, "answers, a broker in memory; required")
    assert not checked(tmp_path)[0]


def test_it_is_killed_over_and_over_and_nothing_is_lost(tmp_path: Path, socket: Path) -> None:
    broker = Broker(partitions=2)
    with serving(broker, socket), publishing(tmp_path, socket) as running:
        for _ in range(3):
            before = until(running, lambda told: told["status"]["published"] > 50, "events")
            os.kill(before["pid"], signal.SIGKILL)
            until(running, partial(is_another, before["pid"]), "another process")
        until(running, lambda told: told["status"]["published"] > 50, "events")
        assert running.stop() == 0
        require_all(broker, running, once=False)


@pytest.mark.drill
def test_its_broker_goes_and_comes_back(tmp_path: Path, socket: Path) -> None:
    broker = Broker(partitions=2)
    with publishing(tmp_path, socket) as running:
        for _ in range(2):
            with serving(broker, socket):
                before = until(running, lambda told: told["status"]["published"] > 50, "events")
            until(running, partial(waits_for, before["status"]["waited"] + 200), "a backlog")
        with serving(broker, socket):
            until(running, lambda told: told["status"]["backlog"] < 100, "nothing that waits")
            last = until(running, lambda told: told["status"]["flushed"] > 0, "what waited")
            assert last["status"]["flushed"] <= last["status"]["waited"]
            assert running.stop() == 0
            require_all(broker, running, once=False)


@pytest.mark.drill
def test_a_topic_that_is_deleted_gets_all_again(tmp_path: Path, socket: Path) -> None:
    broker = Broker(partitions=2)
    with serving(broker, socket), publishing(tmp_path, socket) as running:
        until(running, lambda told: told["status"]["published"] > 200, "events")
        broker.delete("trade_archive")
        until(running, lambda told: told["status"]["published"] > 600, "events told again")
        assert running.stop() == 0
        require_all(broker, running, once=False)
