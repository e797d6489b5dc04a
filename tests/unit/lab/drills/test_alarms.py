"""Which alerts were delivered, and what happens where the servers cannot be had."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from forebay.clock import SystemClock
from forebay.errors import Unreachable
from forebay.lab import commands, servers
from forebay.lab.drills import run as running
from forebay.lab.drills.catalogue import DRILLS
from forebay.lab.drills.plan import AlertSeen, Timing
from forebay.lab.drills.run import seen, watching
from forebay.lab.drills.stage import Stage
from forebay.lab.drills.watch import Observation
from forebay.lab.servers import Delivery, Webhook

if TYPE_CHECKING:
    from pathlib import Path


def stage(root: Path) -> Stage:
    made = Stage(DRILLS["emergency"], root, 1, Timing(patience_s=0.2), SystemClock())
    made.watch.last = Observation(0, "http://127.0.0.1:1", "healthy", {}, {}, None, None)
    return made


def delivered(*pairs: tuple[str, str]) -> Webhook:
    hook = Webhook()
    hook.deliveries += [Delivery(name, status) for name, status in pairs]
    return hook


def test_an_alert_counts_as_it_was_delivered(tmp_path: Path) -> None:
    made = stage(tmp_path)
    made.drill = replace(made.drill, alerts=("A", "B", "C"))
    hook = delivered(("A", "firing"), ("A", "resolved"), ("B", "firing"), ("D", "firing"))

    assert seen(made, hook) == [
        AlertSeen("A", True, True),
        AlertSeen("B", True, False),
        AlertSeen("C", False, False),
    ]


async def test_servers_that_cannot_be_had_are_said_and_stop_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object, **__: object) -> None:
        raise Unreachable("There is no alertmanager.", hint="Run .ci/install-servers.")

    monkeypatch.setattr(servers, "alertmanager", missing)
    made = stage(tmp_path)
    async with watching(made):
        pass

    assert made.report.alerts_skipped == "There is no alertmanager. Run .ci/install-servers."
    assert (made.report.servers, made.report.alerts) == ([], [])


@pytest.mark.parametrize("told", [("firing", "resolved"), ("firing",)])
async def test_waiting_for_alerts_ends_when_all_cleared_and_when_patience_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: tuple[str, ...]
) -> None:
    names = DRILLS["emergency"].alerts

    async def started(*_: object) -> Webhook:
        return delivered(*((name, said) for name in names for said in told))

    monkeypatch.setattr(running, "_start", started)
    made = stage(tmp_path)
    async with watching(made):
        pass

    assert [alert.name for alert in made.report.alerts] == list(names)
    assert {alert.cleared for alert in made.report.alerts} == {"resolved" in told}
    assert made.report.alerts_skipped == ""


async def test_what_was_delivered_is_told_also_of_a_run_that_broke(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def started(*_: object) -> Webhook:
        return delivered()

    monkeypatch.setattr(running, "_start", started)
    made = stage(tmp_path)
    with pytest.raises(ZeroDivisionError):
        async with watching(made):
            raise ZeroDivisionError
    assert not any(alert.fired for alert in made.report.alerts)
    assert made.report.alerts


async def test_asking_tells_status_and_body_and_what_did_not_answer() -> None:
    with pytest.raises(Unreachable, match=r"GET http://127\.0\.0\.1:1/x was not answered"):
        await commands.ask("http://127.0.0.1:1/x")
