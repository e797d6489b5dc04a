"""The feed over real sockets: what it captures of what a server sends."""

from __future__ import annotations

import asyncio
import random

import pytest

from forebay.domain.frames import EpochAccepted, EpochClosed, EpochOpened, FrameKind
from forebay.telemetry import FrameOversized, ReconnectScheduled
from tests.support.feed_rig import running, sends
from tests.support.ws_server import BINARY, CONTINUATION, PING, PONG, TEXT, Peer, encode

MB = 1 << 20


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
        await rig.sink.closed(6)
        assert server.requests >= 6
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
