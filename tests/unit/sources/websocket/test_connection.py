"""The callbacks alone, where a socket cannot be made to hit the moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from forebay.clock import ManualClock
from forebay.sources.websocket import ConnectionPlan, Timeouts
from forebay.sources.websocket.connection import Connection
from forebay.sources.websocket.ear import Ear
from forebay.telemetry import ConnectionOpened
from tests.support.feed_rig import ASKED, YesOrNo
from tests.support.sinks import RecordingSink

if TYPE_CHECKING:
    from picows import WSTransport

    from forebay.telemetry import TelemetryEvent


class FakeTransport:
    """Writes down what is done to it."""

    def __init__(self) -> None:
        self.did: list[str] = []
        self.underlying_transport = self
        self.close_handshake = None

    def send(self, _: object, message: bytes) -> None:
        self.did.append(message.decode())

    def send_close(self, *_: object) -> None:
        self.did.append("close frame")

    def disconnect(self, *, graceful: bool) -> None:
        assert not graceful, "waits for a peer that may never read"
        self.did.append("disconnect")

    def pause_reading(self) -> None:
        self.did.append("pause")

    def resume_reading(self) -> None:
        self.did.append("resume")


class Rig:
    def __init__(self) -> None:
        self.sink = RecordingSink()
        self.said: list[TelemetryEvent] = []
        self.transport = FakeTransport()
        self.connection = Connection(
            ConnectionPlan("v", "c", "ws://h/", ASKED, YesOrNo),
            self.sink,
            clock=ManualClock(),
            epoch="e",
            timeouts=Timeouts(),
            observer=self.said.append,
            ear=Ear(),
        )

    def connect(self) -> None:
        self.connection.on_ws_connected(cast("WSTransport", self.transport))

    def disconnect(self) -> None:
        self.connection.on_ws_disconnected(cast("WSTransport", self.transport))


def test_an_upgrade_answered_after_it_was_given_up_begins_no_epoch() -> None:
    rig = Rig()
    rig.connection.end("stopped")
    rig.connect()
    rig.disconnect()
    assert rig.sink.epochs == []
    assert rig.said == []
    assert rig.transport.did == ["disconnect"]


def test_a_connection_ends_once_whoever_ends_it_first() -> None:
    rig = Rig()
    rig.connect()
    rig.connection.end("first")
    rig.connection.end("second")
    rig.connection.examine()
    rig.disconnect()
    assert rig.sink.epochs[0].reason == "first"
    assert rig.transport.did == ["hello", "subscribe", "close frame", "disconnect"]
    assert isinstance(rig.said[0], ConnectionOpened)
    assert len(rig.said) == 2


def test_pressure_is_passed_on_once_and_not_to_a_connection_that_is_over() -> None:
    rig = Rig()
    rig.connect()
    pressed = rig.sink.callbacks[0]
    for on in (False, True, True, False, False, True):
        pressed(on)
    assert rig.transport.did == ["hello", "subscribe", "pause", "resume", "pause"]
    rig.connection.end("over")
    pressed(False)
    assert rig.transport.did[-1] == "disconnect"
    assert rig.sink.callbacks == []


def test_a_socket_that_breaks_ends_the_epoch() -> None:
    rig = Rig()
    rig.connect()
    rig.disconnect()
    assert str(rig.sink.epochs[0].reason).startswith("lost")
