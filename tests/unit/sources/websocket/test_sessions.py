"""Conversations of a connection: parts of a subscription, refusals, complaints, pings."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from forebay.clock import ManualClock
from forebay.domain.frames import EpochAccepted, EpochClosed, EpochOpened
from forebay.sources.venue import NOTHING, ConnectionPurpose, MessageVerdict, PlainSession
from forebay.sources.websocket import ConnectionPlan, Timeouts
from forebay.sources.websocket.connection import Connection
from forebay.sources.websocket.ear import Ear
from forebay.telemetry import StreamRefused, SubscriptionAccepted, VenueComplained
from tests.support.feed_rig import pass_time, running
from tests.support.sinks import RecordingSink
from tests.unit.sources.websocket.test_connection import FakeTransport

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from picows import WSTransport

    from forebay.telemetry import TelemetryEvent
    from tests.support.ws_server import Peer

ASKED = ConnectionPurpose(("A", "B", "C"), ("quote", "trade"), credentials={"key": "k"})


class Talk(PlainSession):
    """Words: ``ok SYMBOL``, ``no SYMBOL``, ``out`` (nothing at all), ``hm`` (a complaint)."""

    def __init__(self, asked: ConnectionPurpose) -> None:
        super().__init__(asked)
        self.heard: list[bytes] = []
        self.moments: list[int] = []

    def headers(self, now_ns: int) -> Mapping[str, str]:
        return {"X-Key": self.asked.credentials.get("key", ""), "X-At": str(now_ns)}

    def opened(self, now_ns: int) -> Sequence[bytes]:
        self.moments.append(now_ns)
        return (b"all",)

    def received(self, payload: bytes, now_ns: int) -> MessageVerdict:
        self.heard.append(payload)
        self.moments.append(now_ns)
        word, _, symbol = payload.decode().partition(" ")
        streams = frozenset((kind, symbol) for kind in self.asked.channels)
        return {
            "ok": MessageVerdict(accepted=streams),
            "no": MessageVerdict(refused=dict.fromkeys(streams, "it is unknown")),
            "out": MessageVerdict(refusal="nobody is served."),
            "hm": MessageVerdict(complaint="too loud", send=(b"sorry",)),
            "bye": MessageVerdict(ended="too many connections", complaint="too many"),
        }.get(word, NOTHING)


class Attentive(Talk):
    attentive = True


class Slow(Talk):
    """Asks for one symbol a second."""

    tick_s: float | None = 1.0

    def __init__(self, asked: ConnectionPurpose) -> None:
        super().__init__(asked)
        self._waiting = deque(asked.symbols)

    @property
    def asking(self) -> bool:
        return bool(self._waiting)

    def opened(self, now_ns: int) -> Sequence[bytes]:
        return ()

    def tick(self, now_ns: int) -> Sequence[bytes]:
        return [self._waiting.popleft().encode()] if self._waiting else [b"ping"]


class Rig:
    def __init__(self, session: type[Talk] = Talk, asked: ConnectionPurpose = ASKED) -> None:
        self.clock = ManualClock()
        self.sink = RecordingSink()
        self.said: list[TelemetryEvent] = []
        self.transport = FakeTransport()
        self.connection = Connection(
            ConnectionPlan("v", "c", "ws://h/", asked, session),
            self.sink,
            clock=self.clock,
            epoch="e",
            timeouts=Timeouts(),
            observer=self.said.append,
            ear=Ear(),
        )
        self.connection.on_ws_connected(cast("WSTransport", self.transport))

    @property
    def session(self) -> Talk:
        return cast("Talk", self.connection.session)

    def tell(self, *messages: bytes) -> None:
        """Messages that were read together, by the quick way."""
        self.connection._take_texts(list(messages))

    def heard(self, kind: type[TelemetryEvent]) -> list[TelemetryEvent]:
        return [event for event in self.said if isinstance(event, kind)]

    def heard_refusals(self) -> list[StreamRefused]:
        return [event for event in self.said if isinstance(event, StreamRefused)]


def accepted(*symbols: str) -> EpochAccepted:
    return EpochAccepted(tuple((kind, symbol) for kind in ("quote", "trade") for symbol in symbols))


def test_an_end_that_has_nothing_to_do_with_what_was_asked_for_blames_no_stream() -> None:
    rig = Rig()
    rig.tell(b"ok A", b"ok B", b"bye", b"ok C")
    assert rig.sink.epochs[0].reason == "ended by the venue: too many connections"
    assert (rig.connection.blameless, rig.connection.rejection) == (True, None)
    assert not rig.heard(StreamRefused)
    assert rig.heard(VenueComplained)


def test_all_at_once_is_one_record_without_names() -> None:
    rig = Rig(asked=replace(ASKED, symbols=("A",)))
    rig.tell(b"ok A")
    assert rig.sink.epochs[0].controls == [EpochOpened(), EpochAccepted()]
    assert rig.sink.epochs[0].context.channels == ("quote", "trade")


def test_symbols_are_accepted_one_by_one_and_each_once() -> None:
    rig = Rig()
    rig.tell(b"x", b"ok B", b"x", b"ok A", b"ok B", b"ok C", b"ok D")
    controls = rig.sink.epochs[0].controls
    assert controls == [EpochOpened(), accepted("B"), accepted("A"), accepted("C")]
    assert len(rig.heard(SubscriptionAccepted)) == 1
    assert len(rig.sink.epochs[0].data) == 7, "every message is captured, whatever it says"


def test_the_session_hears_nothing_once_all_is_settled() -> None:
    rig = Rig()
    rig.tell(b"ok A", b"no B", b"x")
    rig.tell(b"ok C", b"y")
    rig.tell(b"z", b"hm")
    assert rig.session.heard == [b"ok A", b"no B", b"x", b"ok C"]
    assert rig.heard(VenueComplained) == []
    assert rig.connection.data


def test_an_attentive_session_hears_everything_and_answers() -> None:
    rig = Rig(Attentive)
    rig.tell(b"ok A", b"ok B", b"ok C", b"x")
    rig.tell(b"hm")
    assert rig.session.heard[-1] == b"hm"
    assert rig.heard(VenueComplained) == [VenueComplained("v", "e", "too loud")]
    assert rig.transport.did == ["all", "sorry"]
    assert not rig.connection.over, "a complaint ends nothing"


def test_a_symbol_that_is_refused_costs_that_symbol_alone() -> None:
    rig = Rig()
    rig.tell(b"ok A", b"no B", b"no B", b"ok C")
    assert not rig.connection.over
    assert rig.heard(StreamRefused) == [
        StreamRefused("v", "e", kind, "B", "it is unknown") for kind in ("quote", "trade")
    ]
    assert rig.sink.epochs[0].controls == [EpochOpened(), accepted("A"), accepted("C")]


def test_a_connection_whose_every_symbol_is_refused_is_over() -> None:
    rig = Rig()
    rig.tell(b"no A", b"no B", b"no C", b"x")
    assert rig.sink.epochs[0].reason == "refused: it is unknown"
    assert len(rig.sink.epochs[0].data) == 3


def test_a_refusal_of_the_whole_ends_it_even_after_an_acceptance() -> None:
    rig = Rig()
    rig.tell(b"ok A", b"out", b"ok B")
    assert rig.sink.epochs[0].controls[-1] == EpochClosed("refused: nobody is served.")


def test_a_symbol_without_an_answer_is_told_once_and_waited_for() -> None:
    rig = Rig()
    rig.tell(b"ok A", b"ok B")
    for _ in range(6):
        rig.clock.advance(1.0)
        rig.tell(b"x")
        rig.connection.examine()
    refused = rig.heard(StreamRefused)
    assert [getattr(each, "symbol", "") for each in refused] == ["C", "C"]
    assert "no answer in 5 s" in str(refused[0])
    rig.tell(b"ok C")
    assert rig.sink.epochs[0].controls[-1] == accepted("C")


def test_sessions_are_told_a_time_that_never_goes_back() -> None:
    rig = Rig()
    began = rig.session.moments[0]
    rig.clock.advance(2.0)
    rig.clock.step_wall(-3600.0)
    rig.tell(b"x")
    assert rig.session.moments == [began, began + 2_000_000_000]
    assert rig.connection.headers()["X-At"] == str(began + 2_000_000_000)


async def test_an_upgrade_says_what_the_session_has_it_say() -> None:
    async def script(peer: Peer) -> None:
        await peer.gone()

    async with running(script, asked=ASKED, session=Talk) as (rig, server):
        await rig.sink.until(lambda: bool(rig.sink.epochs))
    assert b"X-Key: k" in server.upgrades[0]


async def test_a_subscription_may_take_long_to_say_and_is_not_late_meanwhile() -> None:
    clock, heard = ManualClock(), list[bytes]()

    async def script(peer: Peer) -> None:
        while message := await peer.receive():
            heard.append(message[1])
            if message[1] == b"C":
                await peer.text(b"ok A")

    asked = replace(ASKED, symbols=("A", "B", "C"))
    timeouts = Timeouts(accept_s=2.0, stale_s=1000.0)
    async with running(script, clock=clock, asked=asked, session=Slow, timeouts=timeouts) as (
        rig,
        _,
    ):
        await rig.sink.until(lambda: bool(rig.sink.epochs))
        for _ in range(40):
            await pass_time(clock, 0.5)
            if b"ping" in heard:
                break
        assert rig.sink.epochs[0].reason is None
    assert heard[:4] == [b"A", b"B", b"C", b"ping"]


class Marked(Talk):
    marks = (b"hm", b"out")
    quiet = (b"data",)


def test_of_later_messages_those_with_a_mark_are_heard_unless_they_begin_as_data_does() -> None:
    rig = Rig(Marked, asked=replace(ASKED, symbols=("A",)))
    rig.tell(b"ok A")
    rig.tell(b"data hm", b"other", b"hm", b"data", b"out", b"hm")
    assert rig.session.heard == [b"ok A", b"hm", b"out"]
    assert rig.connection.over
    assert len(rig.heard(VenueComplained)) == 1
