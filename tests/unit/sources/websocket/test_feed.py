"""The feed over real sockets: what is captured, what ends an epoch, and how it comes back."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING

import pytest

from forebay.clock import ManualClock, SystemClock
from forebay.domain.frames import EpochAccepted, EpochClosed, EpochOpened, FrameKind
from forebay.errors import ConfigError, Permanent
from forebay.sources.websocket import FeedPlan, Patience, WebSocketFeed
from forebay.telemetry import (
    ConnectionFailed,
    FrameOversized,
    ReadingPaused,
    ReadingResumed,
    ReconnectScheduled,
)
from tests.support.sinks import RecordingSink
from tests.support.ws_server import (
    BINARY,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Peer,
    WsServer,
    encode,
    http,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from forebay.clock import Clock
    from forebay.telemetry import Happening

MB = 1 << 20
QUICK = Patience(backoff_base_s=0.001, backoff_cap_s=0.002)


def accepts(payload: bytes) -> bool:
    if payload == b"no":
        raise Permanent("The venue said no.")
    return payload == b"yes"


class Rig:
    """A feed against a scripted server, and everything that it said."""

    def __init__(self, url: str, *, clock: Clock | None = None, **settings: object) -> None:
        self.sink = RecordingSink()
        self.said: list[Happening] = []
        self.clock = clock or SystemClock()
        patience = settings.pop("patience", QUICK)
        assert isinstance(patience, Patience)
        plan = {
            "venue": "testex",
            "collector": "c1",
            "messages": (b"hello", b"subscribe"),
            "accepts": accepts,
            "symbols": ("A-B",),
        }
        self.feed = WebSocketFeed(
            FeedPlan(url=url, **(plan | settings)),  # type: ignore[arg-type]
            clock=self.clock,
            rng=random.Random(7),
            patience=patience,
            observer=self.said.append,
        )

    def heard(self, kind: type[Happening]) -> list[Happening]:
        return [happening for happening in self.said if isinstance(happening, kind)]


@contextlib.asynccontextmanager
async def running(
    script: Callable[[Peer], Awaitable[None]],
    refusal: Callable[[int], bytes | None] = lambda _: None,
    **settings: object,
) -> AsyncIterator[tuple[Rig, WsServer]]:
    """Run a feed against ``script``; at the end cancel it, and look for what it left behind."""
    before = asyncio.all_tasks()
    async with WsServer(script, refusal) as server:
        rig = Rig(server.url, **settings)  # type: ignore[arg-type]
        task = asyncio.create_task(rig.feed.run(rig.sink))
        try:
            yield rig, server
        finally:
            task.cancel()
            await asyncio.wait({task})
        assert task.cancelled(), task.exception()
        assert rig.sink.callbacks == []
        assert all(epoch.reason is not None for epoch in rig.sink.epochs)
        assert server.most_alive <= 1
        names = {task.get_name() for task in asyncio.all_tasks() - before}
        assert not [name for name in names if name.startswith("forebay")]


def sends(*chunks: bytes) -> Callable[[Peer], Awaitable[None]]:
    """Accept, send raw bytes, and wait for the client to go."""

    async def script(peer: Peer) -> None:
        await peer.text(b"yes")
        for chunk in chunks:
            await peer.send(chunk)
        await peer.gone()

    return script


async def test_an_epoch_is_opened_subscribed_accepted_and_closed() -> None:
    asked: list[bytes] = []

    async def script(peer: Peer) -> None:
        asked.extend([(await peer.receive())[1], (await peer.receive())[1]])
        for text in (b"hi", b"yes", b"1", b"2"):
            await peer.text(text)
        await peer.close(1012, b"restart")
        await peer.gone()

    async with running(script) as (rig, _):
        assert await rig.sink.closed() == "closed by the venue: 1012 restart"
        epoch = rig.sink.epochs[0]
    assert asked == [b"hello", b"subscribe"]
    kinds = [type(control) for control in epoch.controls]
    assert kinds == [EpochOpened, EpochAccepted, EpochClosed]
    assert [payload for _, payload in epoch.data] == [b"hi", b"yes", b"1", b"2"]
    assert epoch.frames[2][1] == b"yes"
    assert epoch.frames[3][0] is FrameKind.CONTROL
    context = epoch.context
    assert (context.venue, context.source, context.collector) == ("testex", "ws", "c1")
    assert context.symbols == ("A-B",)


async def test_each_connection_is_an_epoch_of_its_own() -> None:
    async def script(peer: Peer) -> None:
        await peer.text(b"yes")
        await peer.text(b"data")
        peer.writer.close()

    async with running(script) as (rig, server):
        await rig.sink.closed(20)
        assert server.requests >= 20
    names = {epoch.context.epoch for epoch in rig.sink.epochs}
    assert len(names) == len(rig.sink.epochs)
    assert all(len(name) == 32 for name in names)
    attempts = [said.attempt for said in rig.heard(ReconnectScheduled)]  # type: ignore[attr-defined]
    assert set(attempts) == {1}, "data after an acceptance begins back-off anew"


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 10 * MB])
async def test_a_frame_of_any_size_is_captured_whole(size: int) -> None:
    payload = random.Random(size).randbytes(size)
    async with running(sends(encode(TEXT, payload), encode(TEXT, b"after"))) as (rig, _):
        await rig.sink.until(lambda: rig.sink.first[-1:] == [(FrameKind.TEXT, b"after")])
        assert rig.sink.first[1] == (FrameKind.TEXT, payload)


async def test_frames_that_arrive_byte_by_byte_are_whole() -> None:
    async def script(peer: Peer) -> None:
        for byte in encode(TEXT, b"yes") + encode(TEXT, b"x" * 130) + encode(BINARY, b"end"):
            await peer.send(bytes([byte]))
            await asyncio.sleep(0)
        await peer.gone()

    async with running(script) as (rig, _):
        await rig.sink.until(lambda: len(rig.sink.first) == 3)
        assert rig.sink.first[1:] == [
            (FrameKind.TEXT, b"x" * 130),
            (FrameKind.BINARY, b"end"),
        ]


async def test_fragments_are_joined_around_a_ping_which_is_answered() -> None:
    said: list[tuple[int, bytes]] = []

    async def script(peer: Peer) -> None:
        await peer.receive()
        await peer.receive()
        await peer.text(b"yes")
        await peer.text(b"plain")
        await peer.send(encode(TEXT, b"one ", fin=False))
        await peer.send(encode(PING, b"are you there"))
        said.append(await peer.receive())
        await peer.send(encode(CONTINUATION, b"two ", fin=False) + encode(PONG, b""))
        await peer.send(encode(CONTINUATION, b"three") + encode(TEXT, b"next"))
        await peer.gone()

    async with running(script) as (rig, _):
        await rig.sink.until(lambda: len(rig.sink.first) == 4)
        texts = [payload for _, payload in rig.sink.first]
    assert texts == [b"yes", b"plain", b"one two three", b"next"]
    assert said == [(PONG, b"are you there")]


async def test_a_compressed_message_is_kept_as_it_is_and_the_stream_goes_on() -> None:
    async with running(
        sends(
            encode(TEXT, b"plain"),
            encode(TEXT, b"\x01\x02", rsv=4),
            encode(TEXT, b"\x03", rsv=4, fin=False) + encode(CONTINUATION, b"\x04"),
            encode(TEXT, b"after"),
        )
    ) as (rig, _):
        await rig.sink.until(lambda: len(rig.sink.first) == 5)
        assert rig.sink.first[2:] == [
            (FrameKind.COMPRESSED, b"\x01\x02"),
            (FrameKind.COMPRESSED, b"\x03\x04"),
            (FrameKind.TEXT, b"after"),
        ]
        assert rig.sink.epochs[0].reason is None


@pytest.mark.parametrize(
    "chunk",
    [
        pytest.param(encode(TEXT, b"x" * 2001), id="one frame"),
        pytest.param(
            encode(TEXT, b"x" * 1500, fin=False) + encode(CONTINUATION, b"x" * 600),
            id="fragments",
        ),
    ],
)
async def test_an_oversized_message_ends_the_epoch_and_is_told(chunk: bytes) -> None:
    closes: list[tuple[int, bytes]] = []

    async def script(peer: Peer) -> None:
        await peer.text(b"yes")
        await peer.text(b"x" * 2000)
        await peer.send(chunk)
        closes.extend(await peer.gone())

    async with running(script, max_message_bytes=2000) as (rig, _):
        reason = await rig.sink.closed()
        await rig.sink.closed(2)
        assert reason.startswith("oversized")
        assert rig.heard(FrameOversized)[0].limit == 2000  # type: ignore[attr-defined]
        assert len(rig.sink.first) == 2
    codes = [int.from_bytes(body[:2], "big") for opcode, body in closes if opcode == 8]
    assert codes[:1] == [1009]


@pytest.mark.parametrize(
    "chunk",
    [
        pytest.param(encode(3, b"reserved opcode"), id="opcode"),
        pytest.param(encode(TEXT, b"x", masked=True), id="masked"),
        pytest.param(encode(TEXT, b"x", rsv=2), id="RSV2"),
        pytest.param(encode(TEXT, b"x", rsv=1), id="RSV3"),
        pytest.param(encode(PING, b"x", rsv=4), id="RSV1 on a ping"),
        pytest.param(encode(PING, b"x", fin=False), id="fragmented ping"),
        pytest.param(encode(CONTINUATION, b"x"), id="continuation of nothing"),
        pytest.param(encode(TEXT, b"x", fin=False) + encode(TEXT, b"y"), id="text in text"),
        pytest.param(
            encode(TEXT, b"x", fin=False) + encode(CONTINUATION, b"y", rsv=4), id="RSV1 inside"
        ),
    ],
)
async def test_nonsense_ends_the_epoch_and_the_feed_comes_back(chunk: bytes) -> None:
    async with running(sends(encode(TEXT, b"good"), chunk)) as (rig, _):
        assert (await rig.sink.closed()).startswith("protocol error")
        await rig.sink.closed(2)
        assert [payload for _, payload in rig.sink.first] == [b"yes", b"good"]


async def test_a_connection_that_breaks_inside_a_frame_gives_the_whole_ones() -> None:
    async def script(peer: Peer) -> None:
        await peer.text(b"yes")
        await peer.text(b"whole")
        await peer.send(encode(TEXT, b"x" * 100)[:50])
        peer.writer.write_eof()
        await peer.gone()

    async with running(script) as (rig, _):
        assert (await rig.sink.closed()).startswith("lost")
        assert [payload for _, payload in rig.sink.first] == [b"yes", b"whole"]


async def test_a_refused_subscription_is_captured_and_tried_again() -> None:
    async def script(peer: Peer) -> None:
        await peer.text(b"no")
        await peer.gone()

    async with running(script) as (rig, _):
        assert await rig.sink.closed() == "refused: The venue said no."
        await rig.sink.closed(5)
    assert rig.sink.first == [(FrameKind.TEXT, b"no")]
    attempts = [said.attempt for said in rig.heard(ReconnectScheduled)]  # type: ignore[attr-defined]
    assert attempts[:4] == [1, 2, 3, 4]


async def pass_time(clock: ManualClock, seconds: float, step: float = 0.5) -> None:
    """Move the clock in steps, and let everybody notice each."""
    for _ in range(round(seconds / step)):
        clock.advance(step)
        for _ in range(8):
            await asyncio.sleep(0)


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

    patience = Patience(stale_s=10.0, backoff_base_s=100.0, backoff_cap_s=100.0)
    async with running(script, clock=clock, patience=patience) as (rig, _):
        await silent.wait()
        assert rig.sink.epochs[0].reason is None, "48 s with pings"
        await pass_time(clock, 3.0)
        assert rig.sink.epochs[0].reason is None, "9 s without"
        await pass_time(clock, 4.0)
        assert rig.sink.epochs[0].reason == "stale: no frame for 10 s"


async def test_a_half_open_connection_is_left_in_real_time() -> None:
    patience = Patience(stale_s=0.05, backoff_base_s=0.001, backoff_cap_s=0.002)
    async with running(sends(), patience=patience) as (rig, _):
        assert (await rig.sink.closed(2)).startswith("stale")


async def test_a_subscription_that_is_never_answered_ends_the_epoch() -> None:
    clock = ManualClock()

    async def script(peer: Peer) -> None:
        await peer.text(b"something else")
        await peer.gone()

    patience = Patience(backoff_base_s=100.0, backoff_cap_s=100.0)
    async with running(script, clock=clock, patience=patience) as (rig, _):
        await rig.sink.until(lambda: bool(rig.sink.first))
        await pass_time(clock, 4.5)
        assert rig.sink.epochs[0].reason is None
        await pass_time(clock, 2.0)
        assert (rig.sink.epochs[0].reason or "").startswith("not accepted")


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

    async with running(script, clock=clock, patience=Patience(stale_s=10.0)) as (rig, _):
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
    async with running(sends(), clock=clock, patience=Patience(stale_s=10.0)) as (rig, server):
        await rig.sink.until(lambda: bool(rig.sink.first))
        rig.sink.press(True)
        await pass_time(clock, 60.0)
        assert (rig.sink.epochs[0].reason or "").startswith("paused")
        assert server.requests == 1, "connected although nothing can be captured"
        rig.sink.press(False)
        await rig.sink.until(lambda: len(rig.sink.epochs) == 2)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (http("403 Forbidden"), "HTTP 403. The venue refuses this address"),
        (http("401 Unauthorized"), "HTTP 401. The venue wants credentials"),
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

    patience = Patience(retry_after_cap_s=300.0, connect_s=1e6)
    async with running(sends(), refusal, clock=clock, patience=patience) as (rig, _):
        while not rig.sink.epochs:
            await pass_time(clock, 20.0, 1.0)
    delays = [said.delay_s for said in rig.heard(ReconnectScheduled)]  # type: ignore[attr-defined]
    assert delays == [17.0, 300.0]


async def test_nobody_listening_is_told_and_tried_with_full_jitter() -> None:
    async with WsServer(sends()) as server:
        url = server.url
    clock = ManualClock()
    rig = Rig(url, clock=clock, patience=Patience())
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
    patience = Patience(connect_s=0.05, backoff_base_s=0.001, backoff_cap_s=0.002)

    async with running(
        sends(), lambda request: b"" if request == 1 else None, patience=patience
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
    def broken(payload: bytes) -> bool:
        raise ZeroDivisionError(payload)

    async with WsServer(sends(encode(TEXT, b"x"))) as server:
        rig = Rig(server.url, accepts=broken)
        with pytest.raises(ZeroDivisionError):
            await rig.feed.run(rig.sink)
    assert (rig.sink.epochs[0].reason or "").startswith("crashed")
    assert rig.sink.callbacks == []


@pytest.mark.parametrize("url", ["http://h/", "ws://", "nonsense", ""])
def test_an_address_that_is_none_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigError, match="not a websocket address"):
        Rig(url)
