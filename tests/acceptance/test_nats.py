"""NATS as it fails: what was acknowledged is there, in order, and nothing is taken for stored."""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from forebay.domain.frames import Context, EpochOpened
from forebay.domain.messages import ControlTold, EventsTold, FrameOrigin, Head, Message, Step
from forebay.errors import ConfigError, CursorBeyondEnd, Permanent, Transient, Unreachable
from forebay.telemetry import TelemetryEvent, TopicDiffers, ignore
from forebay.transports.kind import TransportConfig
from forebay.transports.nats import TRANSPORT, connection
from forebay.transports.nats.batches import Batch, Entry
from forebay.transports.nats.connection import NatsConnection
from forebay.transports.nats.streams import StreamLimits
from forebay.transports.nats.transport import NatsTransport
from tests.conformance.test_transport import message, message_of_rows, messages, read, taken
from tests.support.frames import LOG, TRADES, Told, rows_of
from tests.support.nats import Lab, connected, serving_nats

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path

    from nats.aio.client import Client
    from nats.aio.msg import Msg

LANE = "trade_archive"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with serving_nats(tmp_path) as running:
        yield running


@pytest.fixture
def beside(lab: Lab) -> Iterator[NatsConnection]:
    with connected(lab) as made:
        yield made


@pytest.fixture
def told() -> list[TelemetryEvent]:
    return []


@pytest.fixture
def transport(lab: Lab, told: list[TelemetryEvent]) -> Iterator[NatsTransport]:
    yield from opened(lab, told)


def opened(
    lab: Lab, told: list[TelemetryEvent], limits: StreamLimits | None = None, room_s: float = 0
) -> Iterator[NatsTransport]:
    made = NatsTransport(
        NatsConnection(lab.urls, {}), limits or StreamLimits(), observer=told.append, room_s=room_s
    )
    made.lanes(LANE)
    yield made
    made.close()


def many_rows(count: int) -> Message:
    context = message_of_rows(0).head.told
    assert isinstance(context, EventsTold)
    head = EventsTold(FrameOrigin(context.origin.context, {"trade": TRADES}), "trade", False)
    return Message(Head(Step(LOG, 1, 10), 0, head), rows_of(*map(Told, range(1, count + 1))))


def entries(beside: NatsConnection) -> int:
    """How many messages of NATS the stream has."""
    info = beside.run(beside.ask(f"STREAM.INFO.{LANE}"))
    count: int = info["state"]["messages"]
    return count


def changed(beside: NatsConnection, **settings: object) -> None:
    config = beside.run(beside.ask(f"STREAM.INFO.{LANE}"))["config"]
    beside.run(beside.ask(f"STREAM.UPDATE.{LANE}", {**config, **settings}))


