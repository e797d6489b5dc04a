"""NATS servers of the lab: alone and as a cluster, killed, frozen and with an older folder."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import nats
import pytest
from nats.errors import TimeoutError as NatsTimeoutError

from forebay.clock import SystemClock
from forebay.errors import Unreachable
from forebay.lab import nats_server, servers
from forebay.lab.nats_server import nats_servers
from tests.support.servers import needed

if TYPE_CHECKING:
    from pathlib import Path

    from nats.aio.client import Client

CLOCK = SystemClock()


@pytest.fixture(autouse=True)
def _program() -> None:
    needed("nats-server")


async def connect(url: str) -> Client:
    return await nats.connect(url.split(","), allow_reconnect=False, connect_timeout=2)


async def stored(url: str, *payloads: bytes) -> int:
    """Append to a stream that is made if need be; return how many messages it has."""
    client = await connect(url)
    stream = client.jetstream()
    await stream.add_stream(name="kept", subjects=["kept"])
    for payload in payloads:
        await stream.publish("kept", payload)
    info = await stream.stream_info("kept")
    await client.close()
    return info.state.messages


async def test_what_was_acknowledged_is_there_after_a_kill(tmp_path: Path) -> None:
    async with nats_servers(tmp_path, clock=CLOCK) as running:
        (node,) = running.nodes
        assert node.version.startswith("2.")
        assert await stored(running.url(), b"1", b"2") == 2
        await node.kill()
        assert node.pid == 0
        await node.start()
        assert await stored(running.url()) == 2
        pid = node.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_frozen_server_answers_nobody_until_it_goes_on(tmp_path: Path) -> None:
    async with nats_servers(tmp_path, clock=CLOCK, jetstream=False) as running:
        client = await connect(running.url())
        running.nodes[0].freeze()
        with pytest.raises(NatsTimeoutError):
            await client.flush(1)
        running.nodes[0].thaw()
        await client.close()
        client = await connect(running.url())
        await client.flush(5)
        await client.close()


async def test_a_server_can_get_an_older_folder(tmp_path: Path) -> None:
    async with nats_servers(tmp_path, clock=CLOCK) as running:
        (node,) = running.nodes
        await stored(running.url(), b"1")
        await node.kill()
        shutil.copytree(node.data, tmp_path / "older")
        await node.start()
        assert await stored(running.url(), b"2", b"3") == 3
        await node.swap(tmp_path / "older")
        assert await stored(running.url()) == 1


async def test_accounts_have_streams_of_their_own(tmp_path: Path) -> None:
    async with nats_servers(tmp_path, clock=CLOCK, accounts=["a", "b"]) as running:
        assert await stored(running.url("a"), b"1") == 1
        assert await stored(running.url("b")) == 0


async def test_a_server_that_does_not_start_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*_: object, **__: object) -> None:
        folder = tmp_path / "nats-0"
        folder.mkdir(exist_ok=True)
        (folder / "nats.conf").write_text("listen: nowhere:x")

    monkeypatch.setattr(nats_server, "_configure", wrong)
    with pytest.raises(Unreachable, match="nats-server ended at its start") as caught:
        async with nats_servers(tmp_path, clock=CLOCK):
            pytest.fail("it started")
    assert "server.log" in caught.value.hint


async def test_without_the_program_it_is_said_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv(servers.FOLDER, str(tmp_path))
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with pytest.raises(Unreachable, match="no nats-server on PATH"):
        async with nats_servers(tmp_path, clock=CLOCK):
            pytest.fail("it started")


@pytest.mark.drill
async def test_two_of_three_nodes_go_on_without_the_third(tmp_path: Path) -> None:
    async with nats_servers(tmp_path, clock=CLOCK, nodes=3) as running:
        client = await connect(running.url())
        await client.jetstream().add_stream(name="kept", subjects=["kept"], num_replicas=3)
        await client.close()
        await running.nodes[0].kill()
        left = nats_server.NatsServers(running.nodes[1:])
        client = await connect(left.url())
        info = await client.jetstream().stream_info("kept")
        assert info.cluster is not None
        await client.close()
        await running.nodes[0].start()
