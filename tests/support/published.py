"""A small recording that was published to a transport in memory, to be spoiled by tests."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from forebay.clock import ManualClock
from forebay.domain.messages import EventsTold, Message, decode_message, encode_message
from forebay.journal import StateFile
from forebay.ports import Span
from forebay.services.publisher import Publisher, lanes_told
from forebay.services.readback import Findings, Mending, Published, TransportStage, read_back
from tests.support.audit_bench import Bench, bench, record
from tests.support.memory_transport import Broker, MemoryTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import pyarrow as pa

    from forebay.domain.coverage import StreamKey
    from forebay.ports import Transport
    from forebay.services.audit import AuditReport
    from forebay.services.readback import StreamFindings
    from forebay.services.readback.mending import Alone

NAME = "kafka"
TRADES = "trade_archive"
WHOLE = Span()


@dataclass
class Recorded:
    """A journal, a broker that it was published to, and a way to read that back."""

    bench: Bench
    state: StateFile
    partitions: int = 1
    broker: Broker = field(init=False)
    transport: Transport = field(init=False)
    """Any may be put in its place."""

    def __post_init__(self) -> None:
        self.broker = Broker(partitions=self.partitions)
        self.transport = MemoryTransport(self.broker)

    # ---------------------------------------------------------------- publishing

    @contextlib.contextmanager
    def publishing(self) -> Iterator[Publisher]:
        parts = self.bench.folder, self.transport, self.bench.parsers, self.state
        publisher = Publisher(*parts, clock=ManualClock())
        try:
            yield publisher
        finally:
            publisher.close()

    def publish(self) -> None:
        """Tell the transport all that the journal has."""
        with self.publishing() as publisher:
            publisher.drain()

    def published(self) -> Published:
        return Published(NAME, self.transport, *lanes_told(self.state))

    # ------------------------------------------------------------------ spoiling

    def messages(self, lane: str = TRADES) -> list[Message]:
        return [decode_message(raw) for raw in self.broker._lanes[lane].messages]

    def replace(self, messages: list[Message], lane: str = TRADES) -> None:
        """Have a lane hold other messages, from the same offset on."""
        held = self.broker._lanes[lane].messages
        held.clear()
        held.extend(map(encode_message, messages))

    def expire(self, messages: int, lane: str = TRADES) -> None:
        """Delete the oldest messages of a lane, as a broker does because of their age."""
        held = self.broker._lanes[lane]
        for _ in range(messages):
            held.size -= len(held.messages.popleft())
            held.first += 1

    def spoil(self, change: Callable[[pa.Table], pa.Table], lane: str = TRADES) -> None:
        """Change the rows of every message of events."""
        spoiled = []
        for head, rows in self.messages(lane):
            if not isinstance(head.told, EventsTold) or rows is None:
                spoiled.append(Message(head, rows))
            elif len(changed := change(rows)):
                spoiled.append(Message(head, changed.combine_chunks()))
        self.replace(spoiled, lane)

    # ------------------------------------------------------------------- reading

    def look(
        self,
        *,
        mend: bool = False,
        expired: bool = False,
        span: Span = WHOLE,
        alone: Alone = contextlib.nullcontext,
        progress: Callable[[int, int], object] = lambda *_: None,
    ) -> Findings:
        mending = Mending(self.transport, alone) if mend else None
        where = self.published(), self.bench.folder, self.bench.parsers
        ledger = self.bench.ledger
        return read_back(
            *where,
            ledger_folder=ledger,
            mending=mending,
            expired=expired,
            span=span,
            progress=progress,
            clock=ManualClock(),
        )

    def audit(self) -> AuditReport:
        published = contextlib.nullcontext(self.published())
        return self.bench.audit(transports=[TransportStage(NAME, lambda: published)])


def the(findings: Findings) -> tuple[StreamKey, StreamFindings]:
    """Return the one stream of which something was found."""
    (found,) = findings.streams.items()
    return found


@contextlib.contextmanager
def recorded(
    folder: Path, *, partitions: int = 1, segment_bytes: int = 64 << 20
) -> Iterator[Recorded]:
    """What :func:`~tests.support.audit_bench.record` captures, not published yet."""
    with bench(folder / "journal", segment_bytes=segment_bytes) as opened:
        record(opened)
        yield Recorded(opened, StateFile(folder / "publish.state"), partitions)
