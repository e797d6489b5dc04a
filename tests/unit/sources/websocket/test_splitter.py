"""The quick way: the same messages as by the driver, whatever is sent and however it is cut."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import ssl
import struct
import subprocess
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.domain.frames import FrameKind
from forebay.sources.websocket.splitter import (
    PLAIN_BYTES,
    READ_BYTES,
    Splitter,
    other_size,
    split,
)
from tests.support.feed_rig import Rig, running
from tests.support.ws_server import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Peer,
    WsServer,
    encode,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from picows import WSTransport

MARGIN = b"\0\0\0"
HUGE = encode(TEXT, bytes(PLAIN_BYTES + 1))
EDGES = (0, 1, 125, 126, 127, 65535)


class FakeDriver(asyncio.BufferedProtocol):
    """Keeps the bytes that it is given, through a buffer of any size."""

    def __init__(self, room: int, closing: bytes = b"\xff never") -> None:
        self.room = bytearray(room)
        self.got = b""
        self.closing = closing
        self.is_close_frame_sent = False
        self.told: list[str] = []

    def get_buffer(self, sizehint: int) -> memoryview:
        return memoryview(self.room)

    def buffer_updated(self, nbytes: int) -> None:
        self.got += self.room[:nbytes]
        self.is_close_frame_sent |= self.closing in self.got

    def connection_lost(self, exc: Exception | None) -> None:
        self.told.append(f"lost {exc}")

    def eof_received(self) -> None:
        self.told.append("eof")

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")


class FakeTransport:
    """The driver's transport and the socket's in one."""

    def __init__(self, driver: FakeDriver) -> None:
        self.underlying_transport = self
        self.protocol: asyncio.BaseProtocol = driver
        self._driver = driver

    @property
    def is_close_frame_sent(self) -> bool:
        return self._driver.is_close_frame_sent

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self.protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol


def splitter(driver: FakeDriver, take: Callable[[list[bytes]], None]) -> Splitter:
    transport = FakeTransport(driver)
    made = Splitter(cast("WSTransport", transport), take)
    assert transport.protocol is made
    return made


def put(reader: Splitter, chunk: bytes) -> None:
    """Let ``chunk`` arrive, in as many reads as its buffer makes of it."""
    while chunk:
        room = reader.get_buffer(-1)
        assert len(room) >= READ_BYTES - PLAIN_BYTES - 4, "a read must always be possible"
        size = min(len(room), len(chunk))
        room[:size] = chunk[:size]
        reader.buffer_updated(size)
        chunk = chunk[size:]


def other(kind: str, size: int) -> bytes:
    """A frame that is for the driver."""
    body = b"o" * size
    frames = {
        "binary": encode(BINARY, body),
        "pong": encode(PONG, body[:125]),
        "ping": encode(PING, b""),
        "unknown": encode(11, body),
        "begun": encode(TEXT, body, fin=False),
        "continued": encode(CONTINUATION, body),
        "compressed": encode(TEXT, body, rsv=4),
        "reserved": encode(TEXT, body, rsv=1),
        "huge": HUGE,
        "wrong length": b"\x81\x7e\x00\x05short",
    }
    return frames[kind]


OTHERS = (
    *("binary", "pong", "ping", "unknown", "begun", "continued", "compressed"),
    *("reserved", "huge", "wrong length"),
)
SIZES = st.one_of(st.integers(0, 400), st.sampled_from(EDGES))
KINDS = st.one_of(st.just("plain"), st.just("plain"), st.sampled_from(OTHERS))


@settings(max_examples=60, deadline=None)
@given(
    plan=st.lists(st.tuples(KINDS, SIZES), max_size=12),
    cuts=st.lists(st.floats(0, 1), max_size=30),
    room=st.sampled_from([100, 4096]),
)
def test_each_byte_goes_one_way_in_order_however_it_is_cut(
    plan: list[tuple[str, int]], cuts: list[float], room: int
) -> None:
    frames = [
        (encode(TEXT, b"p" * size), b"p" * size) if kind == "plain" else (other(kind, size), None)
        for kind, size in plan
    ]
    driver, taken = FakeDriver(room), list[bytes]()
    order: list[bytes] = []

    def take(messages: list[bytes]) -> None:
        taken.extend(messages)
        order.append(driver.got)

    reader = splitter(driver, take)
    wire = b"".join(frame for frame, _ in frames)
    ends = sorted({round(cut * len(wire)) for cut in cuts} | {0, len(wire)})
    for at, end in pairwise(ends):
        put(reader, wire[at:end])
    assert taken == [payload for _, payload in frames if payload is not None]
    assert driver.got == b"".join(frame for frame, payload in frames if payload is None)
    befores = set(accumulate((f for f, payload in frames if payload is None), initial=b""))
    assert set(order) <= befores, "a message went before or after what it did not follow"


@pytest.mark.parametrize("size", EDGES)
def test_a_frame_is_whole_at_its_last_byte_and_not_before(size: int) -> None:
    frame = encode(TEXT, b"x" * size)
    for end in (len(frame) - 1, len(frame)):
        messages, at = split(frame[:end] + MARGIN, 0, end)
        assert (len(messages), at) == ((1, len(frame)) if end == len(frame) else (0, 0))
    assert other_size(frame[:-1] + MARGIN, 0, len(frame) - 1) == 0


def test_a_header_that_is_not_whole_is_waited_for() -> None:
    huge = encode(BINARY, b"x" * 70_000)
    for known in range(10):
        assert other_size(huge[:known] + MARGIN, 0, known) == 0
    assert other_size(huge[:10] + MARGIN, 0, 10) == len(huge)
    assert other_size(encode(PING, b"") + MARGIN, 0, 2) == 2
    assert other_size(b"\x82\x7e\x01" + MARGIN, 0, 3) == 0
    longest = b"\x82\x7f" + struct.pack("!Q", 2**64 - 1)
    assert other_size(longest + MARGIN, 0, 10) == 2**64 + 9


def test_nothing_counts_after_the_connection_has_said_its_close() -> None:
    driver, taken = FakeDriver(64, closing=b"\x8b"), list[bytes]()
    reader = splitter(driver, taken.extend)
    put(reader, encode(TEXT, b"before") + encode(11, b"bad") + encode(TEXT, b"after"))
    put(reader, encode(TEXT, b"later"))
    assert taken == [b"before"]


def test_the_driver_hears_of_everything_else() -> None:
    driver = FakeDriver(64)
    reader = splitter(driver, lambda _: None)
    reader.pause_writing()
    reader.resume_writing()
    assert not reader.eof_received()
    reader.connection_lost(None)
    assert driver.told == ["pause", "resume", "eof", "lost None"]


# ------------------------------------------------------------------ with sockets


def talks(*parts: bytes) -> Callable[[Peer], Awaitable[None]]:
    """Accept, wait until the subscription came, then send each part."""

    async def script(peer: Peer) -> None:
        await peer.text(b"yes")
        for _ in range(2):
            await peer.receive()
        for part in parts:
            await peer.send(part)
        await peer.gone()

    return script


def texts(rig: Rig) -> list[bytes]:
    return [payload for kind, payload in rig.sink.first if kind is FrameKind.TEXT]


async def test_messages_of_every_kind_keep_their_order_on_a_real_connection() -> None:
    dice = random.Random(3)
    sent: list[tuple[FrameKind, bytes]] = []
    wire = b""
    for number in range(1000):
        body = b"%d " % number + b"x" * dice.choice([0, 1, 100, 115, 130, 3000])
        match dice.randrange(12):
            case 0:
                sent.append((FrameKind.BINARY, body))
                wire += encode(BINARY, body)
            case 1:
                sent.append((FrameKind.COMPRESSED, body))
                wire += encode(TEXT, body, rsv=4)
            case 2:
                sent.append((FrameKind.TEXT, body + b"tail"))
                wire += encode(TEXT, body, fin=False) + encode(PING, b"p")
                wire += encode(CONTINUATION, b"tail")
            case _:
                sent.append((FrameKind.TEXT, body))
                wire += encode(TEXT, body)
    wire += encode(TEXT, b"h" * 100_000)
    sent.append((FrameKind.TEXT, b"h" * 100_000))
    async with running(talks(wire)) as (rig, _):
        await rig.sink.until(lambda: len(rig.sink.first) > len(sent))
        assert rig.sink.first[1:] == sent


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (encode(TEXT, b"a", fin=False) + encode(TEXT, b"b"), "new message inside"),
        (encode(CONTINUATION, b"a"), "continuation of no message"),
        (encode(TEXT, b"a", rsv=1), "reserved bits"),
        (encode(11, b"a"), "opcode"),
        (encode(TEXT, b"a" * 200, masked=True), "masked"),
        (b"\x81\x7e\x00\x05short", "16-bit payload len"),
    ],
)
async def test_nonsense_among_messages_ends_the_epoch_there(bad: bytes, reason: str) -> None:
    good = b"".join(encode(TEXT, b"%d" % n) for n in range(50))
    async with running(talks(good + bad + encode(TEXT, b"after"))) as (rig, _):
        assert reason in await rig.sink.closed()
        assert texts(rig)[:51] == [b"yes", *(b"%d" % n for n in range(50))]
        assert b"after" not in texts(rig)


async def test_a_close_of_the_venue_is_answered_and_ends_the_epoch() -> None:
    closing = encode(TEXT, b"last") + encode(CLOSE, struct.pack("!H", 1001) + b"bye")
    async with running(talks(closing)) as (rig, _):
        assert await rig.sink.closed() == "closed by the venue: 1001 bye"
        assert texts(rig) == [b"yes", b"last"]


async def test_a_subscription_may_be_accepted_after_other_messages() -> None:
    async def script(peer: Peer) -> None:
        await peer.text(b"hello")
        for _ in range(2):
            await peer.receive()
        await peer.send(encode(TEXT, b"wait") + encode(TEXT, b"yes") + encode(TEXT, b"1"))
        await peer.gone()

    async with running(script) as (rig, _):
        await rig.sink.until(lambda: len(rig.sink.first) == 4)
        kinds = [type(control).__name__ for control in rig.sink.epochs[0].controls]
        assert kinds == ["EpochOpened", "EpochAccepted"]
        assert rig.sink.epochs[0].frames[4][0] is FrameKind.CONTROL, "not where it was accepted"


async def test_a_refusal_among_messages_ends_the_epoch_at_once() -> None:
    async def script(peer: Peer) -> None:
        await peer.text(b"hello")
        for _ in range(2):
            await peer.receive()
        await peer.send(encode(TEXT, b"no") + encode(TEXT, b"after"))
        await peer.gone()

    async with running(script) as (rig, _):
        assert (await rig.sink.closed()).startswith("refused")
        assert texts(rig) == [b"hello", b"no"]


async def test_a_small_limit_is_the_drivers_to_keep() -> None:
    async with running(talks(encode(TEXT, b"x" * 300)), max_message_bytes=200) as (rig, _):
        assert (await rig.sink.closed()).startswith("oversized")
        assert texts(rig) == [b"yes"]


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's context with a certificate that our client trusts."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed, and makes the certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = f"{openssl} req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    command += f" -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 -out {certificate}"
    subprocess.run([*command.split(), "-keyout", str(key)], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    return context


async def test_it_reads_through_tls(tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    made = asyncio.start_server
    monkeypatch.setattr(asyncio, "start_server", lambda *arguments: made(*arguments, ssl=tls))
    sent = [b"%d " % n + b"x" * (n % 900) for n in range(2000)]
    parts = b"".join(encode(TEXT, payload) for payload in sent)
    async with WsServer(talks(parts, encode(PING, b"p"))) as server:
        rig = Rig(server.url.replace("ws://", "wss://"))
        task = asyncio.create_task(rig.feed.run(rig.sink))
        await rig.sink.until(lambda: len(texts(rig)) > len(sent))
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert texts(rig)[1:] == sent