def lose_next_answer(transport: NatsTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the server take the next batch, and its answer never arrive."""
    acknowledged = transport._acknowledged

    async def lost(lane: str, sent: Callable[[Client], Coroutine[Any, Any, Msg]]) -> None:
        monkeypatch.setattr(transport, "_acknowledged", acknowledged)
        await acknowledged(lane, sent)
        raise TimeoutError

    monkeypatch.setattr(transport, "_acknowledged", lost)


# ------------------------------------------------------------------- a lost answer


def test_what_is_sent_again_because_its_answer_was_lost_is_there_once(
    transport: NatsTransport, beside: NatsConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = [message(0), many_rows(2500), message(2)]
    lose_next_answer(transport, monkeypatch)
    with pytest.raises(Unreachable):
        transport.publish(LANE, told)
    assert entries(beside) == 1000, "a batch that was taken"
    transport.publish(LANE, told)
    assert entries(beside) == 2503
    received = taken(transport.subscribe(LANE, "g"), 3)
    assert [each.message for each in received] == told


def test_what_is_remembered_and_not_there_any_more_is_stored(
    transport: NatsTransport, beside: NatsConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_next_answer(transport, monkeypatch)
    with pytest.raises(Unreachable):
        transport.publish(LANE, messages(7))
    assert entries(beside) == 1
    beside.run(beside.ask(f"STREAM.PURGE.{LANE}"))
    transport.publish(LANE, messages(7))
    assert entries(beside) == 1
    assert read(transport.subscribe(LANE, "g"), 1) == [7]


def test_what_another_process_tells_again_arrives_within_the_duplicate_window(
    lab: Lab, transport: NatsTransport
) -> None:
    subscription = transport.subscribe(LANE, "g")
    transport.publish(LANE, messages(0, 1))
    assert read(subscription, 2) == [0, 1]
    for repair in opened(lab, []):
        repair.publish(LANE, messages(0, 1))
    assert read(subscription, 2) == [0, 1]


# ------------------------------------------------------------ servers that go and come


def test_what_was_acknowledged_is_there_after_a_kill(lab: Lab, transport: NatsTransport) -> None:
    transport.publish(LANE, [many_rows(1500)])
    (node,) = lab.servers.nodes
    lab.run(node.kill())
    with pytest.raises(Unreachable) as caught:
        transport.publish(LANE, messages(1))
    assert "is the server running?" in caught.value.hint
    lab.run(node.start())
    transport.publish(LANE, messages(1))
    received = taken(transport.subscribe(LANE, "g"), 2)
    assert [each.message for each in received] == [many_rows(1500), message(1)]


def test_a_server_that_stands_still_is_left_and_found_again(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "CONNECT_S", 1)
    transport = NatsTransport(NatsConnection(lab.urls, {}, answer_s=0.5))
    transport.lanes(LANE)
    transport.publish(LANE, messages(0))
    lab.servers.nodes[0].freeze()
    for _ in range(2):
        with pytest.raises(Unreachable):
            transport.publish(LANE, messages(1))
    lab.servers.nodes[0].thaw()
    transport.publish(LANE, messages(1))
    assert read(transport.subscribe(LANE, "g"), 2) == [0, 1]
    transport.close()


def test_an_older_copy_of_the_disk_is_another_lane(
    lab: Lab, tmp_path: Path, transport: NatsTransport
) -> None:
    (node,) = lab.servers.nodes
    transport.publish(LANE, messages(0, 1))
    lab.run(node.kill())
    shutil.copytree(node.data, tmp_path / "older")
    lab.run(node.start())
    subscription = transport.subscribe(LANE, "g")
    transport.publish(LANE, messages(2, 3))
    assert read(subscription, 4) == [0, 1, 2, 3]
    before = transport.identity(LANE)
    lab.run(node.swap(tmp_path / "older"))
    with pytest.raises(CursorBeyondEnd):
        subscription.read()
    after = transport.identity(LANE)
    assert after != before
    assert transport.identity(LANE) == after, "it is noticed once"
    subscription.seek(None)
    transport.publish(LANE, messages(0, 1, 2, 3))
    assert read(subscription, 6)[-4:] == [0, 1, 2, 3]


def test_who_publishes_into_an_older_copy_is_told(
    lab: Lab, tmp_path: Path, transport: NatsTransport
) -> None:
    (node,) = lab.servers.nodes
    lab.run(node.kill())
    shutil.copytree(node.data, tmp_path / "older")
    lab.run(node.start())
    transport.publish(LANE, messages(0, 1))
    before = transport.identity(LANE)
    lab.run(node.swap(tmp_path / "older"))
    with contextlib.suppress(Unreachable):  # it may not know yet that its connection is gone
        transport.publish(LANE, [])
    with pytest.raises(Transient, match="has lost what it had acknowledged"):
        transport.publish(LANE, messages(2))
    assert transport.identity(LANE) != before


def test_a_stream_that_is_gone_takes_nothing_until_it_is_made(
    transport: NatsTransport, beside: NatsConnection
) -> None:
    transport.publish(LANE, messages(0))
    beside.run(beside.ask(f"STREAM.DELETE.{LANE}"))
    with pytest.raises(Transient, match="no stream takes it"):
        transport.publish(LANE, messages(1))
    transport.lanes(LANE)
    transport.publish(LANE, messages(1))
    assert entries(beside) == 1


# -------------------------------------------------------------------------- limits


def test_a_full_stream_refuses_a_batch_whole_and_takes_it_when_there_is_room(
    lab: Lab, beside: NatsConnection
) -> None:
    for transport in opened(lab, [], StreamLimits(max_bytes=20_000)):
        for number in range(1000):
            try:
                transport.publish(LANE, messages(number))
            except Transient as error:
                full = error
                break
        else:
            pytest.fail("it is never full")
        assert "maximum bytes exceeded" in str(full)
        kept = entries(beside)
        assert kept == number, "nothing was dropped for it"
        with pytest.raises(Transient):
            transport.publish(LANE, [many_rows(50)])
        assert entries(beside) == kept
        changed(beside, max_bytes=-1)
        transport.publish(LANE, [many_rows(50)])
        assert entries(beside) == kept + 51


def test_a_publisher_waits_for_room(lab: Lab, beside: NatsConnection) -> None:
    for transport in opened(lab, [], StreamLimits(max_bytes=500), room_s=60):
        waiting = threading.Thread(target=transport.publish, args=(LANE, messages(0, 1, 2)))
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
        changed(beside, max_bytes=-1)
        waiting.join(20)
        assert not waiting.is_alive()
        assert entries(beside) == 3


def test_what_no_server_takes_is_refused_for_good(
    transport: NatsTransport, beside: NatsConnection
) -> None:
    limit = transport._connection.run(transport._connection.client()).max_payload
    just_too_large = Batch("b", [Entry(f"_forebay.{LANE}", b"x" * limit, "")])
    with pytest.raises(Permanent, match="maximum payload") as caught:
        transport._connection.run(transport._publish(LANE, just_too_large))
    assert "max_payload" in caught.value.hint
    changed(beside, max_msg_size=10)
    with pytest.raises(Permanent, match="10054") as caught:
        transport.publish(LANE, messages(0))
    assert "max_msg_size" in caught.value.hint


def test_what_is_larger_than_the_server_takes_comes_as_it_was_told(
    transport: NatsTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscription = transport.subscribe(LANE, "g")
    context = Context(venue="v", source="ws", purpose="live", collector="c", epoch="e")
    context = msgspec.structs.replace(context, run="x" * 10_000_000)
    control = ControlTold(FrameOrigin(context, {}), EpochOpened(), 7, 0)
    large = Message(Head(Step(LOG, 1, 10), 0, control))
    told = [large, message_of_rows(1), message(2)]
    transport.publish(LANE, told[:1])
    monkeypatch.setattr(connection, "HEADERS", (1 << 20) - 200)
    transport.publish(LANE, told[1:])
    received = taken(subscription, 3)
    assert [each.message for each in received] == told
    for number, each in enumerate(received[:2], 1):
        subscription.seek(subscription.position_at(each.resume))
        assert [other.message for other in taken(subscription, 3 - number)] == told[number:]


def test_a_stream_of_somebody_else_is_told_and_left_as_it_is(
    lab: Lab, beside: NatsConnection, told: list[TelemetryEvent]
) -> None:
    theirs = {"name": LANE, "subjects": ["trades.*.*", f"_forebay.{LANE}"], "max_age": 10**12}
    beside.run(beside.ask(f"STREAM.CREATE.{LANE}", theirs))
    for transport in opened(lab, told):
        with pytest.raises(Transient, match="takes no batches") as caught:
            transport.publish(LANE, messages(0))
        assert "--allow-batch" in caught.value.hint
        transport.lanes(LANE)
        changed(beside, allow_atomic=True)
        transport.publish(LANE, messages(0))
    differing = [each.setting for each in told if isinstance(each, TopicDiffers)]
    assert differing == ["discard", "max_age", "allow_direct", "allow_atomic"], "each is told once"
    config = beside.run(beside.ask(f"STREAM.INFO.{LANE}"))["config"]
    assert config["max_age"] == 10**12


def test_streams_keep_seven_days_and_no_more_than_is_configured(
    transport: NatsTransport, beside: NatsConnection, told: list[TelemetryEvent]
) -> None:
    config = beside.run(beside.ask(f"STREAM.INFO.{LANE}"))["config"]
    assert config["max_age"] == 604_800 * 10**9
    assert config["discard"] == "new"
    assert told == [], "a stream that we made differs in nothing"


def test_a_publisher_that_waits_is_let_go_when_the_transport_is_closed(lab: Lab) -> None:
    limits = StreamLimits(max_bytes=100)
    transport = NatsTransport(NatsConnection(lab.urls, {}), limits, room_s=60)
    transport.lanes(LANE)
    ended: list[Transient] = []

    def publish() -> None:
        try:
            transport.publish(LANE, messages(0))
        except Transient as error:
            ended.append(error)

    waiting = threading.Thread(target=publish)
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive()
    transport.close()
    waiting.join(20)
    assert [each.message for each in ended] == ["The transport is closed."]
    with pytest.raises(Transient, match="is closed"):
        transport.lanes(LANE)


# --------------------------------------------------------------- what users see


async def _heard(beside: NatsConnection, subject: str, told: list[tuple[str, Any]]) -> None:
    client = await beside.client()

    async def hear(message: Msg) -> None:
        told.append((message.subject, message))

    await client.subscribe(subject, cb=hear)
    await client.flush()


@pytest.mark.parametrize("mode", ["jetstream", "core"])
def test_who_listens_gets_events_and_nothing_else(
    lab: Lab, beside: NatsConnection, mode: str
) -> None:
    config = TransportConfig(kind="nats", servers=lab.servers.url(), mode=mode)
    heard: list[tuple[str, Any]] = []
    beside.run(_heard(beside, "trades.>", heard))
    transport = TRANSPORT.open(config, ignore)
    (lane,) = transport.lanes(LANE)
    assert transport.identity(lane) == transport.identity(lane)
    transport.publish(lane, [message(0), message_of_rows(1)])
    transport.close()
    beside.run(beside.send([]))
    assert [subject for subject, _ in heard] == ["trades.coinbase.BTC-USD"] * 3
    row = json.loads(heard[0][1].data)
    assert heard[0][1].headers["event-id"] == row["event_id"]
    assert TRANSPORT.durable(config) == (mode == "jetstream")
    assert TRANSPORT.probe(config).startswith("NATS 2.")


def test_core_does_not_tell_what_the_server_would_not_take(beside: NatsConnection) -> None:
    beside.run(beside.send([Entry("trades.v.s", b"x" * 2_000_000, "id")]))


def test_core_keeps_nothing_to_read(lab: Lab) -> None:
    config = TransportConfig(kind="nats", servers=lab.servers.url(), mode="core")
    transport = TRANSPORT.open(config, ignore)
    transport.publish(LANE, [message_of_rows(1)])
    with pytest.raises(ConfigError, match="keeps nothing") as caught:
        transport.subscribe(LANE, "g")
    with pytest.raises(ConfigError, match="keeps nothing"):
        transport.join([LANE], "g")
    assert "jetstream" in caught.value.hint
    lab.run(lab.servers.nodes[0].kill())
    with pytest.raises(Unreachable):
        transport.publish(LANE, [message_of_rows(1)])
    transport.close()


def test_without_jetstream_it_is_said_what_to_do(tmp_path: Path) -> None:
    with serving_nats(tmp_path, jetstream=False) as lab, connected(lab) as link:
        transport = NatsTransport(link)
        with pytest.raises(Transient) as caught:
            transport.lanes(LANE)
        assert "Enable JetStream" in caught.value.hint
