"""The same lines as frames in a journal, written without a process, as a venue might spoil them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from forebay.clock import ManualClock
from forebay.domain.frames import (
    Context,
    EpochAccepted,
    EpochClosed,
    EpochOpened,
    FrameKind,
    encode_control,
)
from forebay.journal import JournalWriter, PendingBlock
from forebay.services.deliver import Deliverer
from tests.exam.made.protocol import COLUMNS, MadeParser
from tests.exam.wire import START_US, STEP_US, STREAMS, SYMBOLS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from forebay.domain.frames import Control
    from forebay.ports import Parser, Store
    from tests.exam.made.protocol import Edition

BLOCK = 100
AnyStore = TypeVar("AnyStore", bound="Store")


def parsers(editions: Iterable[Edition]) -> dict[str, Parser]:
    """Return the parsers of some editions."""
    return {edition.venue: MadeParser(edition) for edition in editions}


def received_ns(index: int) -> int:
    """Return when line ``index`` was received: just after it happened."""
    return (START_US + (index // len(STREAMS) + 1) * STEP_US) * 1000 + 5_000_000 + index % 4


class Commits(Protocol):
    """A writer of a journal."""

    def commit(self, drafts: Sequence[PendingBlock]) -> int: ...


def tell(
    writer: Commits,
    edition: Edition,
    payloads: Sequence[bytes],
    *,
    epoch: str = "e1",
    first: int = 0,
) -> None:
    """Write one connection from its beginning to its end; its lines begin at index ``first``."""
    context = Context(
        venue=edition.venue,
        source="ws",
        purpose="live",
        collector="c1",
        epoch=epoch,
        symbols=SYMBOLS,
        channels=tuple(COLUMNS),
    ).encode()

    def say(control: Control, now: int) -> None:
        draft = PendingBlock(
            int(FrameKind.CONTROL), context, [encode_control(control)], [now], (0, 0)
        )
        writer.commit([draft])

    begin = received_ns(first) - 1_000_000
    say(EpochOpened(), begin)
    say(EpochAccepted(), begin)
    for at in range(0, len(payloads), BLOCK):
        block = list(payloads[at : at + BLOCK])
        times = [received_ns(first + at + place) for place in range(len(block))]
        writer.commit([PendingBlock(int(FrameKind.TEXT), context, block, times, (0, 0))])
    say(EpochClosed("done", silent_ns=0), received_ns(first + len(payloads) - 1))


def journal(
    folder: Path,
    editions: Iterable[Edition],
    payloads: Sequence[bytes],
    segment_bytes: int = 1 << 20,
) -> JournalWriter:
    """Return an open journal in which each edition has told ``payloads`` over one connection."""
    writer = JournalWriter.open(
        folder, clock=ManualClock(), ballast_bytes=0, segment_bytes=segment_bytes
    )
    for edition in editions:
        tell(writer, edition, payloads)
    return writer


def stored(folder: Path, store: AnyStore, editions: Iterable[Edition]) -> AnyStore:
    """Deliver all of a journal to a store, and return that."""
    Deliverer(folder, store, parsers(editions)).drain()
    return store
