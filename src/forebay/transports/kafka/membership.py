"""One member of a group: which partitions are its own, and who commits for them.

Its client takes part in the group and fetches nothing: each lane is read by a
:class:`~.subscription.KafkaSubscription` with a client of its own, so no lane waits for another,
and nothing has to be paused. It is used by one thread alone, which is always there: who is busy
with what was read stays a member, and between a look and a commit no lane is lost unseen.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import threading
from concurrent.futures import Future
from queue import Empty, Full, Queue
from typing import TYPE_CHECKING, TypeAlias

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from forebay.errors import ForebayError, LaneLost, Transient, Unreachable
from forebay.transports.held import HeldSubscription
from forebay.transports.kafka.errors import reason, translated
from forebay.transports.kafka.subscription import ASK_S, commit_place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from forebay.journal import Position
    from forebay.transports.kafka.subscription import KafkaSubscription

    Call: TypeAlias = tuple[Callable[[], None], Future[None]]

CALLS = 64
"""Commits that wait for their turn; whoever has another one waits, too."""
LOOK_S = 0.05
"""So often the client is asked whether something has changed hands."""


class KafkaMembership:
    """See :class:`~forebay.ports.Membership`."""

    def __init__(
        self,
        consume: Callable[[Callable[[KafkaError], None]], Consumer],
        topics: Sequence[str],
        subscribe: Callable[[str], KafkaSubscription],
        group: str,
    ) -> None:
        """``consume`` makes a client that tells what it meets; ``subscribe`` reads a lane."""
        self._subscribe = subscribe
        self._group = group
        self._claims = itertools.count(1)
        self._held: dict[str, int] = {}
        """By lane that is ours, a number that is another one each time it has become so."""
        self._joined = False
        self._member = ""
        """How the group called us when it gave us lanes."""
        self._problem: ForebayError | None = None
        self._calls: Queue[Call | None] = Queue(CALLS)
        self._consumer = consume(self._met)
        self._consumer.subscribe(
            [*topics], on_assign=self._given, on_revoke=self._revoked, on_lost=self._lost
        )
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="kafka-member", daemon=True)
        self._thread.start()

    def lanes(self) -> frozenset[str]:
        """See :class:`~forebay.ports.Membership`."""
        if self._closed:
            raise Transient("The membership is closed.")
        if not self._joined:
            sharing = Transient(f"The group {self._group} shares its lanes out.")
            raise self._problem if isinstance(self._problem, Transient) else sharing
        return frozenset(self._held)

    def subscribe(self, lane: str) -> HeldSubscription:
        """See :class:`~forebay.ports.Membership`."""
        claim = self._held.get(lane, 0)
        self._check(lane, claim)
        reader = self._subscribe(lane)

        def commit(position: Position) -> None:
            self._commit(lane, claim, reader.place_of(position))

        return HeldSubscription(reader, functools.partial(self._check, lane, claim), commit)

    def close(self) -> None:
        """See :class:`~forebay.ports.Membership`."""
        if not self._closed:
            self._closed = True
            with contextlib.suppress(Full):
                self._calls.put(None, timeout=ASK_S)
            self._thread.join(ASK_S)  # it may wait for a broker that is away

    def _check(self, lane: str, claim: int) -> None:
        """Raise :class:`~forebay.errors.LaneLost` unless a claim is still good."""
        if not claim or self._held.get(lane) != claim:
            message = f"{lane} is read by another member of {self._group}."
            raise LaneLost(message, hint="It goes on there.")

    def _commit(self, lane: str, claim: int, place: TopicPartition) -> None:
        """Commit as the member that we are; raises as :meth:`_check`."""

        def work() -> None:
            self._check(lane, claim)
            if self._consumer.memberid() != self._member:  # and it has not been told us yet
                self._check(lane, 0)
            commit_place(self._consumer, place)

        done: Future[None] = Future()
        if not self._closed:
            with contextlib.suppress(Full):
                self._calls.put((work, done), timeout=ASK_S)
        if self._closed:  # by now: perhaps nobody is there who would do it
            self._check(lane, 0)
        try:
            done.result(ASK_S)
        except TimeoutError:
            # The client is in a commit that it tries for as long as the broker is away.
            done.cancel()
            message = f"Kafka: committing in {place.topic} is not answered."
            raise Unreachable(message, hint="It is tried again; is the broker well?") from None

    # --------------------------------------------------------------------- in its thread

    def _run(self) -> None:
        while not self._closed:
            call = None
            with contextlib.suppress(Empty):
                call = self._calls.get(timeout=LOOK_S)
            self._poll()
            if call is not None:
                _carry_out(*call)
        with contextlib.suppress(KafkaException, RuntimeError):
            self._consumer.close()
        self._held = {}
        while not self._calls.empty():  # nothing is committed any more
            left = self._calls.get()
            if left is not None:
                _carry_out(*left)

    def _poll(self) -> None:
        try:
            message = self._consumer.poll(0)
        except (KafkaException, SystemError) as error:
            self._met(reason(error))
            return
        problem = None if message is None else message.error()
        if problem is not None:
            self._met(problem)

    def _met(self, error: KafkaError) -> None:
        self._problem = translated(error, f"taking part in the group {self._group}")

    def _given(self, consumer: Consumer, places: Iterable[TopicPartition]) -> None:
        consumer.incremental_assign([])  # others fetch
        self._held = self._held | {_lane(each): next(self._claims) for each in places}
        self._member = consumer.memberid()
        self._joined, self._problem = True, None

    def _revoked(self, consumer: Consumer, places: Iterable[TopicPartition]) -> None:
        gone = {_lane(each) for each in places}
        self._held = {lane: claim for lane, claim in self._held.items() if lane not in gone}
        consumer.incremental_unassign([])

    def _lost(self, consumer: Consumer, places: Iterable[TopicPartition]) -> None:
        """The group has gone on without us; we join it again."""
        self._joined = False
        self._revoked(consumer, places)


def _carry_out(work: Callable[[], None], done: Future[None]) -> None:
    if not done.set_running_or_notify_cancel():
        return
    try:
        work()
    except Exception as error:  # noqa: BLE001 - whoever waits for it raises it
        done.set_exception(error)
    else:
        done.set_result(None)


def _lane(place: TopicPartition) -> str:
    return f"{place.topic}/{place.partition}"
