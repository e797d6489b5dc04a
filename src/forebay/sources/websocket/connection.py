"""One websocket connection: the callbacks between picows and the sink. Nothing here awaits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport

from forebay.domain.frames import (
    EpochAccepted,
    EpochClosed,
    EpochOpened,
    FrameKind,
    StreamsEnded,
)
from forebay.sources.venue import NOTHING, ChangeableSession, MessageVerdict
from forebay.sources.websocket.asking import Asking
from forebay.sources.websocket.ear import Ear, ToldComplaints
from forebay.sources.websocket.messages import (
    MESSAGE_TOO_BIG,
    PROTOCOL_ERROR,
    TEXT,
    Assembler,
    Violation,
)
from forebay.sources.websocket.splitter import PLAIN_BYTES, Splitter
from forebay.sources.websocket.timeouts import ConnectionTimes, Timeouts, unanswered, verdict
from forebay.telemetry import (
    ConnectionClosed,
    ConnectionOpened,
    ConnectionStopped,
    FrameOversized,
    Observer,
    ReadingPaused,
    ReadingResumed,
    StreamRefused,
    SubscriptionAccepted,
    VenueComplained,
)
from forebay.visible import shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from forebay.clock import Clock
    from forebay.ports import EpochSink, FrameSink
    from forebay.sources.venue import ConnectionPurpose, Stream
    from forebay.sources.websocket.upgrade import ConnectionPlan

_TEXT = WSMsgType.TEXT
_REASON_BYTES = 120
"""A close frame holds 125 bytes, two of them the code (RFC 6455, section 5.5)."""
_VIOLATIONS = {MESSAGE_TOO_BIG: "oversized", 1011: "crashed"}


class Connection(WSListener):
    """Gives one connection's messages to an epoch of the sink, whole and in order.

    The epoch ends once: the peer closes or breaks the protocol, the socket breaks, or :meth:`end`.
    """

    transport: WSTransport

    def __init__(
        self,
        plan: ConnectionPlan,
        sink: FrameSink,
        *,
        clock: Clock,
        epoch: str,
        timeouts: Timeouts,
        observer: Observer,
        ear: Ear,
    ) -> None:
        super().__init__()
        self._ear = ear
        self._plan = plan
        self._sink = sink
        self._clock = clock
        self._epoch = epoch
        self._timeouts = timeouts
        self._observe = observer
        self._assembler = Assembler(plan.max_message_bytes)
        self._alive = False
        self._quick = plan.max_message_bytes < PLAIN_BYTES
        """Whether plain messages are cut out before the driver, or never will be."""
        self._take: EpochSink
        self._unsubscribe: Callable[[], None] = lambda: None
        self._ahead_ns = clock.wall_ns() - clock.monotonic_ns()
        self.session = plan.session(plan.asked)
        self._asking = Asking(plan.asked)
        self._hears = True
        """Whether the session is told each message: until all is settled, or for ever."""
        self._marks = self.session.marks
        self._quiet = self.session.quiet
        self._complaints = ToldComplaints()
        self.times = ConnectionTimes(0, 0)
        self.opened = False
        self.over = False
        self.reason = ""
        """Why it is over."""
        self.rejection: MessageVerdict | None = None
        """What the venue said when it refused the whole subscription."""
        self.blameless = False
        """Whether the venue ended it whatever was asked for."""
        self.data = False
        """True once a message came after the acceptance."""

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Begin the epoch and let the session speak."""
        if self.over:
            transport.disconnect(graceful=False)
            return
        self.transport = transport
        now = self._clock.monotonic_ns()
        self.times = ConnectionTimes(opened_ns=now, seen_ns=now)
        self._take = self._sink.open(self._plan.context(self._epoch, self._asking.carried))
        self._take.control(EpochOpened())
        self.opened = True
        self._say(self.session.opened(self._now()))
        self._observe(ConnectionOpened(self._plan.venue, self._plan.url, self._epoch))
        self._unsubscribe = self._sink.on_pressure(self._pressed)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take a frame. Once nothing waits behind one, plain messages go the quick way."""
        self._alive = True
        if self.over:
            return
        try:
            self._take_any(transport, frame)
        except Violation as violation:
            self._violated(violation.code, violation.reason)
        if not frame.tail_size:
            self._quicken(transport)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """End the epoch, if nothing ended it before."""
        sent = transport.close_handshake and transport.close_handshake.sent
        if self.over or not sent:
            self._close("lost: the connection broke without a close frame")
        else:  # picows itself closes when it cannot parse a frame
            self._violated(sent.code.value, sent.reason)

    def end(self, reason: str, code: WSCloseCode = WSCloseCode.OK, *, late_ns: int = 0) -> None:
        """Close the epoch now and the socket at once; before the upgrade, none begins any more."""
        if self.over:
            return
        if not self.opened:
            self.over = True
            return
        text = reason.encode("ascii", "replace")[:_REASON_BYTES]
        self._close(reason, late_ns)
        self.transport.send_close(code, text)
        self.transport.disconnect(graceful=False)

    def headers(self) -> Mapping[str, str]:
        """What the upgrade says beside what every upgrade says."""
        return self.session.headers(self._now())

    def tick(self) -> None:
        """Let the session speak, if it wants to by itself."""
        if self.over or self.session.tick_s is None:
            return
        if self.session.asking:
            self.times.asked_ns = self._clock.monotonic_ns()
        self._say(self.session.tick(self._now()))

    @property
    def changeable(self) -> bool:
        """Whether it can be asked for other symbols while it lives."""
        return isinstance(self.session, ChangeableSession)

    def change(self, wanted: ConnectionPurpose) -> None:
        """Ask for other symbols from here on, once what was asked for before is answered."""
        self._asking.wanted = wanted
        if self.opened and not self.over:
            self._change()

    def examine(self) -> None:
        """End the connection if it has been silent, or not accepted, for too long."""
        now = self._clock.monotonic_ns()
        if self._alive:
            self._alive = False
            self.times.seen_ns = now
        reason = verdict(self.times, self._timeouts, now)
        if reason is not None:
            self.end(reason, WSCloseCode.GOING_AWAY)
        elif not self._asking.overdue and unanswered(self.times, self._timeouts, now):
            self._overdue()

    def _quicken(self, transport: WSTransport) -> None:
        """Go on without the driver where that is possible: its buffer is empty now."""
        if not (self._quick or self.over):
            self._quick = True
            Splitter(transport, self._take_texts)

    def _take_texts(self, messages: list[bytes]) -> None:
        """Whole, plain text messages that were read together. The hot path."""
        self._alive = True
        if self.times.accepted_ns is not None and self._assembler.idle and not self.over:
            self.data = True
            self._take.batch(FrameKind.TEXT, messages)
            self._hear(messages)
            return
        for message in messages:
            if not self.over:
                try:
                    self._take_data(TEXT, message)
                except Violation as violation:
                    self._violated(violation.code, violation.reason)

    def _hear(self, messages: list[bytes]) -> None:
        """Let the session hear what it has to of messages that are taken."""
        if not self._hears:
            messages = [each for each in messages if not each.startswith(self._quiet)]
        now_ns = self._now() if messages else 0
        for message in messages:
            if self.over:
                return
            if self._hears or self._marked(message):
                said = self.session.received(message, now_ns)
                if said is not NOTHING:
                    self._heed(said)

    def _marked(self, message: bytes) -> bool:
        return any(mark in message for mark in self._marks)

    def _take_any(self, transport: WSTransport, frame: WSFrame) -> None:
        """Whatever is not the hot path; raises :class:`Violation`."""
        kind = frame.msg_type
        if frame.rsv2 or frame.rsv3:
            raise Violation(PROTOCOL_ERROR, "reserved bits set")
        if kind in (WSMsgType.PING, WSMsgType.PONG, WSMsgType.CLOSE):
            if frame.rsv1:
                raise Violation(PROTOCOL_ERROR, "RSV1 set on a control frame")
            self._control(transport, frame)
            return
        self._take_data(kind.value, frame.get_payload_as_bytes(), fin=frame.fin, rsv1=frame.rsv1)

    def _take_data(
        self, opcode: int, payload: bytes, *, fin: bool = True, rsv1: bool = False
    ) -> None:
        message = self._assembler.feed(opcode, payload, fin=fin, rsv1=rsv1)
        if message is None:
            return
        self._take.frame(*message)
        self.data = self.data or self.times.accepted_ns is not None
        self._hear([message[1]])

    def _control(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
        elif frame.msg_type is WSMsgType.CLOSE:
            received = transport.close_handshake.recv
            code = received.code.value if received else 0
            said = f" {received.reason}" if received and received.reason else ""
            self.end(f"closed by the venue: {code}{said}")

    def _heed(self, said: MessageVerdict) -> None:
        """Do what the session says of a message, which is taken already, whatever it says."""
        self._say(said.send)
        if said.listed:
            self._ear.listed(said.listed)
        if said.complaint:
            self._complain(said.complaint)
        if said.ended:
            self.blameless = True
            self.end(f"ended by the venue: {said.ended}", late_ns=said.late_ns)
            return
        if said.refusal:
            self._reject(said)
            return
        answered = self._asking.hear(said)
        if answered.rejection is not None:
            self._reject(answered.rejection)
            return
        self._leave_out(answered.refused)
        if answered.accepted:
            self._accept(answered.accepted)
        self._release(said.released)
        self._change()

    def _overdue(self) -> None:
        """Wait no more for answers: the others flow, and one may come yet."""
        self._asking.overdue = True
        late = f"no answer in {self._timeouts.accept_s:g} s"
        self._leave_out(dict.fromkeys(self._asking.pending, late))
        self._release(self._asking.leaving)
        self._change()

    def _change(self) -> None:
        """Ask for what is wanted now, if what was asked for before is answered or overdue."""
        session, asking = self.session, self._asking
        if isinstance(session, ChangeableSession) and (changed := asking.change()):
            self._take.renew(self._plan.context(self._epoch, asking.carried))
            self.times.asked_ns = self._clock.monotonic_ns()
            self._say(session.change(*changed, self._now()))
        self._hears = asking.awaits or session.attentive

    def _release(self, symbols: Iterable[str]) -> None:
        """Record the end of streams that were left."""
        if (ended := self._asking.release(symbols)) is not None:
            if ended:
                self._take.control(StreamsEnded(tuple(sorted(ended))))
            self._take.renew(self._plan.context(self._epoch, self._asking.carried))

    def _reject(self, said: MessageVerdict) -> None:
        """The whole subscription is refused, perhaps because of some of its streams."""
        self.rejection = said
        self.end(f"refused: {said.refusal}")

    def _complain(self, complaint: str) -> None:
        """Pass on what the venue complains of; the same words once in a while."""
        self._ear.complained()
        complaint = shortened(complaint)
        if self._complaints.fresh(complaint, self._clock.monotonic_ns()):
            self._observe(VenueComplained(self._plan.venue, self._epoch, complaint))

    def _accept(self, streams: frozenset[Stream]) -> None:
        """Record that ``streams`` flow from here on; none are named if all of them do."""
        all_of_them = streams == self._asking.streams and not self._asking.leaving
        self._take.control(EpochAccepted(() if all_of_them else tuple(sorted(streams))))
        self._ear.accepted(streams)
        if self.times.accepted_ns is None:
            self.times.accepted_ns = self._clock.monotonic_ns()
            self._observe(SubscriptionAccepted(self._plan.venue, self._epoch))

    def _leave_out(self, streams: Mapping[Stream, str]) -> None:
        """Tell which streams the venue does not give, while it gives others."""
        for (channel, symbol), reason in sorted(streams.items()):
            why = shortened(reason)
            told = StreamRefused(self._plan.venue, self._epoch, channel, symbol, why)
            self._observe(told)
        if streams:
            self._ear.left_out(streams)

    def _say(self, messages: Iterable[bytes]) -> None:
        for message in messages:
            self.transport.send(_TEXT, message)

    def _now(self) -> int:
        """UTC nanoseconds that never go back: the wall clock of our beginning, moved on."""
        return self._clock.monotonic_ns() + self._ahead_ns

    def _violated(self, code: int, reason: str) -> None:
        kind = _VIOLATIONS.get(code, "protocol error")
        if code == MESSAGE_TOO_BIG:
            limit = self._plan.max_message_bytes
            self._observe(FrameOversized(self._plan.venue, self._epoch, limit))
        self.end(f"{kind}: {reason}", WSCloseCode(code))

    def _pressed(self, on: bool) -> None:
        """Stop reading, so that TCP makes the venue wait, or read again."""
        now = self._clock.monotonic_ns()
        if self.over or on is (self.times.paused_ns is not None):
            return
        if on:
            self.times.pause(now)
            self.transport.underlying_transport.pause_reading()
            self._observe(ReadingPaused(self._plan.venue, self._epoch))
        else:
            self.times.resume(now)
            self.transport.underlying_transport.resume_reading()
            self._observe(ReadingResumed(self._plan.venue, self._epoch))

    def _close(self, reason: str, late_ns: int = 0) -> None:
        if self.over:
            return
        self.over = True
        self.reason = reason = shortened(reason)
        self._unsubscribe()
        self._take.control(EpochClosed(reason, late_ns=late_ns))
        closed = ConnectionStopped if reason == "stopped" else ConnectionClosed
        self._observe(closed(self._plan.venue, self._epoch, reason))
