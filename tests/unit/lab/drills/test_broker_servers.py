"""What a capture is told of the brokers that a drill starts, and what is said of missing ones."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import pytest

from forebay.clock import ManualClock
from forebay.errors import Unreachable
from forebay.lab.drills.broker_servers import BrokerServers, _kafka_table, brokers_beside
from forebay.lab.drills.catalogue import DRILLS
from forebay.lab.drills.plan import Brokers, Timing
from forebay.lab.drills.stage import Stage

if TYPE_CHECKING:
    from pathlib import Path


def test_three_nodes_keep_three_replicas_and_two_must_have_an_event() -> None:
    table = _kafka_table(Brokers(kafka=3), "there")
    assert (table["replicas"], table["min_insync"], "options" in table) == (3, 2, False)


def test_one_node_has_little_time_to_acknowledge_and_a_drill_may_say_otherwise() -> None:
    table = _kafka_table(Brokers(kafka=1), "there")
    assert (table["servers"], table["options"]) == ("there", {"message.timeout.ms": "3000"})
    changed = _kafka_table(Brokers(kafka=1, tables={"kafka": {"options": {}}}), "there")
    assert changed == {**table, "options": {}}


@pytest.mark.parametrize(
    ("name", "wanted"), [("kafka", Brokers(kafka=1)), ("nats", Brokers(nats=1))]
)
async def test_a_client_that_is_not_installed_is_said_before_a_server_starts(
    name: str, wanted: Brokers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    stage = Stage(DRILLS["kafka-down"], tmp_path, 1, Timing(), ManualClock())
    with pytest.raises(
        Unreachable, match=rf"client of {name} is not installed.*pip install .\.\[{name}\]"
    ):
        async with brokers_beside(stage, wanted):
            pytest.fail("it began")


async def test_of_brokers_that_are_not_wanted_there_is_none() -> None:
    none = BrokerServers()
    await none.kill("kafka")
    await none.start("nats")
    assert none.pids("kafka") == none.pids("nats") == []
