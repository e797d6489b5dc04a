"""The launcher of Kafka: nodes that answer, and are killed, frozen and started one by one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from forebay.clock import SystemClock
from forebay.errors import Unreachable
from forebay.lab import kafka_server, server_process
from forebay.lab.kafka_server import admin_of, kafka
from tests.support.servers import needs_kafka

CLOCK = SystemClock()


def state(pid: int) -> str:
    """What the kernel says of a process, ``T`` for a frozen one; nothing once it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""


@pytest.mark.drill
async def test_a_node_answers_is_killed_and_comes_back(tmp_path: Path) -> None:
    needs_kafka()
    async with kafka(tmp_path, clock=CLOCK, settings={"num.partitions": "3"}) as cluster:
        (node,) = cluster.nodes
        first = node.pid
        assert set(admin_of(cluster.bootstrap).list_topics(timeout=5).brokers) == {1}
        assert os.getpgid(first) == first, "what is sent to the terminal's group does not reach it"
        node.freeze()
        assert state(first) == "T"
        node.kill()
        assert (node.pid, state(first)) == (0, "")
        await cluster.start(node)
        assert node.pid not in {0, first}
    assert not node.pid


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        pytest.param(
            {"num.io.threads": "0"}, r"cannot format [\s\S]*num\.io\.threads", id="format"
        ),
        pytest.param(
            {"metric.reporters": "No"},
            r"ended at its start: [\s\S]*Class No cannot",
            id="start",
            marks=pytest.mark.drill,
        ),
    ],
)
async def test_a_node_that_cannot_start_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], said: str
) -> None:
    needs_kafka()
    monkeypatch.setattr(server_process, "TRIES", 1)
    with pytest.raises(Unreachable, match=said):
        async with kafka(tmp_path, clock=CLOCK, settings=settings):
            pytest.fail("it started")


def test_without_the_jars_it_is_said_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_SERVERS", str(tmp_path))
    with pytest.raises(Unreachable, match="There is no Kafka in") as caught:
        kafka_server.jars()
    assert ".ci/install-servers" in caught.value.hint
    with pytest.raises(Unreachable):
        needs_kafka()


@pytest.mark.drill
async def test_three_nodes_go_on_without_one(tmp_path: Path) -> None:
    needs_kafka()
    async with kafka(tmp_path, clock=CLOCK, nodes=3) as cluster:
        pids = [node.pid for node in cluster.nodes]
        cluster.nodes[0].kill()
        assert state(pids[0]) == ""
        assert all(node.pid for node in cluster.nodes[1:])
        await cluster.start(cluster.nodes[0])
    assert [state(pid) for pid in pids] == ["", "", ""]
