"""Which alerts were delivered, and what happens where the servers cannot be had."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from forebay.clock import ManualClock, SystemClock
from forebay.errors import Unreachable
from forebay.lab import commands, servers
from forebay.lab.drills.alarms import Alarms
from forebay.lab.drills.catalogue import DRILLS
from forebay.lab.drills.plan import Timing
from forebay.lab.drills.stage import Stage
from forebay.lab.drills.watch import Observation
from forebay.lab.servers import Delivery, Webhook

if TYPE_CHECKING:
    from pathlib import Path


def delivered(*pairs: tuple[str, str]) -> Alarms:
    hook = Webhook(ManualClock())
    hook.deliveries += [Delivery(name, status) for name, status in pairs]
    made = Alarms(ManualClock())
    made._hook = hook
    return made


def test_an_alert_counts_as_it_was_delivered() -> None:
    alarms = delivered(("A", "firing"), ("A", "resolved"), ("B", "firing"), ("D", "firing"))

    told = {each.name: (each.fired, each.cleared) for each in alarms.seen(["A", "B", "C"])}
    assert told == {"A": (True, True), "B": (True, False), "C": (False, False)}


def test_without_servers_no_alert_is_judged() -> None:
    alarms = delivered(("A", "firing"))
    alarms.skipped = "There is no prometheus."

    assert alarms.seen(["A"]) == []
    assert Alarms(ManualClock()).seen(["A"]) == []


def stage(root: Path) -> Stage:
    made = Stage(DRILLS["emergency"], root, 1, Timing(patience_s=0.2), SystemClock())
    made.watch.last = Observation(0, "http://127.0.0.1:1", "healthy", {}, {}, None, None)
    return made


async def test_servers_that_cannot_be_had_are_said_and_stop_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object, **__: object) -> None:
        raise Unreachable("There is no alertmanager.", hint="Run .ci/install-servers.")

    monkeypatch.setattr(servers, "alertmanager", missing)
    alarms = Alarms(SystemClock())

    async with alarms.watching(stage(tmp_path)):
        await alarms.cleared(stage(tmp_path))

    assert alarms.skipped == "There is no alertmanager. Run .ci/install-servers."
    assert alarms.servers == []


async def test_waiting_for_alerts_ends_when_all_cleared_and_when_patience_does(
    tmp_path: Path,
) -> None:
    names = DRILLS["emergency"].alerts
    all_told = delivered(*((name, said) for name in names for said in ("firing", "resolved")))
    one_short = delivered(*((name, "firing") for name in names))
    for alarms in (all_told, one_short):
        alarms.clock = SystemClock()
        await alarms.cleared(stage(tmp_path))

    assert all(each.cleared for each in all_told.seen(names))
    assert not any(each.cleared for each in one_short.seen(names))


async def test_asking_tells_status_and_body_and_what_did_not_answer() -> None:
    with pytest.raises(Unreachable, match=r"GET http://127\.0\.0\.1:1/x was not answered"):
        await commands.ask("http://127.0.0.1:1/x")
