"""One exam for all transports: who shares lanes, and what becomes of who is gone."""

from __future__ import annotations

import contextlib
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

from forebay.errors import CursorBeyondEnd, LaneLost, Transient
from tests.conformance.test_transport import SOON_S, messages, numbers, read, read_to
from tests.conformance.transports import Sitting, candidates
from tests.support.commands import wait_for
from tests.support.member_process import MemberProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from forebay.ports import Membership, SharedLanes, Subscription

T = TypeVar("T")
CANDIDATES = candidates()
LANES = 6
GROUP = "bridge"


class Group:
    """Members of one group, here and in other processes."""

    def __init__(self, exam: Sitting, ending: contextlib.ExitStack) -> None:
        self.exam = exam
        self._ending = ending
        self.transport = self.connect()
        self.all = {lane for topic in exam.shared for lane in self.transport.lanes(topic)}
        assert len(self.all) == LANES
        for lane in self.all:
            self.transport.publish(lane, messages(0, 1, 2, 3))

    def connect(self) -> SharedLanes:
        transport = self.exam.connect()
        self._ending.callback(transport.close)
        return transport

    def join(self) -> Membership:
        member = self.connect().join(self.exam.shared, GROUP)
        self._ending.callback(member.close)
        return member

    def elsewhere(self) -> MemberProcess:
        if self.exam.config is None:
            pytest.skip("no other process can reach it")
        member = MemberProcess(self.exam.config, self.exam.shared, GROUP)
        self._ending.callback(member.kill)
        return member

    def freeze(self, member: MemberProcess) -> None:
        member.freeze()
        if self.exam.expel is not None:
            self.exam.expel(GROUP, member.name)

    def committed(self, lane: str) -> int:
        """Return the number of the message that is read next, in a lane with all of them."""
        subscription = self.transport.subscribe(lane, GROUP)
        with contextlib.closing(subscription):
            (first,) = wait_for(lambda: subscription.read(max_messages=1) or None, "it", SOON_S)
        return numbers([first])[0]


@pytest.fixture(params=CANDIDATES)
def group(request: pytest.FixtureRequest) -> Iterator[Group]:
    sit = CANDIDATES[request.param]
    with (
        tempfile.TemporaryDirectory() as folder,
        sit(Path(folder)) as sitting,
        contextlib.ExitStack() as ending,
    ):
        yield Group(sitting, ending)


def shared(group: Group, *members: Membership | MemberProcess) -> list[frozenset[str]]:
    """Return what each has once all lanes are shared out evenly; none is ever two members'."""

    def look() -> list[frozenset[str]] | None:
        before, after = ([known(each.lanes) or frozenset() for each in members] for _ in range(2))
        held = [one & other for one, other in zip(before, after, strict=True)]
        each = Counter(lane for found in held for lane in found)
        assert max(each.values(), default=1) == 1, held  # the one had it before and after
        sizes = [len(found) for found in held]
        return held if each.keys() == group.all and max(sizes) - min(sizes) <= 1 else None

    return wait_for(look, f"{len(members)} members to share the lanes", SOON_S)


def known(ask: Callable[[], T]) -> T | None:
    """Return what is said, None if that cannot be known now."""
    with contextlib.suppress(Transient):
        return ask()
    return None


def lost(subscription: Subscription) -> None:
    def look() -> bool | None:
        try:
            subscription.read(max_messages=1)
        except LaneLost:
            return True
        return None

    wait_for(look, "the lane to be lost", SOON_S)


def test_each_lane_is_one_members_and_who_comes_gets_a_share(group: Group) -> None:
    first = group.join()
    (everything,) = shared(group, first)
    reading = {lane: first.subscribe(lane) for lane in everything}
    places = {lane: read_to(subscription, 2) for lane, subscription in reading.items()}
    for lane, subscription in reading.items():
        subscription.commit(subscription.position_at(places[lane].seq))
    after = {lane: read_to(subscription, 1) for lane, subscription in reading.items()}
    second = group.join()
    kept, taken = shared(group, first, second)
    for lane in taken:
        lost(reading[lane])
        with pytest.raises(LaneLost):
            reading[lane].commit(after[lane])
        with pytest.raises(LaneLost):
            first.subscribe(lane)
        assert read(second.subscribe(lane), 2) == [2, 3], "it begins where the group has committed"
    for lane in kept:
        assert read(reading[lane], 1) == [3], "who keeps a lane reads on"
        reading[lane].commit(after[lane])
    second.close()
    shared(group, first)
    for lane in taken:
        assert read(first.subscribe(lane), 2) == [2, 3]


def test_a_topic_that_is_made_anew_is_read_from_its_oldest_record(group: Group) -> None:
    member = group.join()
    shared(group, member)
    topic = group.exam.shared[0]
    lane = group.transport.lanes(topic)[0]
    subscription = member.subscribe(lane)
    place = read_to(subscription, 2)
    subscription.commit(place)
    group.exam.delete(topic)
    group.transport.lanes(topic)
    group.transport.publish(lane, messages(5, 6, 7))
    reading: list[Subscription] = [subscription]

    def look() -> list[int] | None:
        try:
            return numbers(reading[0].read(max_messages=3)) or None
        except CursorBeyondEnd:
            reading[0].seek(None)
        except LaneLost:
            reading[0] = member.subscribe(lane)
        return None

    assert wait_for(lambda: known(look), "the new topic", SOON_S)[0] == 5
    with pytest.raises(CursorBeyondEnd):
        reading[0].seek(place)


def test_who_is_killed_or_frozen_loses_its_lanes_and_who_is_busy_does_not(group: Group) -> None:
    frozen, killed = group.elsewhere(), group.elsewhere()
    busy, other = group.join(), group.join()
    kept, *_ = shared(group, busy, other, frozen, killed)
    reading = {lane: busy.subscribe(lane) for lane in kept}
    places = {lane: read_to(each, 1) for lane, each in reading.items()}
    (lane, *_) = frozen.lanes()
    assert frozen.read(lane, 2) == [0, 1]
    killed.kill()
    group.freeze(frozen)
    # Nobody calls the busy one until a session has passed for those that are gone.
    wait_for(lambda: len(known(other.lanes) or ()) == LANES // 2 or None, "its share", SOON_S)
    for each, subscription in reading.items():
        subscription.commit(places[each])
        assert read(subscription, 1) == [1], "it is a member as it was"
    taken = next(each for each in (busy, other) if lane in each.lanes()).subscribe(lane)
    taken.commit(read_to(taken, 3))
    frozen.thaw()
    with pytest.raises(LaneLost):
        frozen.commit(lane)
    assert group.committed(lane) == 3, "it never falls"
    shared(group, busy, other, frozen)
