"""Several stores fed from one journal: each on its own, and whoever reads is told who answers."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING, Any

import pytest

from forebay.app.processes.local_socket import ask
from forebay.app.wiring.data_folder import Consumer
from forebay.errors import ForebayError
from tests.support.clickhouse import running_clickhouse
from tests.support.commands import TWO_SYMBOLS, capture, invoked, refused, simulator, wait_for
from tests.support.served_store import PLUGIN, away

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.commands import Answer, Running

QUICK = """
[resilience.clickhouse]
recovery_timeout_s = 0.5
[resilience.clickhouse_bridge]
recovery_timeout_s = 0.5
"""
TABLES = """
[store]
{kind}
name = "main"
url = "{main}"

[[mirrors]]
{kind}
name = "second"
url = "{second}"
"""
ONCE = "SELECT count() = uniqExact(event_id) FROM forebay.trades_rows"
COUNT = "SELECT count(*) AS n FROM trades"


@contextlib.contextmanager
def mirrored(folder: Path, kind: str, main: object, second: object) -> Iterator[Running]:
    """Run a capture with two stores."""
    file = folder / "forebay.toml"
    with simulator("--rate", 300, "--start", "now", seed=15) as lab:
        tables = TABLES.format(kind=kind, main=main, second=second)
        file.write_text(TWO_SYMBOLS.format(data=folder / "data", lab=lab) + QUICK + tables)
        with capture(folder / "data", file=file) as running:
            yield running


def status(running: Running, role: str) -> dict[str, Any]:
    """What a process says of itself; nothing while it does not answer."""
    with contextlib.suppress(ForebayError):
        return ask(running.folder.socket(role), {"op": "report"}, timeout_s=2.0)[0]
    return {}


def until(
    running: Running, role: str, holds: Callable[[dict[str, Any]], bool], what: str
) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        told = status(running, role)
        return told if told and holds(told) else None

    return wait_for(look, f"{what} ({running.log})")


def stored(rows: int) -> Callable[[dict[str, Any]], bool]:
    return lambda told: told["status"]["rows"] > rows


def broken(name: str) -> Callable[[dict[str, Any]], bool]:
    def look(told: dict[str, Any]) -> bool:
        return any(each["name"] == name and each["state"] == "open" for each in told["breakers"])

    return look


def asked(running: Running, *more: object) -> Answer:
    return invoked("sql", COUNT, "--data", running.folder.root, "--json", *more)


def require_all(running: Running, *stores: str) -> None:
    """What was captured is in each of the stores, once: so say their audits."""
    for name in stores:
        found = invoked("audit", "--data", running.folder.root, "--store", name, "--json")
        assert found.code == 0, found
        assert found.json["ok"]
    (main, second) = (asked(running, "--store", name).json for name in stores)
    assert main == second
    assert main[0]["n"] > 100


@pytest.mark.drill
def test_stores_that_are_away_at_the_start_get_all_and_one_answers_for_the_other(
    tmp_path: Path,
) -> None:
    main, second = tmp_path / "main.db", tmp_path / "second.db"
    for url in (main, second):
        away(url).touch()
    with mirrored(tmp_path, f'plugin = "{PLUGIN}"', main, second) as running:
        until(running, "deliver", broken("main-bridge"), "a breaker that gave up")
        assert running.folder.consumers()[1:] == [Consumer("mirror-second")]
        refused(asked(running), 3, "Nobody answers")
        away(second).unlink()
        until(running, "mirror-second", stored(100), "a mirror that is fed")
        found = asked(running)
        assert found.json[0]["n"] > 0
        assert found.sentence.startswith("The store main cannot be reached: second answers; it ")
        refused(asked(running, "--store", "main"), 3)
        refused(asked(running, "--store", "other"), 2, "There is: main, second.")
        away(main).unlink()
        until(running, "deliver", stored(100), "a store that is fed")
        assert running.stop() == 0
    require_all(running, "main", "second")
    assert asked(running).stderr == "", "the first answers again"


@pytest.mark.drill
def test_a_second_clickhouse_takes_over_and_the_first_is_reconciled(tmp_path: Path) -> None:
    with (
        running_clickhouse(tmp_path / "one") as main,
        running_clickhouse(tmp_path / "two") as second,
        mirrored(tmp_path, 'kind = "clickhouse"', main.url, second.url) as running,
    ):
        until(running, "deliver", stored(200), "a store that is fed")
        main.kill()
        before = until(running, "mirror-second", stored(0), "a mirror that goes on")
        until(running, "deliver", broken("main-bridge"), "a breaker that gave up")
        goes_on = stored(before["status"]["rows"] + 300)
        until(running, "mirror-second", goes_on, "a mirror that goes on")
        found = asked(running)
        assert found.json[0]["n"] > 0
        assert "main cannot be reached: second answers" in found.sentence
        main.launch()
        until(running, "deliver", lambda told: told["status"]["backlog"] < 100, "all made up for")
        second.kill()
        until(running, "mirror-second", broken("second-bridge"), "a breaker that gave up")
        second.launch()
        until(running, "mirror-second", lambda told: told["status"]["backlog"] < 100, "all")
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(60) == 0
        require_all(running, "main", "second")
        for server in (main, second):
            assert server.ask(ONCE) == "1"
