"""Members of a group as they are frozen, kept waiting and cut off by real servers."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from forebay.errors import LaneLost, Transient, Unreachable
from forebay.transports.kafka.transport import KafkaTransport
from forebay.transports.nats.connection import NatsConnection
from forebay.transports.nats.streams import StreamLimits
from forebay.transports.nats.transport import NatsTransport
from tests.conformance.test_membership import known
from tests.conformance.test_transport import messages, read, read_to
from tests.conformance.transports.kafka_one_node import QUICK
from tests.support import kafka
from tests.support.commands import wait_for
from tests.support.member_process import MemberProcess
from tests.support.nats import serving_nats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from forebay.lab.kafka_server import KafkaCluster
    from forebay.ports import Membership, SharedLanes, Subscription, Transport
    from tests.support.nats import Lab

GROUP = "bridge"
SESSION_S = 1.5
SOON_S = 30.0


@pytest.fixture
def cluster() -> KafkaCluster:
    return kafka.a_broker()


@pytest.fixture
def transport(cluster: KafkaCluster) -> Iterator[KafkaTransport]:
    made = KafkaTransport(kafka.config_of(cluster, partitions=2, options=QUICK))
    yield made
    made.close()


@contextlib.contextmanager
def joined(transport: SharedLanes, topic: str) -> Iterator[Membership]:
    member = transport.join([topic], GROUP)
    with contextlib.closing(member):
        yield member


def has(member: Membership | MemberProcess, *lanes: str) -> None:
    """Wait until a member has these lanes and no others."""
    wanted = frozenset(lanes)
    wait_for(lambda: known(member.lanes) == wanted or None, f"{lanes} to be its own", SOON_S)


def lost(action: Callable[[], object]) -> None:
    with pytest.raises(LaneLost):
        action()


@pytest.mark.drill
def test_a_committed_offset_never_falls_while_a_member_is_frozen_and_woken(
    cluster: KafkaCluster, transport: KafkaTransport
) -> None:
    topic = kafka.a_topic()
    lanes = transport.lanes(topic)
    for lane in lanes:
        transport.publish(lane, messages(*range(40)))
    config = kafka.config_of(cluster, partitions=2, options=QUICK)
    frozen = MemberProcess(config, [topic], GROUP)
    offsets: list[tuple[int, ...]] = []

    def look() -> None:
        nexts = [transport.subscribe(lane, GROUP) for lane in lanes]
        offsets.append(tuple(each._next for each in nexts))
        for each in nexts:
            each.close()

    try:
        has(frozen, *lanes)
        for _ in range(3):
            assert len(frozen.read(lanes[0], 5)) == 5
            frozen.commit(lanes[0])
            look()
        frozen.read(lanes[0], 5)
        frozen.freeze()
        with joined(transport, topic) as here:
            has(here, *lanes)
            taken = here.subscribe(lanes[0])
            for _ in range(4):
                taken.commit(read_to(taken, 5))
                look()
            frozen.thaw()
            lost(lambda: frozen.commit(lanes[0]))
            lost(lambda: frozen.read(lanes[0], 1))
            wait_for(lambda: len(known(frozen.lanes) or ()) == 1 or None, "it to work", SOON_S)
            look()
    finally:
        frozen.kill()
    assert offsets == sorted(offsets)
    assert [first for first, _ in offsets] == [5, 10, 15, 20, 25, 30, 35, 35]


@pytest.mark.drill
def test_who_is_busy_for_many_poll_limits_stays_the_same_member(
    cluster: KafkaCluster, transport: KafkaTransport
) -> None:
    topic = kafka.a_topic()
    lanes = transport.lanes(topic)
    transport.publish(lanes[0], messages(0, 1))
    ends = time.monotonic() + 6 * SESSION_S
    with joined(transport, topic) as member:
        has(member, *lanes)
        subscription = member.subscribe(lanes[0])
        place = read_to(subscription, 1)

        def described() -> tuple[object, list[str]]:
            admin = kafka.admin(cluster)
            group = admin.describe_consumer_groups([GROUP])[GROUP].result(5)
            return group.state.name, [each.member_id for each in group.members]

        before = described()

        def look() -> bool | None:
            assert described() == before
            return time.monotonic() > ends or None

        wait_for(look, "an insert that takes long", SOON_S)
        subscription.commit(place)
        assert read(subscription, 1) == [1]


@pytest.mark.drill
def test_who_is_cut_off_from_kafka_for_long_is_a_member_again(
    cluster: KafkaCluster, transport: KafkaTransport
) -> None:
    topic = kafka.a_topic()
    lanes = transport.lanes(topic)
    transport.publish(lanes[0], messages(0, 1, 2))
    with joined(transport, topic) as member:
        has(member, *lanes)
        subscription = member.subscribe(lanes[0])
        subscription.commit(read_to(subscription, 1))
        (node,) = cluster.nodes
        node.freeze()

        def unknown() -> bool | None:
            try:
                member.lanes()
            except Transient:
                return True
            return None

        wait_for(unknown, "it to be told", SOON_S)
        lost(subscription.read)
        node.thaw()
        has(member, *lanes)
        assert read(member.subscribe(lanes[0]), 2) == [1, 2]


@pytest.mark.drill
def test_a_commit_into_a_broker_that_stands_still_is_given_up_and_holds_up_nobody(
    cluster: KafkaCluster, transport: KafkaTransport
) -> None:
    topic = kafka.a_topic()
    lanes = transport.lanes(topic)
    transport.publish(lanes[0], messages(0, 1, 2))
    with joined(transport, topic) as member:
        has(member, *lanes)
        subscription = member.subscribe(lanes[0])
        place = read_to(subscription, 1)
        (node,) = cluster.nodes
        node.freeze()
        for _ in range(2):
            with pytest.raises(Unreachable):
                subscription.commit(place)
        node.thaw()

        def committed() -> bool | None:
            with contextlib.suppress(Transient):
                lane = member.subscribe(lanes[0])
                lane.commit(place)
                return True
            return None

        wait_for(committed, "it to be a member again", SOON_S)
        other = transport.subscribe(lanes[0], GROUP)
        assert read(other, 1) == [1]
        other.close()
        node.freeze()
        with pytest.raises(Unreachable):
            member.subscribe(lanes[1])
    node.thaw()


# ------------------------------------------------------------------------------- NATS


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with serving_nats(tmp_path) as running:
        yield running


@contextlib.contextmanager
def a_transport(lab: Lab) -> Iterator[NatsTransport]:
    made = NatsTransport(NatsConnection(lab.urls, {}), StreamLimits(session_ns=10**9))
    with contextlib.closing(made):
        yield made


def beginning(transport: Transport, topic: str) -> list[Subscription]:
    """Tell something in a topic; return who will say what was committed of it."""
    (lane,) = transport.lanes(topic)
    transport.publish(lane, messages(0, 1, 2, 3))
    return [transport.subscribe(lane, GROUP)]


def test_whose_clock_stood_still_commits_nothing(lab: Lab) -> None:
    topic = "trade_archive"
    with a_transport(lab) as asleep, a_transport(lab) as awake:
        beginning(asleep, topic)
        first = asleep.join([topic], GROUP)
        has(first, topic)
        subscription = first.subscribe(topic)
        place = read_to(subscription, 1)
        first._closing.set()  # it says nothing more, and for it no time passes
        first._until_ns = 1 << 62
        with joined(awake, topic) as second:
            has(second, topic)
            taken = second.subscribe(topic)
            taken.commit(read_to(taken, 2))
            lost(lambda: subscription.commit(place))
            assert read(awake.subscribe(topic, GROUP), 1) == [2]
            first.close()
            has(second, topic)


def test_a_commit_of_nobody_takes_a_lane_from_its_member_who_takes_it_back(lab: Lab) -> None:
    topic = "trade_archive"
    with a_transport(lab) as transport:
        (beside,) = beginning(transport, topic)
        with joined(transport, topic) as member:
            has(member, topic)
            subscription = member.subscribe(topic)
            place = read_to(subscription, 1)
            beside.commit(read_to(beside, 2))
            lost(lambda: subscription.commit(place))
            has(member, topic)
            assert read(member.subscribe(topic), 2) == [2, 3]


def test_an_answer_that_nobody_expects_ends_no_membership(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = "trade_archive"
    with a_transport(lab) as transport, joined(transport, topic) as member:
        has(member, topic)

        async def odd(_: object) -> dict[str, list[str]]:
            raise KeyError("state")

        with monkeypatch.context() as patched:
            patched.setattr(type(member), "_readers", odd)
            wait_for(lambda: known(member.lanes) is None or None, "it to notice", SOON_S)
        has(member, topic)


@pytest.mark.drill
def test_who_is_cut_off_from_nats_for_long_is_a_member_again(lab: Lab) -> None:
    topic = "trade_archive"
    (node,) = lab.servers.nodes
    with a_transport(lab) as transport, joined(transport, topic) as member:
        beginning(transport, topic)
        has(member, topic)
        subscription = member.subscribe(topic)
        subscription.commit(read_to(subscription, 1))
        lab.run(node.kill())
        wait_for(lambda: known(member.lanes) is None or None, "it to notice", SOON_S)
        lost(subscription.read)
        lab.run(node.start())
        has(member, topic)
        assert read(member.subscribe(topic), 1) == [1]


@pytest.mark.drill
def test_many_who_come_at_once_share_the_lanes(lab: Lab) -> None:
    topics = [f"{kind}_archive" for kind in ("trade", "quote", "ticker", "book", "aggregate")]
    with contextlib.ExitStack() as ending, ThreadPoolExecutor(5) as pool:
        transports = [ending.enter_context(a_transport(lab)) for _ in topics]
        members = [*pool.map(lambda each: each.join(topics, GROUP), transports)]

        def look() -> bool | None:
            lanes = [known(each.lanes) or frozenset() for each in members]
            return [len(each) for each in lanes] == [1] * 5 or None

        wait_for(look, "a lane each", SOON_S)
        for each in members[1:]:
            ending.callback(each.close)
        members[0].close()
        wait_for(
            lambda: (
                len(frozenset().union(*(known(each.lanes) or () for each in members[1:]))) == 5
                or None
            ),
            "its lane to be another's",
            SOON_S,
        )
