"""The feed over real sockets: what ends a connection, what holds it, and how it comes back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from forebay.clock import ManualClock
from forebay.errors import ConfigError
from forebay.sources.websocket import Timeouts
from forebay.telemetry import (
    ConnectionFailed,
    ReadingPaused,
    ReadingResumed,
    ReconnectScheduled,
)
from tests.support.feed_rig import Rig, YesOrNo, pass_time, running, sends
from tests.support.ws_server import PING, PONG, TEXT, Peer, WsServer, encode, http

if TYPE_CHECKING:
    from forebay.sources.venue import MessageVerdict


async def test_pings_keep_a_connection_alive_and_silence_ends_it() -> None:
    clock = ManualClock()
    silent = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.receive()
        await peer.receive()
        await peer.text(b"yes")
        for _ in range(8):
            await peer.send(encode(PING, b""))
            assert await peer.receive() == (PONG, b"")
            await pass_time(clock, 6.0)
        silent.set()
        await peer.gone()

    timeouts = Timeouts(stale_s=10.0, backoff_base_s=100.0, backoff_cap_s=100.0)
    async with running(script, clock=clock, timeouts=timeouts) as (rig, _):
        await silent.wait()
        assert rig.sink.epochs[0].reason is None, "48 s with pings"
        await pass_time(clock, 3.0)
        assert rig.sink.epochs[0].reason is None, "9 s without"
        await pass_time(clock, 4.0)
        assert rig.sink.epochs[0].reason == "stale: no frame for 10 s"


async def test_a_half_open_connection_is_left_in_real_time() -> None:
    timeouts = Timeouts(stale_s=0.05, backoff_base_s=0.001, backoff_cap_s=0.002)
    async with running(sends(), timeouts=timeouts) as (rig, _):
        assert (await rig.sink.closed(2)).startswith("stale")


async def test_a_subscription_that_is_never_answered_ends_the_epoch() -> None:
    clock = ManualClock()

    async def script(peer: Peer) -> None:
        await peer.text(b"something else")
        await peer.gone()

    timeouts = Timeouts(backoff_base_s=100.0, backoff_cap_s=100.0)
    async with running(script, clock=clock, timeouts=timeouts) as (rig, _):
        await rig.sink.until(lambda: bool(rig.sink.first))
        await pass_time(clock, 4.5)
        assert rig.sink.epochs[0].reason is None
        await pass_time(clock, 2.0)
        assert str(rig.sink.epochs[0].reason).startswith("not accepted")


async def test_pressure_stops_the_venue_and_loses_nothing() -> None:
    """With reading paused, TCP holds the server back: only the buffers between us fill."""
    clock = ManualClock()
    message = encode(TEXT, b"x" * 60_000)
    sent = 0
    total = 600
    stuck = asyncio.Event()

    async def script(peer: Peer) -> None:
        nonlocal sent
        peer.writer.transport.set_write_buffer_limits(0)
        await peer.text(b"yes")
        for _ in range(total):
            peer.writer.write(message)
            if peer.writer.transport.get_write_buffer_size():
                stuck.set()
            await peer.writer.drain()
            sent += 1
        await peer.gone()

    async with running(script, clock=clock, timeouts=Timeouts(stale_s=10.0)) as (rig, _):
        await rig.sink.until(lambda: bool(rig.sink.first))
        rig.sink.press(True)
        await stuck.wait()
        for _ in range(1000):
            await asyncio.sleep(0)
        taken = len(rig.sink.first)
        assert taken < total
        await pass_time(clock, 9.0)
        assert len(rig.sink.first) == taken, "read while paused"
        rig.sink.press(False)
        await rig.sink.until(lambda: len(rig.sink.first) == total + 1)
        assert sent == total
        await pass_time(clock, 9.0)
        assert rig.sink.epochs[0].reason is None, "our own pause is not the peer's silence"
        assert len(rig.heard(ReadingPaused)) == len(rig.heard(ReadingResumed)) == 1


async def test_a_long_pause_ends_the_epoch_and_connects_only_afterwards() -> None:
    clock = ManualClock()
    async with running(sends(), clock=clock, timeouts=Timeouts(stale_s=10.0)) as (rig, server):
        await rig.sink.until(lambda: bool(rig.sink.first))
        rig.sink.press(True)
        await pass_time(clock, 60.0)
        assert str(rig.sink.epochs[0].reason).startswith("paused")
        assert server.requests == 1, "connected although nothing can be captured"
        rig.sink.press(False)
        await rig.sink.until(lambda: len(rig.sink.epochs) == 2)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (http("403 Forbidden"), "HTTP 403. The venue refuses this address"),
        (http("401 Unauthorized"), "HTTP 401. The venue wants a credentials_file"),
        (
            http("401 No", body=b'{"of": "an\nold key"}'),
            'HTTP 401: {"of": "an old key"}. The venue',
        ),
        (http("404 Not Found", body=b"<html>for people</html>"), "HTTP 404."),
        (http("503 Service Unavailable", body=b"busy"), "HTTP 503"),
        (http("301 Moved", "Location: ws://elsewhere/"), "moved to ws://elsewhere/"),
        (http("200 OK"), "HTTP 200"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "cannot be reached"),
        (http("101 Switching Protocols", "Upgrade: websocket"), "cannot be reached"),
    ],
)
async def test_a_refused_upgrade_is_told_and_tried_again(answer: bytes, words: str) -> None:
    async with running(sends(), lambda request: answer if request <= 3 else None) as (rig, server):
        await rig.sink.until(lambda: bool(rig.sink.epochs))
        assert server.requests == 4
    failed = rig.heard(ConnectionFailed)
    assert len(failed) == 3
    assert words in failed[0].reason  # type: ignore[attr-defined]
    assert len(rig.sink.epochs) == 1, "an upgrade that failed is no epoch"


async def test_retry_after_is_honoured_up_to_its_cap() -> None:
    clock = ManualClock()
    asks = {1: "Retry-After: 17", 2: "Retry-After: 86400"}

    def refusal(request: int) -> bytes | None:
        return http("429 Too Many Requests", asks[request]) if request in asks else None

    timeouts = Timeouts(retry_after_cap_s=300.0, connect_s=1e6)
    async with running(sends(), refusal, clock=clock, timeouts=timeouts) as (rig, _):
        while not rig.sink.epochs:
            await pass_time(clock, 20.0, 1.0)
    delays = [said.delay_s for said in rig.heard(ReconnectScheduled)]  # type: ignore[attr-defined]
    assert delays[:2] == [17.0, 300.0]


async def test_nobody_listening_is_told_and_tried_with_full_jitter() -> None:
    async with WsServer(sends()) as server:
        url = server.url
    clock = ManualClock()
    rig = Rig(url, clock=clock, timeouts=Timeouts())
    task = asyncio.create_task(rig.feed.run(rig.sink))
    while len(rig.heard(ReconnectScheduled)) < 60:
        clock.advance(30.0)
        await asyncio.sleep(0.0)
    task.cancel()
    await asyncio.wait({task})
    delays = [said.delay_s for said in rig.heard(ReconnectScheduled)]  # type: ignore[attr-defined]
    ceilings = [min(30.0, 0.5 * 2**n) for n in range(len(delays))]
    assert all(0 <= d <= c for d, c in zip(delays, ceilings, strict=True))
    assert max(delays) > 20.0
    assert min(delays[8:]) < 10.0
    assert not rig.sink.epochs


async def test_an_upgrade_that_is_never_answered_is_given_up_and_leaves_no_socket() -> None:
    left = asyncio.Event()
    timeouts = Timeouts(connect_s=0.05, backoff_base_s=0.001, backoff_cap_s=0.002)

    async with running(
        sends(), lambda request: b"" if request == 1 else None, timeouts=timeouts
    ) as (rig, server):
        await rig.sink.until(lambda: bool(rig.sink.epochs))
        left.set()
        assert server.most_alive == 1, "the first socket was still open"
    assert "No answer" in rig.heard(ConnectionFailed)[0].reason  # type: ignore[attr-defined]


async def test_a_connection_closed_during_the_upgrade_is_a_failure() -> None:
    def refusal(request: int) -> bytes | None:
        return b"HTTP/1.1 101 Swi" if request == 1 else None

    async with running(sends(), refusal) as (rig, _):
        await rig.sink.until(lambda: bool(rig.sink.epochs))
    assert "during the upgrade" in rig.heard(ConnectionFailed)[0].reason  # type: ignore[attr-defined]


async def test_cancelling_at_any_moment_leaves_no_task_and_no_socket() -> None:
    """Each run is cancelled one step of the loop later than the one before."""

    async def script(peer: Peer) -> None:
        await peer.text(b"yes")
        await peer.text(b"data")
        await peer.gone()

    reached = 0
    for steps in range(120):
        async with running(script) as (rig, server):
            for _ in range(steps):
                await asyncio.sleep(0)
        reached += bool(rig.sink.epochs)
        for _ in range(50):
            if not server.alive:
                break
            await asyncio.sleep(0)
        assert server.alive == 0, f"a socket is left after {steps} steps"
    assert 0 < reached < 120, "not every stage was cancelled"


async def test_an_error_of_ours_is_raised_not_hidden() -> None:
    class Broken(YesOrNo):
        def received(self, payload: bytes, now_ns: int) -> MessageVerdict:
            raise ZeroDivisionError(payload)

    async with WsServer(sends(encode(TEXT, b"x"))) as server:
        rig = Rig(server.url, session=Broken)
        with pytest.raises(ZeroDivisionError):
            await rig.feed.run(rig.sink)
    assert str(rig.sink.epochs[0].reason).startswith("crashed")
    assert rig.sink.callbacks == []


@pytest.mark.parametrize("url", ["http://h/", "ws://", "nonsense", ""])
def test_an_address_that_is_none_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigError, match="not a websocket address"):
        Rig(url)
